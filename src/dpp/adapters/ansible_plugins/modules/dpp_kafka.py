"""Ansible module that brings users, rights and topics of a Kafka cluster to what they are to be."""

from __future__ import annotations

import time
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
  - Makes topics that are missing, adds partitions, sets what is kept of them; deletes no topic and removes no partition.
  - Gives users their passwords where those do not work, and rights where they are missing.
  - Waits for a broker that is still starting. Supports check mode and diff.
options:
  bootstrap: {description: Broker that speaks SASL_SSL., type: str, required: true}
  authorities: {description: File of authorities to trust., type: path, required: true}
  admin_password: {description: Password of the user C(admin)., type: str, required: true}
  users: {description: Passwords by user., type: dict, default: {}}
  trusted_users: {description: Those of them who may do anything by the broker's configuration., type: list, elements: str, default: []}
  topics:
    description:
      - Topics by name with C(partitions) and C(retention_hours); without the latter the newest of each key is kept.
    type: dict
    default: {}
  replicas: {description: Replicas of new topics., type: int, default: 1}
  local_topics: {description: Topics that programs of the brokers' hosts may write to without a password., type: list, elements: str, default: []}
  patience: {description: Seconds to wait for the broker., type: int, default: 120}
requirements: [confluent-kafka 2]
"""

EXAMPLES = """
- ansible.legacy.dpp_kafka:
    bootstrap: svc01.ncsa:9094
    authorities: /etc/dpp/tls/ca.crt
    admin_password: "{{ kafka_admin_password }}"
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
    "authorities": {"type": "path", "required": True},
    "admin_password": {"type": "str", "required": True, "no_log": True},
    "users": {"type": "dict", "default": {}, "no_log": True},
    "trusted_users": {"type": "list", "elements": "str", "default": []},
    "topics": {"type": "dict", "default": {}},
    "replicas": {"type": "int", "default": 1},
    "local_topics": {"type": "list", "elements": "str", "default": []},
    "patience": {"type": "int", "default": 120},
}
TIMEOUT = 15.0
"""Seconds for one request."""


class Cluster:
    """The cluster as one task sees it: `changes` collects what differs, and it is applied unless the task only checks."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.wanted = module.params
        self.changes: list[str] = []
        self.admin = self.client("admin", self.wanted["admin_password"])

    def client(self, user: str, password: str) -> Any:
        """Return a client that logs in as `user`."""
        return kafka.AdminClient(
            {
                "bootstrap.servers": self.wanted["bootstrap"],
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": user,
                "sasl.password": password,
                "ssl.ca.location": self.wanted["authorities"],
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )

    def wait(self) -> None:
        """Wait until the broker answers the administrator."""
        end = time.monotonic() + (0 if self.module.check_mode else self.wanted["patience"])
        while True:
            try:
                self.admin.list_topics(timeout=5)
            except KafkaException:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.5)
            else:
                return

    def topics(self) -> None:
        """Make topics, add partitions and set what is kept."""
        present = self.admin.list_topics(timeout=TIMEOUT).topics
        for name, topic in sorted(self.wanted["topics"].items()):
            after = topic["partitions"]
            if name not in present:
                new = kafka.NewTopic(name, after, self.wanted["replicas"], config=_kept(topic))
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
        self.keep([name for name in sorted(self.wanted["topics"]) if name in present])

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

    def users(self) -> None:
        """Set the passwords that do not work."""
        for user, password in sorted(self.wanted["users"].items()):
            try:
                self.client(user, password).list_topics(timeout=TIMEOUT / 3)
            except KafkaException:
                method = kafka.ScramCredentialInfo(kafka.ScramMechanism.SCRAM_SHA_512, 4096)
                change = kafka.UserScramCredentialUpsertion(user, method, password.encode())
                self.apply(f"user {user}: password set", self.admin.alter_user_scram_credentials, [change])

    def rights(self) -> None:
        """Give users the use of all topics and groups, and programs of the hosts the topics that are for them."""
        anything: Any = None  # librdkafka's word for it
        kinds = (
            kafka.ResourceType.ANY,
            kafka.ResourcePatternType.ANY,
            kafka.AclOperation.ANY,
            kafka.AclPermissionType.ANY,
        )
        resource, pattern, operation, permission = kinds
        any_binding = kafka.AclBindingFilter(resource, anything, pattern, anything, anything, operation, permission)
        present = set(self.admin.describe_acls(any_binding).result(timeout=TIMEOUT))
        for binding in self.bindings():
            if binding not in present:
                what = f"{binding.operation.name.lower()} {binding.restype.name.lower()} {binding.name}"
                self.apply(f"{binding.principal}: may {what}", self.admin.create_acls, [binding])

    def bindings(self) -> list[Any]:
        """Return the rights that there are to be."""
        kind, may = kafka.ResourceType, kafka.AclOperation
        everything = ((kind.TOPIC, "*"), (kind.GROUP, "*"), (kind.TRANSACTIONAL_ID, "*"))
        rights = []
        for user in sorted(set(self.wanted["users"]) - set(self.wanted["trusted_users"])):
            rights += [(f"User:{user}", "*", *thing, may.ALL) for thing in everything]
            rights += [
                (f"User:{user}", "*", kind.BROKER, "kafka-cluster", what)
                for what in (may.DESCRIBE, may.IDEMPOTENT_WRITE)
            ]
        for topic in self.wanted["local_topics"]:
            rights += [("User:ANONYMOUS", "127.0.0.1", kind.TOPIC, topic, what) for what in (may.DESCRIBE, may.WRITE)]
        literal, allow = kafka.ResourcePatternType.LITERAL, kafka.AclPermissionType.ALLOW
        return [
            kafka.AclBinding(thing, name, literal, who, host, what, allow) for who, host, thing, name, what in rights
        ]

    def apply(self, sentence: str, method: Any, request: list[Any]) -> None:
        """Note a change and, unless the task only checks, make it."""
        self.changes.append(sentence)
        if not self.module.check_mode:
            for future in method(request).values():
                future.result(timeout=TIMEOUT)


def _kept(topic: dict[str, Any]) -> dict[str, str]:
    hours = topic.get("retention_hours")
    if hours is None:
        return {"cleanup.policy": "compact", "retention.ms": "-1"}
    return {"cleanup.policy": "delete", "retention.ms": str(hours * 3600 * 1000)}


def main() -> None:
    """Bring topics, users and rights to their wanted state."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    if kafka is None:
        module.fail_json(msg="confluent_kafka cannot be imported; is PYTHONPATH set to its folder?")
    cluster = Cluster(module)
    try:
        cluster.wait()
        cluster.topics()
        cluster.users()
        cluster.rights()
    except KafkaException as error:
        if not module.check_mode:
            module.fail_json(msg=f"{module.params['bootstrap']}: {error}", changes=cluster.changes)
        cluster.changes.append("all: the broker does not answer yet")
    text = "".join(f"{change}\n" for change in cluster.changes)
    module.exit_json(changed=bool(cluster.changes), changes=cluster.changes, diff={"before": "", "after": text})


if __name__ == "__main__":
    main()
