"""The summit's store runs out of room: what the archiver acknowledged stays in its journal and is stored when there is room."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpp.build.tools import tool
from ports import free_port
from sal_told import Told
from workloads.archiver.device import Archiver, ArchiverConfiguration
from workloads.archiver.images import CameraClient
from workloads.archiver.journal import Entry, Journal
from workloads.common.config import ConfigurationFolder
from workloads.common.errors import WorkloadError
from workloads.common.s3 import Store, sha256
from workloads.common.serve import Health
from workloads.common.settings import Settings

BUCKET, SMALL, LARGE = "raw", "2m", "32m"
IMAGE = bytes(range(256)) * 16384  # 4 MiB


class SmallStore:
    """The real object store over a file system of its own, in a mount namespace of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        program = str(tool("versitygw").folder / "bin/versitygw")
        options = f"--port 127.0.0.1:{self.port} --quiet --access archiver --secret small posix"
        script = f'mount -t tmpfs -o size={SMALL} small "$0" && mkdir "$0/data" "$0/meta" && exec "$1" {options} --sidecar "$0/meta" "$0/data"'
        command = ["unshare", "--mount", "sh", "-c", script, str(folder), program]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def grow(self) -> None:
        """Give it room."""
        enter = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", "mount", "-o", f"remount,size={LARGE}"]
        subprocess.run([*enter, str(self.folder)], check=True)

    def settings(self, folder: Path) -> Settings:
        """Return what a workload of the summit is told."""
        (folder / "s3-summit").write_text("small\n")
        site = {
            "environment": "small",
            "site": "summit",
            "principal": "archiver",
            "object_stores": {"summit": {"endpoint": f"http://127.0.0.1:{self.port}"}},
            "buckets": [{"bucket": BUCKET, "site": "summit", "prefix": "LSSTCam/", "may": ["read", "write"]}],
        }
        (folder / "site.yml").write_text(yaml.safe_dump(site))
        return Settings(folder / "site.yml", folder, folder / "ca.crt")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallStore]:
    if not tool("versitygw").built:
        pytest.skip("tool versitygw is not built: dpp tools build versitygw")
    (tmp_path / "store").mkdir()
    found = SmallStore(tmp_path / "store")
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()


def _bucket(store: Store) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with store._errors(BUCKET, ""):
                store._client.create_bucket(Bucket=BUCKET)
        except WorkloadError:
            assert time.monotonic() < deadline, "the store did not start"
            time.sleep(0.1)
        else:
            return


class _Ending:
    """One who was told to end."""

    def __bool__(self) -> bool:
        return True


ENDING: Any = _Ending()


def test_a_full_store_loses_nothing_and_says_so(small: SmallStore, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    store = Store(small.settings(tmp_path), "summit", BUCKET)
    _bucket(store)
    told: Any = Told("MTArchiver")
    journal = Journal(tmp_path / "journal")
    folder = ConfigurationFolder(tmp_path, "summit", ArchiverConfiguration)
    device = Archiver(told, folder, journal, CameraClient("http://127.0.0.1:9"), store)
    entry = Entry("LSSTCam/20261122/one.fits", sha256(IMAGE), len(IMAGE), "MC_S_20261122_000001", "R22_S11", "group")
    journal.add(entry, IMAGE)

    with caplog.at_level(logging.WARNING):
        device.store(ENDING, Health())
    assert f"store: summit:{BUCKET}/{entry.key}: " in caplog.text
    assert "No space left on device.; trying again" in caplog.text
    assert [kept for kept, _ in journal.pending()] == [entry]
    assert store.digest(BUCKET, entry.key) is None
    assert not told.of("imageStored")

    small.grow()
    device.store(ENDING, Health())
    assert list(journal.pending()) == []
    assert store.digest(BUCKET, entry.key) == entry.sha256
    assert [one["key"] for one in told.of("imageStored")] == [entry.key]
