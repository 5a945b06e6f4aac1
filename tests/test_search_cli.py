"""`memcli search` as a user meets it: on a terminal, in a pipe, with many questions and with wrong ones."""

import pytest
from support_cli import Home
from support_ingest import flat, write

SAID = [
    "The \ufdd0heron\ufdd1 [bold]stands[/bold] in the \x1b[31mpond\x1b[0m all day.",
    "Our invoices go to the accountant in Utrecht.",
    "Herons   were\nseen near the \ufdd1 mill, the Heron-like ones too.",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home"))
    file = write(home.folder / "a.jsonl", *(flat(text, id=n, session_id="s") for n, text in enumerate(SAID)))
    assert home.run("ingest", file, "--quiet").code == 0
    return home


def test_words_that_were_found_stand_out_on_a_terminal_and_nowhere_else(home):
    shown = home.on_terminal("search", "heron", "-k", "3").out
    assert "\x1b[1;33mHerons\x1b[0m were seen near the" in shown
    assert "\x1b[1;33mHeron\x1b[0m-like" in shown
    assert "\x1b[31m" not in shown, "escapes of the text are written out"
    piped = home.run("search", "heron", "-k", "3").out
    assert "\x1b" not in piped
    assert "[bold]stands[/bold]" in piped
    assert "Herons were seen near the" in piped


def test_explain_and_context_are_shown(home):
    shown = home.run("search", "invoices", "-k", "1", "--explain", "--context", "1").out
    assert "= words +1.00, meaning +" in shown
    assert "> user: Our invoices go to the accountant in Utrecht." in shown
    assert "| user: Herons were seen" in shown


def test_many_questions_from_words_a_file_and_standard_input(home, tmp_path):
    (tmp_path / "questions.txt").write_text("heron\n\nmill\n")
    from_file = home.run("search", "accountant", "--queries", tmp_path / "questions.txt", "--json")
    assert [answer["query"] for answer in from_file.json] == ["accountant", "heron", "mill"]
    piped = home.run("search", "-", "-k", "1", stdin="heron\ninvoices\n")
    assert piped.out.count("? ") == 2
    assert SAID[1] in piped.out
    assert home.run("search", "--queries", "-", "--json", stdin="heron\n").json[0]["query"] == "heron"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--mode", "fuzzy"], "it is one of hybrid, vector, keyword"),
        (["--role", "boss"], "no such role: boss"),
        (["--until", "soon"], "not a date"),
        (["--env", "project:x", "--mode", "keyword"], "--tag"),
        (["--min-importance", "7"], "--min-importance"),
    ],
)
def test_wrong_usage(home, flags, says):
    done = home.run("search", "heron", *flags)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


def test_a_date_includes_its_day(tmp_path):
    other = Home(tmp_path)
    days = [flat(f"Herons on day {n} of the trip.", id=n, timestamp=f"2026-03-0{n}T23:59:59Z") for n in (1, 2, 3)]
    other.run("ingest", write(tmp_path / "a.jsonl", *days), "--quiet")
    found = other.run("search", "herons", "--since", "2026-03-02", "--until", "2026-03-02", "--json").json
    assert [hit["content"] for hit in found[0]["hits"]] == ["Herons on day 2 of the trip."]
    found = other.run("search", "herons", "--until", "2026-03-02T10:00:00Z", "--json").json
    assert [hit["content"] for hit in found[0]["hits"]] == ["Herons on day 1 of the trip."]
    for beyond in ("9999-12-31", "2200-01-01", "9999-12-31T23:59:59Z"):
        assert len(other.run("search", "herons", "--until", beyond, "--json").json[0]["hits"]) == len(days)
    for limit in (("--since", "1900-01-01"), ("--since", "9999-12-31"), ("--until", "0001-01-01")):
        hits = other.run("search", "herons", *limit, "--json").json[0]["hits"]
        assert bool(hits) == (limit[1] == "1900-01-01"), limit


@pytest.mark.parametrize("asked", ["\U0001f600\U0001f600", "???", "'s"])
@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_a_question_without_any_word_is_answered_all_the_same(home, asked, mode):
    done = home.run("search", asked, "--mode", mode)
    assert done.code == 0, done.err
    assert ("Utrecht" in done.out) == (mode != "keyword")


@pytest.mark.parametrize(
    "flags",
    [
        ["--agent", "\udcff"],
        ["--tag", "\udcff:x"],
        ["--env", "\udcff"],
        ["--source", "\udcff"],
        ["--source", "y" * 300],
    ],
)
def test_filters_that_nothing_can_pass_are_no_error(home, flags):
    done = home.run("search", "heron", *flags)
    assert done.code == 0, done.err
    assert ("no memories found" in done.out) == (flags[0] != "--env")


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_a_memory_with_very_many_duplicates_does_not_push_out_the_others(tmp_path, mode):
    other = Home(tmp_path)
    words = "heron stands in the northern harbour pond every".split()
    often = [" ".join(f"**{word}**" if n >> at & 1 else word for at, word in enumerate(words)) for n in range(256)]
    drawn = [f"A heron was drawn on the {thing} that we bought in spring." for thing in ("quarry", "saddle", "ferry")]
    said = [f"The {each} single morning." for each in often] + drawn
    chat = write(tmp_path / "a.jsonl", *(flat(text, id=n, session_id=f"s{n}") for n, text in enumerate(said)))
    assert other.run("ingest", chat, "--quiet", "--json").json["memories"]["merged_near"] > 200
    hits = other.run("search", "heron in the pond in the morning", "--mode", mode, "-k", "9", "--json").json[0]["hits"]
    assert len(hits) == other.rows("SELECT count(*) FROM active_memories")[0][0]
    assert set(drawn) <= {hit["content"] for hit in hits}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--agent", "nobody"], "no memory has the agent nobody: there is default\n"),
        (["--agent", "defautl", "--json"], "no memory has the agent defautl: the nearest is default\n"),
        (["--session", "none", "--mode", "keyword"], "no memory has the session none: there is s\n"),
        (["--tag", "project:x"], "no memory has the tag project:x: there is none yet\n"),
        (["--source", "b.jsonl"], "no memory has the source b.jsonl: the nearest is a.jsonl\n"),
        (["--agent", "\x1b[31m"], "no memory has the agent \\x1b[31m: there is default\n"),
    ],
)
def test_a_filter_that_names_what_there_is_not_says_what_there_is(home, flags, says):
    for _ in range(2):  # found, and from the cache
        done = home.run("search", "heron", *flags)
        assert (done.code, done.err) == (0, f"memcli: warning: {says}")
    assert home.run("search", "heron", *flags, "--quiet").err == ""


@pytest.mark.parametrize(("flag", "named"), [("--agent", "default"), ("--session", "s"), ("--source", "*.jsonl")])
def test_a_filter_that_names_what_there_is_says_nothing(home, flag, named):
    done = home.run("search", "heron", flag, named, "--until", "1990-01-01")
    assert ("no memories found" in done.out, done.err) == (True, "")


def test_a_transcript_whose_name_reads_like_a_pattern_is_found_by_it(tmp_path):
    other = Home(tmp_path)
    for name in ("log[1].jsonl", "log1.jsonl"):
        write(other.folder / "chats" / name, flat(f"The heron of {name} stands there.", session_id=name))
    assert other.run("ingest", other.folder, "--quiet").code == 0
    found = other.run("search", "heron", "--source", "log[1].jsonl", "--json").json[0]["hits"]
    assert "The heron of log[1].jsonl stands there." in [hit["content"] for hit in found]
