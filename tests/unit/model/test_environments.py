"""The real inventories are consistent and answer what the other layers ask."""

import subprocess
import sys
from ipaddress import ip_address

import pytest

from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.names import kebab, snake
from dpp.model.principals import Principals
from dpp.model.surroundings import as_yaml, surroundings


@pytest.fixture(scope="module")
def lab() -> Environment:
    return Environment.load("lab")


@pytest.fixture(scope="module")
def production() -> Environment:
    return Environment.load("production")


def test_lab_is_consistent(lab: Environment) -> None:
    assert list(lab.sites) == ["summit", "base", "ncsa", "in2p3"]
    assert len(lab.camera.detectors) == 9


def test_production_is_the_full_facility(production: Environment) -> None:
    assert len(production.hosts) > 400
    assert len(production.camera.detectors) == 189
    assert len({detector.id for detector in production.camera.detectors}) == 189
    assert production.prompt_capacity() >= 2 * 189
    assert all(len(production.routers(site)) >= 2 for site in production.sites)
    assert all(len(cluster.control_plane) >= 3 for cluster in production.clusters.values())
    assert len(production.hosts_of("summit", "kafka_broker")) == len(production.hosts_of("ncsa", "kafka_broker")) == 3


def test_every_leg_of_production_survives_the_loss_of_one_router(production: Environment) -> None:
    for lost in (host.name for site in production.sites for host in production.routers(site)):
        ends = [(c.a.host, c.b.host) for c in production.circuits.values() if lost not in (c.a.host, c.b.host)]
        joined = {frozenset(production.hosts[host].site for host in pair) for pair in ends}
        assert joined == {
            frozenset(pair) for pair in (("summit", "base"), ("base", "ncsa"), ("ncsa", "in2p3"), ("ncsa", "slac"))
        }


def test_both_environments_have_the_same_shape(lab: Environment, production: Environment) -> None:
    assert set(lab.sites) <= set(production.sites)
    assert set(lab.clusters) <= set(production.clusters)
    assert set(lab.circuits) <= set(production.circuits)
    assert set(lab.topics) == set(production.topics)


@pytest.mark.parametrize("environment", ["lab", "production"])
def test_every_exposure_in_flight_has_a_partition(environment: str) -> None:
    model = Environment.load(environment)

    needed = len(model.camera.detectors) * model.camera.visits_in_flight
    assert model.topics["ingested"].partitions == needed


def test_attachment_gives_interface_prefix_length_and_gateway(lab: Environment) -> None:
    attachment = lab.attachment("svc01.ncsa")

    assert (attachment.interface, str(attachment.address), str(attachment.gateway)) == (
        "eth0",
        "10.83.0.11/24",
        "10.83.0.254",
    )


def test_legs_show_each_circuit_from_the_router(lab: Environment) -> None:
    legs = {leg.circuit.name: (leg.near.interface, leg.far.host) for leg in lab.legs("rt01.base")}

    assert legs == {"summit-base-primary": ("wan0", "rt01.summit"), "base-ncsa-primary": ("wan1", "rt01.ncsa")}


def test_addresses_are_unique_and_complete(production: Environment) -> None:
    addresses = production.addresses()

    assert addresses.keys() == production.hosts.keys()
    assert len({ip_address(address) for address in addresses.values()}) == len(addresses)


def test_an_unknown_host_is_answered_with_the_nearest(lab: Environment) -> None:
    with pytest.raises(FatalError, match=r"host svc01\.nsca: not in inventories/lab; expected such as svc01\.ncsa"):
        lab.host("svc01.nsca")


@pytest.mark.parametrize("environment", ["lab", "production"])
def test_settings_are_what_the_workloads_accept(environment: str, request: pytest.FixtureRequest) -> None:
    yaml = pytest.importorskip("yaml")
    settings = pytest.importorskip("workloads.common.settings")
    principals = Principals.load(request.getfixturevalue(environment))

    for name, sites in principals.present.items():
        for site in sites:
            accepted = settings.Site.model_validate(yaml.safe_load(as_yaml(surroundings(principals, name, site))))
            assert (accepted.principal, accepted.site) == (name, site)
            assert len(accepted.camera.detectors) == len(principals.environment.camera.detectors)


def test_the_lab_observes_the_central_raft(lab: Environment) -> None:
    centre = next(detector for detector in lab.camera.detectors if detector.name == "R22_S11")

    assert (centre.id, centre.column, centre.row) == (94, 0, 0)


def test_spellings_are_each_others_inverse(production: Environment) -> None:
    for name in (*production.clusters, *production.circuits, *production.networks):
        assert kebab(snake(name)) == name
    for group in {group for host in production.hosts.values() for group in host.groups}:
        assert snake(kebab(group)) == group


def test_names_are_valid_dns_labels(production: Environment) -> None:
    assert all(len(host.slug) <= 63 and host.slug.replace("-", "").isalnum() for host in production.hosts.values())


def test_help_waits_for_nothing_that_is_slow_to_import() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import dpp.cli"],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )

    assert not {"ansible", "pulumi", "kubernetes", "pydantic"} & {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines()
    }
