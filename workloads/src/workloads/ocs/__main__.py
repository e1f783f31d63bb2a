"""``python -m workloads.ocs DEVICE[:INDEX] VERB ...``: command a device, or see what it tells, one JSON object a line.

``send COMMAND [NAME=VALUE ...]``, ``state``, ``events [NAME ...]`` (the last sample of each) and ``watch [NAME ...]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from workloads.ocs.interfaces import Interface, UsageError
from workloads.ocs.remote import STATES, Remote, RemoteError, Sample
from workloads.ocs.surroundings import Surroundings

_FAILED, _USAGE = 1, 2


def main() -> int:
    """Do what is asked: code 1 where that failed, 2 where it cannot be asked for."""
    options = _arguments()
    try:
        device, index = _instance(options.device)
        interface = Interface.read(device)
        _require(interface, options.verb, options.words)
        remote = Remote(interface, Surroundings.read(), index).start()
        try:
            return _do(remote, options)
        finally:
            remote.close()
    except UsageError as error:
        return _end(error, _USAGE)
    except RemoteError as error:
        return _end(error, _FAILED)


def _instance(text: str) -> tuple[str, int]:
    name, _, index = text.partition(":")
    if index and not index.isdecimal():
        raise UsageError(f"device {text}: expected NAME, or NAME:INDEX with a number")
    return name, int(index or 0)


def _end(error: Exception, code: int) -> int:
    print(" ".join(str(error).split()), file=sys.stderr)
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ocs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("device", help="NAME, or NAME:INDEX")
    parser.add_argument("verb", choices=("send", "state", "events", "watch"))
    parser.add_argument("words", nargs="*")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an acknowledgement")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="how long to watch")
    parser.add_argument("--count", type=int, default=0, help="how many samples to watch for")
    return parser.parse_args()


def _require(interface: Interface, verb: str, words: list[str]) -> None:
    """Refuse what the interface does not have, before anybody is asked."""
    if verb == "send":
        if not words:
            raise UsageError(f"{interface.name}: which command? One of {', '.join(interface.commands)}")
        interface.parameters(words[0], words[1:])
    elif verb in ("events", "watch"):
        for name in words:
            interface.watched(name)


def _do(remote: Remote, options: argparse.Namespace) -> int:
    if options.verb == "send":
        return _send(remote, options.words, options.timeout)
    if options.verb == "state":
        _print({"device": options.device, "state": remote.state, "errorCode": _fields(remote, "errorCode")})
        return 0 if remote.state else _FAILED
    if options.verb == "events":
        wanted = options.words or sorted(remote.last)
        for name in wanted:
            if (last := remote.last.get(name)) is not None:
                _show(last)
        return 0
    for sample in _watched(remote, options.words, options.seconds, options.count):
        _show(sample)
    return 0


def _send(remote: Remote, words: list[str], timeout: float) -> int:
    answer = None
    for answer in remote.acknowledgements(words[0], *words[1:], timeout=timeout):
        _print({"ack": answer.name, "result": answer.result, "timeout": answer.timeout, "state": remote.state})
    return 0 if answer is not None and answer.complete else _FAILED


def _watched(remote: Remote, names: list[str], seconds: float, count: int) -> Iterator[Sample]:
    end, seen = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for sample in remote.samples(min(0.5, seconds)):
            if sample.topic == "ackcmd" or (names and sample.topic not in names):
                continue
            yield sample
            seen += 1
            if seen == count:
                return


def _fields(remote: Remote, name: str) -> dict[str, Any] | None:
    last = remote.last.get(name)
    return _own(last.fields.items()) if last else None


def _own(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if not name.startswith("private_")}


def _show(sample: Sample) -> None:
    fields = _own(sample.fields.items())
    if sample.topic == "summaryState":
        fields["state"] = STATES.get(fields["summaryState"], "?")
    stamp = sample.fields["private_sndStamp"]
    _print({"topic": sample.topic, "time": stamp, "identity": sample.fields["private_identity"], **fields})


def _print(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
