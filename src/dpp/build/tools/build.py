"""Building what is missing: one build at a time on a machine, resumable, each tool put in place by one rename."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from dpp.adapters.locks import exclusive
from dpp.adapters.process import lines
from dpp.adapters.progress import Reporter, Step
from dpp.build import downloads
from dpp.build.tools import licences
from dpp.build.tools.catalogue import TOOLS, GoTool, MavenTool, PythonTool, Tool
from dpp.build.tools.toolchain import find_go, find_maven, install_pinned
from dpp.model.errors import FatalError
from dpp.model.folders import Folders

_BUILD_SECONDS = 7200


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass
class Builder:
    """Builds tools into the cache.

    Parameters
    ----------
    reporter
        Where progress is shown.
    keep_caches
        Keep the caches of the Go and Maven clients after the last tool is built.
    """

    reporter: Reporter
    keep_caches: bool = False

    def __post_init__(self) -> None:
        self._cache = Folders.current().cache

    def build(self, tools: Iterable[Tool] = tuple(TOOLS.values())) -> dict[str, Path]:
        """Build those of `tools` that are missing and return the folder of each.

        Raises
        ------
        FatalError
            A build failed, a digest differs from its pin, or no toolchain fits.
        """
        tools = list(tools)
        missing = [tool for tool in tools if not tool.built]
        if missing:
            with exclusive(self._cache / "tools" / ".lock", tell=self.reporter.note):
                with self.reporter.step("tools", len(missing)) as step:
                    for tool in missing:
                        step.advance(f"{tool.name} {tool.version}", by=0)
                        if not tool.built:  # the build that was waited for may have made it
                            self._build(tool)
                        step.advance(tool.name)
                if not self.keep_caches and all(tool.built for tool in TOOLS.values()):
                    self.drop_caches()  # while nobody else builds, or drops them too
        return {tool.name: tool.folder for tool in tools}

    def drop_caches(self) -> None:
        """Delete the caches of the Go and Maven clients, some ten gigabytes that built tools do not need."""
        for folder in (self._cache / "go", self._cache / "maven"):
            if folder.exists():
                self.reporter.note(f"dropping {folder}")
                for path, _, _ in os.walk(folder):
                    Path(path).chmod(0o755)  # Go makes its module cache read-only
                shutil.rmtree(folder)

    def _build(self, tool: Tool) -> None:
        partial = tool.folder.with_name(f".{tool.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        match tool:
            case GoTool():
                contents = self._build_go(tool, partial)
            case MavenTool():
                contents = self._assemble(tool, partial)
            case PythonTool():
                contents = self._install(tool, partial)
            case _:
                raise FatalError(f"tool {tool.name}", type(tool).__name__, "a kind of tool that can be built")
        record = {"name": tool.name, "version": tool.version, "digest": tool.digest, **contents}
        (partial / "tool.json").write_text(json.dumps(record, indent=1, sort_keys=True))
        shutil.rmtree(tool.folder, ignore_errors=True)
        partial.rename(tool.folder)

    def _build_go(self, tool: GoTool, partial: Path) -> dict[str, Any]:
        go = find_go(
            max(one.toolchain for one in TOOLS.values() if isinstance(one, GoTool)), self._cache, self.reporter
        )
        environment = go.environment(self._cache)
        with self.reporter.step(f"{tool.name} {tool.version}") as step:
            step.advance("counting packages", by=0, total=self._stale(go.program, tool, environment, step))
            # All programs at once: what waits for one core, as the linker does, leaves the other to the next program.
            output = f"{partial / 'bin'}/"
            command = [go.program, "build", "-v", "-o", output, "-ldflags", tool.linker_flags, *tool.packages.values()]
            for line in lines(command, timeout=_BUILD_SECONDS, cwd=tool.recipe, env=environment):
                step.advance(line, by=0 if line.startswith("go:") else 1)
        for plain, name in tool.renames.items():
            (partial / "bin" / plain).rename(partial / "bin" / name)
        modules = self._modules(go.program, partial / "bin", environment)
        for source, target in tool.trees.items():
            shutil.copytree(modules[tool.module]["folder"] / source, partial / target, copy_function=shutil.copyfile)
        return {
            "toolchain": go.version,
            "files": {f"bin/{name}": _sha256(partial / "bin" / name) for name in tool.packages},
            "components": self._keep_licences(modules, partial / "licences"),
        }

    @staticmethod
    def _stale(go: str, tool: GoTool, environment: dict[str, str], step: Step) -> int:
        """Count the packages that are still to be compiled, downloading modules on the way."""
        template = "{{if .Stale}}stale {{.ImportPath}}{{end}}"
        command = [go, "list", "-deps", "-f", template, "-ldflags", tool.linker_flags, *tool.packages.values()]
        stale = 0
        for line in lines(command, timeout=_BUILD_SECONDS, cwd=tool.recipe, env=environment):
            stale += line.startswith("stale ")
            step.advance(line, by=0)
        return stale

    @staticmethod
    def _modules(go: str, binaries: Path, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
        """Return the modules that were linked into `binaries`, with version and folder, by path."""
        listing = "\n".join(lines([go, "version", "-m", binaries], timeout=_BUILD_SECONDS, env=environment))
        cache = Path(environment["GOMODCACHE"])
        modules: dict[str, dict[str, Any]] = {}
        path = ""
        for kind, name, version in re.findall(r"^\t(mod|dep|=>)\t(\S+)\t(v\S+)", listing, re.MULTILINE):
            path = path if kind == "=>" else name
            escaped = re.sub(r"[A-Z]", lambda letter: "!" + letter[0].lower(), f"{name}@{version}")
            modules[path] = {"version": version, "folder": cache / escaped}
        return modules

    @staticmethod
    def _keep_licences(modules: dict[str, dict[str, Any]], target: Path) -> list[dict[str, str]]:
        """Copy the licence texts of `modules` to `target` and return name, version and licence of each."""
        components = []
        for path, module in sorted(modules.items()):
            for text in licences.texts(module["folder"]):
                (target / path).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(text, target / path / text.name)
            components.append(
                {"name": path, "version": module["version"], "licence": licences.of_module(module["folder"])}
            )
        return components

    def _assemble(self, tool: MavenTool, partial: Path) -> dict[str, Any]:
        repository, libs = self._cache / "maven", partial / "libs"
        options = [
            "--batch-mode",
            f"-Dmaven.repo.local={repository}",
            "-Dstyle.color=never",
            *downloads.maven(partial),
            "-f",
            str(tool.recipe / "pom.xml"),
        ]
        command = [
            find_maven(),
            *options,
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={libs}",
        ]
        with self.reporter.step(f"{tool.name} {tool.version}", len(tool.jars)) as step:
            for line in lines(command, timeout=_BUILD_SECONDS, cwd=partial):
                step.advance(line, by=line.startswith("Downloaded from") and ".jar" in line)
        (partial / "trusted.p12").unlink(missing_ok=True)
        found = {jar.name: _sha256(jar) for jar in sorted(libs.iterdir())}
        for name in sorted(tool.jars.keys() | found.keys()):
            if found.get(name) != tool.jars.get(name):
                expected = tool.jars.get(name) or "no such jar"
                raise FatalError(
                    f"{name} of {tool.name}", found.get(name) or "missing", expected, f"see {tool.pins[1]}"
                )
        shutil.make_archive(str(partial / Path(tool.archive).stem), "tar", libs)
        names = [(jar, re.match(r"(.+?)-(\d.*)\.jar", jar.name)) for jar in sorted(libs.iterdir())]
        components = [
            {"name": match[1], "version": match[2], "licence": licences.of_jar(jar, repository)}
            for jar, match in names
            if match is not None
        ]
        return {"files": {f"libs/{name}": digest for name, digest in found.items()}, "components": components}

    def _install(self, tool: PythonTool, partial: Path) -> dict[str, Any]:
        folder = partial / "python"
        with self.reporter.step(f"{tool.name} {tool.version}") as step:
            for line in install_pinned(tool.pins[0], folder, f"--python-version={tool.python}"):
                step.advance(line)
        shutil.make_archive(str(partial / Path(tool.archive).stem), "tar", folder)
        components = [
            {"name": found.name, "version": found.version, "licence": licences.of_distribution(found)}
            for found in distributions(path=[str(folder)])
        ]
        return {"files": {tool.archive: _sha256(partial / tool.archive)}, "components": components}
