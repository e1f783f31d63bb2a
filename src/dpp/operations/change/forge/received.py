"""What a job with a change's own code left, as a dossier that is believed no further than it can be checked here."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from dpp.adapters.forge import Forge, Run
from dpp.adapters.git import Git
from dpp.model.errors import DppError, FatalError
from dpp.model.services import Catalogue
from dpp.operations.change.findings import Affected, Dossier, Plan
from dpp.operations.change.judges import Judges, judged_by
from dpp.operations.change.plan import digest_of

ARTIFACT: Final = "dossier"
FILE: Final = "dossier.json"
_ARCHIVE_BYTES: Final = 32 * 2**20
_FILE_BYTES: Final = 128 * 2**20
_COMMIT = re.compile(r"[0-9a-f]{40}")


def received(forge: Forge, run: Run, root: Path) -> Dossier:
    """Return the dossier that a run left, checked, and judged anew by what this checkout knows.

    Parameters
    ----------
    forge
        Where the run was.
    run
        As the forge itself tells of it.
    root
        A checkout of the branch that the change is to go into, with its history.

    Raises
    ------
    FatalError
        If there is none, or it is no dossier of the commit that the run was about.
    """
    artifacts = forge.artifacts(run.id, ARTIFACT)
    if len(artifacts) != 1:
        raise FatalError(f"run {run.id}", f"{len(artifacts)} artifacts {ARTIFACT}", "one", "see what the run says")
    text = _member(forge.download(artifacts[0], _ARCHIVE_BYTES))
    try:
        dossier = Dossier.model_validate_json(text)
    except ValidationError as error:
        raise FatalError(f"{FILE} of run {run.id}", " ".join(str(error).split())[:300], "a dossier as change-plan.schema.json says", "bring the branch up to date") from error  # fmt: skip
    return judged_here(checked(dossier, run.head_sha, root), root)


def _member(archive: bytes) -> bytes:
    """Return the one file of an archive that is looked at; nothing is unpacked to a disk."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            size = opened.getinfo(FILE).file_size
            if size > _FILE_BYTES:
                raise FatalError(FILE, f"{size} bytes", f"at most {_FILE_BYTES}")
            with opened.open(FILE) as stream:
                return stream.read(_FILE_BYTES)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FatalError(f"artifact {ARTIFACT}", f"{error}", f"an archive with {FILE}", "see what the run says") from error  # fmt: skip


def checked(dossier: Dossier, head: str, root: Path) -> Dossier:
    """Return a dossier that is of a commit beside this branch, and whose digests are those of its parts.

    Raises
    ------
    FatalError
        If it is not.
    """
    if dossier.head != head:
        raise FatalError("dossier", f"of commit {dossier.head[:40]!r}", f"of {head}, which the run was about")
    if not _COMMIT.fullmatch(dossier.base):
        raise FatalError("dossier", f"compared with {dossier.base[:40]!r}", "a commit of this branch")
    try:
        known = Git(root).merge_base(dossier.base, "HEAD")
    except DppError:
        known = ""
    if known != dossier.base:
        raise FatalError("dossier", f"compared with {dossier.base}", "a commit of this branch", "bring the branch up to date")  # fmt: skip
    for plan in dossier.plans:
        if plan.live:
            raise FatalError(f"plan for {plan.environment}", f"compared live, {plan.live.asked[:20]!r}", "one that asks no environment: nothing here could check what it said", "dpp change plan without --live")  # fmt: skip
        if plan.digest != digest_of({plan.environment: dict(sorted(plan.parts.items()))}):
            raise FatalError(f"plan for {plan.environment}", f"digest {plan.digest[:16]!r}", "that of its parts")
    if dossier.digest != digest_of({plan.environment: plan.digest for plan in dossier.plans}):
        raise FatalError("dossier", f"digest {dossier.digest[:16]!r}", "that of its plans")
    return dossier


def judged_here(dossier: Dossier, root: Path) -> Dossier:
    """Return a dossier whose judgement, tiers and owners are those of the base and of this checkout, not its own."""
    rules = Judges.of_commit(Git(root), dossier.base).rules
    catalogue = Catalogue.read(root)

    def known(service: Affected) -> Affected:
        if service.name not in catalogue.services:
            return service
        declared = catalogue.services[service.name]
        return service.model_copy(update={"title": declared.title, "tier": declared.tier, "owner": declared.owner})

    def judged(plan: Plan) -> Plan:
        plan = plan.model_copy(update={"services": tuple(known(service) for service in plan.services)})
        return plan.model_copy(update={"judgement": rules.judge(plan, dossier.nouns)})

    plans = tuple(judged(plan) for plan in dossier.plans)
    return dossier.model_copy(update={"plans": plans, "judged_by": judged_by(dossier.base)})
