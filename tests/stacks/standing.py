"""An environment that stands, of which every object is a file: this repository's programs and provider, the real engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dpp.model.folders import Folders
from dpp.model.permits import Permit
from dpp.operations.change.hands import Hands, OwnHands
from dpp.operations.change.live import LivePreviewer
from dpp.operations.change.sides import Side, Sides, own_command, own_variables
from stacks.changing import NOON, Changing

PROVIDER: Final = Path(__file__).parent / "data/standing"
STACKS: Final = ("lab.chilean-itc", "lab.ncsa-itc")


@dataclass
class Standing(Changing):
    """A repository and what stands of it; nothing of that touches a machine.

    Parameters
    ----------
    broken
        By side and service, what that answers instead of doing its work.
    """

    broken: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, top: Path) -> Standing:
        """Have a repository, and what stands as its main declares it: the glass is broken, as nothing can be changed yet."""
        made = cls(top)
        (top / "objects").mkdir()
        made.begin(("Pulumi.yaml", "path: ./src/dpp/provider", f"path: {PROVIDER}"))
        units = [f"--only={stack.partition('.')[2]}" for stack in STACKS]
        done = made.break_glass("First light.", "up", "lab", "--yes", *units)
        assert done.returncode == 0, done.stdout + done.stderr
        return made

    def copy(self, top: Path) -> Standing:
        """Return another that stands just so; the repository and where it is reviewed stay in common."""
        for name in ("objects", "state"):
            shutil.copytree(self.top / name, top / name, symlinks=True)
        for name in ("repository", "workshop", "keys"):
            (top / name).symlink_to(self.top / name)
        return Standing(top)

    @property
    def folders(self) -> Folders:
        return Folders("tried")

    def variables(self) -> dict[str, str]:
        """Return what leads all that is run to what stands here."""
        return {
            "XDG_STATE_HOME": str(self.top / "state"),
            "DPP_LAB": "tried",
            "DPP_TEST_OBJECTS": str(self.top / "objects"),
        }

    def dpp(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `dpp` of the repository."""
        tree = Side("main", self.reviewed.root)
        command = own_command(*words)
        variables = os.environ | self.variables() | own_variables(tree)
        return subprocess.run(command, cwd=tree.root, env=variables, capture_output=True, text=True, check=False)

    def break_glass(self, reason: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `dpp` of the repository without a change."""
        return self.dpp("change", "break-glass", "lab", "--reason", reason, "--", *own_command(*words))

    def hands(self) -> Callable[[LivePreviewer, Sides], Hands]:
        """Return what applies by the commands of both sides; services are asked here, as none of them runs."""
        standing = self

        class Asking(OwnHands):
            def ask(self, side: str, service: str) -> str:
                return standing.broken.get(f"{side} {service}", "")

        return lambda live, sides: Asking("lab", sides, live, self.said.append)

    # -- objects ---------------------------------------------------------------------------------------------------------

    def objects(self) -> dict[str, Any]:
        """Return the inputs of all objects."""
        files = (self.top / "objects").glob("*.json")
        return {path.name: json.loads(path.read_text())["inputs"] for path in files}

    def edit_object(self, name: str, **inputs: Any) -> None:
        """Change an object by hand."""
        [path] = (self.top / "objects").glob(f"*-{name}.json")
        found = json.loads(path.read_text())
        found["inputs"] |= inputs
        path.write_text(json.dumps(found))

    def deeds(self) -> list[str]:
        """Return the names of all objects that somebody changed, in order."""
        path = self.top / "objects/deeds"
        return path.read_text().split() if path.exists() else []


def permit() -> Permit:
    """Return what lets a test change what stands."""
    return Permit(environment="lab", person="nobody", reason="A test.", begun=NOON)
