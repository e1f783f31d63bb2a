"""A change made by hand is found, named, and repaired; after that applying again changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lab.observatory import Observatory

STRAY = "ip route 192.0.2.0/24 Null0"


@dataclass(frozen=True)
class Change:
    """A change by hand: where it is made and asked for, what it leaves there, and how `refresh` must name it."""

    unit: str
    host: str
    make: str
    ask: str
    left: str
    named: str


ON_HOSTS = (
    Change("wan", "rt01.summit", f'vtysh -c "conf t" -c "{STRAY}"', 'vtysh -c "show run"', STRAY, STRAY),
    Change(
        "chilean-itc",
        "svc01.base",
        "echo stray >> /etc/sysctl.d/60-dpp.conf",
        "cat /etc/sysctl.d/60-dpp.conf",
        "stray",
        "base_system : Write the configuration",
    ),
    Change(
        "summit-storage",
        "st01.summit",
        "sed -i s/[0-9][0-9]*/1234/ /etc/summit-storage/capacity.json",
        "cat /etc/summit-storage/capacity.json",
        "1234",
        "summit_storage : Write capacity, service and timer",
    ),
)


@pytest.mark.parametrize("change", ON_HOSTS, ids=lambda change: change.unit)
def test_a_change_by_hand_is_named_and_repaired(observatory: Observatory, change: Change) -> None:
    observatory.on(change.host, change.make)
    try:
        assert change.left in observatory.on(change.host, change.ask)
        said = observatory.dpp("stack", "refresh", f"lab.{change.unit}", "--diff", code=None)
        assert change.host in said, said
        assert change.named in said, said
    finally:
        observatory.dpp("up", "lab", "--yes", f"--only={change.unit}")
    assert change.left not in observatory.on(change.host, change.ask)
    observatory.dpp("up", "lab", "--yes", f"--only={change.unit}", "--expect-no-changes")


def test_a_manifest_changed_by_hand_is_named_and_repaired(observatory: Observatory) -> None:
    done = observatory.kubectl("ncsa", "scale", "deployment/broker", "--replicas=0")
    assert done.returncode == 0, done.stderr
    try:
        said = observatory.dpp("stack", "refresh", "lab.workloads", "--diff", code=None)
        assert "broker" in said, said
        assert "replicas" in said, said
    finally:
        observatory.dpp("up", "lab", "--yes", "--only=workloads")
    done = observatory.kubectl("ncsa", "get", "deployment/broker", "--output=jsonpath={.status.readyReplicas}")
    assert done.stdout == "1", done
