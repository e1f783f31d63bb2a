"""The whole host restarts: every machine, wire and circuit is gone at once, and one command brings the observatory back."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from dpp.lab import wires
from dpp.lab.machines import Machines
from lab.observatory import Observatory


def _restart_host(observatory: Observatory) -> None:
    """Take what a reboot takes: processes and namespaces; containers stay as they were written to disk."""
    machines = Machines(observatory.folders)
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(machines.stop, [state.host for state in machines.all()]))
    for namespace in wires.namespaces(observatory.folders.instance):
        listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True).stdout
        for process in listed.split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        wires.remove_namespace(namespace)


def test_the_observatory_comes_back_when_its_host_was_restarted(observatory: Observatory):
    _restart_host(observatory)
    assert not wires.namespaces(observatory.folders.instance)

    observatory.dpp("lab", "up")

    observatory.assert_sound()
    for cluster in ("summit", "ncsa"):
        observatory.await_workloads(cluster)
