"""The commands of an operator against the observatory that all end-to-end tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dpp.adapters.vantage import Vantage
from dpp.build.tools import tool_folder
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY, Folders

_TAIL = 60
RETURN_SECONDS = 300.0
_TOPICS = (
    "java -Xmx128m -cp $(ls -d /opt/kafka/* | tail -n 1)/\\* org.apache.kafka.tools.TopicCommand --bootstrap-server "
    "{host}:9094 --command-config /etc/kafka/admin.properties --describe"
)
_AVAILABLE = ("wait", "deployment", "--all", "--for=condition=Available", "--timeout=60s")
DPP = str(Path(sys.executable).with_name("dpp"))


class Observatory:
    """Runs ``dpp``, ``kubectl`` and remote commands as an operator would, and keeps what they print.

    Parameters
    ----------
    logs
        Folder that gets one file per ``dpp`` command.
    """

    def __init__(self, logs: Path) -> None:
        self.logs, self.folders, self.environment = logs, Folders.current(), Environment.load("lab")
        self.before: dict[str, Any] | None = None
        """The host before the lab came; None where the lab was there first."""

    def _log(self, words: tuple[str, ...]) -> Path:
        return self.logs / f"{len(list(self.logs.iterdir())):02d}-{'-'.join(words[:3])}.log"

    def dpp(self, *words: str, code: int | None = 0) -> str:
        """Run ``dpp`` and return what it printed on both streams; `code` None allows every exit code."""
        log = self._log(words)
        with log.open("wb") as stream:
            command = [DPP, *words]
            done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, cwd=REPOSITORY, check=False)
        text = log.read_text()
        tail = "\n".join(text.splitlines()[-_TAIL:])
        assert code is None or done.returncode == code, f"dpp {' '.join(words)}: code {done.returncode}\n{tail}"
        return text

    def night(self, *options: str) -> Path:
        """Take a night and return its folder; the exit code is judged with the report in it."""
        said = self.dpp("night", "run", *options, code=None)
        path = Path(said.splitlines()[-1])
        assert path.name == "report.json", said[-3000:]
        return path.parent

    def playbook(self, path: str) -> str:
        """Run a playbook over the whole lab with plain Ansible, as site operators do; return what it printed."""
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory=inventories/lab", path]
        settings = {"DPP_SSH_CONFIG": str(self.folders.ssh_config), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | settings, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def on(self, host: str, command: str) -> str:
        """Run a shell command on a host, in band, as an operator who became root."""
        words = ["ssh", "-F", str(self.folders.ssh_config), host, f"sudo sh -c '{command}'"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{host}: {command}: {done.stderr}"
        return done.stdout

    def topics(self, host: str) -> str:
        """Return what a broker says of its topics: a line each, with what it was told of them."""
        return self.on(host, _TOPICS.format(host=host))

    def kubectl(self, cluster: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``kubectl`` in the namespace of the workloads, from the operations host of the cluster's site."""
        vantage = Vantage.at(self.environment.cluster(cluster).site, "lab", self.folders)
        access = self.folders.state / "kubeconfig" / cluster
        program = tool_folder("kubernetes") / "bin" / "kubectl"
        command = [*vantage.prefix(), str(program), f"--kubeconfig={access}", "--namespace=workloads", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)

    def assert_sound(self) -> None:
        """Check by ``dpp lab status`` that every machine runs and every circuit carries traffic."""
        said = self.dpp("lab", "status", "--json")
        found = json.loads(said[said.index("{") :])
        assert {machine["system"] for machine in found["machines"]} == {"running"}
        assert {circuit["state"] for circuit in found["circuits"]} == {"sound"}

    def await_workloads(self, cluster: str) -> None:
        """Wait until every Deployment of a cluster's workloads is available."""
        deadline = time.monotonic() + RETURN_SECONDS
        while (done := self.kubectl(cluster, *_AVAILABLE)).returncode:
            assert time.monotonic() < deadline, done.stderr

    def stands(self) -> bool:
        """Say whether the instance has a lab."""
        return (self.folders.state / "kubeconfig" / "ncsa").exists()
