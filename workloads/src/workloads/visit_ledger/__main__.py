"""Keep the ledger's database of this site, or ask it: ``nights FIRST LAST``, ``owed FIRST LAST``, ``exposure OBS_ID``."""

from __future__ import annotations

import argparse
import json
import sys

from workloads.common import log
from workloads.common.errors import AwayError, NonRetriableError, WorkloadError
from workloads.common.kafka import Bus, Received, Receiver, partitions, topic_identity
from workloads.common.ledger import TOPIC
from workloads.common.serve import GRACE_SECONDS, Health, Stop, serve_health
from workloads.common.settings import Settings
from workloads.visit_ledger.questions import Questions
from workloads.visit_ledger.tables import Stamp, Stamps

SERVICE = "visit-ledger"
AWAY_SECONDS = 2.0
"""Pause before a database is asked again that did not answer."""
LOG = log.configure(SERVICE)


def keep() -> int:
    """Write every stamp of the topic into the database until told to stop."""
    settings = Settings.load()
    bus, health, stop = Bus(settings), Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    topic = topic_identity(settings, bus.site, SERVICE, TOPIC)
    stamps = Stamps(settings)
    receiver, messages = _receiver(settings, bus, stamps, topic), list[Received]()
    while not stop:
        health.beat()
        messages = messages or receiver.receive(timeout=0.5, most=2000)
        try:
            stamps.add([stamp for message in messages if (stamp := _stamp(bus, topic, message))])
            receiver.commit(*messages)
        except AwayError as error:
            LOG.warning("%d stamps wait: %s", len(messages), error)
            stop.wait(AWAY_SECONDS)
        else:
            messages = []
    return 0


def _receiver(settings: Settings, bus: Bus, stamps: Stamps, topic: str) -> Receiver:
    """Return a consumer that begins where the database ends: once that was restored from a copy, the group is ahead of it."""
    wanted = partitions(settings, bus.site, SERVICE, TOPIC)
    marks = {(role, number): stamps.mark(f"{topic}-{number}") for role, number in wanted}
    return Receiver(settings, bus.site, SERVICE, partitions=wanted, marks=marks)


def _stamp(bus: Bus, topic: str, message: Received) -> Stamp | None:
    try:
        return Stamp.of(f"{topic}-{message.partition}", message.offset, bus.codec.decode(message.value))
    except (NonRetriableError, KeyError) as error:
        LOG.error("%s at %d/%d: no stamp: %s", message.topic, message.partition, message.offset, error)  # noqa: TRY400 - the text says it all
        return None


def _ask(options: argparse.Namespace) -> int:
    questions = Questions(Settings.load())
    try:
        rows = {
            "nights": lambda: questions.nights(options.first, options.last),
            "owed": lambda: questions.owed(options.first, options.last),
            "exposure": lambda: questions.exposure(options.obs_id),
        }[options.question]()
    except WorkloadError as error:
        LOG.error("%s", error)  # noqa: TRY400 - the text says it all
        return 1
    print(json.dumps(rows))
    return 0


def main() -> int:
    """Run the service, or ask one question."""
    parser = argparse.ArgumentParser(prog=SERVICE, description=__doc__)
    questions = parser.add_subparsers(dest="question")
    for name in ("nights", "owed"):
        span = questions.add_parser(name)
        span.add_argument("first", type=int)
        span.add_argument("last", type=int)
    questions.add_parser("exposure").add_argument("obs_id")
    options = parser.parse_args()
    return _ask(options) if options.question else keep()


if __name__ == "__main__":
    sys.exit(main())
