"""Changes to routers: whole, shown, checked from elsewhere, undone by the device itself where they cut their operator off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from dpp.adapters.devices import DeviceConfigurations
from dpp.adapters.devices.channels import reachable
from dpp.adapters.devices.drivers import plain
from dpp.model.errors import FatalError, RetriableError
from network.topology import Topology, wait

CUT_OFF = """
import sys
from dpp.adapters.devices import DeviceConfigurations
from dpp.model.environment import Environment
from dpp.model.folders import Folders

devices = DeviceConfigurations(Environment.load("lab"), Folders.current(), site="ncsa")
devices.push("rt01.summit", sys.stdin.read(), 25)
"""


def test_the_running_configuration_is_the_intended_one(network: Topology):
    for host in network.routers:
        assert not network.devices.diff(host)
        assert sorted(network.devices.read(host).splitlines()) == sorted(
            plain(network.devices.intended(host)).splitlines()
        )


def test_a_stray_line_is_shown_and_disappears(network: Topology):
    network.vtysh(
        "rt02.ncsa",
        "configure terminal",
        "ip route 198.51.100.0/24 blackhole",
        "router bgp 65083",
        "neighbor 10.80.0.6 description by hand",
    )
    shown = network.devices.diff("rt02.ncsa").text()
    assert "- ip route 198.51.100.0/24 blackhole" in shown
    assert "+ router bgp 65083 / neighbor 10.80.0.6 description base-ncsa-secondary to rt02.base" in shown
    applied = network.devices.apply("rt02.ncsa")
    assert applied.change.text() == shown
    assert set(applied.established) == {"10.80.0.6", "10.80.0.11", "10.83.0.1"}
    running = network.devices.read("rt02.ncsa")
    assert "198.51.100.0" not in running
    assert "by hand" not in running
    assert not network.devices.apply("rt02.ncsa").change


def test_a_change_outlives_a_restart_of_the_daemons(network: Topology):
    text = network.devices.intended("rt02.ncsa").replace("description base-ncsa-secondary", "description changed")
    network.devices.push("rt02.ncsa", text)
    _restart_daemons(network, "rt02.ncsa")
    running = network.devices.read("rt02.ncsa")
    assert "description changed" in running
    assert sorted(running.splitlines()) == sorted(plain(text).splitlines())


def _restart_daemons(network: Topology, host: str) -> None:
    """Restart a router's daemons, others than before, and wait until they answer."""
    before = network.shell(host, "pidof", "bgpd", "zebra")
    network.shell(host, "systemctl", "restart", "frr")
    assert not set(before.split()) & set(network.shell(host, "pidof", "bgpd", "zebra").split())


def test_an_unconfirmed_change_does_not_outlive_a_restart_of_the_daemons(network: Topology):
    text = network.devices.intended("rt02.ncsa").replace("description base-ncsa-secondary", "description unconfirmed")
    driver = network.devices._driver("rt02.ncsa")
    assert driver.apply(text, 120)
    assert "description unconfirmed" in network.devices.read("rt02.ncsa")
    _restart_daemons(network, "rt02.ncsa")
    assert not network.devices.diff("rt02.ncsa")
    with pytest.raises(FatalError, match="no change waits to be confirmed"):
        driver.confirm()


def test_a_word_that_the_router_does_not_know_is_refused_before_anything_changes(network: Topology):
    text = network.devices.intended("rt02.ncsa").replace("bgp router-id", "bgp rooter-id")
    with pytest.raises(FatalError, match="rooter-id"):
        network.devices.push("rt02.ncsa", text)
    assert not network.devices.diff("rt02.ncsa")


def test_a_second_change_is_refused_while_one_waits(network: Topology):
    text = network.devices.intended("rt02.ncsa").replace("base-ncsa-secondary to", "to")
    driver = network.devices._driver("rt02.ncsa")
    driver.apply(text, 120)
    with pytest.raises(FatalError, match="another change waits to be confirmed"):
        network.devices.apply("rt02.ncsa")
    driver.revert()
    assert not network.devices.diff("rt02.ncsa")


def test_a_change_that_breaks_a_session_is_taken_back_and_named(network: Topology):
    text = network.devices.intended("rt02.base").replace(
        "neighbor 10.80.0.7 remote-as 65083", "neighbor 10.80.0.7 remote-as 65099"
    )
    with pytest.raises(FatalError, match=r"session to 10\.80\.0\.7.*the change was taken back"):
        network.devices.push("rt02.base", text, confirm_seconds=25)
    assert not network.devices.diff("rt02.base")


def test_a_change_that_cuts_off_its_operator_is_undone_by_the_device_itself(network: Topology):
    """The operator sits at NCSA, the process that applies is killed, the route is gone: all is seen in band, from NCSA."""
    address = str(network.environment.host("rt01.summit").address)
    operators = network.vantage("ncsa")
    intended = network.devices.intended("rt01.summit")
    cutting = "".join(
        line + (f" {' '.join(line.split()[:2])} shutdown\n" if "remote-as" in line else "")
        for line in intended.splitlines(keepends=True)
    )
    assert cutting.count("shutdown") == 2
    assert reachable(operators, address)
    process = subprocess.Popen(
        [sys.executable, "-c", CUT_OFF],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": "src", "DPP_LAB": network.folders.instance},
    )
    process.stdin.write(cutting.encode())
    process.stdin.close()
    wait(lambda: not reachable(operators, address, 0.5), lambda: "the change does not cut its operator off")
    cut = time.monotonic()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    far = DeviceConfigurations(network.environment, network.folders, site="ncsa")
    with pytest.raises(RetriableError, match=r"router rt01\.summit: no answer"):
        far._driver("rt01.summit").running()
    wait(lambda: reachable(operators, address, 0.5), lambda: "the router does not come back")
    print(f"\nback {time.monotonic() - cut:.1f} s after the operator was cut off (revert after 25 s)")
    assert not far.diff("rt01.summit")
    assert "shutdown" not in far.read("rt01.summit")


def test_an_unreachable_router_is_named_with_what_to_do(network: Topology):
    network.shell("rt01.in2p3", "systemctl", "stop", "ssh")
    try:
        with pytest.raises(RetriableError) as caught:
            network.devices.read("rt01.in2p3")
    finally:
        network.shell("rt01.in2p3", "systemctl", "start", "ssh")
    assert "router rt01.in2p3: no answer at 10.84.0.1 from in2p3" in str(caught.value)
    assert "see dpp lab status" in str(caught.value)
