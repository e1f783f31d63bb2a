"""Tools are pinned, named by all that they are made from, and resolved without touching what was built."""

import json
import time
from dataclasses import replace

import pytest

from dpp.adapters.progress import Reporter
from dpp.build.tools import TOOLS, GoTool, licences, tool, tool_folder
from dpp.build.tools.build import Builder
from dpp.build.tools.catalogue import MavenTool
from dpp.build.tools.toolchain import Go, _inspect
from dpp.model.errors import FatalError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPP_CACHE", str(tmp_path))
    return tmp_path


def test_every_tool_is_pinned_with_digests():
    for one in TOOLS.values():
        assert one.version[0].isdigit()
        assert all(pin.stat().st_size for pin in one.pins)
        assert one.folder.name == f"{one.version}-{one.digest}"


def test_binaries_have_the_names_that_they_are_called_by():
    found = {name for one in TOOLS.values() if isinstance(one, GoTool) for name in one.packages}
    assert {"kubelet", "kubeadm", "containerd-shim-runc-v2", "etcd", "coredns", "versitygw", "cilium-agent"} <= found


def test_kubernetes_knows_its_version():
    assert "gitVersion=v1.37.2" in TOOLS["kubernetes"].linker_flags
    assert "gitMinor=37" in TOOLS["kubernetes"].linker_flags


def test_another_recipe_is_another_folder():
    etcd = TOOLS["etcd"]
    assert replace(etcd, renames={}).digest != etcd.digest


def test_a_tool_that_is_not_built_says_how_to_build_it():
    with pytest.raises(FatalError, match="run `dpp tools build etcd`"):
        tool_folder("etcd")


def test_an_unknown_tool_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match="one of kubernetes, containerd"):
        tool("docker")


def test_all_tools_resolve_within_a_second():
    for one in TOOLS.values():
        one.folder.mkdir(parents=True)
        one.record.write_text(json.dumps({"name": one.name}))
    start = time.monotonic()
    folders = Builder(Reporter(quiet=True)).build()
    assert time.monotonic() - start < 1
    assert folders.keys() == TOOLS.keys()


def test_a_jar_with_another_digest_is_refused(monkeypatch, tmp_path):
    kafka = TOOLS["kafka"]
    partial = tmp_path / "partial"

    def assemble(*_, **__):
        (partial / "libs").mkdir(parents=True)
        for name in kafka.jars:
            (partial / "libs" / name).write_bytes(b"not this jar")
        return iter(())

    monkeypatch.setattr("dpp.build.tools.build.lines", assemble)
    monkeypatch.setattr("dpp.build.tools.build.find_maven", lambda: "mvn")
    with pytest.raises(FatalError, match=r"HdrHistogram.*expected [0-9a-f]{64}.*jars.sha256"):
        Builder(Reporter(quiet=True))._assemble(kafka, partial)
    assert isinstance(kafka, MavenTool)


def test_builds_are_static_and_cached_outside_the_tree(cache):
    environment = Go("go", "1.27.0").environment(cache)
    assert environment["CGO_ENABLED"] == "0"
    assert environment["GOMODCACHE"].startswith(str(cache))
    assert "-mod=readonly" in environment["GOFLAGS"]


def test_a_program_that_is_no_go_is_no_toolchain():
    assert _inspect(None) is None
    assert _inspect("/bin/true") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        ("Permission is hereby granted, free of charge, to any person", "MIT"),
        ("Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause"),
        ("Redistribution and use in source and binary forms", "BSD-2-Clause"),
        ("Mozilla Public License, version 2.0", "MPL-2.0"),
        ("All rights reserved.", "unknown"),
    ],
)
def test_licences_are_known_by_their_texts(text, name):
    assert licences.identify(text) == name
