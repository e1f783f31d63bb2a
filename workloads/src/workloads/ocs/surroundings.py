"""Where Kafka and the registry are: the environment variables that the observatory's own client reads."""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from workloads.ocs.interfaces import UsageError


@dataclass(frozen=True)
class Surroundings:
    """How a client reaches its site.

    Parameters
    ----------
    brokers, registry
        Addresses.
    subname
        Second word of the topics' names.
    security
        How it logs in to Kafka, in the words of its client library.
    identity
        Who commands.
    group
        What the names of its consumer groups begin with.
    """

    brokers: str
    registry: str
    subname: str = "sal"
    security: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""
    group: str = "ocs"

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> Surroundings:
        """Read them from the environment.

        Raises
        ------
        UsageError
            If an address is missing, or the file with the rest cannot be used.
        """
        missing = [name for name in ("LSST_KAFKA_BROKER_ADDR", "LSST_SCHEMA_REGISTRY_URL") if not variables.get(name)]
        if missing:
            raise UsageError(f"environment: {' and '.join(missing)} not set; expected the address of your site's")
        security: dict[str, Any] = {}
        if user := variables.get("LSST_KAFKA_SECURITY_USERNAME"):
            security = {
                "security.protocol": variables.get("LSST_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
                "sasl.mechanism": variables.get("LSST_KAFKA_SECURITY_MECHANISM", "SCRAM-SHA-512"),
                "sasl.username": user,
                "sasl.password": variables.get("LSST_KAFKA_SECURITY_PASSWORD", ""),
            }
        if more := variables.get("LSST_KAFKA_BROKER_CLIENT_CONFIGURATION"):
            security |= _options(Path(more))
        return cls(
            variables["LSST_KAFKA_BROKER_ADDR"],
            variables["LSST_SCHEMA_REGISTRY_URL"],
            variables.get("LSST_TOPIC_SUBNAME", "sal"),
            security,
            variables.get("DPP_IDENTITY") or f"{getpass.getuser()}@{platform.node().partition('.')[0]}",
            variables.get("DPP_GROUP", "ocs"),
        )


def _options(path: Path) -> dict[str, Any]:
    try:
        content: Any = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"LSST_KAFKA_BROKER_CLIENT_CONFIGURATION {path}: cannot be used: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: found {type(content).__name__}; expected options of Kafka's client library by name")
    return content
