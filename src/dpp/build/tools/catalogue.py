"""Which tools there are, and where in the cache each lies."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import Folders

RECIPES = Path(__file__).parent
"""The folder that holds one recipe folder per tool."""


@dataclass(frozen=True)
class Tool:
    """A tool as it is pinned here.

    Parameters
    ----------
    name
        Name of the tool and of its recipe folder.
    """

    name: str

    @property
    def recipe(self) -> Path:
        """Folder of the files that pin this tool."""
        return RECIPES / self.name

    @property
    def version(self) -> str:
        """Version of the tool, as its recipe pins it."""
        raise NotImplementedError

    @property
    def pins(self) -> tuple[Path, ...]:
        """The files that say what the tool is made from."""
        raise NotImplementedError

    @cached_property
    def digest(self) -> str:
        """First twelve hexadecimal digits of the SHA-256 over pins and recipe."""
        digest = hashlib.sha256(repr(self).encode())
        for file in self.pins:
            digest.update(file.read_bytes())
        return digest.hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where the built tool lies, whether it has been built or not."""
        return Folders.current().cache / "tools" / self.name / f"{self.version}-{self.digest}"

    @property
    def record(self) -> Path:
        """What was built, from what, under which licences; its presence says that the tool is complete."""
        return self.folder / "tool.json"

    @property
    def built(self) -> bool:
        """Whether the tool is there."""
        return self.record.exists()

    def read_record(self) -> dict[str, Any]:
        """Return the record of the built tool.

        Raises
        ------
        FatalError
            The tool has not been built.
        """
        if not self.built:
            raise FatalError(f"tool {self.name}", "not built", str(self.record), f"run `dpp tools build {self.name}`")
        record: dict[str, Any] = json.loads(self.record.read_text())
        return record


@dataclass(frozen=True)
class GoTool(Tool):
    """A tool built from Go modules; its packages are the ``tool`` lines of its go.mod.

    Parameters
    ----------
    module
        The module whose version is the tool's.
    stamps
        Linker variables, set to the value given with ``{version}``, ``{major}`` and ``{minor}`` replaced.
    renames
        Names of binaries where the last element of the package path says too little.
    trees
        Folders of the module that are kept beside the binaries: source folder to folder of the tool.
    """

    module: str
    stamps: dict[str, str] = field(default_factory=dict)
    renames: dict[str, str] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)

    @property
    def pins(self) -> tuple[Path, ...]:
        """go.mod and go.sum."""
        return self.recipe / "go.mod", self.recipe / "go.sum"

    @cached_property
    def _go_mod(self) -> str:
        return self.pins[0].read_text()

    @property
    def version(self) -> str:
        """Version of the main module without its ``v``."""
        return self._find(rf"^\s*(?:require )?{re.escape(self.module)} v(\S+)")

    @property
    def toolchain(self) -> tuple[int, ...]:
        """Least version of Go that builds this tool."""
        return tuple(int(part) for part in self._find(r"^go (\S+)").split("."))

    @property
    def packages(self) -> dict[str, str]:
        """Binary name to Go package."""
        block = self._find(r"^tool (\([^)]*\)|\S+)")
        packages = block.strip("()").split()
        plain = [re.sub(r"/v\d+$", "", package).rsplit("/", 1)[-1] for package in packages]
        return {self.renames.get(name, name): package for name, package in zip(plain, packages, strict=True)}

    @property
    def linker_flags(self) -> str:
        """Value of ``-ldflags``: no symbol tables, and the version where the program expects it."""
        major, minor, *_ = self.version.split(".")
        values = {"version": self.version, "major": major, "minor": minor}
        return " ".join(["-s -w", *(f"-X {name}={value.format(**values)}" for name, value in self.stamps.items())])

    def _find(self, pattern: str) -> str:
        match = re.search(pattern, self._go_mod, re.MULTILINE)
        if match is None:
            raise FatalError(str(self.pins[0]), "no line matches", pattern, "restore the file from version control")
        return match.group(1)


@dataclass(frozen=True)
class OwnTool(GoTool):
    """A small Go program of this repository, of the standard library alone: its recipe folder is its source."""

    module: str = ""

    @property
    def pins(self) -> tuple[Path, ...]:
        """All source files."""
        return self.recipe / "go.mod", *sorted(self.recipe.glob("*.go"))

    @property
    def version(self) -> str:
        """The repository's own: the digest tells sources apart."""
        return "0.1.0"

    @property
    def packages(self) -> dict[str, str]:
        """One binary of the tool's name."""
        return {self.name: "."}


@dataclass(frozen=True)
class MavenTool(Tool):
    """A tool assembled from Maven artifacts: the jars that pom.xml asks for, checked against jars.sha256.

    Parameters
    ----------
    archive
        File of the tool's folder that holds all jars once more: hosts are sent one file, not a hundred.
    """

    archive: str = "libs.tar"

    @property
    def pins(self) -> tuple[Path, ...]:
        """pom.xml and the digests of all jars."""
        return self.recipe / "pom.xml", self.recipe / "jars.sha256"

    @property
    def version(self) -> str:
        """Version of the project in pom.xml."""
        return ET.parse(self.pins[0]).getroot().findtext("{*}version") or "unknown"  # noqa: S314 - our own file

    @property
    def jars(self) -> dict[str, str]:
        """File name of each jar to its SHA-256."""
        pairs = (line.split() for line in self.pins[1].read_text().splitlines())
        return {name: digest for digest, name in pairs}


@dataclass(frozen=True)
class PythonTool(Tool):
    """A Python package with binary parts for the Python of the machines, where Debian's own is too old.

    Parameters
    ----------
    package
        The package whose version is the tool's.
    python
        Version of Python on the machines.
    archive
        File of the tool's folder that holds all of it.
    """

    package: str
    python: str = "3.11"
    archive: str = "python.tar"

    @property
    def pins(self) -> tuple[Path, ...]:
        """The requirements with the digests of their files."""
        return (self.recipe / "requirements.txt",)

    @property
    def version(self) -> str:
        """Version of the package, as its requirement pins it."""
        return self.pins[0].read_text().partition(f"{self.package}==")[2].split()[0]


_KUBERNETES_VERSION = "k8s.io/component-base/version."

TOOLS: dict[str, Tool] = {
    one.name: one
    for one in (
        GoTool(
            "kubernetes",
            "k8s.io/kubernetes",
            stamps={
                f"{_KUBERNETES_VERSION}gitVersion": "v{version}",
                f"{_KUBERNETES_VERSION}gitMajor": "{major}",
                f"{_KUBERNETES_VERSION}gitMinor": "{minor}",
            },
        ),
        GoTool("containerd", "github.com/containerd/containerd/v2"),
        GoTool("etcd", "go.etcd.io/etcd/server/v3", renames={"server": "etcd"}),
        GoTool("coredns", "github.com/coredns/coredns"),
        GoTool("versitygw", "github.com/versity/versitygw"),
        GoTool(
            "cilium",
            "github.com/cilium/cilium",
            renames={"daemon": "cilium-agent"},
            trees={"bpf": "lib/bpf", "pkg/k8s/apis/cilium.io/client/crds": "share/crds"},
        ),
        OwnTool("delayline"),
        GoTool(
            "metrics-server",
            "sigs.k8s.io/metrics-server",
            stamps={"k8s.io/client-go/pkg/version.gitVersion": "v{version}"},
        ),
        GoTool(
            "pulumi",
            "github.com/pulumi/pulumi/pkg/v3",
            stamps={"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": "v{version}"},
        ),
        MavenTool("kafka"),
        PythonTool("kafka-client", "confluent-kafka"),
    )
}


def tool(name: str) -> Tool:
    """Return the tool called `name`.

    Raises
    ------
    UsageError
        There is no such tool.
    """
    if name not in TOOLS:
        raise UsageError(f"tool {name}", "unknown", f"one of {', '.join(TOOLS)}", "see `dpp tools list`")
    return TOOLS[name]


def tool_folder(name: str) -> Path:
    """Return the folder of a built tool; its programs lie in ``bin``, Kafka's jars in ``libs``.

    Raises
    ------
    FatalError
        The tool has not been built.
    """
    found = tool(name)
    found.read_record()
    return found.folder
