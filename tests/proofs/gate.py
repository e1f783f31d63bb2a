"""`make test`: what proves every change in minutes, in phases, one after the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dpp.model.folders import Folders
from instances import instance, turn
from proofs.catalogue import ROOT, Catalogue, Tree
from proofs.proving import Prover
from proofs.records import LAB_SECONDS, End, Records, statement
from proofs.results import Results

PROOF_SECONDS = 300
"""How long proofs may take that are owed, by what is known of each."""

_SLOWEST = 20
_KEPT = 20
_BIN = Path(sys.executable).parent


def new_folder() -> Path:
    """Return a new folder for reports and logs in the cache, where those of the last runs are kept."""
    runs = Folders.current().cache / "gates"
    folder = runs / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    for old in sorted(runs.iterdir())[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def make_ground() -> bool:
    """Bring what everything stands on, packages and tools; say whether that is there."""
    steps = (("doctor", "--fix", "--tests"), ("tools", "build"))
    return not any(subprocess.run([_BIN / "dpp", *words], cwd=ROOT, check=False).returncode for words in steps)


@dataclass
class Phase:
    """One phase, and what it came to.

    Parameters
    ----------
    name
        What it is called.
    seconds
        How long it took.
    passed, failed, skipped
        Counts of tests, or of proofs.
    """

    name: str
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        """Return it as a line of the summary."""
        return f"{self.name:10s} {self.seconds:8.1f} {self.passed:7d} {self.failed:7d} {self.skipped:8d}"


@dataclass
class Gate:
    """Runs the phases, keeps what they came to, and says it at the end.

    Parameters
    ----------
    folder
        Where reports and logs are kept.
    """

    folder: Path
    phases: list[Phase] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def run(self) -> int:
        """Run all phases up to the first that fails; return the exit code."""
        try:
            for name, work in self.steps().items():
                with self._phase(name) as phase:
                    work(phase)
                if phase.failed:
                    break
        finally:
            self._say()
        return 1 if any(phase.failed for phase in self.phases) else 0

    def steps(self) -> dict[str, Callable[[Phase], None]]:
        """Return what each phase does, in order."""
        several = f"--numprocesses={max(2, min(4, os.cpu_count() or 1)) + 1}"  # the night on loopback mostly waits
        return {
            "ground": self._ground,
            "checks": lambda phase: self._pytest(phase, several, "--ignore=tests/lab", "tests"),
            "lab": self._lab,
            "proofs": self._proofs,
        }

    @contextmanager
    def _phase(self, name: str) -> Iterator[Phase]:
        phase, begun = Phase(name), time.monotonic()
        self.phases.append(phase)
        print(f"\n=== {name}", flush=True)
        try:
            yield phase
        except BaseException:
            phase.failed += 1  # cut short
            raise
        finally:
            phase.seconds = round(time.monotonic() - begun, 1)

    @staticmethod
    def _ground(phase: Phase) -> None:
        phase.failed += not make_ground()

    def _lab(self, phase: Phase) -> None:
        """Test one lab, alone on the machine: other phases are over, and other gates wait."""
        with turn():
            self._pytest(phase, "tests/lab", DPP_LAB=instance("t"))

    def _pytest(self, phase: Phase, *options: str, **variables: str) -> None:
        report = self.folder / f"{phase.name}.xml"
        command = [sys.executable, "-m", "pytest", "--unproven", f"--junitxml={report}", *options]
        code = subprocess.run(command, cwd=ROOT, env=os.environ | variables, check=False).returncode
        results = Results.read(report)
        self.take(phase, results)
        if code and not phase.failed:
            phase.failed = 1  # it did not come to its tests, or did not end by itself

    def take(self, phase: Phase, results: Results) -> None:
        """Add what a run of tests came to."""
        phase.passed, phase.failed, phase.skipped = results.passed, results.failed, results.skipped
        self.seconds |= results.seconds
        self.reasons |= results.reasons

    def _proofs(self, phase: Phase) -> None:
        """Run what is owed, the cheapest first, as long as there is time."""
        prover, left = Prover(self.folder), float(PROOF_SECONDS)
        affordable = []
        for one in prover.records.owed(Catalogue.load(), Tree()):
            needed = one.seconds + (LAB_SECONDS if one.proof.on_lab else 0)
            if needed <= left and not one.proof.lacks:
                left -= needed
                affordable.append(one.proof)
        for outcome in prover.run(affordable):
            print(outcome, flush=True)
            phase.passed += outcome.end is not End.RED
            phase.failed += outcome.end is End.RED
            self.reasons |= outcome.results.reasons
            self.seconds[f"proof {outcome.proof.id}"] = outcome.seconds

    def _say(self) -> None:
        """Print the summary and keep it; the last line counts everything."""
        owed = Records().owed(Catalogue.load(), Tree())
        lines = ["", "=== summary", f"{'phase':10s} {'seconds':>8s} {'passed':>7s} {'failed':>7s} {'skipped':>8s}"]
        lines += map(str, self.phases)
        lines += ["slowest:"]
        slowest = sorted(self.seconds.items(), key=lambda pair: -pair[1])[:_SLOWEST]
        lines += [f"{seconds:8.1f} s  {name}" for name, seconds in slowest]
        lines += [f"skipped: {name}: {reason}" for name, reason in sorted(self.reasons.items())]
        lines += statement(owed)
        lines += [f"kept in {self.folder}"]
        total = Phase(
            "all",
            sum(one.seconds for one in self.phases),
            sum(one.passed for one in self.phases),
            sum(one.failed for one in self.phases),
            sum(one.skipped for one in self.phases),
        )
        lines.append(f"{total.passed} passed, {total.failed} failed")
        (self.folder / "summary.txt").write_text("\n".join(lines) + "\n")
        kept = {
            "phases": [asdict(one) for one in (*self.phases, total)],
            "seconds": self.seconds,
            "skipped": self.reasons,
            "owed": [one.as_row() for one in owed],
        }
        (self.folder / "summary.json").write_text(json.dumps(kept, indent=1) + "\n")
        print("\n".join(lines), flush=True)
