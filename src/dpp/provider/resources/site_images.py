"""What the two kinds of images in a site's registry have in common."""

from __future__ import annotations

from threading import Lock

from dpp.provider.resource import Progress, Properties, Resource

BUILDING = Lock()
"""Sites share the cache: the first builds, the others find what it made."""


class SiteImages(Resource):
    """Images in one registry: built and brought by `create`, never taken away."""

    replaces = frozenset({"environment", "site"})
    outputs = frozenset({"references"})
    update_changes = frozenset({"references"})

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: Properties, progress: Progress
    ) -> Properties:
        """Bring what changed; images that nothing names any more are left to the registry's own cleaning."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Leave the images: they go with the registry's host."""
        del urn, identifier, state
