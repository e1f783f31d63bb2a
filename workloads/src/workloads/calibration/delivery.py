"""Real exposures on their way to where templates are made of them: in and out of the site's object store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from workloads.camera.exposures import RealSky
from workloads.common.errors import NonRetriableError
from workloads.common.s3 import Store
from workloads.common.settings import Settings

LOG = logging.getLogger(__name__)
BUCKET = "butler"


def deliver(settings: Settings, folder: Path) -> dict[str, Any]:
    """Check a directory and put its files into the store; return the sky's name and its files by role.

    Raises
    ------
    NonRetriableError
        If the directory cannot be replayed.
    """
    sky = RealSky.read(folder)
    store = Store(settings, settings.site.site, BUCKET)
    for path in sky.files(folder):
        store.put(BUCKET, f"{_prefix(sky.name)}{path.name}", path.read_bytes())
    return {
        "sky": sky.name,
        "files": [path.name for path in sky.files(folder)],
        "science": [one.name for one in sky.science],
        "template": [one.name for one in sky.template],
        "cropped": sky.cropped,
    }


def fetch(settings: Settings, name: str, scratch: Path) -> RealSky:
    """Bring a delivered sky into `scratch` and read it.

    Raises
    ------
    NonRetriableError
        If it was not delivered, or is not what was delivered.
    """
    store = Store(settings, settings.site.site, BUCKET)
    folder = scratch / name
    folder.mkdir(parents=True, exist_ok=True)
    for item in store.list(BUCKET, _prefix(name)):
        (folder / item.key.removeprefix(_prefix(name))).write_bytes(store.get(BUCKET, item.key))
    sky = RealSky.read(folder)
    if sky.name != name:
        raise NonRetriableError(f"{name}: the store holds {sky.name} under this name; deliver it again")
    LOG.info("fetched %s: %d science and %d template exposures", name, len(sky.science), len(sky.template))
    return sky


def _prefix(name: str) -> str:
    return f"skies/{name}/"
