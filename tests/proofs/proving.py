"""Runs proofs, each in a tree of its own files, and records how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage
from dpp.lab.lifecycle import Lab
from dpp.model.folders import Folders
from instances import instance, turn
from proofs import trees
from proofs.catalogue import ROOT, Ground, Proof
from proofs.records import LAB_SECONDS, End, Records
from proofs.results import Results

_HUNG_FACTOR, _HUNG_LEAST_SECONDS = 10, 900
_TAIL = 60


@dataclass(frozen=True)
class Outcome:
    """How a proof ended.

    Parameters
    ----------
    proof
        Which.
    end
        As it was recorded; None where it cannot be proven here.
    seconds
        How long it took.
    said
        Why it is not green.
    results
        What its tests came to.
    """

    proof: Proof
    end: End | None
    seconds: float = 0.0
    said: str = ""
    results: Results = field(default_factory=Results)

    def __str__(self) -> str:
        """Return it for people, and why where it is not green."""
        why = f": {self.said}" if self.said else ""
        return f"{self.proof.id}: {self.end or 'cannot be proven here'} ({self.seconds:.0f} s){why}"


class Prover:
    """Runs proofs of a checkout.

    Parameters
    ----------
    logs
        Folder that gets the logs.
    checkout
        Where the files are.
    records
        Where ends are recorded.
    """

    def __init__(self, logs: Path, checkout: Path = ROOT, records: Records | None = None) -> None:
        self.logs, self.checkout, self.records = logs, checkout, records or Records()
        self._folders = Folders(instance("t"))

    def run(self, proofs: list[Proof]) -> Iterator[Outcome]:
        """Run proofs one after the other; those that share a lab at the end, on one."""
        with tempfile.TemporaryDirectory(prefix="dpp-proof-") as folder:
            Path(folder).chmod(0o755)  # servers that have users of their own get in
            root = Path(folder) / "tree"  # always at the same place: a lab stands while its proofs change
            possible = []
            for proof in proofs:
                if proof.lacks:
                    yield Outcome(proof, None, said=proof.lacks)
                else:
                    possible.append(proof)
            for proof in possible:
                if not proof.on_lab:
                    with turn() if proof.ground is Ground.MACHINES else nullcontext():
                        yield self._prove(proof, root)
            if shared := [proof for proof in possible if proof.on_lab]:
                with turn(), self._lab():
                    for proof in shared:
                        yield self._on_lab(proof, root)

    @contextmanager
    def _lab(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._down()

    def _down(self) -> None:
        Lab(self._folders, Reporter(quiet=True)).down()

    def _on_lab(self, proof: Proof, root: Path) -> Outcome:
        """Prove on the standing lab, which comes first if there is none, and goes when a proof may have spoilt it."""
        stands = (self._folders.state / "kubeconfig").exists()
        if proof.ground is Ground.NEW_LAB and stands:
            self._down()
        elif proof.ground is Ground.LAB and not stands:
            digest = trees.plant(proof, self.checkout, root)
            begun = time.monotonic()
            if said := self._run(["dpp", "lab", "up"], root, self.logs / "lab-up.log", LAB_SECONDS, proof):
                self._down()
                return self._ended(proof, digest, time.monotonic() - begun, said)
        outcome = self._prove(proof, root)
        if outcome.end is End.RED:
            self._down()
        return outcome

    def _prove(self, proof: Proof, root: Path) -> Outcome:
        digest = trees.plant(proof, self.checkout, root)
        words, report = proof.words, self.logs / f"{proof.id}.xml"
        if proof.tests:
            words = [*words, f"--junitxml={report}"]
        begun = time.monotonic()
        said = self._run(words, root, self.logs / f"{proof.id}.log", self.records.seconds(proof), proof)
        results = Results.read(report)
        if not said and proof.tests and not results.passed:
            said = f"no test passed: {'; '.join(sorted(set(results.reasons.values())))}"
        return self._ended(proof, digest, time.monotonic() - begun, said, results)

    def _ended(self, proof: Proof, digest: str, seconds: float, said: str, results: Results | None = None) -> Outcome:
        end = self.records.add(proof, digest, seconds, green=not said)
        return Outcome(proof, end, seconds, said, results or Results())

    def _run(self, words: list[str], root: Path, log: Path, usual: int, proof: Proof) -> str:
        """Run a command in a tree and say why it failed; empty if it did not."""
        environment = trees.variables(root) | {"DPP_LAB": self._folders.instance}
        if proof.ground is Ground.MACHINES:  # a tree has not all roles; each counts for its own proof
            environment["DPP_IMAGE"] = BaseImage(Reporter()).ensure()
        limit = max(_HUNG_FACTOR * usual, _HUNG_LEAST_SECONDS)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                words, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                return f"hung: ended after {limit} s, ten times the usual\n{_tail(log)}"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return f"code {code}\n{_tail(log)}" if code else ""


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:])
