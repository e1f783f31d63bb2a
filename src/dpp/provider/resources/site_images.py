"""What the two kinds of images in a site's registry have in common."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypeVar

from dpp.adapters.locks import exclusive
from dpp.provider import kinds
from dpp.provider.resource import Progress, Properties, Resource, folders

K = TypeVar("K", bound=kinds.SiteImages)


class SiteImages(Resource[K]):
    """Images in one registry: built and brought by `create`, never taken away."""

    def update(self, urn: str, identifier: str, state: Properties, wanted: K, progress: Progress) -> Properties:
        """Bring what changed; images that nothing names any more are left to the registry's own cleaning."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Leave the images: they go with the registry's host."""
        del urn, identifier, state


def building(environment_name: str) -> AbstractContextManager[None]:
    """Build alone: sites share the cache, so the first builds and the others find what it made."""
    return exclusive(folders(environment_name).cache / "images.lock")
