"""A lab comes, comes back and goes; its host is the same before and after, whenever it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos import host, tiny
from dpp.adapters.progress import Reporter
from dpp.adapters.vantage import Vantage
from dpp.lab import wires
from dpp.lab.lifecycle import Lab
from dpp.lab.machines import Machines
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders
from instances import instance

INSTANCE = instance("c")
HOSTS = ["svc01.summit", "k8s01.summit"]


@pytest.fixture(scope="module")
def image():
    return tiny.base_image()


@pytest.fixture
def folders(image, monkeypatch):  # noqa: ARG001 - the image is there before the host is looked at
    monkeypatch.setenv("DPP_LAB", INSTANCE)
    folders = Folders.current()
    _down(folders)
    yield folders
    _down(folders)


def _down(folders: Folders) -> list[str]:
    return Lab(folders, Reporter(quiet=True)).down()


def _machines(folders: Folders, image: str) -> Machines:
    environment, machines = Environment.load("lab"), Machines(folders)
    for name in HOSTS:
        machines.ensure(tiny.specification(environment, name, image))
    return machines


def test_host_is_the_same_before_and_after(folders, image):
    before = host.snapshot()
    _machines(folders, image)
    standing = host.snapshot()
    _down(folders)
    assert not host.traces(INSTANCE)
    assert not host.differences(before, standing)
    assert not host.differences(before, host.snapshot())


@pytest.mark.parametrize("program", [2, 5, 9, 14, 20])
def test_nothing_is_left_after_a_kill(folders, program):
    before = host.snapshot()
    command = [sys.executable, tiny.__file__, str(program), *HOSTS, "st01.summit"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    assert done.returncode == -signal.SIGKILL
    _down(folders)
    assert not host.traces(INSTANCE)
    assert not host.differences(before, host.snapshot())
    assert _down(folders) == []


def test_second_ensure_changes_nothing(folders, image):
    machines = _machines(folders, image)
    before = machines.all()
    _machines(folders, image)
    assert machines.all() == before


def test_machines_come_back_when_the_host_was_restarted(folders, image):
    machines = _machines(folders, image)
    machines.podman.execute(machines.name("k8s01.summit"), ["sh", "-c", "echo kept > /var/lib/etcd/kept"])
    for name in HOSTS:
        machines.stop(name)
    for name in wires.namespaces(INSTANCE):  # what a reboot takes
        wires.remove_namespace(name)
    assert {state.system for state in machines.all()} == {"off"}
    for name in HOSTS:
        assert machines.start(name).system == "running"
    assert machines.podman.execute(machines.name("k8s01.summit"), ["cat", "/var/lib/etcd/kept"]) == "kept\n"
    here = Vantage.at("summit", folders=folders)
    done = subprocess.run([*here.prefix(), "ping", "-c1", "-W2", "10.81.0.31"], capture_output=True, check=False)
    assert done.returncode == 0


def test_a_machine_is_mended_where_its_cable_was_pulled(folders, image):
    machines = _machines(folders, image)
    wires.ip("-n", wires.wires(INSTANCE), "link", "delete", wires.interface("k8s01.summit"))
    state = machines.read("k8s01.summit")
    assert state is not None
    assert not state.plugged
    assert machines.start("k8s01.summit").plugged


def test_a_machine_of_another_owner_is_refused(folders, image):
    machines = _machines(folders, image)
    with pytest.raises(FatalError, match=r"belongs to urn:test:svc01\.summit"):
        machines.remove("svc01.summit", "urn:someone:else")


def test_a_machine_cannot_change_its_host(folders, image):
    machines = _machines(folders, image)
    overcommit = Path("/proc/sys/vm/overcommit_memory").read_text()
    inside = machines.name("svc01.summit")
    tries = (
        "date -s 2001-01-01; echo 2 > /proc/sys/vm/overcommit_memory; sysctl -w kernel.panic=7 vm.swappiness=1; true"
    )
    machines.podman.execute(inside, ["sh", "-c", tries])
    assert Path("/proc/sys/vm/overcommit_memory").read_text() == overcommit
    assert time.gmtime().tm_year > 2020
    assert machines.podman.execute(inside, ["sysctl", "-n", "net.ipv4.conf.all.forwarding"]).strip() in "01"
    machines.podman.execute(inside, ["sysctl", "-w", "net.ipv4.conf.all.forwarding=1"])


def test_two_at_once_are_refused(folders):
    lab = Lab(folders, Reporter(quiet=True))
    with lab.alone(), pytest.raises(RetriableError, match=f"process {os.getpid()}"), lab.alone():
        pass


def test_vantage_without_a_lab_says_what_to_do(folders):
    with pytest.raises(RetriableError, match="run dpp lab up"):
        Vantage.at("summit", folders=folders)
