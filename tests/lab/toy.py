"""The example service of docs/developers, as files of a repository."""

from __future__ import annotations

import re
from pathlib import Path

from dpp.model.folders import REPOSITORY

PAGE = "docs/developers/adding-a-service.md"
NAME, PORT, CLUSTER = "stamp-counting", 8090, "ncsa"
_FILE = re.compile(r"^`([^`\n]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    """Return the contents of the example's files, by path, as the page has them."""
    return dict(_FILE.findall((REPOSITORY / PAGE).read_text()))


def add_to(root: Path) -> None:
    """Add the example to the repository at `root`, as the page says."""
    for path, content in files().items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    where = root / "k8s/clusters/lab" / CLUSTER / "kustomization.yaml"
    where.write_text(where.read_text().rstrip("\n") + f"\n  - ../../../{NAME}\n")
