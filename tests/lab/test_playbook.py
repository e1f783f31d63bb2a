"""Site operators run the playbook of everything by hand: where the lab has applied it, it changes nothing."""

from __future__ import annotations

import re

from lab.observatory import Observatory


def test_the_whole_playbook_changes_nothing(observatory: Observatory):
    said = observatory.playbook("playbooks/site.yml")
    recap = re.findall(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", said, re.MULTILINE)
    assert {host for host, *_ in recap} == set(observatory.environment.hosts)
    changes = re.findall(r"TASK \[(.+?)\] \*+\n(?:(?!TASK \[).*\n)*?changed: \[(\S+?)\]", said)
    assert {tuple(counts[1:]) for _, *counts in recap} == {("0", "0", "0")}, changes
