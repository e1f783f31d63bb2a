"""A proof sees its own files alone, and its record says how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpp.model.folders import REPOSITORY
from proofs import trees
from proofs.__main__ import chosen
from proofs.catalogue import Catalogue, Ground, Proof, Tree
from proofs.proving import Outcome, Prover
from proofs.records import End, Records
from proofs.results import Results


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a checkout of three files, of which one is not tracked and one ignored."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "said.txt").write_text("said\n")
    (root / "read.py").write_text("print(open('said.txt').read())\n")
    (root / "ignored.txt").write_text("ignored\n")
    (root / ".gitignore").write_text("ignored.txt\n")
    subprocess.run(["git", "init", "--quiet", root], check=True)
    subprocess.run(["git", "-C", root, "add", "read.py"], check=True)
    return root


def proof(**changes: object) -> Proof:
    plain = {"id": "one", "owner": "tests", "command": "python read.py", "files": ["*.py", "said.txt"], "seconds": 1}
    return Proof.model_validate(plain | changes)


def prove(checkout: Path, one: Proof) -> Outcome:
    logs = checkout.with_name("logs")
    logs.mkdir(exist_ok=True)
    (outcome,) = Prover(logs, checkout, Records(checkout.with_name("records.txt"))).run([one])
    return outcome


def owed(checkout: Path, one: Proof) -> list[str]:
    found = Records(checkout.with_name("records.txt")).owed(Catalogue(sets={}, proofs=[one]), Tree(checkout))
    return [each.why for each in found]


def test_a_green_proof_is_owed_again_when_a_file_of_it_changes(checkout: Path) -> None:
    assert owed(checkout, proof()) == ["never proven"]
    assert prove(checkout, proof()).end is End.GREEN
    assert owed(checkout, proof()) == []
    (checkout / "another.txt").write_text("of no proof")
    assert owed(checkout, proof()) == []
    (checkout / "said.txt").write_text("something else\n")
    assert owed(checkout, proof()) == ["its files have changed"]


def test_a_dependency_that_is_not_declared_fails(checkout: Path) -> None:
    outcome = prove(checkout, proof(files=["*.py"]))
    assert outcome.end is End.RED
    assert "No such file or directory: 'said.txt'" in outcome.said


def test_what_is_edited_meanwhile_is_not_proven(checkout: Path) -> None:
    edits = proof(command=f"python -c \"import pathlib; pathlib.Path('{checkout}/said.txt').write_text('edited')\"")
    assert prove(checkout, edits).end is End.GREEN
    assert owed(checkout, edits) == ["its files have changed"]


def test_what_git_ignores_is_no_file_of_a_proof(checkout: Path) -> None:
    assert Tree(checkout).of(proof(files=["**"])) == [".gitignore", "read.py", "said.txt"]


def test_green_at_a_second_attempt_is_unsteady_and_still_owed(checkout: Path, tmp_path: Path) -> None:
    chance = proof(command=f"python -c \"import os; os.mkdir('{tmp_path}/' + str(os.path.exists('{tmp_path}/True')))\"")
    (tmp_path / "False").mkdir()
    assert prove(checkout, chance).end is End.RED
    assert owed(checkout, chance) == ["red on these files"]
    (tmp_path / "False").rmdir()
    assert prove(checkout, chance).end is End.UNSTEADY
    assert owed(checkout, chance) == ["unsteady on these files"]
    (checkout / "said.txt").write_text("mended\n")
    (tmp_path / "False").rmdir()
    assert prove(checkout, chance).end is End.GREEN
    assert owed(checkout, chance) == []


MEETS = "python -c \"import os; open('{mine}', 'w').close(); open('{theirs}').close()\""
"""Ends when its like has come to the same two pipes."""


def lanes(checkout: Path, *proofs: Proof) -> Iterator[Outcome]:
    logs = checkout.with_name("logs")
    logs.mkdir(exist_ok=True)
    prover = Prover(logs, checkout, Records(checkout.with_name("records.txt")), side_by_side=True)
    return prover._in_lanes([[one] for one in proofs], checkout.parent)


def test_lanes_run_side_by_side_and_all_their_ends_are_recorded(checkout: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    os.mkfifo(first)
    os.mkfifo(second)
    both = (
        proof(id="one", command=MEETS.format(mine=first, theirs=second)),
        proof(id="other", command=f"python -c \"open('{first}').close(); open('{second}', 'w').close()\""),
    )
    assert {(outcome.proof.id, outcome.end) for outcome in lanes(checkout, *both)} == {
        ("one", End.GREEN),
        ("other", End.GREEN),
    }
    assert set(Records(checkout.with_name("records.txt")).read()) == {"one", "other"}


def test_who_stops_waiting_for_lanes_stops_what_runs(checkout: Path, tmp_path: Path) -> None:
    never = tmp_path / "never"
    os.mkfifo(never)
    outcomes = lanes(checkout, proof(id="one"), proof(id="other", command=f"python -c \"open('{never}')\""))
    assert next(outcomes).proof.id == "one"
    outcomes.close()
    assert set(Records(checkout.with_name("records.txt")).read()) == {"one"}, (
        "what was stopped is neither green nor red"
    )


def test_a_proof_in_which_every_test_is_skipped_proves_nothing(checkout: Path) -> None:
    (checkout / "tests").mkdir()
    (checkout / "tests/test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('no sky')\n")
    outcome = prove(checkout, proof(command="pytest tests/test_it.py", files=["tests/**"]))
    assert outcome.end is End.RED
    assert outcome.said == "no test passed: no sky"


def test_what_cannot_be_proven_here_stays_owed_without_a_stain(checkout: Path) -> None:
    wanting = proof(wants={"DPP_NO_SUCH_SKY": "a directory"})
    outcome = prove(checkout, wanting)
    assert (outcome.end, outcome.said) == (None, "DPP_NO_SUCH_SKY is not set: a directory")
    assert owed(checkout, wanting) == ["never proven"]


def test_proofs_are_chosen_by_what_they_stand_on() -> None:
    names = ["playbooks-profile", "role-kubernetes", "drift"]
    assert [one.id for one in chosen(names, [])] == names
    assert [one.id for one in chosen(names, ["processes", "machines"])] == names[:2]
    assert {one.ground for one in chosen([], ["processes"])} <= {Ground.PROCESSES}


def test_the_code_of_a_tree_is_its_own(tmp_path: Path) -> None:
    """What a tree does not have is not found in this checkout, though that is where its environment's packages are."""
    one = proof(files=["src/dpp/__init__.py", "src/dpp/model/**"])
    trees.plant(one, REPOSITORY, tmp_path / "tree")
    script = "import dpp.model.errors, pydantic; print(dpp.__file__); import dpp.cli"
    done = subprocess.run(
        ["python", "-c", script], cwd=tmp_path, env=trees.variables(tmp_path / "tree"), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == f"{tmp_path}/tree/src/dpp/__init__.py\n"
    assert "No module named 'dpp.cli'" in done.stderr
    assert str(REPOSITORY) not in done.stdout


def test_commands_of_a_tree_are_its_own(tmp_path: Path) -> None:
    trees.plant(proof(files=["src/dpp/**"]), REPOSITORY, tmp_path)
    first = (tmp_path / ".venv/bin/dpp").read_text().splitlines()[0]
    assert first == f"#!{tmp_path}/.venv/bin/python"
    assert trees.variables(tmp_path)["PATH"].split(":")[0] == f"{tmp_path}/.venv/bin"
    assert str(Path(sys.executable).parent) not in trees.variables(tmp_path)["PATH"].split(":")


def test_the_report_of_a_run_is_counted_once_for_each_test(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.a" name="one" time="1"/>'
        '<testcase classname="tests.a" name="two" time="1"><failure message="no"/></testcase>'
        '<testcase classname="tests.a" name="two" time="1"><error message="nor at its end"/></testcase>'
        '<testcase classname="tests.a" name="three" time="0"><skipped message="no sky"/></testcase>'
        "</testsuite></testsuites>"
    )
    found = Results.read(report)
    assert (found.passed, found.failed, found.skipped) == (1, 1, 1)
    assert found.reasons == {"a::three": "no sky"}
    assert found.seconds["a::two"] == 2.0
