"""A night: the camera's and the archiver's Jobs on the summit, an independent consumer at the archive, and the report.

Everything goes in band, from the operations hosts of the sites.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dpp.adapters.kubernetes import Cluster, Key, Manifest
from dpp.adapters.kustomize import containers
from dpp.adapters.locks import exclusive
from dpp.adapters.process import run
from dpp.adapters.progress import Reporter, Step
from dpp.build.base_image import BaseImage
from dpp.build.workload_images import WorkloadImages
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError, UsageError
from dpp.model.folders import Folders
from dpp.operations import real_sky
from dpp.operations.data_plane import DataPlane
from dpp.operations.products import exchange_products
from dpp.rendering.clusters import cluster_objects, night_objects, with_images
from dpp.rendering.contracts import NAMESPACE, VOLUMES

SYNTHETIC = "synthetic"
RECORDS = f"{VOLUMES}/camera-records"
"""Where the camera's records lie on the summit's node."""
ARCHIVE = "ncsa"
_CAMERA_CLUSTER = "summit"
_CALIBRATION = Key("batch/v1", "Job", NAMESPACE, "calibration")
_SKY = Key("batch/v1", "Job", NAMESPACE, "calibration-sky")
_CAMERA = Key("batch/v1", "Job", NAMESPACE, "camera")
_POLL_SECONDS = 2.0
_STARTUP_SECONDS = 300.0
_CALIBRATION_SECONDS = 3600.0
_COPY_SECONDS = 120.0
_REPORT_SECONDS = 900.0
"""Longer than a step of the report can take: a night's last exposures may wait for a store that comes back."""


@dataclass(frozen=True)
class Plan:
    """What a night is to be.

    Parameters
    ----------
    visits
        Number of visits.
    interval
        Seconds from visit to visit.
    detectors
        How many are read out; 0 is all.
    sky
        What is exposed: ``synthetic``, or a directory of real exposures.
    seed
        Of the night; None is a new one.
    faults
        What goes wrong on purpose, as the camera understands it.
    """

    visits: int = 6
    interval: float = 45.0
    detectors: int = 0
    sky: str = SYNTHETIC
    seed: int | None = None
    faults: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y%m%d-%H%M%S"))

    def arguments(self) -> list[str]:
        """Return the camera's command line."""
        words = [
            "--night",
            self.name,
            "--visits",
            str(self.visits),
            "--interval",
            str(self.interval),
            "--detectors",
            str(self.detectors),
        ]
        words += ["--sky", self.sky]
        words += ["--seed", str(self.seed)] if self.seed is not None else []
        return words + [word for fault in self.faults for word in ("--fault", fault)]


class Night:
    """Runs one night of an environment.

    Parameters
    ----------
    environment, folders
        Where.
    plan
        What.
    reporter
        Where progress is shown.
    """

    def __init__(self, environment: Environment, folders: Folders, plan: Plan, reporter: Reporter) -> None:
        self._environment, self._folders, self._plan, self._reporter = environment, folders, plan, reporter
        self._summit = Cluster(_CAMERA_CLUSTER, environment.name, folders)
        self._archive = Cluster(ARCHIVE, environment.name, folders)
        self._plane = DataPlane(environment, "report", ARCHIVE, folders)
        self._operator = DataPlane(environment, "operator", ARCHIVE, folders)
        self.folder = folders.state / "nights" / plan.name

    def run(self) -> dict[str, Any]:
        """Take the night and return its report (also in `folder`).

        Raises
        ------
        RetriableError
            If another night is being taken, or something that this one needs is not up in time.
        FatalError
            If the camera fails.
        """
        with self._alone():
            self.folder.mkdir(parents=True)
            self._wait_prepared()
            if self._plan.sky != SYNTHETIC:
                self._bring_sky(Path(self._plan.sky))
            references = self._images(_CAMERA_CLUSTER)
            with self._consumer() as news:
                self._start(references)
                self._watch(news)
                self._fetch_records()
                self._drain(news)
            return self.report()

    def report(self) -> dict[str, Any]:
        """Read every store again and write the report of a night that was taken.

        Raises
        ------
        UsageError
            If there was no such night, or it ended before its camera's records came.
        """
        if not (self.folder / "exposures.jsonl").exists():
            known = sorted(path.parent.name for path in self.folder.parent.glob("*/exposures.jsonl"))
            raise UsageError(
                f"night {self._plan.name}", "no records of it", ", ".join(known) or "a night that was taken"
            )
        with self._reporter.step("report", 2) as step:
            for part in ("stores", "build"):
                step.advance(part, by=0)
                self._report_step(part)
                step.advance(part)
        content: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return content

    # -- before ----------------------------------------------------------------------------------------------------

    def _alone(self) -> AbstractContextManager[None]:
        """Keep other nights out: one camera takes one night."""
        return exclusive(self._folders.run / "night.lock", subject=f"night {self._plan.name}", seconds=0)

    def _wait_prepared(self) -> None:
        """Wait for calibrations and templates, then for the workers that load them."""
        with self._reporter.step("calibrations and templates") as step:
            self._until(partial(self._archive.unfinished, _CALIBRATION), _CALIBRATION, _CALIBRATION_SECONDS, step)
        exchange_products(self._environment, self._folders, self._reporter)
        with self._reporter.step("prompt processing") as step:
            for workers in self._workers():
                self._until(partial(self._archive.waiting, workers), workers, _STARTUP_SECONDS, step)

    def _workers(self) -> list[Key]:
        objects = cluster_objects(self._environment, self._environment.cluster(ARCHIVE))["prompt-processing"]
        return [Key.of(one) for one in objects if list(containers(one))]

    def _images(self, cluster: str) -> dict[str, str]:
        """Return references to the workloads' images in the registry of a cluster's site, which has them then."""
        images = WorkloadImages(self._folders, BaseImage(self._reporter).layers[0].reference, self._reporter)
        return images.push(self._environment.cluster(cluster).site, self._environment.name)

    def _bring_sky(self, folder: Path) -> None:
        """Bring real exposures to the archive, prepare for them there, and bring them to the camera."""
        with self._reporter.step("real sky") as step:
            delivered = real_sky.to_archive(folder, self._operator)
            step.advance(
                "; ".join(filter(None, (f"{delivered.name} is in the archive's store", delivered.cropped))), by=0
            )
            objects = cluster_objects(self._environment, self._environment.cluster(ARCHIVE))["calibration"]
            [job] = (one for one in with_images(objects, self._images(ARCHIVE)) if one["kind"] == "Job")
            job["metadata"]["name"] = _SKY.name
            for container in containers(job):
                container["args"] = ["workloads.calibration", "--sky", delivered.name]
            self._archive.delete("night-sky")
            self._archive.apply([job], "night-sky", _STARTUP_SECONDS, _telling(step))
            self._until(partial(self._archive.unfinished, _SKY), _SKY, _CALIBRATION_SECONDS, step)
            real_sky.to_camera(folder, delivered, RECORDS, self._ssh)
        self._plan = replace(self._plan, sky=delivered.in_camera)

    def _until(self, probe: Callable[[], str], subject: object, seconds: float, step: Step) -> None:
        """Wait until nothing is said of `subject` any more, showing what is."""
        deadline = time.monotonic() + seconds
        while reason := probe():
            if time.monotonic() > deadline:
                raise RetriableError(f"{subject}", reason, f"ready within {seconds:g} s", "see `dpp status`")
            step.advance(f"{subject}: {reason}", by=0)
            time.sleep(_POLL_SECONDS)

    def _start(self, references: dict[str, str]) -> None:
        """Apply what a night adds, Jobs anew: those of a night that was cut short end first."""
        found = night_objects(self._environment, self._environment.cluster(_CAMERA_CLUSTER))
        objects = [
            one for service, own in found.items() for one in self._with_plan(service, with_images(own, references))
        ]
        jobs = [one for one in objects if one["kind"] == "Job"]
        with self._reporter.step("camera and archiver") as step:
            tell = _telling(step)
            settings = [one for one in objects if one["kind"] != "Job"]
            self._summit.apply(settings, "night-settings", _STARTUP_SECONDS, tell)
            self._summit.delete("night-jobs")
            self._summit.apply(jobs, "night-jobs", _STARTUP_SECONDS, tell)

    def _with_plan(self, service: str, objects: list[Manifest]) -> list[Manifest]:
        for job in (one for one in objects if one["kind"] == "Job" and service == "camera"):
            for container in containers(job):
                container["args"] = ["workloads.camera", *self._plan.arguments()]
        return objects

    # -- during ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _consumer(self) -> Iterator[Callable[[], dict[str, int]]]:
        """Run the independent consumer; what is yielded returns its newest counts."""
        progress, log = self.folder / "consumer.progress", self.folder / "consumer.log"
        words = ("workloads.report", "follow", str(self.folder))
        with self._plane.beside(*words, output=progress, errors=log) as code:
            with self._reporter.step("independent consumer") as step:
                self._until(partial(self._not_following, code), "consumer", 60.0, step)
            yield lambda: _newest(progress)

    def _not_following(self, code: Callable[[], int | None]) -> str:
        if code() is not None:
            said = (self.folder / "consumer.log").read_text()[-500:]
            raise FatalError("independent consumer", f"ended with {code()}: {said}", "a consumer for the whole night")
        return "" if (self.folder / "following").exists() else "joins its group"

    def _watch(self, news: Callable[[], dict[str, int]]) -> None:
        """Follow the camera to the end of the night."""
        limit = _STARTUP_SECONDS + (self._plan.visits + 2) * self._plan.interval + 600.0
        begun = time.monotonic()

        def probe() -> str:
            if not (reason := self._summit.unfinished(_CAMERA)):
                return ""
            visit = min(int((time.monotonic() - begun) / self._plan.interval), self._plan.visits - 1)
            step.advance(by=max(0, visit - step.done))
            return f"{reason}, {news()['alerts']} alerts"

        with self._reporter.step(f"night {self._plan.name}", self._plan.visits) as step:
            self._until(probe, "camera", limit, step)

    def _drain(self, news: Callable[[], dict[str, int]]) -> None:
        """Wait until every exposure is archived and answered, or its loss has a name, and the consumer has its alerts."""
        words = ("workloads.report", "settle", str(self.folder))
        with self._reporter.step("archived and answered") as step:
            for line in self._plane.lines(*words, seconds=_REPORT_SECONDS):
                if line.startswith('{"settled"'):
                    counts = json.loads(line)
                    step.advance(f"{news()['alerts']} alerts", by=counts["settled"] - step.done, total=counts["of"])

    # -- after -----------------------------------------------------------------------------------------------------

    def _fetch_records(self) -> None:
        """Bring the camera's own records, which no pipeline can read, from the summit's node."""
        remedy = "see `dpp status`"
        packed = run(
            [*self._ssh, f"sudo tar -C {RECORDS}/{self._plan.name} -c ."], timeout=_COPY_SECONDS, remedy=remedy
        )
        run(["tar", "-C", self.folder, "--no-same-owner", "-x"], input=packed.output, timeout=_COPY_SECONDS)

    def _report_step(self, step: str) -> None:
        """Run one step of the report; exit code 1 with a report means requirements that are not met, which it names."""
        report = self.folder / "report.json"
        if step == "build":
            report.unlink(missing_ok=True)
        done = self._plane.run("workloads.report", step, str(self.folder), seconds=_REPORT_SECONDS, check=False)
        if done.code and not (step == "build" and done.code == 1 and report.exists()):
            raise FatalError(f"report, {step}", f"exit code {done.code}: {done.said}")

    @property
    def _ssh(self) -> list[str]:
        node = self._environment.cluster(_CAMERA_CLUSTER).control_plane[0]
        return ["ssh", "-F", str(self._folders.ssh_config), str(node)]


def _telling(step: Step) -> Callable[[str], None]:
    return lambda detail: step.advance(detail, by=0)


def _newest(progress: Path) -> dict[str, int]:
    """Return the newest counts that the consumer has printed."""
    lines = progress.read_text().splitlines()
    counts: dict[str, int] = json.loads(lines[-1]) if lines else {"alerts": 0}
    return counts
