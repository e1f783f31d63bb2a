"""Both sides of a change have trees of their own, made once; what differs between them is found, and who wrote it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dpp.adapters.git import ChangedPath, Git
from dpp.model.errors import FatalError, UsageError
from dpp.operations.change.sides import WORKING_TREE, Workshop

Repository = tuple[Path, Workshop]


def git(root: Path, *words: str, email: str = "ana@example.org") -> str:
    identity = ("-c", "user.name=Author", "-c", f"user.email={email}", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *words], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()


def commit(root: Path, email: str = "ana@example.org", **files: str) -> str:
    for name, text in files.items():
        (root / name).write_text(text)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message=Change", email=email)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    commit(root, kept="1", goes="1", other="1")
    return root, Workshop(root, tmp_path / "workshop")


def test_a_branch_is_compared_with_what_it_left_main_at(repository: Repository) -> None:
    root, workshop = repository
    git(root, "checkout", "--quiet", "-b", "branch")
    (root / "goes").unlink()
    head = commit(root, kept="2", new="1", email="ben@example.org")
    git(root, "checkout", "--quiet", "main")
    base = git(root, "rev-parse", "HEAD")
    commit(root, other="2")
    git(root, "checkout", "--quiet", "branch")
    found = workshop.sides()

    assert (found.base.name, found.head.name) == (base, head)
    assert found.paths == (ChangedPath("goes", "deleted"), ChangedPath("kept", "changed"), ChangedPath("new", "added"))
    assert found.authors == ("ben@example.org",)
    assert (found.base.root / "kept").read_text() == "1"
    assert (found.head.root / "kept").read_text() == "2"
    assert workshop.sides("main..branch").head.root == found.head.root, "trees are made once"


def test_the_working_tree_may_be_a_side(repository: Repository) -> None:
    root, workshop = repository
    (root / "kept").write_text("2")
    (root / "new").write_text("1")
    found = workshop.sides("HEAD..")
    assert (found.head.name, found.head.root) == (WORKING_TREE, root)
    assert [one.path for one in found.paths] == ["kept", "new"]
    assert workshop.sides("HEAD..HEAD").paths == ()


def test_a_tree_that_somebody_wrote_into_is_made_again(repository: Repository) -> None:
    _, workshop = repository
    side = workshop.sides("HEAD..HEAD").head
    (side.root / "kept").write_text("tampered")
    assert (workshop.sides("HEAD..HEAD").head.root / "kept").read_text() == "1"


def test_old_trees_go(repository: Repository) -> None:
    root, workshop = repository
    for number in range(9):
        workshop.sides(f"{commit(root, kept=str(number + 2))}..HEAD")
    assert len([*(workshop.folder / "trees").glob("[0-9a-f]*")]) == 6
    assert len(git(root, "worktree", "list").splitlines()) == 7


@pytest.mark.parametrize("between", ["nothing..HEAD", "HEAD..nothing", "nothing"])
def test_an_unknown_commit_is_named(repository: Repository, between: str) -> None:
    with pytest.raises(UsageError, match="nothing"):
        repository[1].sides(between)


def test_a_side_that_cannot_tell_says_why(repository: Repository) -> None:
    _, workshop = repository
    side = workshop.sides("HEAD..HEAD").head
    with pytest.raises(FatalError, match="no src/dpp/rendering"):
        workshop.state(side, "lab")


def test_a_file_of_a_commit_is_read(repository: Repository) -> None:
    root, _ = repository
    assert Git(root).show("HEAD", "kept") == "1"
    assert Git(root).show("HEAD", "missing") is None
