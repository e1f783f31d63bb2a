"""The images that a site's cluster itself runs on, in the site's registry."""

from __future__ import annotations

from dpp.adapters.progress import Reporter
from dpp.adapters.registry import Registry
from dpp.build.base_image import BaseImage
from dpp.build.platform_images import RECIPES
from dpp.build.platform_images import PlatformImages as Images
from dpp.provider import kinds
from dpp.provider.progress import TellingReporter
from dpp.provider.resource import Observation, Progress, Properties, folders
from dpp.provider.resources.site_images import SiteImages, building


class PlatformImages(SiteImages[kinds.PlatformImages]):
    """The platform's images, built where they are missing and brought to one registry."""

    kind = kinds.PlatformImages

    def create(self, urn: str, wanted: kinds.PlatformImages, progress: Progress) -> tuple[str, Properties]:
        """Build what is missing and bring it to the registry.

        Raises
        ------
        FatalError
            If a tool is not built or an image cannot be made.
        RetriableError
            If the registry does not answer.
        """
        del urn
        with building(wanted.environment):
            images = _images(wanted.environment, TellingReporter(progress))
            images.ensure()
        images.seed(wanted.site, wanted.environment)
        references = {r.name: f"{wanted.registry}/dpp/{r.name}@{images.layout(r).digest}" for r in RECIPES}
        return f"{wanted.site}-platform", {"references": references}

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Ask the registry which of the images it has; one that is missing or different is named in place of its digest."""
        del urn, identifier
        registry = Registry.at(state["site"], state["environment"], folders(state["environment"]))
        recipes = dict(state["recipes"])
        for recipe in RECIPES:
            wanted = state.get("references", {}).get(recipe.name, "").rpartition("@")[2]
            found = registry.digest(f"dpp/{recipe.name}", recipe.version)
            if wanted and found != wanted:
                recipes[recipe.name] = f"{found or 'nothing'} in the registry"
        return Observation(self.seen(state, recipes=recipes), {"references": state.get("references", {})})


def _images(environment: str, reporter: Reporter) -> Images:
    return Images(folders(environment), BaseImage(reporter).ensure(), reporter)
