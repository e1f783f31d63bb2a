"""A night: the camera's and the archiver's Jobs on the summit, an independent consumer at the archive, and the report.

Everything goes in band, from the operations hosts of the sites.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from dpp.adapters.kubernetes import Cluster, Manifest
from dpp.adapters.kustomize import containers
from dpp.adapters.progress import Reporter
from dpp.adapters.vantage import Vantage
from dpp.build.base_image import BaseImage
from dpp.build.tools import tool_folder
from dpp.build.workload_images import WorkloadImages
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError, UsageError
from dpp.model.folders import REPOSITORY, Folders
from dpp.operations import real_sky
from dpp.operations.data_plane import write_settings
from dpp.rendering.clusters import cluster_objects, service_objects, with_images

NAMESPACE = "workloads"
SYNTHETIC = "synthetic"
RECORDS = "/var/lib/dpp/volumes/night-runs"
"""Where the camera's records lie on the summit's node."""
ARCHIVE = "ncsa"
_CAMERA_CLUSTER = "summit"
_SKY_JOB = "calibration-sky"
_STARTUP_SECONDS = 300.0
_CALIBRATION_SECONDS = 3600.0


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
        self.folder = folders.state / "nights" / plan.name

    def run(self) -> dict[str, Any]:
        """Take the night and return its report (also in `folder`).

        Raises
        ------
        RetriableError
            If something that the night needs is not up in time.
        FatalError
            If the camera fails.
        """
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
        self._report_step("stores")
        self._report_step("build", failing=True)
        content: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return content

    # -- before ----------------------------------------------------------------------------------------------------

    def _wait_prepared(self) -> None:
        """Wait for calibrations and templates, then for the workers that load them."""
        with self._reporter.step("calibrations and templates") as step:
            self._until(lambda: self._job(ARCHIVE, "calibration"), _CALIBRATION_SECONDS, step.advance)
        with self._reporter.step("prompt processing") as step:
            self._until(lambda: self._deployment(ARCHIVE, "prompt-processing"), _STARTUP_SECONDS, step.advance)

    def _images(self, cluster: str) -> dict[str, str]:
        """Return references to the workloads' images in the registry of a cluster's site, which has them then."""
        images = WorkloadImages(self._folders, BaseImage(self._reporter).layers[0].reference, self._reporter)
        return images.push(self._environment.cluster(cluster).site, self._environment.name)

    def _bring_sky(self, folder: Path) -> None:
        """Bring real exposures to the archive, prepare for them there, and bring them to the camera."""
        with self._reporter.step("real sky") as step:
            command = self._archive_command("workloads.calibration")
            delivered = real_sky.to_archive(folder, command, self._report_environment)
            step.advance(f"{delivered.name} is in the archive's store", by=0)
            objects = cluster_objects(self._environment, self._environment.cluster(ARCHIVE))["calibration"]
            [job] = (one for one in with_images(objects, self._images(ARCHIVE)) if one["kind"] == "Job")
            job["metadata"]["name"] = _SKY_JOB
            for container in containers(job):
                container["args"] = ["workloads.calibration", "--sky", delivered.name]
            cluster = Cluster(ARCHIVE, self._environment.name, self._folders)
            cluster.delete("night-sky")
            cluster.apply([job], "night-sky", _STARTUP_SECONDS, step.advance)
            self._until(lambda: self._job(ARCHIVE, _SKY_JOB), _CALIBRATION_SECONDS, step.advance)
            real_sky.to_camera(folder, delivered, RECORDS, self._ssh)
        self._plan = replace(self._plan, sky=delivered.in_camera)

    def _until(self, probe: Callable[[], str], seconds: float, tell: Callable[..., None]) -> None:
        deadline = time.monotonic() + seconds
        while reason := probe():
            if time.monotonic() > deadline:
                raise RetriableError(
                    f"night {self._plan.name}", reason, f"ready within {seconds:g} s", "see `dpp status`"
                )
            tell(reason, by=0)
            time.sleep(3.0)

    def _start(self, references: dict[str, str]) -> None:
        """Apply what both devices need, and their Jobs anew."""
        cluster = Cluster(_CAMERA_CLUSTER, self._environment.name, self._folders)
        objects = [one for service in ("archiver", "camera") for one in self._objects(service, references)]
        jobs = [one for one in objects if one["kind"] == "Job"]
        with self._reporter.step("camera and archiver") as step:
            cluster.apply(
                [one for one in objects if one["kind"] != "Job"], "night-settings", _STARTUP_SECONDS, step.advance
            )
            cluster.delete("night-jobs")
            cluster.apply(jobs, "night-jobs", _STARTUP_SECONDS, step.advance)

    def _objects(self, service: str, references: dict[str, str]) -> list[Manifest]:
        objects = with_images(service_objects(service), references)
        for job in (one for one in objects if one["kind"] == "Job" and service == "camera"):
            for container in containers(job):
                container["args"] = ["workloads.camera", *self._plan.arguments()]
        return objects

    # -- during ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _consumer(self) -> Iterator[Callable[[], dict[str, int]]]:
        """Run the independent consumer; what is yielded returns its newest counts."""
        output = (self.folder / "consumer.log").open("wb")
        progress = (self.folder / "consumer.progress").open("wb")
        process = subprocess.Popen(
            self._report_command("follow"), stdout=progress, stderr=output, env=self._report_environment
        )
        try:
            self._until(
                lambda: (
                    "" if (self.folder / "following").exists() else self._dead(process) or "consumer joins its group"
                ),
                60.0,
                lambda *_, **__: None,
            )
            yield self._news
        finally:
            process.terminate()
            process.wait(30)
            output.close()
            progress.close()

    def _dead(self, process: subprocess.Popen[bytes]) -> str:
        if process.poll() is not None:
            said = (self.folder / "consumer.log").read_text()[-500:]
            raise FatalError(
                "independent consumer", f"ended with {process.returncode}: {said}", "a consumer for the whole night"
            )
        return ""

    def _news(self) -> dict[str, int]:
        lines = (self.folder / "consumer.progress").read_text().splitlines()
        counts: dict[str, int] = json.loads(lines[-1]) if lines else {"alerts": 0, "stamps": 0}
        return counts

    def _watch(self, news: Callable[[], dict[str, int]]) -> None:
        """Follow the camera to the end of the night."""
        limit = _STARTUP_SECONDS + (self._plan.visits + 2) * self._plan.interval + 600.0
        deadline, begun = time.monotonic() + limit, time.monotonic()
        with self._reporter.step(f"night {self._plan.name}", self._plan.visits) as step:
            while reason := self._job(_CAMERA_CLUSTER, "camera"):
                if time.monotonic() > deadline:
                    raise RetriableError(
                        "camera", reason, f"the end of the night within {limit:g} s", "see the Job's log"
                    )
                visit = int(max(0.0, time.monotonic() - begun) / self._plan.interval)
                step.advance(f"{news()['alerts']} alerts", by=max(0, min(visit, self._plan.visits - 1) - step.done))
                time.sleep(2.0)

    def _drain(self, news: Callable[[], dict[str, int]]) -> None:
        """Wait until every exposure is archived and answered, or its loss has a name."""
        with (
            self._reporter.step("archived and answered") as step,
            subprocess.Popen(
                self._report_command("settle"), stdout=subprocess.PIPE, text=True, env=self._report_environment
            ) as process,
        ):
            assert process.stdout is not None  # noqa: S101 - PIPE was asked for
            for line in process.stdout:
                counts = json.loads(line)
                step.advance(f"{news()['alerts']} alerts", by=counts["settled"] - step.done, total=counts["of"])
        if process.returncode:
            raise FatalError("report, settle", f"exit code {process.returncode}", remedy="see what it printed")
        time.sleep(2.0)  # the consumer's last lines

    # -- after -----------------------------------------------------------------------------------------------------

    def _fetch_records(self) -> None:
        """Bring the camera's own records, which no pipeline can read, from the summit's node."""
        pack = subprocess.Popen([*self._ssh, f"sudo tar -C {RECORDS}/{self._plan.name} -c ."], stdout=subprocess.PIPE)
        done = subprocess.run(
            ["tar", "-C", str(self.folder), "--no-same-owner", "-x"],
            stdin=pack.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
        if pack.wait() or done.returncode:
            raise RetriableError(
                f"night {self._plan.name}",
                f"no records from the summit: {done.stderr.strip()}",
                remedy="see `dpp status`",
            )

    def _report_step(self, step: str, *, failing: bool = False) -> None:
        """Run one step of the report; `failing` allows the exit code 1 of requirements that are not met."""
        done = subprocess.run(
            self._report_command(step), capture_output=True, text=True, check=False, env=self._report_environment
        )
        if done.returncode and not (failing and done.returncode == 1 and (self.folder / "report.json").exists()):
            raise FatalError(f"report, {step}", f"exit code {done.returncode}: {done.stderr.strip()[-800:]}")

    # -- ways ------------------------------------------------------------------------------------------------------

    def _job(self, cluster: str, name: str) -> str:
        """Return why a Job is not complete, or nothing.

        Raises
        ------
        FatalError
            If it has failed for good; the end of its log is in the message.
        """
        status = self._get(cluster, f"job/{name}").get("status", {})
        conditions = {one["type"]: one for one in status.get("conditions", []) if one["status"] == "True"}
        if "Failed" in conditions:
            said = self._kubectl_run(cluster, "logs", f"job/{name}", "--tail=5").stdout.strip()
            raise FatalError(
                f"Job {name} on {cluster}", f"failed: {said[-1500:]}", "a Job that completes", "see its log"
            )
        return "" if "Complete" in conditions else f"Job {name} on {cluster} is not complete"

    def _deployment(self, cluster: str, name: str) -> str:
        found = self._get(cluster, f"deployment/{name}")
        ready = found.get("status", {}).get("readyReplicas", 0)
        return (
            "" if ready >= found.get("spec", {}).get("replicas", 1) else f"Deployment {name} on {cluster} is not ready"
        )

    def _get(self, cluster: str, what: str) -> dict[str, Any]:
        done = self._kubectl_run(cluster, "get", what, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        return found

    def _kubectl_run(self, cluster: str, *words: str) -> subprocess.CompletedProcess[str]:
        vantage = Vantage.at(self._environment.cluster(cluster).site, self._environment.name, self._folders)
        config = self._folders.state / "kubeconfig" / cluster
        command = [*vantage.prefix(), str(self._kubectl), "--kubeconfig", str(config), "-n", NAMESPACE, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    @cached_property
    def _kubectl(self) -> Path:
        return tool_folder("kubernetes") / "bin/kubectl"

    @property
    def _ssh(self) -> list[str]:
        node = self._environment.cluster(_CAMERA_CLUSTER).control_plane[0]
        return ["ssh", "-F", str(self._folders.ssh_config), str(node)]

    def _report_command(self, step: str) -> list[str]:
        return [*self._archive_command("workloads.report"), step, str(self.folder)]

    def _archive_command(self, workload: str) -> list[str]:
        vantage = Vantage.at(ARCHIVE, self._environment.name, self._folders)
        return [*vantage.prefix(), sys.executable, "-m", workload]

    @cached_property
    def _report_environment(self) -> dict[str, str]:
        """Give the report the settings of a workload at the archive."""
        place = self._folders.state / "nights" / ".settings"
        own = write_settings(self._environment, ARCHIVE, self._folders, place)
        return {**os.environ, **own, "PYTHONPATH": str(REPOSITORY / "workloads" / "src")}
