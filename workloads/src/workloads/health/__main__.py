"""``python -m workloads.health SERVICE NUMBER``: ask one question; code 1 and the reason where it is not answered.

The same number is the same question: what was asked of a service that is away is answered when it is back.
"""

from __future__ import annotations

import argparse
import sys

from confluent_kafka import KafkaException
from sqlalchemy.exc import OperationalError

from workloads.common.errors import WorkloadError
from workloads.common.settings import Settings
from workloads.health.questions import QUESTIONS, Asked


def main() -> int:
    """Ask, and tidy up where it was answered."""
    parser = argparse.ArgumentParser(prog="health", description="Ask a service whether it does its work.")
    parser.add_argument("service", choices=sorted(QUESTIONS))
    parser.add_argument("number", type=int, help="of an exposure that nobody has taken")
    options = parser.parse_args()
    asked = Asked(Settings.load(), options.number)
    try:
        QUESTIONS[options.service](asked)
        asked.tidy()
    except (WorkloadError, KafkaException, OperationalError) as error:
        print(" ".join(str(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
