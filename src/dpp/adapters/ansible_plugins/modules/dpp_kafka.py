"""Ansible module that brings users, rights and topics of a Kafka cluster to what they are to be."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    from confluent_kafka import KafkaException
    from confluent_kafka import admin as kafka
except ImportError:
    kafka = None  # type: ignore[assignment]  # main() says what to install

DOCUMENTATION = """
module: dpp_kafka
short_description: Users, rights and topics of a Kafka cluster
description:
  - Makes topics that are missing, adds partitions and replicas, sets what is kept of them; deletes no topic but
    those that are named as retired, and removes no partition.
  - Gives users their passwords where those do not work. Users and rights that are not named are taken away.
  - Brokers may be converged one after the other. Before a majority of them runs there is nothing that could be
    asked, and the task ends without waiting for those that come later; from then on it waits for its own broker, and
    that this one has all records that it is to have, so that the next may be restarted.
  - Supports check mode and diff.
options:
  bootstrap: {description: Broker that speaks SASL., type: str, required: true}
  authorities: {description: File of authorities to trust; without it TLS is not spoken., type: path}
  controllers: {description: Host and port of all controllers of the cluster., type: list, elements: str, default: []}
  admin_password: {description: Password of the user C(admin)., type: str, required: true}
  users: {description: Passwords by user., type: dict, default: {}}
  rights:
    description:
      - All rights, each with C(user), C(kind), C(name), C(operation) and C(host); a name that ends in C(*) means all that
        begin so.
    type: list
    elements: dict
    default: []
  topics:
    description:
      - Topics by name with C(partitions) and C(retention_hours); without the latter the newest of each key is kept, and all
        others for C(compacted_after_hours).
    type: dict
    default: {}
  retired: {description: Topics that are deleted with their records., type: list, elements: str, default: []}
  replicas: {description: Replicas of topics; fewer while fewer brokers have come., type: int, default: 1}
  reassign: {description: Command that gives partitions other replicas., type: list, elements: str, default: []}
  patience: {description: Seconds to wait for the broker., type: int, default: 120}
requirements: [confluent-kafka 2]
"""

EXAMPLES = """
- ansible.legacy.dpp_kafka:
    bootstrap: svc01.ncsa:9094
    authorities: /etc/dpp/tls/ca.crt
    admin_password: "{{ kafka_admin_password }}"
    users: {data-backbone: "{{ password }}"}
    rights: [{user: data-backbone, kind: topic, name: dpp.raw.arrivals, operation: read, host: "*"}]
    topics: {dpp.raw.arrivals: {partitions: 1, retention_hours: 168}}
"""

RETURN = """
changes:
  description: What was or would be changed, one sentence each.
  returned: always
  type: list
"""

OPTIONS = {
    "bootstrap": {"type": "str", "required": True},
    "authorities": {"type": "path"},
    "controllers": {"type": "list", "elements": "str", "default": []},
    "admin_password": {"type": "str", "required": True, "no_log": True},
    "users": {"type": "dict", "default": {}, "no_log": True},
    "rights": {"type": "list", "elements": "dict", "default": []},
    "topics": {"type": "dict", "default": {}},
    "retired": {"type": "list", "elements": "str", "default": []},
    "replicas": {"type": "int", "default": 1},
    "reassign": {"type": "list", "elements": "str", "default": []},
    "patience": {"type": "int", "default": 120},
}
TIMEOUT = 15.0
"""Seconds for one request."""
ADMIN = "admin"


class Cluster:
    """The cluster as one task sees it: `changes` collects what differs, and it is applied unless the task only checks."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.wanted = module.params
        self.changes: list[str] = []
        self.end = time.monotonic() + (0 if module.check_mode else self.wanted["patience"])
        self.admin = self.client(ADMIN, self.wanted["admin_password"])

    def client(self, user: str, password: str) -> Any:
        """Return a client that logs in as `user`."""
        trust = {"ssl.ca.location": self.wanted["authorities"]} if self.wanted["authorities"] else {}
        return kafka.AdminClient(
            {
                "bootstrap.servers": self.wanted["bootstrap"],
                "security.protocol": "SASL_SSL" if trust else "SASL_PLAINTEXT",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": user,
                "sasl.password": password,
                **trust,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )

    # -- brokers that come one after the other -------------------------------------------------------------------------

    def stands(self) -> bool:
        """Say whether a majority of the controllers runs; this host's own is waited for."""
        controllers = self.wanted["controllers"]
        own = self.wanted["bootstrap"].partition(":")[0]
        for address in controllers:
            if address.partition(":")[0] == own:
                while not _listens(address) and time.monotonic() < self.end:
                    time.sleep(0.5)
        return 2 * sum(_listens(address) for address in controllers) > len(controllers) or not controllers

    def wait(self) -> None:
        """Wait until the broker answers the administrator."""
        while True:
            try:
                self.admin.list_topics(timeout=5)
            except KafkaException:
                if time.monotonic() >= self.end:
                    raise
                time.sleep(0.5)
            else:
                return

    def wait_complete(self) -> None:
        """Wait until this broker's replicas are complete: only then may another one be restarted."""
        if len(self.wanted["controllers"]) < 2 or self.module.check_mode:
            return
        own = self.wanted["bootstrap"].partition(":")[0]
        while lacks := self.incomplete(own):
            if time.monotonic() >= self.end:
                self.module.fail_json(msg=f"{own}: not in step with {lacks}", changes=self.changes)
            time.sleep(1.0)

    def incomplete(self, host: str) -> str:
        """Return a partition whose records `host` does not have, or nothing."""
        known = self.admin.list_topics(timeout=TIMEOUT)
        own = {number for number, broker in known.brokers.items() if broker.host == host}
        for name, topic in known.topics.items():
            for number, partition in topic.partitions.items():
                if own & set(partition.replicas) - set(partition.isrs):
                    return f"{name}-{number}"
        return "" if own else "the others: it is not registered"

    # -- topics --------------------------------------------------------------------------------------------------------

    def topics(self) -> None:
        """Make topics, add partitions and replicas, and set what is kept."""
        known = self.admin.list_topics(timeout=TIMEOUT)
        present, replicas = known.topics, min(self.wanted["replicas"], len(known.brokers))
        for name, topic in sorted(self.wanted["topics"].items()):
            after = topic["partitions"]
            if name not in present:
                new = kafka.NewTopic(name, after, replicas, config=_kept(topic))
                self.apply(f"topic {name}: made with {after} partitions", self.admin.create_topics, [new])
                continue
            before = len(present[name].partitions)
            if before < after:
                more = kafka.NewPartitions(name, after)
                self.apply(f"topic {name}: {before} partitions became {after}", self.admin.create_partitions, [more])
            elif before > after:
                self.module.warn(
                    f"topic {name} has {before} partitions, {after} are wanted; partitions cannot be removed"
                )
        there = [name for name in sorted(self.wanted["topics"]) if name in present]
        self.keep(there)
        self.replicate([row for name in there for row in _short(present[name], replicas, sorted(known.brokers))])

    def retire(self) -> None:
        """Delete topics that are named for it; consumers and rights have gone before."""
        gone = sorted(set(self.wanted["retired"]) & set(self.admin.list_topics(timeout=TIMEOUT).topics))
        self.apply_all([f"topic {name}: deleted" for name in gone], self.admin.delete_topics, gone)

    def keep(self, names: list[str]) -> None:
        """Set what is kept of topics that exist."""
        if not names:
            return
        resources = [kafka.ConfigResource(kafka.ResourceType.TOPIC, name) for name in names]
        for resource, future in self.admin.describe_configs(resources).items():
            found = future.result(timeout=TIMEOUT)
            for key, after in _kept(self.wanted["topics"][resource.name]).items():
                before = found[key].value
                if before != after:
                    entry = kafka.ConfigEntry(key, after, incremental_operation=kafka.AlterConfigOpType.SET)
                    change = kafka.ConfigResource(kafka.ResourceType.TOPIC, resource.name, incremental_configs=[entry])
                    sentence = f"topic {resource.name}: {key} {before} became {after}"
                    self.apply(sentence, self.admin.incremental_alter_configs, [change])

    def replicate(self, rows: list[dict[str, Any]]) -> None:
        """Give partitions the replicas that `rows` name: those that were made while brokers had yet to come."""
        for name in dict.fromkeys(row["topic"] for row in rows):
            self.changes.append(f"topic {name}: replicas on all brokers")
        if not rows or self.module.check_mode:
            return
        with tempfile.NamedTemporaryFile("w", suffix=".json") as plan:
            json.dump({"version": 1, "partitions": rows}, plan)
            plan.flush()
            words = [*self.wanted["reassign"], "--execute", "--reassignment-json-file", plan.name]
            code, said, complaint = self.module.run_command(words)
        if code != 0:
            self.module.fail_json(msg=f"replicas: {(complaint or said).strip()}", changes=self.changes)

    # -- users and rights ----------------------------------------------------------------------------------------------

    def users(self) -> None:
        """Make users, and set the passwords that do not work."""
        present = self.admin.describe_user_scram_credentials().result(timeout=TIMEOUT)
        method = kafka.ScramCredentialInfo(kafka.ScramMechanism.SCRAM_SHA_512, 4096)
        wrong = [user for user in sorted(self.wanted["users"]) if user not in present or not self.logs_in(user)]
        sentences = [f"user {user}: {'password set' if user in present else 'made'}" for user in wrong]
        changes = [
            kafka.UserScramCredentialUpsertion(user, method, self.wanted["users"][user].encode()) for user in wrong
        ]
        self.apply_all(sentences, self.admin.alter_user_scram_credentials, changes)

    def logs_in(self, user: str) -> bool:
        """Say whether a user's password works."""
        try:
            self.client(user, self.wanted["users"][user]).list_topics(timeout=TIMEOUT / 3)
        except KafkaException:
            return False
        return True

    def strangers(self) -> None:
        """Take users away that are not named."""
        present = self.admin.describe_user_scram_credentials().result(timeout=TIMEOUT)
        for user, described in sorted(present.items()):
            if user not in self.wanted["users"] and user != ADMIN:
                methods = [one.mechanism for one in described.scram_credential_infos]
                changes = [kafka.UserScramCredentialDeletion(user, method) for method in methods]
                self.apply(f"user {user}: taken away", self.admin.alter_user_scram_credentials, changes)

    def rights(self) -> None:
        """Grant what is named, then take away what is not."""
        present = set(self.admin.describe_acls(_everything()).result(timeout=TIMEOUT))
        wanted = {_binding(right) for right in self.wanted["rights"]}
        granted = sorted(wanted - present, key=_sentence)
        revoked = sorted(present - wanted, key=_sentence)
        self.apply_all([f"{_sentence(one)}: granted" for one in granted], self.admin.create_acls, granted)
        filters = [_filter(one) for one in revoked]
        self.apply_all([f"{_sentence(one)}: taken away" for one in revoked], self.admin.delete_acls, filters)

    # -- changes -------------------------------------------------------------------------------------------------------

    def apply(self, sentence: str, method: Any, request: list[Any]) -> None:
        """Note a change and, unless the task only checks, make it."""
        self.apply_all([sentence], method, request)

    def apply_all(self, sentences: list[str], method: Any, request: list[Any]) -> None:
        """Note changes and, unless the task only checks, make them by one request."""
        self.changes += sentences
        if request and not self.module.check_mode:
            for future in method(request).values():
                future.result(timeout=TIMEOUT)


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def _kept(topic: dict[str, Any]) -> dict[str, str]:
    hours = topic.get("retention_hours")
    if hours is None:
        lag = str((topic.get("compacted_after_hours") or 0) * 3600 * 1000)
        return {"cleanup.policy": "compact", "retention.ms": "-1", "min.compaction.lag.ms": lag}
    return {"cleanup.policy": "delete", "retention.ms": str(hours * 3600 * 1000)}


def _short(topic: Any, replicas: int, brokers: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the partitions of a topic that have too few replicas, with those that they are to have."""
    for number, partition in sorted(topic.partitions.items()):
        there = list(partition.replicas)
        others = [one for one in brokers[number % len(brokers) :] + brokers if one not in there]
        if len(there) < replicas:
            chosen = list(dict.fromkeys(others))[: replicas - len(there)]
            yield {"topic": topic.topic, "partition": number, "replicas": [*there, *chosen]}


def _binding(right: dict[str, Any]) -> Any:
    kind, operation = kafka.ResourceType[right["kind"].upper()], kafka.AclOperation[right["operation"].upper()]
    name, prefixed = right["name"].removesuffix("*"), right["name"].endswith("*")
    pattern = kafka.ResourcePatternType.PREFIXED if prefixed else kafka.ResourcePatternType.LITERAL
    who, host, allow = f"User:{right['user']}", right["host"], kafka.AclPermissionType.ALLOW
    return kafka.AclBinding(kind, name, pattern, who, host, operation, allow)


def _everything() -> Any:
    anything: Any = None  # librdkafka's word for it
    kind, pattern = kafka.ResourceType.ANY, kafka.ResourcePatternType.ANY
    operation, permission = kafka.AclOperation.ANY, kafka.AclPermissionType.ANY
    return kafka.AclBindingFilter(kind, anything, pattern, anything, anything, operation, permission)


def _filter(one: Any) -> Any:
    return kafka.AclBindingFilter(
        one.restype,
        one.name,
        one.resource_pattern_type,
        one.principal,
        one.host,
        one.operation,
        one.permission_type,
    )


def _sentence(one: Any) -> str:
    star = "*" if one.resource_pattern_type == kafka.ResourcePatternType.PREFIXED else ""
    what = f"{one.operation.name.lower()} {one.restype.name.lower()} {one.name}{star}"
    permission = "may" if one.permission_type == kafka.AclPermissionType.ALLOW else "must not"
    place = "" if one.host == "*" else f" from {one.host}"
    return f"{one.principal} {permission} {what}{place}"


def main() -> None:
    """Bring topics, users and rights to their wanted state."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    if kafka is None:
        module.fail_json(msg="confluent_kafka cannot be imported; is PYTHONPATH set to its folder?")
    cluster = Cluster(module)
    try:
        if cluster.stands():
            cluster.wait()
            cluster.topics()
            cluster.users()
            cluster.rights()
            cluster.strangers()
            cluster.retire()
            cluster.wait_complete()
        elif module.check_mode:
            cluster.changes.append("all: no broker answers yet")
    except KafkaException as error:
        if not module.check_mode:
            module.fail_json(msg=f"{module.params['bootstrap']}: {error}", changes=cluster.changes)
        cluster.changes.append("all: the broker does not answer yet")
    text = "".join(f"{change}\n" for change in cluster.changes)
    module.exit_json(changed=bool(cluster.changes), changes=cluster.changes, diff={"before": "", "after": text})


if __name__ == "__main__":
    main()
