"""Every test is run by `make test` or by one proof; an edit owes the proofs that depend on it, and no other."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from proofs.catalogue import ROOT, Catalogue, Proof, Tree, pattern
from roles.test_molecule import CONTINUED

CATALOGUE = Catalogue.load()
TREE = Tree()
_COLLECT = """
import json, pytest, sys
class Collected:
    def pytest_collection_finish(self, session):
        found = [[item.nodeid, item.get_closest_marker("slow") is not None] for item in session.items]
        print("\\n" + json.dumps(found))
sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[Collected()]))
"""


@pytest.fixture(scope="module")
def collected(come_upon: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Return every test of the tree, and whether it is marked slow: this session's, and those of files that it left out."""
    known = {test.partition("::")[0] for test, _ in come_upon}
    others = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py")} - known
    if not others:
        return come_upon
    command = [sys.executable, "-c", _COLLECT, *sorted(others)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return come_upon + json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[[")))


def test_no_test_is_lost_and_none_belongs_to_two_proofs(collected: list[tuple[str, bool]]) -> None:
    owners = {test: [proof.id for proof in CATALOGUE.of(test, slow=slow)] for test, slow in collected}
    assert {test: found for test, found in owners.items() if len(found) > 1} == {}
    assert [test for test, slow in collected if slow and not owners[test]] == [], "slow, and of no proof"
    run = {name for found in owners.values() for name in found}
    assert {proof.id for proof in CATALOGUE.proofs if proof.tests} == run, "proofs whose tests are gone"


def test_every_word_of_a_command_names_a_test(collected: list[tuple[str, bool]]) -> None:
    for proof in CATALOGUE.proofs:
        for word in proof.tests:
            one = proof.model_copy(update={"command": f"pytest {word}"})
            assert any(one.has(test, slow=slow) for test, slow in collected), f"{proof.id}: {word}"


def test_every_glob_finds_a_file() -> None:
    idle = {
        (proof.id, glob)
        for proof in CATALOGUE.proofs
        for glob in proof.files
        if not any(pattern(glob.removeprefix("!")).fullmatch(path) for path in TREE.files)
    }
    assert idle == set()


def test_every_role_is_proven() -> None:
    roles = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}
    assert {path.parents[2].name for path in ROOT.glob("roles/*/molecule/default/molecule.yml")} == roles
    words = {word for proof in CATALOGUE.proofs for word in proof.tests}
    assert {f"tests/roles/test_profile.py::test_role[{role}]" for role in roles} <= words
    continued = set(CONTINUED.values())
    assert {f"tests/roles/test_molecule.py::test_role[{role}]" for role in roles - continued} <= words


def test_names_are_unique() -> None:
    names = [proof.id for proof in CATALOGUE.proofs]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        (
            "roles/*/meta/**",
            ["roles/a/meta/main.yml", "roles/a/meta/b/c"],
            ["roles/a/b/meta/main.yml", "roles/a/metal"],
        ),
        ("src/dpp/{model,lab}/**", ["src/dpp/lab/links/x.py"], ["src/dpp/cli/lab.py", "src/dpp/labs/x.py"]),
        ("**/x.py", ["x.py", "a/b/x.py"], ["xx.py", "a/x.pyc"]),
        ("a?.yml", ["ab.yml"], ["a/.yml", "abc.yml"]),
    ],
)
def test_globs_mean_what_they_say(glob: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in (*yes, *no) if pattern(glob).fullmatch(path)] == yes


# -- what an edit owes -------------------------------------------------------------------------------------------------

ON_A_LAB = {proof.id for proof in CATALOGUE.proofs if proof.on_lab}
ROLES = {proof.id for proof in CATALOGUE.proofs if proof.id.startswith("role-")}
MINIATURE = {
    "fault-nights",
    "peers-away",
    "endings",
    "lost-worker-in-miniature",
    "language-of-the-control-system",
    "full-store",
    "kept-products",
    "real-sky-in-miniature",
    "rights",
    "fuzz",
    "start-orders",
    "mirror",
}
NETWORK = {"circuits", "routing"}
CHAOS = {"lifecycle", "killed-engine"}
ALL = {proof.id for proof in CATALOGUE.proofs}
CHANGES = {"dossiers", "workflows", "applied-changes", "random-edits"}
APPLIED = {"authorised-changes", "random-edits-on-a-lab"}
PROVISIONING = {"killed-engine", "engine-series", "previews-of-production", "tools-on-a-bare-path"}

EDITS: dict[str, set[str]] = {
    "README.md": set(),
    "docs/operators/README.md": set(),
    "roles/kafka_broker/README.md": {"role-kafka-broker"},
    "roles/kafka_broker/tasks/main.yml": {"role-kafka-broker", *CHANGES, *ON_A_LAB},
    "roles/kafka_broker/molecule/default/converge.yml": {"role-kafka-broker"},
    "roles/postgresql/meta/argument_specs.yml": ALL - {"engine-series", "real-exposures"},
    "roles/postgresql/tasks/install.yml": {"role-postgresql", *CHANGES, *ON_A_LAB},
    "src/dpp/build/tools/versitygw/go.mod": {
        "role-object-store", "role-summit-storage", *CHANGES, *PROVISIONING, *MINIATURE, *ON_A_LAB,
    },
    "src/dpp/adapters/devices/templates/frr.conf.j2": ALL - {"playbooks-profile", "real-exposures"},
    "workloads/src/workloads/archiver/device.py": {
        "role-kubernetes", "previews-of-production", "real-exposures", "tools-on-a-bare-path", *CHANGES, *MINIATURE, *ON_A_LAB,
    },
    "k8s/broker/kustomization.yaml": {"role-kubernetes", "previews-of-production", *CHANGES, *ON_A_LAB},
    "stacks/units/wan.py": {"killed-engine", "previews-of-production", *CHANGES, *ON_A_LAB},
    "playbooks/site.yml": {"playbooks-profile", "previews-of-production", *CHANGES, *ON_A_LAB},
    "inventories/production/hosts.yml": {"playbooks-profile", "previews-of-production", "dossiers", "workflows"},
    "changes/rules.yml": {*CHANGES, *APPLIED},
    "changes/freezes.yml": {*CHANGES, *APPLIED},
    "tests/lab/test_reboot.py": {"reboot"},
    "tests/lab/test_lost_worker.py": {"lost-worker"},
    "tests/network/topology.py": NETWORK,
    "tests/unit/test_layers.py": set(),
    "tests/proofs/records.txt": set(),
    "uv.lock": ALL,
    ".github/workflows/plan.yml": {"workflows"},
    "changes/forge.yml": {"workflows"},
}  # fmt: skip


class Edited(Tree):
    """The tree with another content of one file."""

    def __init__(self, edited: str) -> None:
        super().__init__(files=TREE.files)
        self._digests |= TREE._digests
        self._edited = edited

    def _digest(self, path: str) -> bytes:
        return b"another" if path == self._edited else super()._digest(path)


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    return {proof.id: TREE.digest(proof) for proof in CATALOGUE.proofs}


@pytest.mark.parametrize("edited", EDITS)
def test_an_edit_owes_exactly_these_proofs(edited: str, digests: dict[str, str]) -> None:
    assert edited in TREE.files
    tree = Edited(edited)
    assert {proof.id for proof in CATALOGUE.proofs if tree.digest(proof) != digests[proof.id]} == EDITS[edited]


def test_the_command_counts(digests: dict[str, str]) -> None:
    proof: Proof = CATALOGUE.proofs[0]
    assert TREE.digest(proof.model_copy(update={"command": f"{proof.command} -x"})) != digests[proof.id]


def test_what_is_owed_is_said_in_a_second() -> None:
    """By what it imports, not by the clock: neither Ansible nor Pulumi nor the product."""
    script = "import sys, proofs.__main__; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "tests", capture_output=True, text=True, check=True
    )
    heavy: set[Any] = {"dpp", "ansible", "pulumi", "kubernetes", "numpy", "pytest"}
    assert not heavy & set(done.stdout.split())


def test_the_file_of_proofs_lies_where_it_is_said_to() -> None:
    text = (ROOT / "docs/developers/README.md").read_text()
    assert "tests/proofs/proofs.yml" in text
    assert "tests/proofs/records.txt" in text
