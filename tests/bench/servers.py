"""The real servers that stages stand on, alone on loopback, in a folder that goes away: PostgreSQL and an object store.

PostgreSQL has the sizes of this machine and syncs what it commits; the lab's and production's are in the role's figures.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import psutil
import psycopg2
import yaml

from dpp.build.tools import tool
from ports import free_port
from workloads.common.settings import Settings

_BINARIES = Path("/usr/lib/postgresql")
_HUNG_SECONDS = 120.0
_SECRET = "bench-secret"  # noqa: S105 - of a store that ends with the bench
_PLACES = ("summit", "base", "ncsa")


def missing(*names: str) -> str:
    """Say what of ``postgresql`` and ``versitygw`` this machine lacks; empty if nothing."""
    there = {"postgresql": bool(list(_BINARIES.glob("*/bin/initdb"))), "versitygw": tool("versitygw").built}
    return ", ".join(name for name in names if not there[name])


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder on a disk, that PostgreSQL's own user may enter as well."""
    with TemporaryDirectory(prefix="dpp-bench-", dir=os.environ.get("DPP_BENCH")) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database; its server ends afterwards."""
    binaries, home, port = max(_BINARIES.glob("*/bin")), folder / "postgresql", free_port()
    home.mkdir()
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to be root's
        who = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(home, "postgres", "postgres")
    made = [str(binaries / "initdb"), "-D", str(home / "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
    subprocess.run(made, check=True, capture_output=True, **who)
    gigabytes = max(1, psutil.virtual_memory().total >> 32)
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": home, "shared_buffers": f"{gigabytes}GB",
        "max_wal_size": "8GB", "maintenance_work_mem": "1GB", "checkpoint_timeout": "15min", "random_page_cost": "1.1",
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(home / "data"), *options]
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    with _running(command, home / "log", lambda: _answers(url), signal.SIGINT, **who):
        yield url.replace("://", "+psycopg2://")


@contextmanager
def stores(folder: Path, *sites: str) -> Iterator[Settings]:
    """Yield settings of a principal that may do everything in bucket ``raw`` at some sites: one store is all of theirs."""
    port = free_port()
    for name in ("data", "meta"):
        (folder / "store" / name).mkdir(parents=True)
    command = [str(tool("versitygw").folder / "bin/versitygw"), "--port", f"127.0.0.1:{port}", "--quiet"]
    command += ["--access", "bench", "--secret", _SECRET]
    command += ["posix", "--sidecar", str(folder / "store/meta"), str(folder / "store/data")]
    with _running(command, folder / "store/log", lambda: _listens(port), signal.SIGTERM):
        endpoint = f"http://127.0.0.1:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="bench",
            aws_secret_access_key=_SECRET,
        )
        client.create_bucket(Bucket="raw")
        yield settings(folder, endpoint, sites or ("ncsa",))


def settings(folder: Path, endpoint: str, sites: Sequence[str]) -> Settings:
    """Write what a principal is told and return it as code reads it."""
    grants = [
        {"bucket": "raw", "site": site, "prefix": "", "may": ["read", "write", "list", "delete"]} for site in sites
    ]
    content = {
        "environment": "bench", "site": sites[0], "principal": "bench", "buckets": grants,
        "object_stores": {site: {"endpoint": endpoint} for site in sites},
    }  # fmt: skip
    (folder / "site.yml").write_text(yaml.safe_dump(content))
    for site in sites:
        (folder / f"s3-{site}").write_text(f"{_SECRET}\n")
    return Settings(folder / "site.yml", folder, folder / "no-authority")


@contextmanager
def _running(command: list[str], log: Path, ready: Callable[[], bool], end: int, **who: Any) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **who)
    try:
        deadline = time.monotonic() + _HUNG_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(end)
        try:
            process.wait(_HUNG_SECONDS)
        finally:
            process.kill()


def _answers(url: str) -> bool:
    """Say whether a database takes connections: its port is open while it still starts up."""
    try:
        psycopg2.connect(url, connect_timeout=1).close()
    except psycopg2.OperationalError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
