"""Secrets of one environment, made at first use and kept under its state folder, readable by their owner alone.

One root authority signs an intermediate per site, which signs its hosts; one SSH authority signs users and hosts.
Every method returns what is there already, so that all callers, on any run, see the same values.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import string
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization.ssh import (
    SSHCertificate,
    SSHCertificateBuilder,
    SSHCertificateType,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from filelock import FileLock

from dpp.model.errors import FatalError

_ALPHABET = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 32
_AUTHORITY_LIFETIME = timedelta(days=3650)
_HOST_LIFETIME = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=60)
_BACKDATE = timedelta(hours=1)
_RIGHTS = (
    b"permit-X11-forwarding",
    b"permit-agent-forwarding",
    b"permit-port-forwarding",
    b"permit-pty",
    b"permit-user-rc",
)
"""What a user's certificate allows besides logging in, as ssh-keygen has it."""


class Certificate(NamedTuple):
    """A private key and its certificate chain (own certificate first, then its authority), both PEM."""

    key: str
    chain: str


class SshIdentity(NamedTuple):
    """An SSH key pair in OpenSSH's formats and, where an authority signed it, its certificate."""

    path: Path
    """File of the private key."""
    private: str
    public: str
    certificate: str


class Secrets:
    """The secrets in one folder.

    Parameters
    ----------
    folder
        Where they lie; made with mode 0700 when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / ".lock", mode=0o600)

    def password(self, name: str) -> str:
        """Return the password of this name: 32 letters and digits."""
        path = self.folder / "passwords" / _checked(name)
        return self._once(path, lambda: "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_LENGTH)))

    def passwords(self) -> list[str]:
        """Return the names of all passwords that were made."""
        return sorted(path.name for path in (self.folder / "passwords").glob("[!.]*"))

    def forget(self, name: str) -> None:
        """Delete a password; whoever asks for it again gets another one."""
        with self._locked():
            (self.folder / "passwords" / _checked(name)).unlink(missing_ok=True)

    def digest(self, names: Sequence[str]) -> str:
        """Return a digest of passwords by these names: another one when one of them is another; it tells nothing of them."""
        text = "\0".join(f"{name}={self.password(name)}" for name in names)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def authority(self, site: str) -> Certificate:
        """Return the certificate authority of a site, signed by the environment's root."""
        with self._locked():
            return self._signed(
                self.folder / "tls" / "sites" / _checked(site),
                f"{site} authority",
                [],
                self._root(),
                site_authority=True,
            )

    def certificate(self, host: str, sans: Sequence[str] = (), site: str | None = None) -> Certificate:
        """Return a host's key and chain for TLS, as server and as client.

        Parameters
        ----------
        host
            The host; its name is always among the subject's names.
        sans
            Further names and addresses.
        site
            The site whose authority signs; by default what follows the first dot of the host's name.

        Notes
        -----
        It is made anew when the names change, its authority changed, or less than 60 days are left.
        """
        with self._locked():
            issuer = self.authority(site or host.partition(".")[2])
            return self._signed(self.folder / "tls" / "hosts" / _checked(host), host, [host, *sans], issuer)

    def bundle(self) -> str:
        """Return the authorities to trust, PEM: the root, below which every site's authority and host stands."""
        return self._root().chain

    def ssh_authority(self) -> SshIdentity:
        """Return the SSH authority that signs users and hosts (its certificate is empty)."""
        return self._ssh("authority")

    def ssh_user_certificate(self, user: str) -> SshIdentity:
        """Return a key with a certificate that lets its owner log in as `user` on every host."""
        return self._ssh(f"users/{_checked(user)}", [user], SSHCertificateType.USER)

    def ssh_host_certificate(self, host: str, addresses: Sequence[str] = ()) -> SshIdentity:
        """Return a host's SSH key and its certificate for its name and addresses."""
        return self._ssh(f"hosts/{_checked(host)}", [host, *addresses], SSHCertificateType.HOST)

    # -- files -------------------------------------------------------------------------------------------------------

    def _locked(self) -> FileLock:
        """Return what holds the folder alone, against other threads and processes; its holder may enter it again."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._lock

    def _once(self, path: Path, make: Callable[[], str]) -> str:
        if not path.exists():
            with self._locked():
                if not path.exists():
                    _write(path, make())
        return path.read_text()

    # -- TLS ---------------------------------------------------------------------------------------------------------

    def _root(self) -> Certificate:
        with self._locked():
            return self._signed(self.folder / "tls" / "root", f"{self.folder.parent.name} root", [], None)

    def _signed(
        self, stem: Path, name: str, sans: list[str], issuer: Certificate | None, *, site_authority: bool = False
    ) -> Certificate:
        """Return the pair at `stem`.key and .crt, made when missing, stale or of another issuer."""
        key_path, chain_path = stem.with_name(stem.name + ".key"), stem.with_name(stem.name + ".crt")
        if not (key_path.exists() and chain_path.exists() and _is_current(chain_path.read_bytes(), sans, issuer)):
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = _issue(key, name, sans, issuer, authority=issuer is None or site_authority)
            _write(key_path, _pem(key))
            chain = certificate.public_bytes(serialization.Encoding.PEM).decode()
            # The root is left out of chains: who trusts it has it.
            _write(chain_path, chain + (issuer.chain if issuer and not site_authority else ""))
        return Certificate(key_path.read_text(), chain_path.read_text())

    # -- SSH ---------------------------------------------------------------------------------------------------------

    def _ssh(self, name: str, principals: Sequence[str] = (), kind: SSHCertificateType | None = None) -> SshIdentity:
        """Return the key pair `name`; with a kind, certified by the authority for these principals."""
        path = self.folder / "ssh" / name
        public, certificate = (path.with_name(f"{path.name}{suffix}") for suffix in (".pub", "-cert.pub"))
        with self._locked():
            if not (path.exists() and public.exists()):
                key = ed25519.Ed25519PrivateKey.generate()
                _write(public, f"{_open_ssh(key.public_key())} {name}\n")
                _write(path, _open_ssh_private(key))
            if kind is not None:
                authority = _private(self.ssh_authority().private)
                if not (certificate.exists() and _certifies(certificate.read_text(), principals, authority)):
                    made = _certified(_private(path.read_text()).public_key(), name, principals, kind, authority)
                    _write(certificate, f"{made} {name}\n")
            signed = certificate.read_text() if kind is not None else ""
            return SshIdentity(path, path.read_text(), public.read_text(), signed)


def _checked(name: str) -> str:
    if not name or name.startswith(".") or "/" in name:
        raise FatalError("secret", f"name {name!r}", "a name without slashes that does not begin with a dot")
    return name


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    Path(temporary).rename(path)


def _open_ssh(key: ed25519.Ed25519PublicKey) -> str:
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _open_ssh_private(key: ed25519.Ed25519PrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _private(text: str) -> ed25519.Ed25519PrivateKey:
    key = serialization.load_ssh_private_key(text.encode(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)  # noqa: S101 - we made it
    return key


def _certifies(certificate: str, principals: Sequence[str], authority: ed25519.Ed25519PrivateKey) -> bool:
    known = serialization.load_ssh_public_identity(certificate.encode())
    return (
        isinstance(known, SSHCertificate)
        and known.valid_principals == [name.encode() for name in principals]
        and known.valid_before > (datetime.now(UTC) + _RENEW_BEFORE).timestamp()
        and known.signature_key() == authority.public_key()
    )


def _certified(
    key: ed25519.Ed25519PublicKey,
    name: str,
    principals: Sequence[str],
    kind: SSHCertificateType,
    authority: ed25519.Ed25519PrivateKey,
) -> str:
    now = datetime.now(UTC)
    builder = (
        SSHCertificateBuilder()
        .public_key(key)
        .type(kind)
        .key_id(name.encode())
        .valid_principals([one.encode() for one in principals])
        .valid_after((now - _BACKDATE).timestamp())
        .valid_before((now + _AUTHORITY_LIFETIME).timestamp())
    )
    for right in _RIGHTS if kind is SSHCertificateType.USER else ():
        builder = builder.add_extension(right, b"")
    return builder.sign(authority).public_bytes().decode()


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _general_names(sans: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for san in dict.fromkeys(sans):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(san)))
        except ValueError:
            names.append(x509.DNSName(san))
    return names


def _is_current(chain: bytes, sans: list[str], issuer: Certificate | None) -> bool:
    certificate = x509.load_pem_x509_certificates(chain)[0]
    if certificate.not_valid_after_utc - datetime.now(UTC) < _RENEW_BEFORE:
        return False
    if issuer is not None:
        signer = x509.load_pem_x509_certificates(issuer.chain.encode())[0]
        identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        if identifier != x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest:
            return False
    if not sans:
        return True
    present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(present) == set(_general_names(sans))


def _issue(
    key: ec.EllipticCurvePrivateKey, name: str, sans: list[str], issuer: Certificate | None, *, authority: bool
) -> x509.Certificate:
    """Sign a certificate for `key`: by `issuer`, or by itself where there is none."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer_name, signer_key = subject, key
    if issuer is not None:
        signer_name = x509.load_pem_x509_certificates(issuer.chain.encode())[0].subject
        loaded = serialization.load_pem_private_key(issuer.key.encode(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)  # noqa: S101 - we made it
        signer_key = loaded
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + (_AUTHORITY_LIFETIME if authority else _HOST_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()), critical=False)
        .add_extension(_usage(authority=authority), critical=True)
    )
    if not authority:
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(_general_names(sans)), critical=False)
    return builder.sign(signer_key, hashes.SHA256())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
