"""Operators reach every host from here, with their certificate and nothing else."""

import pytest


@pytest.fixture(autouse=True)
def _on_the_operations_host(host):
    if "svc01-base" not in host.backend.name:
        pytest.skip("the other machine is here to be reached")


def test_operator_reaches_another_host_and_becomes_root_there(host):
    there = host.check_output("runuser -l operator -c 'ssh k8s01.base sudo -n hostname'")
    assert there == "k8s01.base"


def test_a_host_without_certificate_is_refused(host):
    host.check_output("rm -f /tmp/stranger && ssh-keygen -q -t ed25519 -N '' -f /tmp/stranger")
    words = "ssh -o IdentitiesOnly=yes -o IdentityFile=/tmp/stranger -o StrictHostKeyChecking=yes -F /dev/null operator@k8s01.base true"
    assert "Permission denied" in host.run(words).stderr


def test_clients_are_there(host):
    for command in ("kubectl version --client", "kcat -V", "psql --version", "mtr --version", "nc -h"):
        assert host.run(command).rc == 0, command


def test_identity_is_the_operators_alone(host):
    folder, key = host.file("/etc/dpp/operator"), host.file("/etc/dpp/operator/id")
    assert (folder.user, folder.mode) == ("operator", 0o700)
    assert (key.user, key.mode) == ("operator", 0o600)


def test_drift_was_repaired(host):
    assert "intruder" not in host.file("/etc/ssh/ssh_known_hosts").content_string
