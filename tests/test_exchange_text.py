"""Exports that people open: no cell is a formula, nothing in a text is markup, nothing acts on a terminal."""

import json
import re

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support_cli import UNSAFE
from support_exchange import cells

from memcli.render.exchange import export_writer

NASTY = st.text(
    st.sampled_from("=+-@\t\r\n '\"|,;*_`[]()<>#!$&\\0123456789.ax\x1b\u202e\uff1d"), min_size=1, max_size=30
)


def star(content):
    member = {"id": 1, "session": "s", "importance": 0.5, "method": "import", "sources": [], "timestamp": None}
    return {
        "kind": "memory", "id": 1, "agent": "default", "type": "semantic", "content": content, "importance": 0.5,
        "mentions": 1, "keywords": [content], "tags": {content: 1.0}, "members": [member],
    }  # fmt: skip


def written(name, *contents):
    return "".join(export_writer(name)(star(each) for each in contents))


@given(NASTY)
@example("\n-")
def test_no_cell_of_a_csv_is_a_formula(content):
    (row,) = cells(written("csv", content))
    for value in row.values():
        is_number = re.fullmatch(r"-?\d+(\.\d+)?", value)
        assert is_number or value.lstrip()[:1] not in set("=+-@\uff0b\uff0d\uff1d\uff20") or not value
        assert value[:1] not in set("\t\r\n") or not value
        # Read as if semicolons parted the cells, quotes would not hold a text together.
        for part in [] if is_number else re.split("[;\n]", value):
            assert part.strip()[:1] not in set("=+-@\uff0b\uff0d\uff1d\uff20") or not part.strip()
        assert not UNSAFE.search(value)


def test_a_csv_gives_texts_back_as_they_were():
    said = ['He said "no", twice', "two\nlines", "a;b|c", "-1.5"]
    assert [row["content"] for row in cells(written("csv", *said))] == said


@given(NASTY)
def test_markdown_shows_a_text_and_never_acts_on_it(content):
    text = written("markdown", content)
    lines = text.splitlines()
    assert len(lines) == len(written("markdown", "x").splitlines()), "a text never makes a line of its own"
    assert not UNSAFE.search(text)
    shown = lines[4].removeprefix("- ")
    assert not set(re.sub(r"\\.", "", shown)) & set("`*_[]<>|~&#$!")
    assert not re.match(r"[-+]|\d+[.)]", shown)


# All that an export is made of; anything else a text would have made of itself.
PLAIN = {"heading", "bullet_list", "list_item", "paragraph", "inline", "text", "text_special", "softbreak"}
ATTEMPTS = [
    "![x](http://evil/x.png)", "[x](javascript:1)", "<img src=x>", "<!--", "```", "~~~", "    x", "# x", "\n", "\n\n",
    "> x", "---", "===", "| a | b |\n|---|---|", "1. x", "- x", "+ x", "[x]: http://evil", "[x]", "&lt;", "$x$", "\\",
    "http://evil.example/x", "www.evil.example", "`", "*x*", "__x__", "~~x~~", "{{x}}", "<http://evil>", " ", "\t",
    "![x][x]", "<script>1</script>", "!", "[", "](", ")", "<a href=x>", "\x0b", "\u2028",
]  # fmt: skip


def _kinds(tokens):
    for token in tokens or ():
        yield token.type.removesuffix("_open").removesuffix("_close")
        yield from _kinds(token.children)


@given(st.lists(st.sampled_from(ATTEMPTS), min_size=1, max_size=6).map("".join))
def test_a_viewer_of_markdown_finds_text_and_nothing_else(content):
    viewer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    assert set(_kinds(viewer.parse(written("markdown", content)))) <= PLAIN
    assert not re.search(r"[A-Za-z]://|www\.", written("markdown", content))


@given(st.text(max_size=40))
def test_a_line_of_json_is_one_line_that_no_terminal_acts_on(content):
    text = written("jsonl", content)
    assert text.count("\n") == 1
    assert not UNSAFE.search(text)
    assert json.loads(text)["content"] == content
