"""`dpp change owners|receive|publish`: what a forge is told of a pull request, as its workflows call it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpp.cli.output import JsonOption, print_json
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY

Event = Annotated[Path, typer.Option(envvar="GITHUB_EVENT_PATH", help="File with the event: a run of the workflow plan has ended.")]  # fmt: skip
AtForge = Annotated[str, typer.Option("--repository", envvar="GITHUB_REPOSITORY", help="Owner and name at the forge.")]
Interface = Annotated[str, typer.Option("--api", envvar="GITHUB_API_URL", help="Where the forge's REST interface is; its token stands in GITHUB_TOKEN.")]  # fmt: skip
Folder = Annotated[Path, typer.Option(help="Folder of the pages.")]


def owners(
    write: Annotated[bool, typer.Option("--write", help="Write the file in place of printing it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say who is asked to look at which file: .github/CODEOWNERS, made of services/ and changes/forge.yml."""
    from dpp.operations.change.forge.owners import FILE, asked, codeowners  # noqa: PLC0415

    if write:
        (REPOSITORY / FILE).write_text(codeowners(REPOSITORY))
    if as_json:
        print_json([vars(row) for row in asked(REPOSITORY)])
    elif not write:
        print(codeowners(REPOSITORY), end="")


def receive(event: Event, repository: AtForge, api: Interface, folder: Folder, as_json: JsonOption = False) -> None:
    """Take the dossier that a run left, check it, judge it by this checkout, and write its pages; none where it failed."""
    from dpp.adapters.forge import Forge, Run  # noqa: PLC0415
    from dpp.operations.change.dossier import html  # noqa: PLC0415
    from dpp.operations.change.forge.received import FILE, received  # noqa: PLC0415

    run, files = Run.read(event), {name: folder / name for name in (FILE, "dossier.html")}
    folder.mkdir(parents=True, exist_ok=True)
    for file in files.values():
        file.unlink(missing_ok=True)
    if not run.succeeded:
        _say({"run": run.id, "written": []}, f"run {run.id} of {run.head_sha[:12]}: {run.conclusion}; it left no dossier", as_json=as_json)  # fmt: skip
        return
    dossier = received(Forge.of_runner(api, repository), run, REPOSITORY)
    files["dossier.html"].write_text(html(dossier))
    files[FILE].write_text(dossier.model_dump_json(indent=1) + "\n")
    written = [str(file) for file in files.values()]
    _say({"run": run.id, "written": written}, "\n".join(written), as_json=as_json)


def publish(
    event: Event,
    repository: AtForge,
    api: Interface,
    folder: Folder,
    page: Annotated[str, typer.Option(help="Address of the run that keeps the whole page.")],
    base: Annotated[str, typer.Option(help="Branch that pull requests go into.")] = "main",
    as_json: JsonOption = False,
) -> None:
    """Write the comment and the labels of the pull request that a run was about, from what `receive` wrote."""
    from dpp.adapters.forge import Forge, Run  # noqa: PLC0415
    from dpp.model.services import Catalogue  # noqa: PLC0415
    from dpp.operations.change.findings import Dossier  # noqa: PLC0415
    from dpp.operations.change.forge import comment, labels  # noqa: PLC0415
    from dpp.operations.change.forge.declared import Declared  # noqa: PLC0415
    from dpp.operations.change.forge.received import FILE  # noqa: PLC0415

    run, declared, file = Run.read(event), Declared.read(REPOSITORY), folder / FILE
    dossier = Dossier.model_validate_json(file.read_bytes()) if file.is_file() else None
    if dossier and dossier.head != run.head_sha:
        raise FatalError(str(file), f"of commit {dossier.head[:40]}", f"of {run.head_sha}", "run dpp change receive first")  # fmt: skip
    forge = Forge.of_runner(api, repository)
    pull = forge.pull_request(run, base)
    if pull is None:
        _say({"pull_request": None}, f"no open pull request into {base} is at {run.head_sha[:12]}: nothing to say", as_json=as_json)  # fmt: skip
        return
    text = comment.body(dossier, run, forge.files(pull.number), page)
    written = comment.publish(forge, pull.number, text, declared.writer)
    titles = {name: service.title for name, service in Catalogue.read(REPOSITORY).services.items()}
    moved = labels.publish(forge, pull.number, labels.wanted(dossier, declared.labels, titles))
    told = {"pull_request": pull.number, "comment": written.html_url, "labels": moved.has, "taken": moved.taken}
    _say(told, f"{written.html_url}\nlabels: {', '.join(moved.has) or 'none'}", as_json=as_json)


def _say(told: dict[str, object], words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(told)
    else:
        print(words)


def register(app: typer.Typer) -> None:
    """Add these verbs to `dpp change`."""
    for verb in (owners, receive, publish):
        app.command()(verb)
