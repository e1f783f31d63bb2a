"""`dpp ocs`: command the devices of the observatory's control system, and watch them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.operations.ocs import ControlSystem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Command the devices of the observatory's control system, and watch them.",
)
_Device = Annotated[str, typer.Argument(metavar="DEVICE", help="Its name, or NAME:INDEX where there are several.")]
_Where = Annotated[str, typer.Option("--environment", "-e", help="Folder of inventories/.")]
_Timeout = Annotated[float, typer.Option(help="Seconds to wait; what the device says that it takes comes on top.")]
_Events = Annotated[list[str] | None, typer.Argument(metavar="[EVENT]...", help="Only these.")]
_FAILED = 1
_FIELDS = ("salIndex",)


@app.command("list")
def list_devices(environment: _Where = "lab", as_json: JsonOption = False) -> None:
    """List the devices that there are interfaces of, with the site where each is."""
    print_rows(_control(environment).devices(), ("device", "site", "description"), as_json=as_json)


@app.command()
def show(device: _Device, environment: _Where = "lab", as_json: JsonOption = False) -> None:
    """Show a device's commands with their parameters, its events and its telemetry."""
    component = _control(environment).component(device)
    rows = [
        {
            "kind": kind,
            "name": topic.short,
            "fields": [
                f"{field.name}={field.type}{f'[{field.count}]' if field.count > 1 else ''}" for field in topic.fields
            ],
            "description": topic.description,
        }
        for kind in ("command", "event", "telemetry")
        for topic in component.of_kind(kind)
    ]
    print_rows(rows, ("kind", "name", "fields", "description"), as_json=as_json)


@app.command()
def state(device: _Device, environment: _Where = "lab", timeout: _Timeout = 60.0, as_json: JsonOption = False) -> None:
    """Say in which state a device is, and why if that is FAULT."""
    found = _control(environment).state(device, timeout)
    if as_json:
        print_json(found)
        return
    error = found["errorCode"] or {}
    reason = f": {error['errorCode']}: {error['errorReport']}" if error.get("errorCode") else ""
    print(f"{device}: {found['state']}{reason}")


@app.command()
def start(
    device: _Device,
    configuration: Annotated[str, typer.Option(help="What start is to read as well, as [file.yaml][:version].")] = "",
    environment: _Where = "lab",
    timeout: _Timeout = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Lead a device from STANDBY to DISABLED, with a configuration."""
    words = [f"configurationOverride={configuration}"] if configuration else []
    _send(environment, device, "start", words, timeout, as_json=as_json)


@app.command()
def enable(device: _Device, environment: _Where = "lab", timeout: _Timeout = 60.0, as_json: JsonOption = False) -> None:
    """Lead a device from DISABLED to ENABLED."""
    _send(environment, device, "enable", [], timeout, as_json=as_json)


@app.command()
def disable(
    device: _Device, environment: _Where = "lab", timeout: _Timeout = 60.0, as_json: JsonOption = False
) -> None:
    """Lead a device from ENABLED to DISABLED."""
    _send(environment, device, "disable", [], timeout, as_json=as_json)


@app.command()
def standby(
    device: _Device, environment: _Where = "lab", timeout: _Timeout = 60.0, as_json: JsonOption = False
) -> None:
    """Lead a device from DISABLED or FAULT to STANDBY."""
    _send(environment, device, "standby", [], timeout, as_json=as_json)


@app.command("exit")
def exit_control(
    device: _Device, environment: _Where = "lab", timeout: _Timeout = 60.0, as_json: JsonOption = False
) -> None:
    """Lead a device from STANDBY to OFFLINE: it ends."""
    _send(environment, device, "exitControl", [], timeout, as_json=as_json)


@app.command()
def send(
    device: _Device,
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="Any command that `show` lists.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="As `show` lists them; others have their defaults."),
    ] = None,
    environment: _Where = "lab",
    timeout: _Timeout = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Send any command with its parameters, and wait for what becomes of it."""
    _send(environment, device, command, parameters or [], timeout, as_json=as_json)


@app.command()
def events(
    device: _Device,
    names: _Events = None,
    environment: _Where = "lab",
    timeout: _Timeout = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Show the last sample of events, also of those from before."""
    _show(_control(environment).events(device, names or [], timeout), as_json=as_json)


@app.command()
def watch(
    device: _Device,
    names: _Events = None,
    count: Annotated[int, typer.Option(help="Stop after so many; 0 is never.")] = 0,
    seconds: Annotated[float, typer.Option(help="Stop after so long.")] = 86400.0,
    environment: _Where = "lab",
    as_json: JsonOption = False,
) -> None:
    """Show events and telemetry as they come, one a line."""
    for sample in _control(environment).watch(device, names or [], count, seconds):
        _show([sample], as_json=as_json, lines=True)


def _control(environment: str) -> ControlSystem:
    return ControlSystem(Environment.load(environment), Folders.current())


def _send(environment: str, device: str, command: str, words: list[str], timeout: float, *, as_json: bool) -> None:
    answers = []
    for answer in _control(environment).send(device, command, words, timeout):
        answers.append(answer)
        if not as_json:
            more = f" (up to {answer['timeout']:g} s)" if answer["ack"] == "INPROGRESS" else ""
            print(f"{device} {command}: {answer['ack']}{more}: {answer['result']}", flush=True)
    if as_json:
        print_json(answers)
    if not answers or answers[-1]["ack"] != "COMPLETE":
        raise typer.Exit(_FAILED)


def _show(samples: Iterable[dict[str, Any]], *, as_json: bool, lines: bool = False) -> None:
    """Print samples: for people, one a line with its fields."""
    if as_json:
        found = list(samples)
        print_json(found[0] if lines else found)
        return
    for sample in samples:
        fields = {name: value for name, value in sample.items() if name not in ("topic", "time", "identity", *_FIELDS)}
        print(
            f"{sample['time']:.3f} {sample['topic']}: {', '.join(f'{name}={value}' for name, value in fields.items())}",
            flush=True,
        )
