"""Mistakes that people make in an inventory, and how each is to be reported."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """An edit of one file, and how it is to be reported."""

    name: str
    file: str
    old: str
    new: str
    subject: str
    found: str
    expected: str

    def __str__(self) -> str:
        return self.name


ALL = "group_vars/all"
MISTAKES = [
    Mistake(
        "unknown key of the model",
        f"{ALL}/sites.yml",
        "dpp_sites:",
        "dpp_speed: 1\ndpp_sites:",
        "dpp_speed",
        "a key that the model does not know",
        "one of dpp_address",
    ),
    Mistake(
        "unknown key of an object",
        f"{ALL}/sites.yml",
        "asn: 65081",
        "asn: 65081, altitude: 2647",
        "dpp_sites/summit/altitude",
        "the unknown key 'altitude'",
        "a key of the model",
    ),
    Mistake(
        "missing value",
        f"{ALL}/sites.yml",
        "title: CC-IN2P3, ",
        "",
        "dpp_sites/in2p3/title",
        "nothing",
        "a value for 'title'",
    ),
    Mistake(
        "wrong type",
        f"{ALL}/circuits.yml",
        "rate_mbps: 20000",
        "rate_mbps: fast",
        "dpp_circuits/ncsa-in2p3-secondary/rate_mbps",
        "'fast'",
        "valid integer",
    ),
    Mistake(
        "template in a key of the model",
        f"{ALL}/networks.yml",
        "gateway: 10.81.0.254",
        'gateway: "{{ summit_gateway }}"',
        "dpp_networks/summit-hosts/gateway",
        "the template '{{ summit_gateway }}'",
        "a literal value",
    ),
    Mistake(
        "no address",
        "hosts.yml",
        "svc01.base: {dpp_address: 10.82.0.11}",
        "svc01.base: {}",
        "svc01.base/dpp_address",
        "nothing",
        "a value for 'dpp_address'",
    ),
    Mistake(
        "two sites of one number",
        f"{ALL}/sites.yml",
        "asn: 65082",
        "asn: 65081",
        "dpp_sites/base/asn",
        "65081, used by summit too",
        "a number of its own",
    ),
    Mistake(
        "overlapping prefixes",
        f"{ALL}/clusters.yml",
        "pod_prefix: 10.81.64.0/20",
        "pod_prefix: 10.80.0.0/20",
        "dpp_clusters/summit/pod_prefix",
        "10.80.0.0/20, which overlaps 10.80.0.0/31 of dpp_circuits/summit-base-primary",
        "prefixes of their own",
    ),
    Mistake(
        "gateway outside its network",
        f"{ALL}/networks.yml",
        "gateway: 10.83.0.254",
        "gateway: 10.82.0.254",
        "dpp_networks/ncsa-hosts/gateway",
        "10.82.0.254",
        "an address in 10.83.0.0/24",
    ),
    Mistake(
        "address outside its network",
        "hosts.yml",
        "dpp_address: 10.82.0.11",
        "dpp_address: 10.81.0.12",
        "svc01.base/dpp_address",
        "10.81.0.12",
        "an address in 10.82.0.0/24",
    ),
    Mistake(
        "address used twice",
        "hosts.yml",
        "dpp_address: 10.82.0.11",
        "dpp_address: 10.82.0.31",
        "k8s01.base/dpp_address",
        "10.82.0.31, used by svc01.base too",
        "an address of its own",
    ),
    Mistake(
        "host under the wrong site",
        "hosts.yml",
        "svc01.base: {dpp",
        "svc01.ncsa: {dpp",
        "svc01.ncsa",
        "in 2 site groups (base, ncsa)",
        "in exactly one group under `sites`",
    ),
    Mistake(
        "circuit to a host that is not there",
        f"{ALL}/circuits.yml",
        "host: rt02.ncsa, interface: wan1",
        "host: rt09.ncsa, interface: wan1",
        "dpp_circuits/ncsa-in2p3-secondary/a/host",
        "host rt09.ncsa, which does not exist",
        "a host of hosts.yml",
    ),
    Mistake(
        "circuit to a host that is no router",
        f"{ALL}/circuits.yml",
        "host: rt02.ncsa, interface: wan1",
        "host: svc01.ncsa, interface: wan1",
        "dpp_circuits/ncsa-in2p3-secondary/a/host",
        "svc01.ncsa, no border router",
        "a host of group border_router",
    ),
    Mistake(
        "circuit end outside the prefix",
        f"{ALL}/circuits.yml",
        "address: 10.80.0.11}",
        "address: 10.80.0.12}",
        "dpp_circuits/ncsa-in2p3-secondary/b/address",
        "10.80.0.12",
        "an address in 10.80.0.10/31",
    ),
    Mistake(
        "interface used twice",
        f"{ALL}/circuits.yml",
        "rt02.ncsa, interface: wan1",
        "rt02.ncsa, interface: wan0",
        "dpp_circuits/ncsa-in2p3-secondary/a/interface",
        "wan0 of rt02.ncsa, used by base-ncsa-secondary too",
        "an interface per circuit",
    ),
    Mistake(
        "cluster node that is not there",
        f"{ALL}/clusters.yml",
        "control_plane: [k8s01.base], nodes: []",
        "control_plane: [k8s01.base], nodes: [k8s02.base]",
        "dpp_clusters/commissioning/nodes",
        "host k8s02.base, which does not exist",
        "a host of hosts.yml",
    ),
    Mistake(
        "node of another site",
        f"{ALL}/clusters.yml",
        "commissioning: {site: base",
        "commissioning: {site: in2p3",
        "dpp_clusters/commissioning/control_plane",
        "k8s01.base, a host of base",
        "a host of in2p3",
    ),
    Mistake(
        "API served by no control plane host",
        f"{ALL}/clusters.yml",
        "endpoint: k8s01.base",
        "endpoint: svc01.base",
        "dpp_clusters/commissioning/endpoint",
        "svc01.base",
        "one of k8s01.base",
    ),
    Mistake(
        "store on a host without the role",
        f"{ALL}/storage.yml",
        "hosts: [svc01.base]",
        "hosts: [k8s01.base]",
        "dpp_storage/base/hosts",
        "k8s01.base, not in group object_store",
        "a host of group object_store",
    ),
    Mistake(
        "site without an operations host",
        "hosts.yml",
        "            st01.in2p3:\n        container_registry:",
        "        container_registry:",
        "dpp_sites/in2p3",
        "no host of group operations_host",
        "one, so that it runs without its links",
    ),
    Mistake(
        "cluster without a registry at its site",
        "hosts.yml",
        "            svc01.base:\n            svc01.ncsa:\n        kafka_broker:",
        "            svc01.ncsa:\n        kafka_broker:",
        "dpp_sites/base",
        "no host of group container_registry",
        "one, so that it runs without its links",
    ),
    Mistake(
        "leg with one path",
        f"{ALL}/circuits.yml",
        "{path: secondary, rate_mbps: 20000",
        "{path: primary, rate_mbps: 20000",
        "dpp_sites/in2p3",
        "no secondary circuit",
        "a primary and a secondary path",
    ),
    Mistake(
        "function that is no role",
        "hosts.yml",
        "        postgresql:\n",
        "        postgres:\n",
        "postgres",
        "group postgres",
        "a role of the same name in roles/",
    ),
    Mistake(
        "variable of nobody",
        f"{ALL}/camera.yml",
        "dpp_camera:",
        "spare: 1\ndpp_camera:",
        "spare",
        "a variable that no role declares",
        "ansible_* or an option of some role's argument_specs.yml",
    ),
]
