"""A start that somebody interrupts says how to go on, and the next one brings the lab up. It stays for those who come after."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from dpp.model.folders import REPOSITORY
from lab.observatory import DPP, Observatory

_AMIDST = "lab.chilean-itc"
_SECONDS_LATER = 20.0


def test_an_interrupted_start_says_how_to_go_on_and_the_next_one_does(tmp_path: Path) -> None:
    observatory = Observatory(tmp_path)
    assert not observatory.stands()
    log = tmp_path / "interrupted"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [DPP, "lab", "up"], stdout=stream, stderr=subprocess.STDOUT, cwd=REPOSITORY, start_new_session=True
        )
        while _AMIDST not in log.read_text():
            assert process.poll() is None, f"dpp lab up: code {process.returncode}\n{log.read_text()[-3000:]}"
            time.sleep(0.2)
        time.sleep(_SECONDS_LATER)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that the command started
        code = process.wait()
    assert code == 130
    assert "run it again" in log.read_text().splitlines()[-1]

    observatory.dpp("lab", "up")

    observatory.assert_sound()
