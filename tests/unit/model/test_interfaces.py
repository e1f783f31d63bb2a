"""A mistake in an interface is named with its file, its line, what was found and what is expected."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dpp.model.contracts import Contract, DeviceTopics
from dpp.model.devices import expanded, mistakes
from dpp.model.folders import REPOSITORY
from dpp.model.interface_page import PAGE, page
from dpp.model.interfaces import read_interfaces
from dpp.model.problems import DeclarationError

COMPONENTS = read_interfaces()
OCPS, EVENTS, SYSTEMS = "OCPS/OCPS_Commands.xml", "OCPS/OCPS_Events.xml", "SALSubsystems.xml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "interfaces", tmp_path / "interfaces")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        (OCPS, "<IDL_Type>string</IDL_Type>", "<IDL_Type>text</IDL_Type>",
         "OCPS_Commands.xml:10: OCPS/command_execute/pipeline/IDL_Type: found text; expected one of boolean, byte, "),
        (OCPS, "<Count>1</Count>", "<Count>3</Count>",
         "OCPS_Commands.xml:12: OCPS/command_execute/pipeline/Count: found 3; expected 1: texts are never in arrays"),
        (OCPS, "<Count>1</Count>", "<Count>none</Count>",
         "OCPS_Commands.xml:12: OCPS/command_execute/pipeline/Count: found none; expected a number from 1"),
        (OCPS, "<EFDB_Name>pipeline</EFDB_Name>", "<EFDB_Name>private_pipeline</EFDB_Name>",
         "OCPS_Commands.xml:8: OCPS/command_execute/private_pipeline/EFDB_Name: found private_pipeline; expected a name without"),
        (OCPS, "<EFDB_Name>version</EFDB_Name>", "<EFDB_Name>pipeline</EFDB_Name>",
         "OCPS_Commands.xml:14: OCPS/command_execute/pipeline: found a field that there is already; expected another name"),
        (OCPS, "<EFDB_Topic>OCPS_command_execute<", "<EFDB_Topic>OCPS_logevent_execute<",
         "OCPS_Commands.xml:5: OCPS/EFDB_Topic: found OCPS_logevent_execute; expected OCPS_command_NAME"),
        (OCPS, "<Subsystem>OCPS<", "<Subsystem>MTOODS<", "OCPS_Commands.xml:4: OCPS/Subsystem: found MTOODS; expected OCPS"),
        (OCPS, "<Units>unitless</Units>", "", "OCPS/command_execute: found a field without <Units>; expected one <Units> with a text"),
        (OCPS, "<Units>unitless</Units>", "<Unit>unitless</Unit>", "found <Unit>; expected one of <EFDB_Name>, "),
        (OCPS, "<SALCommandSet>", "<SALEventSet>", "mismatched tag; expected well-formed XML"),
        (EVENTS, "SALEventSet>", "SALCommandSet>", "OCPS_Events.xml:2: SALCommandSet: found <SALCommandSet>; expected <SALEventSet>"),
        (EVENTS, "OCPS_logevent_job_id<", "OCPS_logevent_heartbeat<",
         "OCPS/logevent_heartbeat: found a topic that there is already; expected a name of its own"),
        (SYSTEMS, "<AddedGenerics>csc, configurable<", "<AddedGenerics>csc, configured<",
         "SALSubsystems.xml:7: ATArchiver/AddedGenerics: found configured; expected one of mandatory, csc, configurable, command_start"),
        (SYSTEMS, "<IndexEnumeration>no<", "<IndexEnumeration>a=b<",
         "SALSubsystems.xml:6: ATArchiver/IndexEnumeration: found a=b; expected no, any, or NAME=NUMBER, ..."),
        (SYSTEMS, "<Name>ATArchiver<", "<Name>MTArchiver<", "MTArchiver: found a second component of that name; expected one"),
        (SYSTEMS, "<Name>OCPS<", "<Name>OCPSS<", "OCPS/OCPS_Commands.xml: OCPS/OCPS_Commands.xml: found a file of no component"),
        ("SALGenerics.xml", "<Category>csc<", "<Category>cscs<",
         "SALGenerics.xml:8: SALGeneric/command_start/Category: found cscs; expected one of mandatory, csc, configurable"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(root: Path, file: str, before: str, after: str, said: str) -> None:
    path = root / "interfaces" / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1) if before != "SALEventSet>" else text.replace(before, after))
    with pytest.raises(DeclarationError) as caught:
        read_interfaces(root)
    assert said in str(caught.value)


def test_indices_have_names_and_numbers() -> None:
    assert COMPONENTS["OCPS"].indices == {"LATISS": 1, "LSSTComCam": 2, "LSSTCam": 3, "Simulation": 101}
    assert COMPONENTS["Test"].indices == {}
    assert COMPONENTS["MTOODS"].indices is None


def test_the_page_in_the_documents_is_that_of_the_interfaces() -> None:
    assert (REPOSITORY / PAGE).read_text() == page(COMPONENTS), f"dpp model interfaces > {PAGE}"


def test_a_contract_that_is_a_device_has_its_topics() -> None:
    made = expanded(
        Contract(name="a", about="Is a device.", devices={"MTOODS": DeviceTopics(home="summit")}), COMPONENTS
    )
    image, start = made.topics["MTOODS.logevent_imageInOODS"], made.topics["MTOODS.command_start"]
    assert (image.name, image.home, image.content) == ("lsst.sal.MTOODS.logevent_imageInOODS", "summit", "sal")
    assert (image.retention_hours, image.compacted_after_hours) == (None, 168), "the last of each, and all for a week"
    assert (start.retention_hours, start.compacted_after_hours) == (168, None)
    assert made.topics["MTOODS.ackcmd"].retention_hours == 168
    assert "MTOODS.ackcmd" in made.publishes
    assert not [one for one in made.publishes if ".command_" in one]
    assert made.consumes["MTOODS.command_start"] == ("MTOODS-*",)
    assert set(made.consumes) == {*(one for one in made.topics if ".command_" in one), "MTOODS.logevent_heartbeat"}


def test_a_contract_that_commands_a_device_writes_its_commands_and_reads_all_else() -> None:
    made = expanded(Contract(name="a", about="Commands it.", commands={"MTOODS": ("ocs-*",)}), COMPONENTS)
    assert not made.topics
    assert all(".command_" in one for one in made.publishes)
    assert len(made.publishes) == 6
    assert made.consumes["MTOODS.ackcmd"] == ("ocs-*",)
    assert not [one for one in made.consumes if ".command_" in one]


def test_devices_that_there_are_not_and_that_two_are_and_that_nobody_is_are_refused() -> None:
    def contract(name: str, **more: object) -> Contract:
        return Contract.model_validate({"name": name, "about": "For this test.", **more})

    home = {"home": "summit"}
    contracts = {
        "a": contract("a", devices={"MTOODS": home, "Teapot": home}),
        "b": contract("b", devices={"MTOODS": home}),
        "c": contract("c", commands={"OCPS": ["c-*"]}),
    }
    assert [one[:3] for one in mistakes(contracts, COMPONENTS)] == [
        ("a", "devices/Teapot", "Teapot"),
        ("b", "devices/MTOODS", "device MTOODS, which a is too"),
        ("c", "commands/OCPS", "device OCPS, which nobody is"),
    ]
