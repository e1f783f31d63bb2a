"""A site's container registry: which digest a tag stands for, and how an image gets there."""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path

from dpp.adapters.process import run
from dpp.adapters.secrets import Secrets
from dpp.adapters.vantage import Vantage
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders

_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
_ATTEMPTS = 3
_PUSH_SECONDS = 1800


@dataclass(frozen=True)
class Layout:
    """An image in a folder, laid out as the Open Container Initiative says.

    Parameters
    ----------
    folder
        The folder, with `index.json` in it.
    """

    folder: Path

    @property
    def digest(self) -> str:
        """Digest of the image's manifest, ``sha256:`` and 64 hexadecimal digits."""
        return str(json.loads((self.folder / "index.json").read_text())["manifests"][0]["digest"])


@dataclass(frozen=True)
class Registry:
    """A registry as its clients see it, over TLS, from the operations host of a site.

    Parameters
    ----------
    address
        Host and port, as image references begin.
    vantage
        Where connections start from.
    bundle
        Certificates of the authorities to trust, PEM.
    timeout
        Seconds that an answer may take.
    """

    address: str
    vantage: Vantage
    bundle: str
    timeout: float = 30.0

    @classmethod
    def at(cls, site: str, environment: str = "lab", folders: Folders | None = None) -> Registry:
        """Return the registry of a site."""
        folders = folders or Folders.current()
        vantage = Vantage.at(site, environment, folders)
        return cls(f"svc01.{site}:5000", vantage, Secrets(folders.secrets).bundle())

    def reference(self, name: str, digest: str) -> str:
        """Return the reference of an image by its digest."""
        return f"{self.address}/{name}@{digest}"

    def digest(self, name: str, tag: str) -> str | None:
        """Return the digest that a tag stands for, or None if the registry has no such image.

        Raises
        ------
        RetriableError
            If the registry does not answer.
        """
        status, found = self.vantage.run(self._head, f"/v2/{name}/manifests/{tag}")
        if status == 404:
            return None
        if status != 200 or not found:
            raise RetriableError(
                f"registry {self.address}", f"status {status} for {name}:{tag}", "200 or 404", "look at its log"
            )
        return found

    def push(self, layout: Layout, name: str, tag: str) -> bool:
        """Bring an image to the registry under a tag, unless it is there; return whether anything was sent.

        Raises
        ------
        RetriableError
            If the registry refuses or does not answer.
        """
        if self.digest(name, tag) == layout.digest:
            return False
        with self._trust() as folder:
            words = ["skopeo", "copy", "--quiet", "--preserve-digests", "--retry-times", str(_ATTEMPTS)]
            target = f"docker://{self.address}/{name}:{tag}"
            command = [*self.vantage.prefix(), *words, "--dest-cert-dir", folder, f"oci:{layout.folder}", target]
            done = run(command, timeout=_PUSH_SECONDS, check=False)
        if done.code != 0:
            refused = f"{name}:{tag} was not taken: {done.said}"
            raise RetriableError(f"registry {self.address}", refused, remedy="look at its log")
        if (found := self.digest(name, tag)) != layout.digest:
            raise FatalError(f"registry {self.address}", f"{name}:{tag} is {found}", layout.digest, "push it again")
        return True

    def _head(self, path: str) -> tuple[int, str | None]:
        context = ssl.create_default_context(cadata=self.bundle)
        connection = HTTPSConnection(self.address, timeout=self.timeout, context=context)
        try:
            connection.request("HEAD", path, headers={"Accept": _MANIFESTS})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Docker-Content-Digest")
        except OSError as error:
            raise RetriableError(
                f"registry {self.address}", str(error), "an answer over TLS", "see dpp lab status"
            ) from error
        finally:
            connection.close()

    @contextmanager
    def _trust(self) -> Iterator[str]:
        """Yield a folder with the certificates to trust, as skopeo wants them."""
        with tempfile.TemporaryDirectory(prefix="dpp-trust-") as folder:
            (Path(folder) / "ca.crt").write_text(self.bundle)
            yield folder
