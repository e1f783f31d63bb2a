"""The site.yml that workloads read: what exists at their site and at the others, rendered from the model."""

from __future__ import annotations

from typing import Any

from dpp.model.environment import Environment


def site_settings(environment: Environment, site: str) -> dict[str, Any]:
    """Return the contents of ``/etc/dpp/site.yml`` for the workloads at `site`.

    Raises
    ------
    FatalError
        There is no such site.
    """
    environment.site(site)
    databases = environment.hosts_of(site, "postgresql") or environment.hosts_of(group="postgresql")
    brokers = {name: environment.kafka_bootstrap(name) for name in environment.sites}
    stores = environment.storage.values()
    return {
        "environment": environment.name,
        "site": site,
        "kafka": {name: {"bootstrap": ",".join(hosts)} for name, hosts in brokers.items() if hosts},
        "object_stores": {store.site: {"endpoint": store.endpoint} for store in stores},
        "postgresql": {"host": databases[0].name},
        "camera": {
            "size": environment.camera.detector_pixels,
            "visits_in_flight": environment.camera.visits_in_flight,
            "detectors": [detector._asdict() for detector in environment.camera.detectors],
        },
    }


def as_yaml(settings: dict[str, Any]) -> str:
    """Return `settings` as the YAML document that goes into the ConfigMap."""
    import yaml  # noqa: PLC0415

    return "---\n" + yaml.safe_dump(settings, sort_keys=False, width=120)
