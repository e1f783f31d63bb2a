"""How programs that fetch something find their way out: each spells proxies, and whom to trust, in its own way."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore

from dpp.adapters.process import run

_PIP_AS_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
    "PIP_CERT": "SSL_CERT_FILE",
}
"""What people tell pip, and what uv calls it."""
_SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")
"""Debian's Java trusts these already."""


def variables() -> dict[str, str]:
    """Return the variables of programs that fetch something: proxies in both spellings, pip's settings as uv knows them."""
    spelled = {name: value for name, value in _proxies().items() for name in (name, name.upper())}
    pip = {ours: os.environ[theirs] for theirs, ours in _PIP_AS_UV.items() if theirs in os.environ}
    return spelled | {name: value for name, value in pip.items() if name not in os.environ}


def apt(authorities: Path | None) -> str:
    """Return a configuration of apt with this machine's ways out; `authorities` is where it finds `trusted`."""
    proxies = _proxies()
    lines = [
        f'Acquire::{kind}::Proxy "{proxies[f"{kind}_proxy"]}";'
        for kind in ("http", "https")
        if f"{kind}_proxy" in proxies
    ]
    for host in re.split(r"[,\s]+", proxies.get("no_proxy", "")):
        if re.fullmatch(r"\w[\w.-]*", host):  # apt knows whole names only
            lines += [f'Acquire::{kind}::Proxy::{host} "DIRECT";' for kind in ("http", "https")]
    if authorities is not None:
        lines.append(f'Acquire::https::CaInfo "{authorities}";')
    return "\n".join([*lines, ""])


def trusted() -> Path | None:
    """Return the file of authorities that this process was told to trust, if any."""
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    return Path(named) if named and Path(named).is_file() else None


def maven(scratch: Path) -> list[str]:
    """Return options of Maven, which reads no variables; `scratch` takes the authorities in the form that Java wants."""
    options, authorities = list(_java_proxies()), trusted()
    if authorities is not None and authorities != _SYSTEM:
        store = scratch / "trusted.p12"
        certificates = x509.load_pem_x509_certificates(authorities.read_bytes())
        entries = [PKCS12Certificate(one, str(number).encode()) for number, one in enumerate(certificates)]
        store.write_bytes(serialize_java_truststore(entries, NoEncryption()))
        options += [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12"]
    return options


def _java_proxies() -> Iterator[str]:
    proxies = _proxies()
    for kind in ("http", "https"):
        if found := proxies.get(f"{kind}_proxy"):
            parts = urlsplit(found if "//" in found else f"//{found}")
            yield f"-D{kind}.proxyHost={parts.hostname}"
            yield f"-D{kind}.proxyPort={parts.port or 80}"
            if parts.username:
                yield f"-D{kind}.proxyUser={parts.username}"
                yield f"-D{kind}.proxyPassword={parts.password or ''}"
    if direct := [name for name in re.split(r"[,\s]+", proxies.get("no_proxy", "")) if name]:
        yield "-Dhttp.nonProxyHosts=" + "|".join(f"*{name}" if name.startswith(".") else name for name in direct)


def _proxies() -> dict[str, str]:
    """Return proxies by their variable in small letters: those of this process, else those of this machine's apt."""
    named = {name: os.environ.get(name) or os.environ.get(name.upper(), "") for name in ("http_proxy", "https_proxy")}
    if not any(named.values()):
        words = [word for kind in ("http", "https") for word in (f"{kind}_proxy", f"Acquire::{kind}::Proxy")]
        said = run(["apt-config", "shell", *words], timeout=60, check=False).stdout
        named |= {name: value for name, _, value in (word.partition("=") for word in shlex.split(said))}
    named["no_proxy"] = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    return {name: value for name, value in named.items() if value and value != "DIRECT"}
