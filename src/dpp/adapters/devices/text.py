"""The configuration that a border router should have, written in the words of its platform."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from dpp.adapters.devices.drivers import DRIVERS
from dpp.adapters.devices.intent import intent
from dpp.model.environment import Environment
from dpp.model.errors import FatalError

_TEMPLATES = Path(__file__).with_name("templates")


def router_text(environment: Environment, host: str) -> str:
    """Return the whole configuration that the router `host` should have.

    Raises
    ------
    FatalError
        If it is no border router, or of a platform that has no template.
    """
    platform = platform_of(environment, host)
    return str(_templates().get_template(f"{platform}.conf.j2").render(intent=intent(environment, host)))


def platform_of(environment: Environment, host: str) -> str:
    """Return the platform of a router; ``FatalError`` where there is no driver for it."""
    routing = environment.routing
    platform = routing.platforms.get(host, routing.platform)
    if platform not in DRIVERS:
        expected = f"one of {', '.join(DRIVERS)}"
        raise FatalError(f"router {host}", f"platform {platform!r}", expected, "write its template and driver")
    return platform


@cache
def _templates() -> Any:
    import jinja2  # noqa: PLC0415

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - routers read no HTML
    )
