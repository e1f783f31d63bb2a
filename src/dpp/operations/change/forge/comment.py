"""The one comment under a pull request that shows its dossier: found again by a mark, and rewritten."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Final

from dpp.adapters.forge import Comment, Forge, Run
from dpp.operations.change.cut import cut
from dpp.operations.change.dossier import markdown, plain
from dpp.operations.change.findings import Dossier

MARK: Final = "<!-- the dossier of this pull request, by dpp change publish -->"
LIMIT: Final = 65_536
"""Characters that a forge takes."""
JUDGES: Final = (
    ".github/*",
    "changes/forge.yml",
    "changes/people.yml",
    "changes/rules.yml",
    "src/dpp/adapters/pulumi/*",
    "src/dpp/operations/change/*",
    "src/dpp/rendering/*",
)
"""Files by which dossiers are made and judged."""


def body(dossier: Dossier | None, run: Run, files: Iterable[str], page: str) -> str:
    """Return the text of the comment.

    Parameters
    ----------
    dossier
        What the run left, as far as it is believed; none where it left none.
    run
        The run, as the forge tells of it.
    files
        Those that differ, as the forge tells of them.
    page
        Address of the run that keeps the whole page.
    """
    commit = f"`{run.head_sha[:12]}`"
    if dossier is None:
        return f"{MARK}\n**There is no dossier of {commit}.** [Its run]({run.html_url}) or [the one that looked for it]({page}) says why.\n"  # fmt: skip
    head = f"{MARK}\n{_warning(files)}"
    foot = (
        f"\n---\nOf {commit}. The whole page is an artifact of [this run]({page}); `dpp change plan` makes it on your machine, "
        "and `dpp change approve` makes it again before you sign.\n"
    )
    notice = f"**This page is cut here:** it is longer than a forge takes. The whole one is an artifact of [this run]({page})."  # fmt: skip
    return head + cut(markdown(dossier), LIMIT - len(head) - len(foot), notice) + foot


def _warning(files: Iterable[str]) -> str:
    """Return that a change touches what makes and judges dossiers; empty where it does not."""
    touched = sorted({name for name in files if any(fnmatch.fnmatch(name, pattern) for pattern in JUDGES)})
    if not touched:
        return ""
    named = ", ".join(plain(name) for name in touched[:6]) + (" ..." if len(touched) > 6 else "")
    return f"> **Do not rely on this page alone:** the change touches what makes and judges it ({named}). Read those files, and make the page by `dpp change plan` from main.\n\n"  # fmt: skip


def publish(forge: Forge, number: int, text: str, writer: str) -> Comment:
    """Write the comment, or rewrite the one that is there: the mark stands at its beginning, and we wrote it."""
    for comment in forge.comments(number):
        if comment.body.startswith(MARK) and comment.user is not None and comment.user.login == writer:
            same = comment.body.rstrip() == text.rstrip()
            return comment if same else forge.rewrite_comment(comment.id, text)
    return forge.write_comment(number, text)
