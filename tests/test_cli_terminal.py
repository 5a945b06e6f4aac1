"""The command line at its edges: terminals and closed pipes, hostile text, and all the real transcripts there are."""

import json
import re

import pytest
from support_cli import ESCAPE_CODES, FIXTURES, SHARED, UNSAFE, Home, finish, some_chat, write_jsonl

COLOURS = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[\d;]*)?m")
MARKUP = "[bold]x[/bold] [/] [link=file:///etc/passwd]y[/link]"
HOSTILE = f"{MARKUP} \x1b[31mred\x1b]0;t\x07 \u202eolleh\u202c \x00 \x9b2J \r\b|"
NAMEABLE = HOSTILE.replace("\0", "")  # as an argument


@pytest.fixture(scope="module")
def filled(tmp_path_factory, data, nursery):
    """A database with the fixtures in it, for tests that only read."""
    home = Home(tmp_path_factory.mktemp("filled"), data, nursery)
    assert home.run("ingest", FIXTURES).code == 0
    return home


@pytest.fixture
def tea(tmp_path):
    return write_jsonl(tmp_path / "tea.jsonl", some_chat(3))


# --- the outside -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("search", "retries", "-k", "500"), ("search", "retries", "--json"), ("config", "show"), ("--help",)]
)
def test_whoever_reads_only_the_first_line_sees_no_traceback(filled, arguments):
    with filled.start(*arguments) as process:
        process.stdout.read(1)
        process.stdout.close()
        process.stdout = None
        done = finish(process)
    assert done.err == ""
    assert done.code == 0


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
def test_what_is_no_terminal_gets_no_escape_codes(filled, tmp_path, env):
    commands = [
        ("ingest", FIXTURES, "--dry-run", "--db", tmp_path / "new.db"),
        ("search", "retries"),
        ("config", "show"),
    ]
    for command in [*commands, ("ingest", "nowhere"), ("ingest", FIXTURES, "--profile", "nameless", "--dry-run")]:
        done = filled.run(*command, env=env)
        assert "\x1b" not in done.out + done.err, command


def test_on_a_terminal_a_progress_bar_comes_and_goes_and_the_report_stays_whole(home, tmp_path):
    chat = write_jsonl(tmp_path / "chat.jsonl", some_chat(400))
    done = home.on_terminal("ingest", chat, "--batch-size", "4")
    assert done.code == 0
    assert re.search(r"messages, [\d,]+/s", done.out)
    assert "━" in done.out
    assert "\x1b[2K" in done.out  # it is wiped at the end
    report = ESCAPE_CODES.sub("", done.out.rpartition("\x1b[2K")[2])
    lines = report.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line.split()[0] for line in lines if line.strip()]
    order = ["files", "lines", "messages", "dropped", "windows", "memories", "embedded", "time", "Run"]
    assert [word for word in shown if word in order] == order
    assert "━" not in report


def test_no_color_is_honoured_on_a_terminal(filled):
    assert COLOURS.search(filled.on_terminal("ingest", "nowhere").out)
    for command in [("ingest", "nowhere"), ("search", "retries", "-k", "2"), ("ingest", FIXTURES, "--dry-run")]:
        assert not COLOURS.search(filled.on_terminal(*command, env={"NO_COLOR": "1"}).out), command


@pytest.mark.parametrize("flag", ["--quiet", "--json"])
def test_on_a_terminal_quiet_shows_no_bar_and_json_stays_parseable(home, tea, flag):
    done = home.on_terminal("ingest", tea, flag)
    assert done.code == 0
    if flag == "--quiet":
        assert "━" not in done.out
        assert "\x1b[2K" not in done.out
    else:
        assert json.loads(ESCAPE_CODES.sub("", done.out[done.out.index("{") :]))["messages"]["new"] == 3


# --- hostile text ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path):
    """Transcripts whose texts, ids, tags and file names try to be acted on."""
    name = "[red]x[/red] \x1b[31m\u202e\r.jsonl"
    record = {"uuid": "u1", "type": "user", "sessionId": f"s{HOSTILE}", "cwd": f"/w/{HOSTILE.replace('/', '_')}"}
    record |= {"gitBranch": HOSTILE, "timestamp": "2026-03-01T00:00:00Z", "version": HOSTILE}
    record["message"] = {"role": "user", "content": f"I prefer green tea {HOSTILE}"}
    path = write_jsonl(tmp_path / name, [record, {**record, "type": HOSTILE, "uuid": "u2"}])
    with path.open("a") as file:
        file.write('{"type": "user", "\x1b[31m[bold]\n')
    return path


def test_hostile_text_is_neither_acted_on_nor_printed_raw(home, hostile):
    done = [
        home.run("ingest", hostile, "--verbose"),
        home.run("search", "green tea"),
        home.run("search", NAMEABLE),
        home.run("ingest", f"/no{NAMEABLE}"),
        home.run("search", "x", "--type", NAMEABLE),
        home.run("ingest", hostile, "--format", NAMEABLE),
        home.run("ingest", hostile, "--profile", NAMEABLE),
        home.run("ingest", hostile, f"--{NAMEABLE}"),
    ]
    assert [each.code for each in done] == [3, 0, 0, 2, 2, 2, 2, 2]
    for each in done:
        assert not UNSAFE.search(each.out + each.err), each
    found = done[1].out
    assert "I prefer green tea [bold]x[/bold] [/] [link=file:///etc/passwd]y[/link] \\x1b[31mred" in found
    assert "\\u202e" in found
    assert "[red]x[/red] \\x1b[31m" in done[0].err


def test_hostile_text_in_json_is_escaped_and_comes_back_as_it_was(home, hostile):
    report, found = home.run("ingest", hostile, "--json"), home.run("search", "green tea", "--json")
    for each in (report, found):
        assert not UNSAFE.search(each.out), each.out
    assert report.json["lines"]["rejected"] == report.json["messages"]["new"] == 1
    contents = [hit["content"] for hit in found.json[0]["hits"]]
    stored = [text for (text,) in home.rows("SELECT content FROM memories")]
    assert contents
    assert set(contents) <= set(stored)
    assert any("\x1b[31mred" in text and "\u202e" in text for text in contents)
    assert found.json[0]["hits"][0]["sources"][0]["path"] == str(hostile)


def test_hostile_text_does_not_reach_a_terminal(home, hostile):
    for command in [("ingest", hostile), ("search", "green tea")]:
        shown = ESCAPE_CODES.sub("", home.on_terminal(*command).out)
        assert not UNSAFE.search(shown.replace("\r", "")), command
        assert "[31mred" not in home.on_terminal(*command).out.replace("\\x1b[31mred", "")


# --- real transcripts ------------------------------------------------------------------------------------------------


def _ids_with_text(path):
    """Ids of the assistant messages of a Claude Code transcript that say something."""
    found = set()
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        message = record.get("message") if isinstance(record, dict) else None
        if not isinstance(message, dict) or record.get("type") != "assistant":
            continue
        content = message.get("content")
        blocks = content if isinstance(content, list) else [content]
        said = [block if isinstance(block, str) else (block or {}).get("text") for block in blocks]
        if any(isinstance(text, str) and text.strip() for text in said):
            found.add(message.get("id"))
    return found


def test_all_real_transcripts_in_one_command(home):
    folder = SHARED / "data" / "transcripts" / "claude-code"
    if not folder.is_dir():
        pytest.skip("the shared transcripts are not here")
    first = home.run("ingest", folder, "--json")
    rejected = first.json["lines"]["rejected"]
    assert first.code == (3 if rejected else 0)
    assert len(re.findall(r"^\S+:\d+: \S", first.err, re.MULTILINE)) == min(rejected, 10)
    assert home.rows("SELECT count(*) FROM rejected_lines WHERE reason <> ''") == [(rejected,)]
    expected = _ids_with_text(folder / "large.jsonl")
    found = home.rows(
        "SELECT m.external_id FROM messages AS m JOIN files AS f ON f.id = m.file_id"
        " WHERE m.role = 'assistant' AND f.path LIKE '%/large.jsonl'"
    )
    assert len(expected) > 50
    assert sorted(identifier for (identifier,) in found) == sorted(expected)
    before = home.db.read_bytes()
    second = home.run("ingest", folder, "--json")
    assert (second.code, second.err) == (0, "")
    assert second.json["lines"]["read"] == second.json["embedded"] == 0
    assert home.db.read_bytes() == before


# --- interrupted -----------------------------------------------------------------------------------------------------

# The process sends itself a signal when it imports the module that is named first.
IMPATIENT = (
    "import os, signal, sys\n"
    "number, wanted = signal.Signals[sys.argv.pop(1)], sys.argv.pop(1)\n"
    "class Finder:\n"
    "    def find_spec(self, name, *_):\n"
    "        if name == wanted:\n"
    "            os.kill(os.getpid(), number)\n"
    "sys.meta_path.insert(0, Finder())\n"
    "from memcli.cli import main\n"
    "main()\n"
)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("module", ["memcli.cli.app", "typer", "memcli.errors", "memcli.config", "memcli.cli.search"])
def test_interrupted_while_it_starts_it_ends_silently(home, number, module):
    done = home.python(IMPATIENT, number, module, "search", "tea")
    assert (done.code, done.out, done.err) == (130, "", "")


@pytest.mark.parametrize("module", ["memcli.commands.search", "numpy"])
def test_interrupted_while_a_command_is_imported_it_says_so(filled, module):
    done = filled.python(IMPATIENT, "SIGINT", module, "search", "tea")
    assert done.code == 130
    assert done.err.startswith("memcli: interrupted (SIGINT)")
    assert "Traceback" not in done.err


def test_an_interruption_that_a_library_makes_another_error_of_is_still_one(home, tea):
    code = (
        "import os, signal, memcli.cli, memcli.commands.ingest as command\n"
        "def broken(*_):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except Exception:\n"
        "        raise ImportError('initialization failed')\n"
        "command.ingest = broken\n"
        "memcli.cli.main()\n"
    )
    done = home.python(code, "ingest", tea)
    assert done.code == 130
    assert done.err.startswith("memcli: interrupted (SIGINT)")


def test_interrupted_again_while_it_says_so_it_ends_without_a_trace(home):
    # What went wrong is printed with Rich, which is imported only then.
    done = home.python(IMPATIENT, "SIGINT", "rich", "ingest", "nowhere")
    assert done.code in {-2, 130}
    assert "Traceback" not in done.err
