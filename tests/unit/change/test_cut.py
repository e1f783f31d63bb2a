"""A page that is too long ends where it may: what is shown is shown whole, and what is open is closed."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dpp.operations.change.cut import cut

NOTICE = "**Cut here.**"
TABLE = "| a | b |\n|---|---|\n" + "".join(f"| {number} | x |\n" for number in range(5))
CODE = (
    "````diff\n"
    + "".join(f"+line {number}\n" for number in range(5))
    + "```\n| no | table |\n|---|---|\n<details>\n````\n"
)
PIECES = {
    "heading": "## A heading\n",
    "text": "Some words that stand in a line.\n",
    "list": "- one\n- two\n",
    "table": TABLE,
    "code": CODE,
    "fold": f"<details><summary>Some more</summary>\n\n{CODE}\n</details>\n",
    "folded table": f"<details><summary>Some more</summary>\n\n{TABLE}\n</details>\n",
    "nested": f"<details><summary>More</summary>\n\n<details><summary>Yet more</summary>\n\n{TABLE}\n</details>\n\n</details>\n",
    "tildes": "~~~\n```\n~~~\n",
}
PARSER = MarkdownIt().enable("table")


@given(st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=8), st.integers(min_value=60, max_value=1500))
def test_what_is_cut_is_whole(names: list[str], limit: int) -> None:
    page = "\n".join(PIECES[name] for name in names)
    found = cut(page, limit, NOTICE)
    assert len(found) <= limit
    if len(page) <= limit:
        assert found == page
        return
    kept = found.removesuffix(f"{NOTICE}\n").rstrip()
    assert page.startswith(re.sub(r"(\n(````|~~~|</details>))+$", "", kept))
    tokens = PARSER.parse(found)
    assert [token.content for token in tokens[-3:] if token.type == "inline"] == [NOTICE], "the notice is a paragraph"
    assert tokens[-1].type == "paragraph_close"
    assert tokens[-1].level == 0
    outside = "".join(token.content for token in tokens if token.type == "html_block")
    assert outside.count("<details>") == outside.count("</details>")
    heads = [token.content for token in tokens if token.type == "inline" and token.content.startswith("| a |")]
    assert heads == [], "the head of a table is not left alone"


def test_as_much_is_kept_as_there_is_room_for() -> None:
    page = PIECES["fold"] * 50
    found = cut(page, 1000, NOTICE)
    assert 1000 - len("+line 4\n") - 40 < len(found) <= 1000


def test_a_notice_alone_is_all_where_there_is_no_room() -> None:
    assert cut("x" * 100, 20, NOTICE) == f"{NOTICE}\n"
