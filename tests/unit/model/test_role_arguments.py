"""Every role gets, on every kind of host of every environment, values that its argument specification accepts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals
from dpp.model.types import Host

ROLES = sorted(path.parents[1].name for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml"))
LONG_PATH_CONNECTIONS = 4
TCP_BUFFER, NOTIFY = "base_system_tcp_buffer_bytes", "object_store_notify_topic"


def specification(role: str) -> dict[str, Any]:
    content = yaml.safe_load((REPOSITORY / f"roles/{role}/meta/argument_specs.yml").read_text())
    found: dict[str, Any] = content["argument_specs"]["main"]["options"]
    return found


@cache
def inventory(environment: str) -> tuple[Any, Any, Any, Any]:
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader, lookup_loader
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager

    init_plugin_loader()
    lookup_loader.add_directory(str(REPOSITORY / "src/dpp/adapters/ansible_plugins/lookup"))
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(REPOSITORY / "inventories" / environment)])
    variables = VariableManager(loader=loader, inventory=manager)
    hostvars = HostVars(manager, variables, loader)
    # Tables of all hosts ask for each host's variables hundreds of times, and nothing changes them here.
    hostvars.raw_get = cache(hostvars.raw_get)
    return loader, manager, variables, hostvars


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the secrets that defaults ask for away from a standing lab's."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    yield
    patch.undo()


def values(environment: str, role: str, host: str, *names: str) -> dict[str, Any]:
    """Return options of `role`, by default all, as Ansible resolves them on `host`."""
    from ansible.template import Templar

    loader, manager, variables, hostvars = inventory(environment)
    defaults = loader.load_from_file(str(REPOSITORY / f"roles/{role}/defaults/main.yml"), trusted_as_template=True)
    known = defaults | variables.get_vars(host=manager.get_host(host), include_hostvars=False)
    known["hostvars"] = hostvars
    templar = Templar(loader=loader, variables=known)
    return {name: templar.template(known[name]) for name in names or specification(role)}


def kinds(environment: str) -> list[tuple[str, str]]:
    """Return role and host for one host of every site, cluster and set of functions."""
    model = Environment.load(environment)
    seen: dict[tuple[str, str, frozenset[str], str], Host] = {}
    for host in model.hosts.values():
        cluster = model.cluster_of(host.name)
        for role in sorted(host.groups & set(ROLES)):
            groups = frozenset() if role in ("base_system", "operations_host") else host.groups
            seen.setdefault((role, host.site, groups, cluster.name if cluster and groups else ""), host)
    return [(role, host.name) for (role, *_), host in seen.items()]


@pytest.mark.parametrize("environment", ["lab", "production"])
def test_every_role_accepts_what_the_inventory_gives_it(environment: str) -> None:
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

    refused = []
    for role, host in kinds(environment):
        result = ArgumentSpecValidator(specification(role)).validate(values(environment, role, host))
        refused += [f"{role} on {host}: {message}" for message in result.error_messages]
    assert not refused, "\n".join(refused)


def test_the_kinds_cover_every_role() -> None:
    assert {role for role, _ in kinds("production")} == set(ROLES)


@pytest.mark.parametrize("environment", ["lab", "production"])
def test_what_is_derived_from_the_model_is_declared_once(environment: str) -> None:
    for role in (path.stem for path in (REPOSITORY / "inventories/derived").glob("*.yml")):
        link = REPOSITORY / f"inventories/{environment}/group_vars/{role}/derived.yml"
        assert link.is_symlink(), link
        assert link.resolve() == REPOSITORY / f"inventories/derived/{role}.yml"


def test_brokers_of_production_outlive_one_of_them() -> None:
    for host in ("svc02.summit", "gw03.ncsa"):
        found = values("production", "kafka_broker", host)
        assert len(found["kafka_broker_quorum"]) == 3  # the role keeps as many replicas, and acknowledges with two
        assert found["kafka_broker_quorum"] == sorted(found["kafka_broker_quorum"])
    mirrors = values("production", "kafka_broker", "gw01.ncsa")["kafka_broker_mirrors"]
    assert mirrors["summit"]["bootstrap"] == ["svc01.summit:9094", "svc02.summit:9094", "svc03.summit:9094"]


def test_a_store_notifies_only_a_broker_of_its_own_host() -> None:
    for environment in ("lab", "production"):
        model = Environment.load(environment)
        principals = Principals.load(model)
        for store in model.storage.values():
            told = {h: values(environment, "object_store", h, NOTIFY)[NOTIFY] for h in store.hosts[:5]}
            brokers = {host.name for host in model.hosts_of(store.site, "kafka_broker")}
            assert all(not topic or host in brokers for host, topic in told.items())
            arrivals = principals.arrivals_at(store.site)
            assert told[store.hosts[0]] == (arrivals or ("",))[0], f"{store.hosts[0]} is the endpoint: it must notify"


def test_long_haul_hosts_fill_the_longest_path() -> None:
    model = Environment.load("production")
    legs = [model.circuits["summit-base-primary"], model.circuits["base-ncsa-primary"]]
    bytes_per_second = min(leg.rate_mbps for leg in legs) * 1e6 / 8
    in_flight = bytes_per_second * 2 * sum(leg.delay_ms for leg in legs) / 1000
    for host in ("st01.summit", "node01.summit", "gw01.ncsa", "st01.ncsa"):
        buffer = values("production", "base_system", host, TCP_BUFFER)[TCP_BUFFER]
        assert buffer * LONG_PATH_CONNECTIONS >= in_flight, host


def test_every_prompt_worker_finds_a_connection_to_its_databases() -> None:
    model = Environment.load("production")
    workers = len(model.camera.detectors) * model.camera.visits_in_flight + model.camera.spare_workers
    database = model.hosts_of("ncsa", "postgresql")[0].name
    found = values("production", "postgresql", database)
    assert sorted(found["postgresql_databases"]) == ["apdb", "butler", "ledger"]
    assert found["postgresql_settings"]["max_connections"] > 2 * workers
    assert values("production", "postgresql", "db02.ncsa")["postgresql_databases"] == {}


def test_workers_join_with_the_pool_that_they_were_bought_for() -> None:
    from jinja2 import Environment as Templates

    found = values("production", "kubernetes_node", "prompt001.ncsa")
    assert found["kubernetes_node_labels"] == {"dpp.lsst.org/pool": "prompt-pool"}

    template = (REPOSITORY / "roles/kubernetes_node/templates/etc/kubernetes/join.yaml.j2").read_text()
    templates = Templates(trim_blocks=True, autoescape=False)  # noqa: S701 - YAML, no page
    templates.filters["to_json"] = str
    words = {
        "kubernetes_node_begun": [],
        "kubernetes_node_words": ["kubeadm", "join", "k8s01:6443", "--token", "a.b", "--hash", "c"],
    }
    text = templates.from_string(template).render(**found, **words, inventory_hostname="prompt001.ncsa")
    joined = yaml.safe_load(text)["nodeRegistration"]["kubeletExtraArgs"]
    assert {"name": "node-labels", "value": "dpp.lsst.org/pool=prompt-pool"} in joined
