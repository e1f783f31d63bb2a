"""Keep the ledger's database of this site, or ask it: ``nights FIRST LAST``, ``owed FIRST LAST``, ``exposure OBS_ID``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from workloads.common import log
from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import Delivery, Loop, ToTopic, avro
from workloads.common.consumer import Receiver
from workloads.common.errors import WorkloadError
from workloads.common.kafka import Bus, partitions, topic_identity
from workloads.common.ledger import TOPIC
from workloads.common.serve import GRACE_SECONDS, Health, Stop, serve_health
from workloads.common.settings import Settings
from workloads.visit_ledger.questions import Questions
from workloads.visit_ledger.tables import Stamp, Stamps

SERVICE = "visit-ledger"
_STAMPS = 2000
"""How many are written in one transaction."""
LOG = log.configure(SERVICE)


def keep() -> int:
    """Write every stamp of the topic into the database until told to stop."""
    settings = Settings.load()
    bus, health, stop = Bus(settings), Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    topic, stamps = topic_identity(settings, bus.site, SERVICE, TOPIC), Stamps(settings)
    receiver = _receiver(settings, bus, stamps, topic)

    def take(deliveries: Sequence[Delivery]) -> None:
        stamps.add(
            [Stamp.of(f"{topic}-{one.message.partition}", one.message.offset, one.content) for one in deliveries]
        )

    health.ready()
    set_aside = ToTopic(bus, receiver, bus.sender(SET_ASIDE))
    Loop(receiver, avro(bus, TOPIC), take, set_aside, most=_STAMPS).run(stop, health, "stamps")
    return 0


def _receiver(settings: Settings, bus: Bus, stamps: Stamps, topic: str) -> Receiver:
    """Return a consumer that begins where the database ends: once that was restored from a copy, the group is ahead of it."""
    wanted = partitions(settings, bus.site, SERVICE, TOPIC)
    marks = {(role, number): stamps.mark(f"{topic}-{number}") for role, number in wanted}
    return Receiver(settings, bus.site, SERVICE, partitions=wanted, marks=marks)


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
