"""Random edits of what is declared: figures of inventories, rights of contracts, lines of roles, manifests, images' sources.

An edit says what stands in a file and what is to; what that comes to it does not know. The same seed over the same tree is the
same edits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

Draw = Callable[[Random, str], str]
"""Another value in place of one."""


@dataclass(frozen=True)
class Edit:
    """One edit of one file.

    Parameters
    ----------
    noun
        What kind of thing it is about.
    file
        Relative to the tree.
    place
        Where in the file's text `old` begins.
    old, new
        What stands there, and what is to.
    """

    noun: str
    file: str
    place: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.noun}: {self.file} at {self.place}: {self.old!r} -> {self.new!r}"

    def into(self, text: str) -> str:
        """Return a file's text with this edit."""
        assert text.startswith(self.old, self.place), f"{self.file} has changed: {self}"
        return text[: self.place] + self.new + text[self.place + len(self.old) :]


@dataclass(frozen=True)
class Kind:
    """A kind of edit: wherever `pattern` is found in `files`, its group may become another value.

    Parameters
    ----------
    noun
        What it is about.
    files
        Patterns of paths.
    pattern
        Its one group is what is edited; an empty one is a place where something may be added.
    draw
        Yields another value.
    weight
        How often it is drawn beside others.
    """

    noun: str
    files: str
    pattern: str
    draw: Draw
    weight: int = 4

    def places(self, root: Path) -> Iterator[tuple[str, re.Match[str]]]:
        """Yield every place where this edit may be made."""
        for path in sorted(path for pattern in self.files.split() for path in root.glob(pattern)):
            text = path.read_text()
            yield from ((str(path.relative_to(root)), match) for match in re.finditer(self.pattern, text, re.MULTILINE))


# -- values --------------------------------------------------------------------------------------------------------------


def more(least: int, most: int) -> Draw:
    """Return what adds to a number, never the value that is there, and rarely one that is some program's default."""
    return lambda random, old: str(int(old) + random.randint(least, most))


def _another_verb(random: Random, old: str) -> str:
    """Give or take one right over a bucket's objects; somebody who has only one gains."""
    verbs = [verb.strip() for verb in old.split(",")]
    others = [verb for verb in ("read", "write", "list", "delete") if verb not in verbs]
    if others and (len(verbs) == 1 or random.random() < 0.6):
        return ", ".join([*verbs, random.choice(others)])
    verbs.remove(random.choice(verbs))
    return ", ".join(verbs)


def _another_topic(random: Random, old: str) -> str:
    """Let a program publish one topic more, or one less."""
    topics = [topic.strip() for topic in old.split(",")]
    others = [topic for topic in ("ledger", "bad-replicas", "readouts", "alerts") if topic not in topics]
    if len(topics) == 1 or random.random() < 0.7:
        return ", ".join([*topics, random.choice(others)])
    topics.remove(random.choice(topics))
    return ", ".join(topics)


def _reads_more(random: Random, _: str) -> str:
    topic = random.choice(["forwarded", "arrivals", "ingested", "readouts", "nobody-makes-it"])
    return f"{topic}: [looks-{random.randint(1, 999)}-*], "


def _prefix_more(random: Random, _: str) -> str:
    return f"extra{random.randint(1, 999)}/, "


def note(random: Random, _: str) -> str:
    """Return a line that says nothing to a program."""
    return f"# Looked at, for the {random.randint(2, 999)}th time.\n"


def _told_again(random: Random, _: str) -> str:
    return f"For the {random.randint(2, 999)}th time: "


def _label(random: Random, _: str) -> str:
    return f", dpp.lsst.org/seen: n{random.randint(1, 999)}"


def _region(random: Random, _: str) -> str:
    return f"region-{random.randint(1, 999)}"


# -- kinds ---------------------------------------------------------------------------------------------------------------

_ALL: Final = "inventories/lab/group_vars/all"
_GROUPS: Final = "inventories/lab/group_vars"
ADDRESSES: Final = Kind("circuit", f"{_ALL}/circuits.yml", r"prefix: 10\.80\.0\.(\d+)/31", more(2, 30), 1)
TOPICS: Final = Kind("consumed topic", "services/*.yml", r"consumes: \{()", _reads_more, 6)
"""Edits that the model refuses always, or now and then."""
INVENTORY: Final = (
    Kind("topic", f"{_ALL}/topics.yml", r"retention_hours: (\d+)", more(1, 48)),
    Kind("topic", f"{_ALL}/topics.yml", r"partitions: (\d+)", more(1, 3)),
    Kind("circuit", f"{_ALL}/circuits.yml", r"delay_ms: (\d+)", more(1, 30)),
    Kind("circuit", f"{_ALL}/circuits.yml", r"rate_mbps: (\d+)", more(100, 9000)),
    ADDRESSES,
    Kind("routing", f"{_ALL}/circuits.yml", r"bfd_interval_ms: (\d+)", more(10, 90), 2),
    Kind("camera", f"{_ALL}/camera.yml", r"spare_workers: (\d+)", more(1, 3), 2),
    Kind("camera", f"{_ALL}/camera.yml", r"rafts: \[R22()\]", lambda random, _: f", {random.choice(['R12', 'R21'])}", 2),
    Kind("storage", f"{_ALL}/storage.yml", r"capacity_gib: (\d+)", more(1, 4)),
    Kind("setting", f"{_GROUPS}/base_system/figures.yml", r"journal_megabytes: (\d+)", more(1, 32), 1),
    Kind("setting", f"{_GROUPS}/kafka_broker/figures.yml", r"(?:heap_megabytes|threads): (\d+)", more(1, 9)),
    Kind("setting", f"{_GROUPS}/postgresql/figures.yml", r"(?:max_connections: |work_mem: )(\d+)", more(1, 20)),
    Kind("ports", f"{_GROUPS}/base_system/derived.yml", r"kafka_broker: \[tcp dport 9092-(\d+)", more(1, 3), 1),
)  # fmt: skip
CONTRACTS: Final = (
    Kind("bucket right", "services/*.yml", r"may: \[([a-z, ]+)\]", _another_verb, 8),
    Kind("prefix", "services/*.yml", r"prefixes: \[()", _prefix_more),
    Kind("published topic", "services/*.yml", r"publishes: \[([a-z, -]+)\]", _another_topic, 6),
    TOPICS,
    Kind("retention", "services/*.yml", r"retention_hours: (\d+)", more(1, 48)),
    Kind("served port", "services/*.yml", r"serves: \{http: \{port: (\d+)", more(1, 9)),
)
ROLES: Final = (
    Kind("template", "roles/*/templates/etc/**/*.conf.j2", r"\A()(?!\{)", note),
    Kind("template", "roles/kafka_broker/templates/etc/kafka/*.properties.j2", r"\A()", note),
    Kind("template", "roles/operations_host/templates/etc/profile.d/*.j2", r"\A()", note),
    Kind("sysctl", "roles/*/**/etc/sysctl.d/*", r"^net\S+ = ([01])$", lambda _, old: str(1 - int(old)), 2),
    Kind("unit", "roles/*/templates/etc/systemd/system/**/*.j2", r"^(?:RestartSec|TimeoutStopSec|OnBootSec|AccuracySec)=(\d+)$", more(1, 9), 6),
    Kind("unit", "roles/*/templates/etc/systemd/*.conf.d/*.j2", r"^(?:RateLimitBurst|RateLimitIntervalSec)=(\d+)", more(1, 50), 1),
    Kind("setting", "roles/postgresql/templates/etc/postgresql/dpp.conf.j2", r"tcp_keepalives_\w+ = (\d+)", more(1, 9)),
    Kind("default", "roles/summit_storage/defaults/main.yml", r"interval_seconds: (\d+)", more(1, 30)),
    Kind("default", "roles/border_router/defaults/main.yml", r"queue_milliseconds: (\d+)", more(1, 30)),
    Kind("default", "roles/object_store/defaults/main.yml", r"region: (us-east-1)", _region),
)  # fmt: skip
MANIFESTS: Final = (
    Kind("limit", "k8s/*/*.yaml", r"limits: \{memory: (\d+)Mi\}", more(1, 63), 6),
    Kind("request", "k8s/*/*.yaml", r"requests: \{cpu: (\d+)m", more(1, 20), 6),
    Kind("probe", "k8s/*/*.yaml", r"(?:failureThreshold|periodSeconds|timeoutSeconds): (\d+)", more(11, 30), 6),
    Kind("grace", "k8s/*/*.yaml", r"terminationGracePeriodSeconds: (\d+)", more(1, 9)),
    Kind("threads", "k8s/*/*.yaml", r'_NUM_THREADS, value: "(\d+)"', more(1, 2)),
    Kind("label", "k8s/*/kustomization.yaml", r"part-of: dpp()\}", _label),
    Kind("quota", "k8s/platform/quota.yaml", r'(?:pods|persistentvolumeclaims): "(\d+)"', more(1, 9)),
)
IMAGES: Final = (Kind("image", "workloads/src/workloads/*/__main__.py", r'\A"""()', _told_again, 1),)
SOURCES: Final = (INVENTORY, CONTRACTS, ROLES, MANIFESTS, IMAGES)
_SHARES: Final = (6, 6, 6, 6, 1)
"""How often each source is drawn: an image that differs restarts all that runs, and hides what else does."""


def drawn(seed: int, root: Path, count: int, kinds: tuple[Kind, ...] = ()) -> list[Edit]:
    """Return edits of a tree, no two of the same place.

    Parameters
    ----------
    seed
        Decides all of them.
    kinds
        Those to draw from; by default all, each source with its share.
    """
    random = Random(seed)  # noqa: S311 - no secret is made of it
    edits: list[Edit] = []
    while len(edits) < count:
        pool = kinds or random.choices(SOURCES, _SHARES)[0]
        [kind] = random.choices(pool, [one.weight for one in pool])
        places = list(kind.places(root))
        assert places, f"no file {kind.files} has {kind.pattern!r}; correct this generator"
        file, match = random.choice(places)
        old = match[1]
        edit = Edit(kind.noun, file, match.start(1), old, kind.draw(random, old))
        if all((edit.file, edit.place) != (one.file, one.place) for one in edits):
            edits.append(edit)
    return edits


def make(root: Path, edits: list[Edit]) -> None:
    """Write edits into a tree, the last of each file first, so that those before it keep their places."""
    for edit in sorted(edits, key=lambda one: -one.place):
        path = root / edit.file
        path.write_text(edit.into(path.read_text()))
