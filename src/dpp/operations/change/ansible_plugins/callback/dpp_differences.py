"""Ansible callback that prints what a check run would change, one JSON object a line, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: dpp_differences
type: stdout
short_description: What tasks would change, for programs
description:
  - Prints a line for each task that would change a host, that fails on it, and for each host that cannot be reached.
  - A task with C(no_log) or C(diff) false is told of by name alone, also where its module tells more.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "dpp_differences"

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell of a task that would change its host."""
        answer = result.result
        if answer.get("changed"):
            hidden = "censored" in answer or result.task.diff is False
            self._tell(result, "changed", hidden=hidden, differences=[] if hidden else list(_differences(answer)))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Tell of a task that fails, where nobody expects it to."""
        if not ignore_errors:
            self._tell(result, "failed", message=_message(result.result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell of a host that does not answer."""
        self._tell(result, "unreachable", message=_message(result.result))

    def _tell(self, result: Any, event: str, **more: Any) -> None:
        told = {"event": event, "host": result.host.get_name(), "task": result.task.get_name(), **more}
        self._display.display(json.dumps(told, default=str))


def _differences(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the differences that a task tells of, those of a loop's items one after the other."""
    for item in answer.get("results") or [answer]:
        if not isinstance(item, Mapping) or "censored" in item:
            continue
        told = item.get("diff") or []
        for one in told if isinstance(told, list) else [told]:
            header = one.get("before_header")
            path = header if str(header).startswith("/") else item.get("dest") or item.get("path")
            yield {"path": path or "", **{key: one.get(key) for key in ("before", "after", "prepared")}}


def _message(answer: Mapping[str, Any]) -> str:
    failed = [one for one in answer.get("results") or () if isinstance(one, Mapping) and one.get("failed")]
    told = failed[0] if failed else answer
    text = told.get("msg") or told.get("stderr") or told.get("stdout") or told.get("censored") or "no message"
    return " ".join(str(text).split())[:600]
