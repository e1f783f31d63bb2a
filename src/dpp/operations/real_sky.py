"""Real exposures on their way to a night: the archive's object store, where templates are made, and the camera's volume."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dpp.adapters.process import run
from dpp.model.errors import FatalError
from dpp.operations.data_plane import DataPlane, last_words

IN_CAMERA = "/var/lib/dpp/night/.skies"
"""Where the camera finds them: its volume of records, which no other workload sees."""
_DELIVERY_SECONDS = 1800.0


@dataclass(frozen=True)
class Delivered:
    """What was delivered: the name that the exposures have everywhere, their files, and what was cropped if anything was."""

    name: str
    files: list[str]
    cropped: str = ""

    @property
    def in_camera(self) -> str:
        """The directory as the camera sees it."""
        return f"{IN_CAMERA}/{self.name}"


def to_archive(folder: Path, archive: DataPlane) -> Delivered:
    """Check a directory and put its exposures into the archive's object store.

    Parameters
    ----------
    folder
        FITS files of two epochs.
    archive
        Where the calibration workload is run.

    Raises
    ------
    FatalError
        If the directory cannot be replayed; the workload's own words are in the message.
    """
    done = archive.run("workloads.calibration", "--deliver", str(folder), seconds=_DELIVERY_SECONDS, check=False)
    if done.code:
        raise FatalError(
            f"real sky {folder}", last_words(done.stderr), "exposures of two epochs that the camera can replay"
        )
    facts = json.loads(done.stdout.splitlines()[-1])
    return Delivered(facts["sky"], facts["files"], facts.get("cropped", ""))


def to_camera(folder: Path, delivered: Delivered, volume: str, ssh: list[str]) -> None:
    """Copy the same files to the camera's volume.

    Parameters
    ----------
    folder, delivered
        What.
    volume
        The volume on the summit's node.
    ssh
        How to reach that node.

    Raises
    ------
    CommandFailedError
        If the node does not take them.
    """
    target = f"{volume}/.skies/{delivered.name}"
    unpack = f"sudo mkdir -p {target} && sudo tar -C {target} --no-same-owner -x && sudo chmod -R a+rX {volume}/.skies"
    packed = run(["tar", "-C", folder, "-c", *delivered.files], timeout=_DELIVERY_SECONDS)
    run([*ssh, unpack], input=packed.output, timeout=_DELIVERY_SECONDS, remedy="see `dpp status`")
