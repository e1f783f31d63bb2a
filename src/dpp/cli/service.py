"""`dpp service`: the catalogue, and whether a service does its work."""

from __future__ import annotations

from typing import Annotated

import typer

from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.model.environment import Environment
from dpp.model.services import Catalogue

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Look services of the catalogue up, and ask whether one does its work.",
)


@app.command("list")
def list_services(
    tier: Annotated[str | None, typer.Option(help="real-time, critical or operational.")] = None,
    status: Annotated[str | None, typer.Option(help="planned, lab or production.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the services, those with the strictest tier first."""
    order = ("real-time", "critical", "operational")
    services = sorted(Catalogue.load().services.values(), key=lambda service: (order.index(service.tier), service.name))
    chosen = [s for s in services if tier in (None, s.tier) and status in (None, s.status)]
    rows = [service.model_dump(mode="json") for service in chosen]
    print_rows(rows, ("name", "tier", "status", "owner", "chapter", "title"), as_json=as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Service, as `list` names it.")], as_json: JsonOption = False
) -> None:
    """Show one service: what it promises, what it needs and what needs it."""
    catalogue = Catalogue.load()
    service = catalogue.service(name)
    needed_by = catalogue.needed_by(name)
    if as_json:
        print_json(service.model_dump(mode="json") | {"needed_by": needed_by})
        return
    print(
        f"{service.title} ({service.name}): {service.tier}, {service.status}, owner {service.owner}\n\n{service.description}\n"
    )
    for objective in service.objectives:
        print(f"  {objective.requirement}{' (planned)' if objective.planned else ''}: {objective.text}")
    for label, values in (
        ("needs", service.dependencies),
        ("needed by", needed_by),
        ("workloads", service.workloads),
        ("roles", service.roles),
        ("runbook", [service.runbook] if service.runbook else []),
        ("to be proved by" if service.status == "planned" else "proved by", [service.test] if service.test else []),
    ):
        if values:
            print(f"{label}: {', '.join(values)}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Service, as `list` names it.")],
    environment: Annotated[str, typer.Option(help="Environment, a folder of inventories/.")] = "lab",
    as_json: JsonOption = False,
) -> None:
    """Ask a service to do a small piece of its work, from the operators' place. Exit code 1 if it does not."""
    from dpp.operations.health import Health  # noqa: PLC0415 - looking a service up needs no cluster

    Catalogue.load().service(name)
    model = Environment.load(environment)
    answer = Health(model, model.folders).ask(name)
    if as_json:
        print_json(vars(answer) | {"sound": answer.sound})
    else:
        print(f"{name}: {answer.reason or 'works'} ({answer.seconds:g} s)\n  {answer.asked}")
    if not answer.sound:
        raise typer.Exit(1)
