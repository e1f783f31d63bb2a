"""The lab as it stands once it was interrupted on its way and started again."""

from __future__ import annotations

import re

import pytest

from lab.observatory import Observatory


def test_an_interrupted_start_says_how_to_go_on(observatory: Observatory):
    if observatory.interruption is None:
        pytest.skip("the lab stood before the tests: its start was not theirs to interrupt")
    assert observatory.interruption.code == 130
    assert "run it again" in observatory.interruption.said.splitlines()[-1]


def test_every_machine_and_circuit_is_sound(observatory: Observatory):
    observatory.assert_sound()


def test_a_second_up_changes_nothing(observatory: Observatory):
    assert "7 stacks, no changes" in observatory.dpp("up", "lab", "--expect-no-changes")


def test_the_whole_playbook_changes_nothing(observatory: Observatory):
    said = observatory.playbook("playbooks/site.yml")
    recap = re.findall(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", said, re.MULTILINE)
    assert {host for host, *_ in recap} == set(observatory.environment.hosts)
    changes = re.findall(r"TASK \[(.+?)\] \*+\n(?:(?!TASK \[).*\n)*?changed: \[(\S+?)\]", said)
    assert {tuple(counts[1:]) for _, *counts in recap} == {("0", "0", "0")}, changes
