"""Secrets at rest: AES-256-GCM under a key that is derived from the passphrase, in the vendor's notation."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dpp.engine.values import SECRET, SIGNATURE, is_secret
from dpp.model.errors import FatalError

_ITERATIONS = 1_000_000
_PROOF = "pulumi"
"""What the salt carries encrypted, so that a wrong passphrase is noticed before it does harm."""


def read_passphrase(environment: Mapping[str, str]) -> str:
    """Return the passphrase that `environment` names by value or by file.

    Raises
    ------
    FatalError
        If neither ``PULUMI_CONFIG_PASSPHRASE`` nor ``PULUMI_CONFIG_PASSPHRASE_FILE`` leads to one.
    """
    if "PULUMI_CONFIG_PASSPHRASE" in environment:
        return environment["PULUMI_CONFIG_PASSPHRASE"]
    file = environment.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if not file:
        raise FatalError(
            "passphrase",
            "neither PULUMI_CONFIG_PASSPHRASE nor PULUMI_CONFIG_PASSPHRASE_FILE is set",
            "the passphrase of the stack's secrets",
            'run eval "$(dpp stack env ENVIRONMENT)" or set one of them',
        )
    try:
        return Path(file).read_text().rstrip("\r\n")
    except OSError as error:
        raise FatalError(file, f"cannot be read: {error.strerror}", "a file with the passphrase") from error


@functools.lru_cache(maxsize=32)
def _key(passphrase: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, _ITERATIONS, 32)


@dataclass
class Passphrase:
    """Encrypts and decrypts secrets of one stack.

    Parameters
    ----------
    passphrase
        The passphrase itself.
    salt
        ``v1:SALT:v1:NONCE:PROOF`` as state and configuration files carry it.
    origin
        The file that the salt is from, for messages.
    """

    passphrase: str
    salt: str
    origin: str
    _written: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def create(cls, passphrase: str, origin: str) -> Passphrase:
        """Return a new one with a random salt."""
        salt = os.urandom(8)
        proof = _encrypt(_key(passphrase, salt), _PROOF)
        return cls(passphrase, f"v1:{base64.b64encode(salt).decode()}:{proof}", origin)

    def verify(self) -> None:
        """Raise `FatalError` if the passphrase is not the one that the salt was made with."""
        try:
            _, _, proof = self.salt.split(":", 2)
            right = _decrypt(self._derived, proof) == _PROOF
        except ValueError as error:
            raise FatalError(self.origin, f"salt {self.salt!r}", "v1:SALT:v1:NONCE:PROOF") from error
        except InvalidTag:
            right = False
        if not right:
            raise FatalError(
                self.origin,
                "the passphrase does not open its secrets",
                "the passphrase that they were made with",
                "check PULUMI_CONFIG_PASSPHRASE_FILE and PULUMI_CONFIG_PASSPHRASE; the latter goes first",
            )

    @property
    def _derived(self) -> bytes:
        return _key(self.passphrase, base64.b64decode(self.salt.split(":", 2)[1], validate=True))

    def decrypt_text(self, ciphertext: str) -> str:
        """Return the text behind ``v1:NONCE:CIPHERTEXT``."""
        try:
            return _decrypt(self._derived, ciphertext)
        except (InvalidTag, ValueError) as error:
            raise FatalError(
                self.origin, "a secret does not open", "one that this passphrase and salt made", "check the passphrase"
            ) from error

    def encrypt_text(self, text: str) -> str:
        """Return `text` as ``v1:NONCE:CIPHERTEXT``."""
        return _encrypt(self._derived, text)

    def decrypt(self, value: Any) -> Any:
        """Return a value of a state file with its secrets opened."""
        if isinstance(value, list):
            return [self.decrypt(item) for item in value]
        if not isinstance(value, dict):
            return value
        if not is_secret(value):
            return {key: self.decrypt(item) for key, item in value.items()}
        if "ciphertext" in value:
            return {SIGNATURE: SECRET, "value": json.loads(self.decrypt_text(value["ciphertext"]))}
        return {SIGNATURE: SECRET, "value": json.loads(value["plaintext"])}

    def encrypt(self, value: Any, place: str = "") -> Any:
        """Return `value` as a state file carries it; what did not change at `place` keeps its ciphertext."""
        if isinstance(value, list):
            return [self.encrypt(item, f"{place}[{index}]") for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if not is_secret(value):
            return {key: self.encrypt(item, f"{place}.{key}") for key, item in value.items()}
        plain = json.dumps(value["value"], separators=(",", ":"))
        if (place, plain) not in self._written:
            self._written[place, plain] = self.encrypt_text(plain)
        return {SIGNATURE: SECRET, "ciphertext": self._written[place, plain]}


def _encrypt(key: bytes, text: str) -> str:
    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, text.encode(), None)
    return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"


def _decrypt(key: bytes, ciphertext: str) -> str:
    version, nonce, sealed = ciphertext.split(":")
    if version != "v1":
        raise ValueError(version)
    return AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(sealed), None).decode()
