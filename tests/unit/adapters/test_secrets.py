"""Secrets are made once, for everybody the same, readable by their owner alone, and their certificates hold."""

from __future__ import annotations

import stat
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from dpp.adapters import secrets as module
from dpp.adapters.secrets import Secrets
from dpp.model.errors import FatalError


def _take(folder: Path) -> tuple[str, str, str]:
    secrets = Secrets(folder)
    return secrets.password("kafka-admin"), secrets.certificate("svc01.ncsa").chain, secrets.ssh_authority().public


def test_all_callers_see_the_same_values(tmp_path):
    with ProcessPoolExecutor(4) as pool:
        taken = set(pool.map(_take, [tmp_path / "secrets"] * 8))
    assert len(taken) == 1


def test_only_the_owner_reads(tmp_path):
    folder = tmp_path / "secrets"
    _take(folder)
    Secrets(folder).ssh_user_certificate("operator")
    private = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".pub")]
    assert len(private) > 5
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in private)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_passwords_differ_by_name(tmp_path):
    secrets = Secrets(tmp_path)
    assert secrets.password("a") != secrets.password("b")
    assert len(secrets.password("a")) == 32


@pytest.mark.parametrize("name", ["", "../root", ".hidden", "a/b"])
def test_names_stay_in_the_folder(tmp_path, name):
    with pytest.raises(FatalError, match="without slashes"):
        Secrets(tmp_path).password(name)


def test_chain_leads_to_the_root_by_an_independent_verifier(tmp_path):
    secrets = Secrets(tmp_path)
    host = secrets.certificate("svc01.ncsa", ["10.83.0.11"])
    (tmp_path / "ca.pem").write_text(secrets.bundle())
    (tmp_path / "host.pem").write_text(host.chain)
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "svc01.ncsa"]
    files = ["-CAfile", tmp_path / "ca.pem", "-untrusted", tmp_path / "host.pem", tmp_path / "host.pem"]
    subprocess.run([*words, *files], check=True, capture_output=True)
    wrong = ["openssl", "verify", "-verify_hostname", "svc01.summit", *files]
    assert subprocess.run(wrong, check=False, capture_output=True).returncode != 0


def _serial(chain: str) -> int:
    return x509.load_pem_x509_certificates(chain.encode())[0].serial_number


def test_certificate_stays_until_its_names_change(tmp_path):
    secrets = Secrets(tmp_path)
    first = secrets.certificate("st01.in2p3", ["10.84.0.21"])
    assert secrets.certificate("st01.in2p3", ["10.84.0.21"]) == first
    assert _serial(secrets.certificate("st01.in2p3", ["10.84.0.22"]).chain) != _serial(first.chain)


def test_certificate_is_renewed_in_time_and_when_its_authority_changed(tmp_path, monkeypatch):
    secrets = Secrets(tmp_path)
    first = secrets.certificate("svc01.base")
    monkeypatch.setattr(module, "_RENEW_BEFORE", module._HOST_LIFETIME)
    second = secrets.certificate("svc01.base")
    assert _serial(second.chain) != _serial(first.chain)
    monkeypatch.undo()
    (tmp_path / "tls/sites/base.key").unlink()
    assert _serial(secrets.certificate("svc01.base").chain) != _serial(second.chain)


def test_ssh_certificates_name_who_they_are_for(tmp_path):
    secrets = Secrets(tmp_path)
    user = secrets.ssh_user_certificate("operator")
    host = secrets.ssh_host_certificate("rt01.summit", ["10.81.0.1"])

    def described(certificate: str) -> str:
        return subprocess.run(
            ["ssh-keygen", "-Lf", "-"], input=certificate, capture_output=True, text=True, check=True
        ).stdout

    assert "user certificate" in described(user.certificate)
    assert "operator" in described(user.certificate)
    assert "host certificate" in described(host.certificate)
    assert "rt01.summit" in described(host.certificate)
    assert "10.81.0.1" in described(host.certificate)
    assert secrets.ssh_host_certificate("rt01.summit", ["10.81.0.1"]) == host
    renamed = secrets.ssh_host_certificate("rt01.summit", ["10.81.0.2"])
    assert renamed.public == host.public
    assert renamed.certificate != host.certificate
