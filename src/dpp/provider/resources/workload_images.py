"""The images of the workloads, built from the tree and brought to a site's registry."""

from __future__ import annotations

from dpp.adapters.progress import Reporter
from dpp.adapters.registry import Registry
from dpp.build.base_image import BaseImage
from dpp.build.workload_images import WorkloadImages as Images
from dpp.provider import kinds
from dpp.provider.progress import TellingReporter
from dpp.provider.resource import Observation, Progress, Properties, folders
from dpp.provider.resources.site_images import SiteImages, building


class WorkloadImages(SiteImages[kinds.WorkloadImages]):
    """Both images of the workloads in one registry."""

    kind = kinds.WorkloadImages

    def create(self, urn: str, wanted: kinds.WorkloadImages, progress: Progress) -> tuple[str, Properties]:
        """Build what is missing and bring it to the registry.

        Raises
        ------
        FatalError
            If an image cannot be built.
        RetriableError
            If the registry does not answer.
        """
        del urn
        reporter = TellingReporter(progress)
        with building(wanted.environment):
            BaseImage(reporter).ensure()
            _images(wanted.environment, reporter).ensure()
        references = _images(wanted.environment, reporter).push(wanted.site, wanted.environment)
        return f"{wanted.site}-workloads", {"references": references}

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Ask the registry whether it has the images; one that is missing is named in place of its digest."""
        del urn, identifier
        registry = Registry.at(state["site"], state["environment"], folders(state["environment"]))
        sources = dict(state["sources"])
        for name, reference in state.get("references", {}).items():
            if registry.digest(f"dpp/{name}", reference.rpartition("@")[2]) is None:
                sources[name] = "nothing in the registry"
        return Observation(self.seen(state, sources=sources), {"references": state.get("references", {})})


def _images(environment: str, reporter: Reporter) -> Images:
    return Images(folders(environment), BaseImage(reporter).layers[0].reference, reporter)
