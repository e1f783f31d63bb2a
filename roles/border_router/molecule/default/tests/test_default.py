"""A router that forwards, holds the site's gateway address, tells traffic apart, and takes changes back by itself."""

import json
import shlex
import time

import pytest

COMMAND = "/usr/local/sbin/dpp-router-config"
WINDOW_SECONDS = 15
"""How long a change waits to be confirmed: time to look at it, also on a machine that is busy with other tests."""


@pytest.fixture
def circuit(host):
    host.check_output("ip link add wan0 type veth peer name probe0 && ip link set wan0 up && ip link set probe0 up")
    yield "wan0"
    host.check_output("ip link delete wan0")


def wait(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.5)
    return condition()


def ask(host, words, text=""):
    return json.loads(host.run(f"printf %s {shlex.quote(text)} | {COMMAND} {words}").stdout)


def changed(host):
    running = host.check_output(f"{COMMAND} running")
    return running.replace("log syslog informational", "log syslog warnings")


@pytest.mark.parametrize("name", ["frr", "keepalived", "dpp-router-classes"])
def test_service_runs_and_survives_a_restart(host, name):
    service = host.service(name)
    assert service.is_running
    assert service.is_enabled


@pytest.mark.parametrize("name", ["zebra", "bgpd", "bfdd", "staticd"])
def test_daemon_runs(host, name):
    assert host.process.filter(comm=name)


def test_packets_are_forwarded(host):
    assert host.sysctl("net.ipv4.ip_forward") == 1
    assert host.sysctl("net.ipv4.conf.all.rp_filter") == 0


def test_the_readers_shell_is_the_routers_command_line(host):
    assert host.user("netops").shell == "/usr/bin/vtysh"
    assert "frrvty" in host.user("netops").groups
    assert "FRRouting 8" in host.check_output("runuser -u netops -- vtysh -c 'show version'")


def test_one_router_holds_the_gateway_address(host):
    first = host.check_output("hostname") == "rt01.base"
    assert wait(lambda: first == ("10.82.0.254/32" in host.check_output("ip -brief address show dev eth0")), 20)


def test_a_circuit_gets_its_classes_when_it_appears(host, circuit):
    assert wait(lambda: "htb 1:50" in host.check_output(f"tc class show dev {circuit}"), 30)
    classes = host.check_output(f"tc class show dev {circuit}")
    rate = {"rt01.base": "388Mbit", "rt02.base": "155200Kbit"}[host.check_output("hostname")]
    assert classes.count(f"ceil {rate}") == 6


def test_the_running_configuration_differs_from_itself_in_nothing(host):
    running = host.check_output(f"{COMMAND} running")
    assert ask(host, "diff", running) == {"delete": [], "add": []}


def test_an_unconfirmed_change_is_taken_back(host):
    before = host.check_output(f"{COMMAND} running")
    assert ask(host, f"apply {WINDOW_SECONDS}", changed(host))["changed"]
    assert "log syslog warnings" in host.check_output(f"{COMMAND} running")
    assert ask(host, "status")["pending"]
    assert "waits to be confirmed" in ask(host, "apply 5", before)["error"]
    assert wait(lambda: ask(host, "status")["pending"] is None, WINDOW_SECONDS + 60)
    assert host.check_output(f"{COMMAND} running") == before
    assert "waits to be confirmed" in ask(host, "confirm")["error"]


def test_what_is_no_configuration_is_refused(host):
    assert "not a configuration" in ask(host, "apply 5", "router bgpp 1")["error"]
