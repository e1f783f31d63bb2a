"""SSH signatures of texts: made with a person's key or agent, verified offline against the keys that a person has."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dpp.adapters.process import run

_SECONDS: Final = 120.0


def sign(text: str, key: Path, namespace: str) -> str:
    """Return the signature of a text.

    Parameters
    ----------
    key
        File of the private key, or of the public one where an agent holds the other.
    namespace
        What the signature is for: no verifier of something else takes it.

    Raises
    ------
    CommandFailedError
        If the key cannot sign.
    """
    with tempfile.TemporaryDirectory(prefix="dpp-sign-") as scratch:
        file = Path(scratch) / "text"
        file.write_text(text)
        run(["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", key, file], timeout=_SECONDS, remedy=f"see that {key} is a key of yours, or that its agent runs")  # fmt: skip
        return file.with_suffix(".sig").read_text()


def verified(text: str, signature: str, keys: Sequence[str], namespace: str) -> bool:
    """Say whether one of `keys` (public, as OpenSSH writes them) has signed exactly this text for this purpose."""
    if not keys:
        return False
    with tempfile.TemporaryDirectory(prefix="dpp-verify-") as scratch:
        allowed, proof = Path(scratch) / "allowed", Path(scratch) / "signature"
        allowed.write_text("".join(f'person namespaces="{namespace}" {key}\n' for key in keys))
        proof.write_text(signature)
        words: list[str | Path] = [
            "ssh-keygen",
            "-Y",
            "verify",
            "-f",
            allowed,
            "-I",
            "person",
            "-n",
            namespace,
            "-s",
            proof,
        ]
        return run(words, timeout=_SECONDS, input=text, check=False).code == 0
