"""The base image is redone where, and only where, something that is installed has changed."""

import pytest

from dpp.adapters.progress import Reporter
from dpp.build import base_image as image
from dpp.model.folders import REPOSITORY

INSTALL = "- ansible.builtin.apt: {name: '{{ one_packages }}'}\n"


@pytest.fixture
def roles(tmp_path, monkeypatch):
    for name in ("base_system", "another", "one"):
        for folder in ("tasks", "defaults", "templates"):
            (tmp_path / "roles" / name / folder).mkdir(parents=True)
        (tmp_path / "roles" / name / "tasks/install.yml").write_text(INSTALL)
        (tmp_path / "roles" / name / "tasks/configure.yml").write_text("[]\n")
        (tmp_path / "roles" / name / "defaults/main.yml").write_text("one_packages: [a]\none_heap: 1\n")
    monkeypatch.setattr(image, "REPOSITORY", tmp_path)
    return tmp_path / "roles"


def digests():
    return {layer.role: layer.digest for layer in image.BaseImage(Reporter(quiet=True)).layers}


@pytest.mark.usefixtures("roles")
def test_the_base_system_comes_first():
    assert list(digests()) == ["", "base_system", "another", "one"]


def test_every_installing_role_has_its_place_and_a_new_one_redoes_no_other():
    installing = {path.parents[1].name for path in REPOSITORY.glob("roles/*/tasks/install.yml")}
    assert sorted(image.ORDER) == sorted(installing), "a new role goes to the end of ORDER, one that is gone leaves it"
    assert [layer.role for layer in image.BaseImage(Reporter(quiet=True)).layers] == ["", *image.ORDER]


@pytest.mark.parametrize(
    ("file", "text", "redone"),
    [
        ("another/tasks/install.yml", INSTALL + "# more\n", {"another", "one"}),
        ("another/defaults/main.yml", "one_packages: [a, b]\none_heap: 1\n", {"another", "one"}),
        ("another/defaults/main.yml", "one_packages: [a]\none_heap: 2\n", set()),
        ("another/tasks/configure.yml", "# other\n[]\n", set()),
    ],
)
def test_what_is_installed_decides(roles, file, text, redone):
    before = digests()
    (roles / file).write_text(text)
    after = digests()
    assert {role for role in after if after[role] != before[role]} == redone
