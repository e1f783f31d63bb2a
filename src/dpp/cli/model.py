"""`dpp model`: check and show what the inventories declare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.interfaces import read_interfaces
from dpp.model.principals import Principals
from dpp.model.problems import DeclarationError
from dpp.model.services import Catalogue

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Check and show what the inventories declare.")
EnvironmentArgument = Annotated[str, typer.Argument(help="Folder of inventories/.", metavar="ENVIRONMENT")]
EnvironmentOption = Annotated[str, typer.Option("--environment", "-e", help="Folder of inventories/.")]


@app.command()
def check(
    environment: EnvironmentArgument = "lab",
    root: Annotated[Path, typer.Option(help="Root of the repository to read.", exists=True)] = REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """Read an environment, the service catalogue and its contracts, and report every mistake in their files."""
    try:
        loaded = Environment.load(environment, root)
        components = read_interfaces(root)
        Catalogue.load(root)
        principals = Principals.load(loaded, root)
    except DeclarationError as error:
        if not as_json:
            raise
        print_json({"environment": environment, "problems": [vars(problem) for problem in error.problems]})
        raise typer.Exit(1) from error
    nouns = ("sites", "hosts", "networks", "circuits", "clusters", "storage", "topics", "pools")
    counts = {noun: len(getattr(loaded, noun)) for noun in nouns} | {
        "principals": len(principals.present),
        "devices": len(components),
    }
    if as_json:
        print_json({"environment": environment, "problems": [], "counts": counts})
    else:
        print(
            f"inventories/{environment}: consistent; " + ", ".join(f"{count} {noun}" for noun, count in counts.items())
        )


@app.command()
def show(
    environment: EnvironmentArgument = "lab",
    site: Annotated[str | None, typer.Option(help="Only this site's hosts.")] = None,
    group: Annotated[str | None, typer.Option(help="Only hosts of this group.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the hosts of an environment; as JSON the whole model."""
    loaded = Environment.load(environment)
    if as_json and site is None and group is None:
        print_json(loaded.model_dump(mode="json", exclude={"folder"}))
        return
    implied = {"all", "sites", "functions", "pools", "base_system", "ungrouped", *loaded.sites}
    rows = [
        {"host": host.name, "site": host.site, "address": str(host.address), "functions": sorted(host.groups - implied)}
        for host in loaded.hosts_of(site, group)
    ]
    print_rows(rows, ("host", "site", "address", "functions"), as_json=as_json)


@app.command()
def settings(
    principal: Annotated[str, typer.Argument(help="Workload or tool, as contracts in services/ name it.")],
    site: Annotated[str | None, typer.Option(help="Where it runs; by default the first such site.")] = None,
    environment: EnvironmentOption = "lab",
    as_json: JsonOption = False,
) -> None:
    """Print the site.yml that a principal is given: what it may use, with names and addresses."""
    from dpp.model.surroundings import as_yaml, surroundings  # noqa: PLC0415

    principals = Principals.load(Environment.load(environment))
    principals.contract(principal)
    found = surroundings(principals, principal, site or next(iter(principals.sites_of(principal)), ""))
    if as_json:
        print_json(found)
    else:
        print(as_yaml(found), end="")


@app.command("data-flow")
def data_flow() -> None:
    """Print the page with the picture of how data flows, as the contracts of the services say."""
    from dpp.model.flows import page  # noqa: PLC0415

    print(page(Principals.load(Environment.load())), end="")


@app.command()
def interfaces() -> None:
    """Print the page about the devices' interfaces, as the files of interfaces/ say."""
    from dpp.model.interface_page import page  # noqa: PLC0415

    print(page(read_interfaces()), end="")
