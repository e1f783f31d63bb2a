"""Who may change an environment that asks for an authorised change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders
from dpp.model.permits import TOKEN, Permit, held, refusal

PERMIT = Permit(environment="dome", change="2026-0001", person="ana", reason="More.", begun=datetime.now(UTC))
HOLD = """
import sys
from datetime import UTC, datetime
from dpp.model.folders import Folders
from dpp.model.permits import Permit, held
with held(Permit(environment="dome", person="ana", reason="Fire.", begun=datetime.now(UTC)), Folders("lab", "dome")):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv(TOKEN, raising=False)
    return Folders("lab", "dome")


def test_who_holds_the_permit_may_and_nobody_before_or_after(folders: Folders) -> None:
    nobody = "asks for an authorised change, and none is being applied to dome"
    assert refusal("dome", folders) == nobody
    with held(PERMIT, folders):
        assert refusal("dome", folders) == ""
        assert (folders.state / "permit.json").stat().st_mode & 0o777 == 0o600
    assert refusal("dome", folders) == nobody
    assert TOKEN not in os.environ


def test_what_the_holder_starts_may_and_what_others_start_may_not(folders: Folders) -> None:
    ask = "from dpp.model.permits import refusal; from dpp.model.folders import Folders; print(refusal('dome', Folders('lab', 'dome')))"

    def said(**variables: str) -> str:
        words = [sys.executable, "-c", ask]
        return subprocess.run(
            words, env=os.environ | variables, capture_output=True, text=True, check=True
        ).stdout.strip()

    with held(PERMIT, folders):
        assert said() == ""
        assert said(DPP_PERMIT="guessed") == "change 2026-0001 is being applied, and this is none of it"


def test_one_at_a_time_and_none_after_a_holder_that_was_killed(folders: Folders) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        assert refusal("dome", folders) == "what ana broke the glass for is being applied, and this is none of it"
        with (
            pytest.raises(RetriableError, match="what ana broke the glass for is being applied"),
            held(PERMIT, folders),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
    assert refusal("dome", folders) == "asks for an authorised change, and none is being applied to dome"
    with held(PERMIT, folders):
        assert refusal("dome", folders) == ""


def test_an_environment_that_asks_for_a_change_is_refused_without_one(folders: Folders) -> None:
    lab = Environment.load()
    free = lab.model_copy(update={"name": "dome"})
    free.require_apply()
    asking = free.model_copy(
        update={"provisioning": lab.provisioning.model_copy(update={"changes": "authorised", "hosts": "found"})}
    )
    with pytest.raises(FatalError, match=r"environment dome: asks for an authorised change.*dpp change apply ID"):
        asking.require_apply()
    with held(PERMIT, folders):
        asking.require_apply()
