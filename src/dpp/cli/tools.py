"""``dpp tools``: build the programs that the observatory runs on, and say what they are."""

from __future__ import annotations

from typing import Annotated

import typer

from dpp.build.tools.catalogue import TOOLS, tool, tool_folder
from dpp.cli.output import JsonOption, print_json, print_rows

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Build the programs that the observatory runs on, and say what they are.",
)

_KeepCaches = Annotated[
    bool,
    typer.Option(
        "--keep-caches", envvar="DPP_KEEP_CACHES", help="Keep the caches of the Go and Maven clients when all is built."
    ),
]


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Tools to build; all of them by default.")] = None,
    keep_caches: _KeepCaches = False,
    as_json: JsonOption = False,
) -> None:
    """Build the tools that are missing; a build that was cut short goes on where it was."""
    from dpp.adapters.progress import Reporter  # noqa: PLC0415 - rich is slow to import, `path` needs none
    from dpp.build.tools.build import Builder  # noqa: PLC0415

    wanted = [tool(name) for name in names or TOOLS]
    missing = [one.name for one in wanted if not one.built]
    folders = Builder(Reporter(quiet=as_json), keep_caches=keep_caches).build(wanted)
    if as_json:
        print_json({"built": missing, "folders": folders})
    else:
        print(f"built: {', '.join(missing)}" if missing else f"nothing to build: {len(wanted)} tools are there")


@app.command("list")
def list_tools(as_json: JsonOption = False) -> None:
    """List the tools with their versions, digests and folders."""
    rows = [
        {"name": one.name, "version": one.version, "digest": one.digest, "built": one.built, "folder": one.folder}
        for one in TOOLS.values()
    ]
    print_rows(rows, ("name", "version", "digest", "built", "folder"), as_json=as_json)


@app.command()
def path(name: Annotated[str, typer.Argument(help="Name of the tool.")], as_json: JsonOption = False) -> None:
    """Print the folder of a built tool."""
    folder = tool_folder(name)
    if as_json:
        print_json({"name": name, "folder": folder})
    else:
        print(folder)


@app.command()
def image(
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete images of earlier builds that nothing uses, as `dpp lab up` does.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build the base image of all machines where it is missing, and print its name."""
    from dpp.adapters.progress import Reporter  # noqa: PLC0415
    from dpp.build import pruning  # noqa: PLC0415 - as above
    from dpp.build.base_image import BaseImage  # noqa: PLC0415
    from dpp.model.folders import Folders  # noqa: PLC0415

    reporter = Reporter(quiet=as_json)
    reference = BaseImage(reporter).ensure()
    pruned = pruning.prune(Folders.current(), reporter) if prune else []
    if as_json:
        print_json({"image": reference, "pruned": pruned})
    else:
        print("\n".join([*(f"removed {name}" for name in pruned), reference]))


@app.command()
def licences(as_json: JsonOption = False) -> None:
    """List name, version and licence of all that is deployed: Go modules, jars, Debian and Python packages."""
    from dpp.build.tools.inventory import components  # noqa: PLC0415 - reads metadata of a thousand packages

    rows = [component.model_dump() for component in components()]
    print_rows(rows, ("kind", "name", "version", "licence", "used_by"), as_json=as_json)
