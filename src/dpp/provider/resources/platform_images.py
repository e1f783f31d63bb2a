"""The images that a site's cluster itself runs on, in the site's registry."""

from __future__ import annotations

from typing import ClassVar

from dpp.adapters.progress import Reporter
from dpp.adapters.registry import Registry
from dpp.build.base_image import BaseImage
from dpp.build.platform_images import RECIPES
from dpp.build.platform_images import PlatformImages as Images
from dpp.provider.progress import TellingReporter
from dpp.provider.resource import Observation, Progress, Properties
from dpp.provider.resources.site_images import BUILDING, SiteImages


class PlatformImages(SiteImages):
    """The platform's images, built where they are missing and brought to one registry.

    Inputs: `recipes` (image name to the digest of all that it is made from).
    """

    token: ClassVar[str] = "dpp:images:PlatformImages"  # noqa: S105 - a type's name
    inputs = frozenset({"environment", "site", "registry", "recipes"})

    def create(self, urn: str, wanted: Properties, progress: Progress) -> tuple[str, Properties]:
        """Build what is missing and bring it to the registry.

        Raises
        ------
        FatalError
            If a tool is not built or an image cannot be made.
        RetriableError
            If the registry does not answer.
        """
        del urn
        with BUILDING:
            images = self._images(TellingReporter(progress))
            images.ensure()
        images.seed(wanted["site"], wanted["environment"])
        return f"{wanted['site']}-platform", {"references": self._references(images, wanted)}

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Ask the registry which of the images it has; one that is missing or different is named in place of its digest."""
        del urn, identifier
        registry = Registry.at(state["site"], state["environment"], self.folders)
        recipes = dict(state["recipes"])
        for recipe in RECIPES:
            wanted = state.get("references", {}).get(recipe.name, "").rpartition("@")[2]
            found = registry.digest(f"dpp/{recipe.name}", recipe.version)
            if wanted and found != wanted:
                recipes[recipe.name] = f"{found or 'nothing'} in the registry"
        seen = {key: state[key] for key in self.inputs if key in state} | {"recipes": recipes}
        return Observation(seen, {"references": state.get("references", {})})

    def _images(self, reporter: Reporter) -> Images:
        return Images(self.folders, BaseImage(reporter).ensure(), reporter)

    @staticmethod
    def _references(images: Images, wanted: Properties) -> dict[str, str]:
        registry = wanted["registry"]
        return {r.name: f"{registry}/dpp/{r.name}@{images.layout(r).digest}" for r in RECIPES}
