"""What follows from a workload's contract on a cluster: its account, settings, secrets, neighbours, ports and volumes.

Nothing of it is written in ``k8s/``. Secrets are named by marks and never known here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from ipaddress import IPv4Address
from typing import Any, Final
from urllib.parse import urlsplit

from dpp.adapters.kubernetes import Manifest
from dpp.adapters.kustomize import pod_templates
from dpp.model.contracts import Contract, Port
from dpp.model.principals import Principals
from dpp.model.rights import secrets_of
from dpp.model.surroundings import as_yaml, surroundings
from dpp.model.types import Cluster

NAMESPACE: Final = "workloads"
SERVICE: Final = "app.kubernetes.io/name"
"""Label that names the workload of an object."""
SECRET: Final = "dpp-secret:"  # noqa: S105 - the mark of a reference
"""In ``stringData`` of a Secret, ``dpp-secret:NAME`` stands for a password of the environment: states hold no secret."""
AUTHORITIES: Final = "dpp-authorities"
"""In ``data`` of a ConfigMap, stands for the certificates of the environment's authorities."""
DIGEST: Final = "dpp-digest:"
"""In an annotation of pods, ``dpp-digest:NAME,NAME`` stands for a digest of authorities and passwords of these names."""
VOLUMES: Final = "/var/lib/dpp/volumes"
"""Where nodes keep the volumes of workloads."""
_MAIN: Final = "main"
"""What a workload calls its container."""
_SETTINGS, _SECRETS = "settings", "secrets"


def derived(principals: Principals, name: str, cluster: Cluster) -> list[Manifest]:
    """Return the objects that a workload has on a cluster beside those that make its pods."""
    contract = principals.contract(name)
    own = {"namespace": NAMESPACE, "labels": {SERVICE: name, "app.kubernetes.io/part-of": "dpp"}}
    found = [
        _object("v1", "ServiceAccount", name, own, automountServiceAccountToken=False),
        _object("v1", "ConfigMap", _of(name, _SETTINGS), own, data=_settings(principals, name, cluster)),
        _object("networking.k8s.io/v1", "NetworkPolicy", name, own, spec=_policy(principals, contract, cluster)),
    ]
    if secrets := secrets_of(principals, name, cluster.site):
        marks = {known: f"{SECRET}{secret}" for known, secret in secrets.items()}
        found.append(_object("v1", "Secret", _of(name, _SECRETS), own, stringData=marks))
    if contract.serves:
        ports = [{"name": port, "port": one.port, "targetPort": one.port} for port, one in contract.serves.items()]
        found.append(_object("v1", "Service", name, own, spec={"selector": {SERVICE: name}, "ports": ports}))
    for volume in contract.volumes:
        found += _volume(principals, _of(name, volume), own)
    return [*found, *(_api_rights(contract, own) if contract.kubernetes else ())]


def with_contract(manifest: Manifest, principals: Principals, name: str, cluster: Cluster) -> Manifest:
    """Return a copy of an object; the pods that it makes have what their contract gives them.

    Digests of settings and secrets in their annotations make new pods of those whose settings or secrets change.
    """
    made, contract = deepcopy(manifest), principals.contract(name)
    secrets = secrets_of(principals, name, cluster.site)
    for template in pod_templates(made):
        notes = template.setdefault("metadata", {}).setdefault("annotations", {})
        notes["dpp.lsst.org/settings"] = _digest(_settings(principals, name, cluster))
        notes["dpp.lsst.org/secrets"] = DIGEST + ",".join((AUTHORITIES, *sorted(secrets.values())))
        pod = template["spec"]
        pod |= {"serviceAccountName": name, "automountServiceAccountToken": bool(contract.kubernetes)}
        pod["volumes"] = [*pod.get("volumes", []), *_pod_volumes(contract, secrets)]
        for container in pod["containers"]:
            if container["name"] == _MAIN:
                container["volumeMounts"] = [*container.get("volumeMounts", []), *_mounts(contract, secrets)]
    return made


def _object(api: str, kind: str, name: str, metadata: Mapping[str, Any], **content: Any) -> Manifest:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **deepcopy(dict(metadata))}, **content}


def _of(name: str, what: str) -> str:
    return f"{name}-{what}"


def _settings(principals: Principals, name: str, cluster: Cluster) -> dict[str, str]:
    return {"site.yml": as_yaml(surroundings(principals, name, cluster.site)), "ca.crt": AUTHORITIES}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


# -- pods --------------------------------------------------------------------------------------------------------------


def _pod_volumes(contract: Contract, secrets: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    yield {"name": _SETTINGS, "configMap": {"name": _of(contract.name, _SETTINGS)}}
    if secrets:
        yield {"name": _SECRETS, "secret": {"secretName": _of(contract.name, _SECRETS), "defaultMode": 0o440}}
    for volume in contract.volumes:
        yield {"name": volume, "persistentVolumeClaim": {"claimName": _of(contract.name, volume)}}


def _mounts(contract: Contract, secrets: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for key, path in (("site.yml", "/etc/dpp/site.yml"), ("ca.crt", "/etc/dpp/tls/ca.crt")):
        yield {"name": _SETTINGS, "mountPath": path, "subPath": key, "readOnly": True}
    if secrets:
        yield {"name": _SECRETS, "mountPath": "/etc/dpp/secrets", "readOnly": True}
    for volume, declared in contract.volumes.items():
        yield {"name": volume, "mountPath": declared.path}


def _volume(principals: Principals, name: str, own: Mapping[str, Any]) -> Iterator[Manifest]:
    """Yield a volume on a disk of its node, and the claim of it."""
    figures = principals.environment.volumes[name]
    size, mode = {"storage": f"{figures.gib}Gi"}, ["ReadWriteOnce"]
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [figures.node]}
    spec: dict[str, Any] = {
        "capacity": size,
        "accessModes": mode,
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "kept",
        "local": {"path": f"{VOLUMES}/{name}"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
    }
    claim = {"accessModes": mode, "storageClassName": "kept", "volumeName": name, "resources": {"requests": size}}
    yield _object("v1", "PersistentVolume", name, {"labels": own["labels"]}, spec=spec)
    yield _object("v1", "PersistentVolumeClaim", name, own, spec=claim)


# -- neighbours --------------------------------------------------------------------------------------------------------


def _policy(principals: Principals, contract: Contract, cluster: Cluster) -> dict[str, Any]:
    """Return who may come in and where it may go out; names are the platform's policy for all."""
    incoming = [_admitted(principals, contract, port, cluster) for port in contract.serves.values()]
    outgoing = [
        {"to": list(to), "ports": [{"protocol": "TCP", "port": port}]}
        for port, to in _targets(principals, contract, cluster).items()
    ]
    return {
        "podSelector": {"matchLabels": {SERVICE: contract.name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [rule for rule in incoming if rule],
        "egress": outgoing,
    }


def _admitted(principals: Principals, contract: Contract, port: Port, cluster: Cluster) -> dict[str, Any] | None:
    """Return the rule for a port that is served, or nothing where nobody here may use it."""
    rule: dict[str, Any] = {"ports": [{"protocol": "TCP", "port": port.port}]}
    if port.to == "everyone":
        return rule
    names = principals.callers(contract.name) if port.to == "callers" else port.to
    here = sorted(name for name in names if cluster.name in principals.clusters.get(name, ()))
    return rule | {"from": [_pods(name) for name in here]} if here else None


def _targets(principals: Principals, contract: Contract, cluster: Cluster) -> dict[int, list[dict[str, Any]]]:
    """Return, by port, where a workload goes: those it calls, its brokers, stores and database servers."""
    known = surroundings(principals, contract.name, cluster.site)
    environment = principals.environment
    addresses: list[tuple[str, int]] = []
    for one in known["kafka"].values():
        addresses += [_split(broker) for broker in one["bootstrap"].split(",")]
    addresses += [_place(one["endpoint"]) for one in known["object_stores"].values()]
    addresses += [(one["host"], one["port"]) for one in known["databases"].values()]
    found: dict[int, list[dict[str, Any]]] = {}
    for host, port in dict.fromkeys(addresses):
        found.setdefault(port, []).append(_host(environment.host(host).address))
    for name in contract.calls:
        host, port = _place(known["services"][name])
        outside = environment.outside.get(name)
        found.setdefault(port, []).append(_host(outside.address) if outside and outside.address else _pods(name))
    return {port: found[port] for port in sorted(found)}


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _place(url: str) -> tuple[str, int]:
    return _split(urlsplit(url).netloc)


def _host(address: IPv4Address) -> dict[str, Any]:
    return {"ipBlock": {"cidr": f"{address}/32"}}


def _pods(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {SERVICE: name}}}


# -- the Kubernetes API ------------------------------------------------------------------------------------------------


def _api_rights(contract: Contract, own: Mapping[str, Any]) -> Iterable[Manifest]:
    """Yield the rights that a contract names, and the way to the API: a node's, which policies of addresses do not know."""
    rules = [
        {"apiGroups": [one.group], "resources": list(one.resources), "verbs": list(one.verbs)}
        for one in contract.kubernetes
    ]
    name, api = contract.name, "rbac.authorization.k8s.io"
    role, subject = {"apiGroup": api, "kind": "Role", "name": name}, {"kind": "ServiceAccount", "name": name}
    way = {"endpointSelector": {"matchLabels": {SERVICE: name}}, "egress": [{"toEntities": ["kube-apiserver"]}]}
    yield _object(f"{api}/v1", "Role", name, own, rules=rules)
    subjects = [{**subject, "namespace": NAMESPACE}]
    yield _object(f"{api}/v1", "RoleBinding", name, own, roleRef=role, subjects=subjects)
    yield _object("cilium.io/v2", "CiliumNetworkPolicy", _of(name, "api"), own, spec=way)


def admitting(policy: Manifest, names: Iterable[str]) -> Manifest:
    """Return a copy of the house rules under which the pods of these workloads may talk to the Kubernetes API."""
    made = deepcopy(policy)
    for variable in made["spec"].get("variables", ()):
        if variable["name"] == "named":
            variable["expression"] = json.dumps(sorted(names))
    return made
