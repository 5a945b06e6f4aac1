"""A value that is taken as it is, without Typer's conversion, is what Typer would have made of it."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from memcli.cli.values import quick

texts = st.one_of(
    st.text(max_size=12),
    st.integers(-5, 30).map(str),
    st.sampled_from(["0", "007", "٣", "1_0", " 4", "+4", "9" * 30, ".", "/", "/none", __file__, "", "-", "NaN", "inf"]),
)


def made():
    app = typer.Typer()

    @app.command()
    def command(
        words: Annotated[list[str] | None, typer.Argument()] = None,
        text: Annotated[str | None, typer.Option()] = None,
        path: Annotated[Path | None, typer.Option()] = None,
        paths: Annotated[list[Path] | None, typer.Option()] = None,
        count: Annotated[int, typer.Option(min=1, max=20)] = 10,
        number: Annotated[int | None, typer.Option()] = None,
        share: Annotated[float | None, typer.Option()] = None,
        flag: Annotated[bool, typer.Option()] = False,
        upper: Annotated[str | None, typer.Option(callback=lambda value: value and value.upper())] = None,
    ):
        return words, text, path, paths, count, number, share, flag, upper

    return get_command(app)


def outcome(command, words):
    try:
        return command.main(words, standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - of Typer's own click, which has no public name
        return type(error).__name__, str(error)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(texts, max_size=3),
    st.dictionaries(st.sampled_from(["text", "path", "paths", "count", "number", "share", "upper"]), texts),
    st.booleans(),
)
def test_all_values_are_what_typer_makes_of_them(words, options, flag):
    line = [part for name, value in options.items() for part in (f"--{name}", value)]
    line += ["--flag"] * flag + ["--", *words]
    short = made()
    quick(short)
    # As it is written out, since a NaN is not equal to another one.
    assert repr(outcome(short, line)) == repr(outcome(made(), line))


@pytest.mark.parametrize(
    "line", [["a b", "--text", "x", "--path", __file__, "--count", "5", "--flag"], [], ["--count", "20", "x", "y"]]
)
def test_everyday_values_do_not_reach_typers_conversion(monkeypatch, line):
    command = made()
    quick(command)
    seen = []
    for param in command.params:
        monkeypatch.setattr(param, "process_value", lambda _context, value, name=param.name: seen.append((name, value)))
    command.main(line, standalone_mode=False)
    assert [each for each in seen if each[0] in {"words", "text", "path", "count"}] == []
