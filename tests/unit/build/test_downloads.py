"""Every downloader goes the way that this machine goes: proxies, mirrors, authorities, in the words of each."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dpp.adapters.secrets import Secrets
from dpp.build import downloads
from dpp.build.base_image import sources_of_apt, ways_out
from dpp.build.tools.toolchain import Go

PROXY = "http://me:secret@proxy.example:3128"
_APT_CONFIG = """#!/bin/sh
test "$1" = shell && echo "http_proxy='http://apt.example:3142/'" && echo "https_proxy='DIRECT'"
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away what this machine says; its apt knows a proxy."""
    names = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "GOFLAGS", "UV_INDEX", *downloads._PIP_AS_UV)
    for name in names:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    program = tmp_path / "path" / "apt-config"
    program.parent.mkdir()
    program.write_text(_APT_CONFIG)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_proxies_reach_all_in_both_spellings(spelling: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"http_proxy": PROXY, "https_proxy": PROXY, "no_proxy": "mirror.example,.inside"}.items():
        monkeypatch.setenv(spelling(name), value)  # type: ignore[operator]
    found = downloads.variables()
    assert found["https_proxy"] == found["HTTPS_PROXY"] == found["http_proxy"] == PROXY
    assert found["NO_PROXY"] == found["no_proxy"] == "mirror.example,.inside"
    assert Go("go", "1.27").environment(tmp_path)["HTTPS_PROXY"] == PROXY
    assert downloads.apt(None).splitlines() == [
        f'Acquire::http::Proxy "{PROXY}";',
        f'Acquire::https::Proxy "{PROXY}";',
        'Acquire::http::Proxy::mirror.example "DIRECT";',
        'Acquire::https::Proxy::mirror.example "DIRECT";',
    ]
    assert downloads.maven(tmp_path) == [
        *(
            f"-D{kind}.proxy{what}"
            for kind in ("http", "https")
            for what in ("Host=proxy.example", "Port=3128", "User=me", "Password=secret")
        ),
        "-Dhttp.nonProxyHosts=mirror.example|*.inside",
    ]


def test_the_proxy_of_apt_serves_where_the_environment_names_none(tmp_path: Path) -> None:
    assert downloads.variables() == {
        "http_proxy": "http://apt.example:3142/",
        "HTTP_PROXY": "http://apt.example:3142/",
    }
    assert "-Dhttp.proxyPort=3142" in downloads.maven(tmp_path)


def test_what_pip_is_told_uv_is_told_unless_it_was_told_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://more.example/simple")
    monkeypatch.setenv("UV_INDEX", "https://uv.example/simple")
    found = downloads.variables()
    assert found["UV_DEFAULT_INDEX"] == "https://pip.example/simple"
    assert "UV_INDEX" not in found


def test_flags_for_go_are_kept_before_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOFLAGS", "-modcacherw -mod=mod")
    assert Go("go", "1.27").environment(tmp_path)["GOFLAGS"].startswith("-modcacherw -mod=mod -mod=readonly ")


def test_authorities_reach_apt_and_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_text(Secrets(tmp_path / "secrets").bundle())
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    folder = ways_out(tmp_path)
    assert (folder / "authorities.crt").read_text() == authorities.read_text()
    assert 'CaInfo "/run/dpp-build/authorities.crt";' in (folder / "apt.conf").read_text()
    store = next(word.partition("=")[2] for word in downloads.maven(tmp_path) if "trustStore=" in word)
    if keytool := shutil.which("keytool"):
        command = [keytool, "-list", "-keystore", store, "-storetype", "PKCS12"]
        said = subprocess.run(command, input="\n", capture_output=True, text=True, check=True).stdout
        assert "trustedCertEntry" in said


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_machines_get_updates_whatever_release_their_host_is(suite: str) -> None:
    """The mirrors are the host's, the suites are ours."""
    targets = [
        f"http://mirror.example/debian {suite} main Debian",
        f"http://mirror.example/debian {suite} contrib Debian",
        f"http://mirror.example/debian {suite}-updates main Debian",
        f"http://secure.example/debian-security {suite}-security main Debian",
        "https://vendor.example/apt stable main Vendor",
        f"http://mirror.example/debian {suite}-backports main Debian Backports",
    ]
    assert [line.split()[-3:] for line in sources_of_apt(targets)] == [
        ["http://mirror.example/debian", "bookworm", "main"],
        ["http://mirror.example/debian", "bookworm-updates", "main"],
        ["http://secure.example/debian-security", "bookworm-security", "main"],
    ]


def test_a_host_of_another_distribution_leaves_the_choice_to_mmdebstrap() -> None:
    assert sources_of_apt(["http://mirror.example/ubuntu noble main Ubuntu", "deb"]) == []
