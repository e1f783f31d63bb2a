"""The lab as it stands: all of it sound, and nothing left to do."""

from __future__ import annotations

from lab.observatory import Observatory


def test_every_machine_and_circuit_is_sound(observatory: Observatory):
    observatory.assert_sound()


def test_a_second_up_changes_nothing(observatory: Observatory):
    assert "7 stacks, no changes" in observatory.dpp("up", "lab", "--expect-no-changes")
