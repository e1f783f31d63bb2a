"""A host that anybody may rely on: names, keys, refusals, limits."""

import pytest


@pytest.mark.parametrize("name", ["ssh", "nftables", "prometheus-node-exporter"])
def test_service_runs_and_survives_a_restart(host, name):
    service = host.service(name)
    assert service.is_running
    assert service.is_enabled


def test_clock_is_left_to_the_host(host):
    assert host.service("chrony").is_masked


def test_all_hosts_have_names(host):
    for name in ("svc01.summit", "rt02.ncsa", "st01.in2p3"):
        assert host.addr(name).is_resolvable


def test_ssh_takes_certificates_and_nothing_else(host):
    effective = host.check_output("sshd -T")
    assert "passwordauthentication no" in effective
    assert "permitrootlogin no" in effective
    assert "authorizedkeysfile none" in effective
    assert "trustedusercakeys /etc/ssh/dpp_user_authority.pub" in effective
    assert "hostcertificate /etc/ssh/dpp_host_key-cert.pub" in effective


def test_operator_becomes_root_without_a_password(host):
    assert host.check_output("runuser -u operator -- sudo -n id -u") == "0"


def test_tls_chain_is_trusted_and_names_the_host(host):
    host.check_output(
        "openssl verify -CAfile /etc/dpp/tls/ca.crt -untrusted /etc/dpp/tls/host.crt /etc/dpp/tls/host.crt"
    )
    names = host.check_output("openssl x509 -in /etc/dpp/tls/host.crt -noout -ext subjectAltName")
    assert "DNS:svc01.base" in names
    assert "IP Address:10.82.0.11" in names
    key = host.file("/etc/dpp/tls/host.key")
    assert (key.group, key.mode) == ("dpp-tls", 0o640)


def test_metrics_over_tls_with_the_systems_trust(host):
    metrics = host.check_output("curl --fail --silent https://svc01.base:9100/metrics")
    assert "node_memory_MemAvailable_bytes" in metrics


def test_firewall_drops_by_default_and_knows_the_hosts_functions(host):
    rules = host.check_output("nft list table inet dpp")
    assert "policy drop" in rules
    assert "dport 5000" in rules  # a registry stands here
    assert "dport 6443" not in rules  # a control plane does not
    assert "dport 23 " not in rules  # the drift was repaired


def test_kernel_settings_hold(host):
    assert host.sysctl("net.ipv4.tcp_slow_start_after_idle") == 0
    assert host.check_output("sysctl -n net.ipv4.tcp_rmem").split()[-1] == "33554432"


def test_operators_may_ping(host):
    assert host.run("runuser -u operator -- ping -c1 -W1 127.0.0.1").rc == 0
