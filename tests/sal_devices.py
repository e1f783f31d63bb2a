"""The lab with a device of component Test in it, which stands in no contract, and with who commands it."""

from __future__ import annotations

from dataclasses import replace

from dpp.model.contracts import Contract, DeviceTopics
from dpp.model.devices import expanded
from dpp.model.environment import Environment
from dpp.model.interfaces import read_interfaces
from dpp.model.principals import Principals

DEVICE, CONTROL = "test-device", "test-control"
SITE = "summit"


def principals() -> Principals:
    """Return the principals of the lab, a device of component Test at the summit, and a control system for it."""
    lab, components = Principals.load(Environment.load("lab")), read_interfaces()
    added = [
        Contract(
            name=DEVICE,
            about="A device that does nothing.",
            devices={"Test": DeviceTopics(home=SITE, mirrors=("ncsa",))},
            publishes=("set-aside",),
            calls={"schema-registry": "http"},
        ),
        Contract(name=CONTROL, about="Commands it.", commands={"Test": ("ocs-*",)}, calls={"schema-registry": "http"}),
    ]
    return replace(
        lab,
        contracts={**lab.contracts, **{one.name: expanded(one, components) for one in added}},
        services={**lab.services, **{one.name: "level-1-test-environment" for one in added}},
        clusters={**lab.clusters, **{one.name: (SITE,) for one in added}},
    )
