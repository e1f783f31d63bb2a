"""The images of the workloads, built from the tree and brought to a site's registry."""

from __future__ import annotations

from typing import ClassVar

from dpp.adapters.progress import Reporter
from dpp.adapters.registry import Registry
from dpp.build.base_image import BaseImage
from dpp.build.workload_images import WorkloadImages as Images
from dpp.provider.progress import TellingReporter
from dpp.provider.resource import Observation, Progress, Properties
from dpp.provider.resources.site_images import BUILDING, SiteImages


class WorkloadImages(SiteImages):
    """Both images of the workloads in one registry.

    Inputs: `sources` (image name to the digest of all that it is made from).
    """

    token: ClassVar[str] = "dpp:images:WorkloadImages"  # noqa: S105 - a type's name
    inputs = frozenset({"environment", "site", "registry", "sources"})

    def create(self, urn: str, wanted: Properties, progress: Progress) -> tuple[str, Properties]:
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
        with BUILDING:
            BaseImage(reporter).ensure()
            self._images(reporter).ensure()
        references = self._images(reporter).push(wanted["site"], wanted["environment"])
        return f"{wanted['site']}-workloads", {"references": references}

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Ask the registry whether it has the images; one that is missing is named in place of its digest."""
        del urn, identifier
        registry = Registry.at(state["site"], state["environment"], self.folders)
        sources = dict(state["sources"])
        for name, reference in state.get("references", {}).items():
            if registry.digest(f"dpp/{name}", reference.rpartition("@")[2]) is None:
                sources[name] = "nothing in the registry"
        seen = {key: state[key] for key in self.inputs if key in state} | {"sources": sources}
        return Observation(seen, {"references": state.get("references", {})})

    def _images(self, reporter: Reporter) -> Images:
        return Images(self.folders, BaseImage(reporter).layers[0].reference, reporter)
