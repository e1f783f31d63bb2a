"""``dpp lab``: the one-machine observatory: up, down, in, and its links cut."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dpp.adapters.progress import Reporter
from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.cli.up import shown as apply_shown
from dpp.lab import access
from dpp.lab.lifecycle import Lab
from dpp.lab.links import Direction, Links
from dpp.lab.machines import Machines
from dpp.lab.reports import keep_nights, reported_nights
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import Folders
from dpp.operations.up import Applied

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="The one-machine observatory: up, down, in, and its links cut."
)

Host = Annotated[str, typer.Argument(metavar="HOST", help="Inventory name, such as svc01.ncsa.")]
Circuit = Annotated[str, typer.Argument(metavar="CIRCUIT", help="Name of a circuit, such as base-ncsa-primary.")]


def _links() -> Links:
    return Links(Folders.current(), Environment.load("lab"))


def _require_lab(folders: Folders) -> None:
    if not folders.ssh_config.exists():
        raise FatalError(f"lab {folders.instance}", f"no {folders.ssh_config}", "a standing lab", "run dpp lab up")


@app.command()
def up(as_json: JsonOption = False) -> None:
    """Bring the whole observatory up; what is there already is left alone, what a reboot stopped comes back."""
    applied: list[Applied] = []

    def apply(environment: Environment) -> bool:
        applied.append(apply_shown(environment, as_json=as_json))
        return applied[0].ok

    phases = Lab(Folders.current(), Reporter(quiet=as_json)).up(apply)
    seconds = round(phases.total, 1)
    if as_json:
        stacks = applied[0].as_json()
        print_json(
            {"instance": Folders.current().instance, "seconds": seconds, "phases": phases.rows(), "stacks": stacks}
        )
    else:
        print_rows(phases.rows(), ("phase", "seconds", "share"), as_json=False)
        print(f"the lab stands ({seconds:.0f} s)")


@app.command()
def down(
    keep_reports: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Copy the nights' records and reports there first.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, though reports of nights go with the lab.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take the lab away, caches of tools and images apart: machines, networks, processes, folders, reports of nights.

    On a terminal it asks before reports go that --keep-reports does not keep.
    """
    folders = Folders.current()
    nights = reported_nights(folders)
    kept = keep_nights(folders, nights, keep_reports) if keep_reports else []
    if nights and not kept:
        _warn_of_reports(nights, ask=_at_a_terminal() and not (yes or as_json))
    removed = Lab(folders, Reporter(quiet=as_json)).down()
    if as_json:
        print_json({"instance": folders.instance, "removed": removed, "kept": kept})
    else:
        print("\n".join([f"removed {what}" for what in removed] or ["nothing was there"]))
        print("\n".join(f"kept {path}" for path in kept), end="\n" * bool(kept))


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _warn_of_reports(nights: list[Path], *, ask: bool) -> None:
    """Say which reports go with the lab; with `ask`, go on only if that is wanted."""
    print(
        f"reports of {len(nights)} nights, the last {nights[-1].name}, go with the lab; --keep-reports DIRECTORY keeps them",
        file=sys.stderr,
    )
    if ask:
        typer.confirm("Take the lab down?", abort=True, err=True)


@app.command()
def status(
    measure: Annotated[bool, typer.Option("--measure", help="Measure each circuit's rate and round trip.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show machines and circuits: what they should be and what they are. Exit code 1 if something is amiss."""
    folders, links = Folders.current(), _links()
    found = {state.host: state for state in Machines(folders).all()}
    machines = [
        {
            "host": host.name,
            "address": str(host.address),
            "system": found[host.name].system if host.name in found else "missing",
            "plugged": host.name in found and found[host.name].plugged,
            "started": found[host.name].started[:19] if host.name in found else None,
        }
        for host in links.environment.hosts.values()
    ]
    circuits = [_circuit(links, name, measure) for name in links.environment.circuits]
    if as_json:
        print_json({"instance": folders.instance, "machines": machines, "circuits": circuits})
    else:
        print_rows(machines, ("host", "address", "system", "plugged", "started"), as_json=False)
        columns = ("circuit", "state", "declared", "actual", *(("measured",) if measure else ()), "means")
        print_rows(circuits, columns, as_json=False)
    sound = all(one["system"] == "running" and one["plugged"] for one in machines)
    if not sound or any(one["state"] != "sound" for one in circuits):
        raise typer.Exit(1)


def _circuit(links: Links, name: str, measure: bool) -> dict[str, Any]:
    state = links.read(name)
    if state is None:
        return {"circuit": name, "state": "missing"}
    amiss = [*state.faults, *(f"cut {way}" for way in state.cut)]
    condition = "sound" if state.sound else ", ".join(amiss) or "degraded"
    row: dict[str, Any] = {"circuit": name, "state": condition, "means": state.means}
    for key, value in (("declared", state.declared), ("actual", state.actual)):
        if value is not None:
            row[key] = f"{value.rate_mbps:g} Mbit/s, {value.delay_ms:g} ms, {value.loss_percent:g} %"
    if measure:
        seen = links.measure(name)
        rates = " / ".join("-" if rate is None else f"{rate:.0f}" for rate in seen.rate_mbps)
        row["measured"] = f"{rates} Mbit/s, round trip {seen.rtt_ms} ms"
    return row


@app.command()
def shell(
    host: Host,
    command: Annotated[list[str] | None, typer.Argument(help="A command in place of a shell.")] = None,
    console: Annotated[bool, typer.Option("--console", help="Break glass: by the machine's console, as root.")] = False,
) -> None:
    """Log in on a host, in band through its site's operations host, or run a command there."""
    folders = Folders.current()
    Environment.load("lab").host(host)
    if console:
        terminal = ["--tty"] if sys.stdin.isatty() else []
        words = [
            "podman",
            "exec",
            "--interactive",
            *terminal,
            Machines(folders).name(host),
            *(command or ["bash", "-l"]),
        ]
    else:
        _require_lab(folders)
        words = ["ssh", "-F", str(folders.ssh_config), host, *(command or [])]
    os.execvp(words[0], words)  # noqa: S606 - the shell takes over this terminal


@app.command()
def kubeconfig(
    cluster: Annotated[str, typer.Argument(metavar="CLUSTER", help="Name of a cluster, such as ncsa.")],
    as_json: JsonOption = False,
) -> None:
    """Open a way to a cluster's API on 127.0.0.1 and print the kubeconfig that uses it: KUBECONFIG=$(...) kubectl."""
    path = access.local_kubeconfig(Folders.current(), Environment.load("lab").cluster(cluster))
    if as_json:
        print_json({"cluster": cluster, "kubeconfig": path})
    else:
        print(path)


@app.command("open")
def open_(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="HOST:PORT of the lab, or report.")],
    as_json: JsonOption = False,
) -> None:
    """Open a way to a port of the lab on 127.0.0.1, in band; `report` is the last night's."""
    folders = Folders.current()
    if target == "report":
        reports = sorted(folders.state.glob("**/report.html"), key=lambda path: path.stat().st_mtime)
        if not reports:
            raise FatalError("report", f"none below {folders.state}", "a night that ran", "run dpp night run")
        address = reports[-1].as_uri()
    else:
        host, _, port = target.rpartition(":")
        if not port.isdigit():
            raise UsageError("TARGET", target, "HOST:PORT, such as svc01.ncsa:5000, or report")
        Environment.load("lab").host(host)
        _require_lab(folders)
        address = f"127.0.0.1:{access.forward(folders, host, int(port))}"
    if as_json:
        print_json({"target": target, "address": address})
    else:
        print(address)


@app.command()
def restart(host: Host, as_json: JsonOption = False) -> None:
    """Shut a machine down and boot it again; its network and volumes stay."""
    Lab(Folders.current(), Reporter(quiet=as_json)).restart(host)
    _say(host, "restarted", as_json)


@app.command("stop-machine")
def stop_machine(host: Host, as_json: JsonOption = False) -> None:
    """Shut a machine down; `dpp lab up` or `dpp lab restart` boots it."""
    Lab(Folders.current(), Reporter(quiet=as_json)).stop(host)
    _say(host, "stopped", as_json)


@app.command()
def cut(
    circuit: Circuit,
    direction: Annotated[str | None, typer.Option("--direction", help="a-to-b or b-to-a; both by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Drop everything that a circuit carries, in silence and with carrier up, as a fault of the real ones does."""
    one: Direction | None = direction  # type: ignore[assignment]  # Links refuses other words
    _show(_links().cut(circuit, one).model_dump(mode="json"), as_json)


@app.command()
def restore(circuit: Circuit, as_json: JsonOption = False) -> None:
    """Let a circuit carry again as declared."""
    _show(_links().restore(circuit).model_dump(mode="json"), as_json)


@app.command()
def degrade(
    circuit: Circuit,
    rate: Annotated[float | None, typer.Option("--rate", help="Mbit/s each way.")] = None,
    delay: Annotated[float | None, typer.Option("--delay", help="Milliseconds one way.")] = None,
    loss: Annotated[float | None, typer.Option("--loss", help="Percent of packets each way.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a circuit slower, longer or lossy."""
    _show(_links().degrade(circuit, rate, delay, loss).model_dump(mode="json"), as_json)


def _say(host: str, done: str, as_json: bool) -> None:
    if as_json:
        print_json({"host": host, "done": done})
    else:
        print(f"{host}: {done}")


def _show(state: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(state)
    else:
        print(f"{state['circuit']}: {', '.join(f'cut {way}' for way in state['cut']) or state['actual']}")
