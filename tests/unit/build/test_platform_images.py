"""The images that clusters run on carry the versions that the roles ask for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from dpp.build.platform_images import RECIPES, _copy, _inside
from dpp.build.tools import tool
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY

BY_NAME = {recipe.name: recipe for recipe in RECIPES}


def defaults(role: str) -> dict[str, object]:
    values: dict[str, object] = yaml.safe_load((REPOSITORY / "roles" / role / "defaults/main.yml").read_text())
    return values


def test_the_control_plane_asks_for_what_is_built():
    values = defaults("kubernetes_control_plane")
    assert values["kubernetes_control_plane_version"] == f"v{tool('kubernetes').version}"
    tags = values["kubernetes_control_plane_image_tags"]
    assert isinstance(tags, dict)
    assert tags == {name: BY_NAME[name.replace("_", "-")].version for name in tags}


def test_the_runtime_asks_for_the_pause_image_that_is_built():
    image = str(defaults("container_runtime")["container_runtime_sandbox_image"])
    assert image.endswith(f"/dpp/pause:{BY_NAME['pause'].version}")


def test_every_kubernetes_component_has_an_image():
    wanted = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd", "coredns", "pause"}
    assert wanted <= BY_NAME.keys()
    assert BY_NAME["kube-proxy"].version == f"v{tool('kubernetes').version}"


def test_each_recipe_has_a_digest_of_its_own():
    assert len({recipe.digest for recipe in RECIPES}) == len(RECIPES)


def test_links_are_followed_inside_the_tree(tmp_path: Path):
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/real.so.1").write_text("x")
    (tmp_path / "usr/lib/relative.so").symlink_to("real.so.1")
    (tmp_path / "usr/lib/absolute.so").symlink_to("/usr/lib/relative.so")
    assert _inside(tmp_path, "/usr/lib/absolute.so") == tmp_path / "usr/lib/real.so.1"
    with pytest.raises(FatalError, match=r"none\.so: not in"):
        _inside(tmp_path, "/usr/lib/none.so")


def test_a_missing_file_names_itself_and_the_way_out(tmp_path: Path):
    with pytest.raises(FatalError, match="dpp tools build"):
        _copy(tmp_path / "none", tmp_path / "target")


def test_copies_are_executable_whatever_they_were(tmp_path: Path):
    (tmp_path / "program").write_text("#!/bin/sh\necho ran\n")
    _copy(tmp_path / "program", tmp_path / "root/bin/program")
    assert subprocess.check_output([str(tmp_path / "root/bin/program")], text=True) == "ran\n"
