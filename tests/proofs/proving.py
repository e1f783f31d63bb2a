"""Runs proofs, each in a tree of its own files, and records how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread

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
    side_by_side
        Whether those that make no machines run beside those that do, which mostly wait for machines.
    """

    def __init__(
        self, logs: Path, checkout: Path = ROOT, records: Records | None = None, *, side_by_side: bool = False
    ) -> None:
        self.logs, self.checkout, self.records = logs, checkout, records or Records()
        self._side_by_side = side_by_side
        self._folders = Folders(instance("t"))
        self._running: set[int] = set()
        self._recording = Lock()
        self._starting = Lock()
        self._leaving = False

    def run(self, proofs: list[Proof]) -> Iterator[Outcome]:
        """Run proofs, each as it ends; those that share a lab at the end, on one, alone."""
        with tempfile.TemporaryDirectory(prefix="dpp-proof-") as folder:
            Path(folder).chmod(0o755)  # servers that have users of their own get in
            yield from (Outcome(proof, None, said=proof.lacks) for proof in proofs if proof.lacks)
            possible = [proof for proof in proofs if not proof.lacks]
            machines = [proof for proof in possible if proof.ground is Ground.MACHINES]
            processes = [proof for proof in possible if not proof.on_lab and proof not in machines]
            lanes = [processes, machines] if self._side_by_side else [[*processes, *machines]]
            with turn() if machines else nullcontext():
                yield from self._in_lanes(lanes, Path(folder))
            root = Path(folder) / "tree"  # always at the same place: a lab stands while its proofs change
            if shared := [proof for proof in possible if proof.on_lab]:
                with turn(), self._lab():
                    for proof in shared:
                        yield self._on_lab(proof, root)

    def _in_lanes(self, lanes: list[list[Proof]], folder: Path) -> Iterator[Outcome]:
        """Run lanes side by side, the proofs of each one after the other in a tree of the lane's own."""
        ended: SimpleQueue[Outcome | Exception] = SimpleQueue()

        def work(number: int, lane: list[Proof]) -> None:
            try:
                for proof in lane:
                    ended.put(self._prove(proof, folder / f"tree{number}"))
            except Exception as error:  # noqa: BLE001 - raised again where outcomes are waited for
                ended.put(error)

        threads = [Thread(target=work, args=numbered) for numbered in enumerate(lanes)]
        try:
            for thread in threads:
                thread.start()
            for _ in range(sum(map(len, lanes))):
                yield _outcome(ended.get())
        except BaseException:  # whoever stops here, by a signal or an error, stops what runs
            with self._starting:
                self._leaving = True
                for group in self._running:
                    with suppress(ProcessLookupError):
                        os.killpg(group, signal.SIGKILL)
            raise
        finally:
            for thread in threads:
                thread.join()

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
        with self._recording:
            end = self.records.add(proof, digest, seconds, green=not said)
        return Outcome(proof, end, seconds, said, results or Results())

    def _run(self, words: list[str], root: Path, log: Path, usual: int, proof: Proof) -> str:
        """Run a command in a tree and say why it failed; empty if it did not."""
        environment = trees.variables(root) | {"DPP_LAB": self._folders.instance}
        if proof.ground is Ground.MACHINES:  # a tree has not all roles; each counts for its own proof
            environment["DPP_IMAGE"] = BaseImage(Reporter()).ensure()
        limit = max(_HUNG_FACTOR * usual, _HUNG_LEAST_SECONDS)
        with log.open("wb") as stream:
            with self._starting:  # either it is among those that are stopped, or it does not begin
                if self._leaving:
                    raise _stopped(proof)
                process = subprocess.Popen(
                    words, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=stream,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
                self._running.add(process.pid)
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                return f"hung: ended after {limit} s, ten times the usual\n{_tail(log)}"
            finally:
                with self._starting:
                    self._running.discard(process.pid)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if code and self._leaving:
            raise _stopped(proof)
        return f"code {code}\n{_tail(log)}" if code else ""


def _outcome(ended: Outcome | Exception) -> Outcome:
    """Return how a proof ended; raise what kept a lane from saying it."""
    if isinstance(ended, Exception):
        raise ended
    return ended


def _stopped(proof: Proof) -> InterruptedError:
    return InterruptedError(f"{proof.id}: stopped before its end; nothing is recorded")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:])
