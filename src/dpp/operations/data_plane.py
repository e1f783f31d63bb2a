"""What a program needs that works with an environment's data plane from an operations host: a workload's settings."""

from __future__ import annotations

from pathlib import Path

from dpp.adapters.secrets import Secrets
from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.model.site_config import as_yaml, site_settings


def write_settings(environment: Environment, site: str, folders: Folders, place: Path) -> dict[str, str]:
    """Write the settings that workloads at `site` have into the folder `place`, readable by its owner only.

    Returns
    -------
    dict
        The environment variables with which a workload finds them.
    """
    (place / "secrets").mkdir(parents=True, exist_ok=True)
    place.chmod(0o700)
    (place / "site.yml").write_text(as_yaml(site_settings(environment, site)))
    secrets = Secrets(folders.secrets)
    (place / "ca.crt").write_text(secrets.bundle())
    stores = [f"s3-{name}" for name in environment.storage]
    for name in ("kafka-workloads", "postgresql-workloads", *stores):
        (place / "secrets" / name).write_text(secrets.password(name))
    return {
        "DPP_SITE_FILE": str(place / "site.yml"),
        "DPP_SECRETS": str(place / "secrets"),
        "DPP_CA": str(place / "ca.crt"),
    }
