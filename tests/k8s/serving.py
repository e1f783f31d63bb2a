"""A real API server of the version that clusters run, with its store, on loopback."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from k8s.deployed import HUNG_SECONDS, Server, program
from ports import free_port


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Run an API server, which keeps what it needs in a folder; nothing is on it."""
    store, api, token = f"http://127.0.0.1:{free_port()}", free_port(), secrets.token_hex(16)
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / "accounts.key").write_bytes(key)
    (folder / "tokens.csv").write_text(f"{token},tests,tests,system:masters\n")
    etcd = [program("etcd", "etcd"), f"--data-dir={folder}/etcd", f"--listen-client-urls={store}", "--unsafe-no-fsync"]
    etcd += [
        f"--advertise-client-urls={store}",
        f"--listen-peer-urls=http://127.0.0.1:{free_port()}",
        "--log-level=error",
    ]
    command = [
        program("kube-apiserver"),
        f"--etcd-servers={store}",
        "--bind-address=127.0.0.1",
        "--advertise-address=192.0.2.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={api}",
        f"--cert-dir={folder}/certificates",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://tests",
        f"--service-account-key-file={folder}/accounts.key",
        f"--service-account-signing-key-file={folder}/accounts.key",
        "--disable-admission-plugins=ResourceQuota",  # a quota is in force only where a controller counts
    ]
    authority = folder / "certificates" / "apiserver.crt"
    found = Server((f"--server=https://127.0.0.1:{api}", f"--token={token}", f"--certificate-authority={authority}"))
    with (folder / "log").open("w") as log:
        processes = [subprocess.Popen(one, stdout=log, stderr=log) for one in (etcd, command)]
        try:
            _wait(found, processes, folder / "log")
            yield found
        finally:
            for process in reversed(processes):
                process.kill()  # nothing of it is kept
            for process in processes:
                process.wait(timeout=30)


def _wait(server: Server, processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    deadline = time.monotonic() + HUNG_SECONDS
    while server.kubectl("get", "--raw=/readyz").stdout != "ok":
        running = all(process.poll() is None for process in processes) and time.monotonic() < deadline
        assert running, "the API server did not start:\n" + log.read_text()[-3000:]
        time.sleep(0.5)
