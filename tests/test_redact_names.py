"""No credential is stored that tells agents, sessions, messages or files apart, and they stay apart."""

import gzip
import json
import os
import sqlite3
import zipfile
from contextlib import closing

import pytest
from support_cli import Home
from support_ingest import append, assert_sound, assistant, flat, lines, query, run, texts, user, write

from memcli.redact import redact
from memcli.redact.names import Names

# Put together here, so that nobody's scanner takes this file for a leak.
KEYS = {
    "anthropic-key": "sk-" + "ant-api03-aB3dE5gH7jK9mN1pQ4rS6tU8vW0x",
    "github-token": "gh" + "p_aB3dE5gH7jK9mN1pQ4rS6tU8vW0xY2zA5bC7",
    "aws-key-id": "AKIA" + "IOSFODNN7EXAMPLQ",
    "password": "hun" + "ter2Quux",
}
FORMS = {kind: f"postgres://me:{key}@db" if kind == "password" else key for kind, key in KEYS.items()}
TALK = ("I prefer tea to coffee in the morning.", "The nightly backup runs at three o'clock.")


def in_path(key):
    """A part of a path that holds the key."""
    return key.replace("postgres://me:", "password=").removesuffix("@db")


def mixed(key):
    """What a transcript of each dialect may hold a key in, beside its texts."""
    name = in_path(key)
    flat_lines = [
        flat(text, id=f"{key}-{n}", session_id=f"s-{key}", agent_id=f"a-{key}", role=f"Ada {key}", model=key)
        for n, text in enumerate(TALK)
    ]
    flat_lines += [{"role": key, "id": key}, flat(TALK[0], timestamp=key, session_id=key, metadata={key: key})]
    claude = [
        user(TALK[0], f"u-{key}", f"s-{key}", cwd=f"/srv/{name}", gitBranch=key, version=key, parentUuid=key),
        assistant("Noted: tea it is, with milk.", f"r-{key}", f"msg-{key}", f"s-{key}", requestId=key),
        {"type": key, "sessionId": f"s-{key}", "uuid": key},
        {"type": "system", "subtype": key, "sessionId": f"t-{key}", "uuid": key, "cwd": f"/x/{name}"},
    ]
    claude[1]["message"]["model"] = f"m-{key}"
    claude[1]["message"]["content"].append({"type": "tool_use", "id": key, "name": key, "input": {key: key}})
    at = "2026-02-11T09:00:00.000Z"
    codex = [
        {
            "timestamp": at,
            "type": "session_meta",
            "payload": {"id": key, "cwd": f"/a/{name}/b", "git": {"branch": key}, "instructions": key},
        },
        {"timestamp": at, "type": "turn_context", "payload": {"cwd": name, "model": key}},
        {
            "timestamp": at,
            "type": "response_item",
            "payload": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": TALK[0]}]},
        },
        {"timestamp": at, "type": "response_item", "payload": {"type": "function_call", "name": key, "call_id": key}},
        {"timestamp": at, "type": "event_msg", "payload": {"type": key}},
        {"timestamp": at, "type": key, "payload": {}},
    ]
    pi = [
        {"type": "session", "id": key, "cwd": f"/p/{name}", "version": 3, "timestamp": at},
        {"type": "message", "id": key, "timestamp": at, "message": {"role": "user", "content": TALK[1]}},
        {"type": key, "id": key},
    ]
    openai = [
        {"id": key, "messages": [{"role": "user", "content": TALK[0], "name": key}, {"role": key, "content": "?"}]}
    ]
    node = {"id": key, "author": {"role": "user", "name": key}, "content": {"content_type": key, "parts": [TALK[0]]}}
    told = {**node, "content": {"content_type": "text", "parts": [TALK[1]]}, "metadata": {"model_slug": key}}
    mapping = {
        key: {"id": key, "parent": None, "children": ["b"], "message": node},
        "b": {"id": "b", "parent": key, "children": [], "message": told},
    }
    chat = [{"title": key, "id": key, "conversation_id": key, "current_node": "b", "mapping": mapping}]
    return {"flat": flat_lines, "claude": claude, "codex": codex, "pi": pi, "openai": openai, "chat": chat}


def plant(folder, key):
    """Files that hold the key wherever a transcript can, in a folder that is named after it."""
    name = in_path(key)
    for dialect, records in mixed(key).items():
        if dialect == "chat":
            path = folder / name / dialect / f"{name} 1.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(records))
        else:
            write(folder / name / dialect / f"{name} 1.jsonl", *records)
    with (folder / name / "flat" / f"{name} 1.jsonl").open("ab") as file:
        file.write(f'{{"role": "{key}", "content": "cut off'.encode() + b"\n")
    (folder / name / "empty.json").write_text(key)
    (folder / name / f"{name} 1.jsonl").write_bytes(b"nothing of any format\n")


def bytes_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_nowhere(home, key, *outputs):
    for path, raw in bytes_of(home.folder).items():
        assert key.encode() not in raw, path
    for output in outputs:
        for told in (output.out, output.err):
            assert key not in told, output


@pytest.fixture(scope="module")
def planted(tmp_path_factory, data, nursery):
    """A home after two runs over files with keys of every kind in every place, and all that was said meanwhile."""
    folder = tmp_path_factory.mktemp("planted")
    for form in FORMS.values():
        plant(folder / "in", form)
    home = Home(folder / "home", data, nursery)
    said = [home.run("ingest", folder / "in", "--flush", *more) for more in (["--json"], ["--verbose"])]
    assert [each.code for each in said] == [3, 3], said
    commands = (
        ["stats", "--json"],
        ["stats", "--batches", "--json"],
        ["search", "tea", "--json", "--context", "2", "-k", "50"],
        ["search", "tea", "--explain"],
        ["export"],
        ["export", "--format", "csv"],
        ["export", "--format", "markdown"],
        ["check", "--json"],
        ["check", "--secrets"],
        ["dedup", "--review", "--json"],
    )
    said += [home.run(*command) for command in commands]
    return home, said, folder / "in"


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_is_nowhere_in_a_database_whatever_it_named(planted, kind):
    home, said, _ = planted
    assert home.rows("SELECT count(*) FROM messages WHERE filter_reason IS NULL")[0][0] >= 5 * len(KEYS)
    assert_nowhere(home, KEYS[kind], *said)


def test_nothing_of_them_is_found_by_check_and_all_is_sound(planted):
    home, _, _ = planted
    assert home.run("check", "--secrets", "--json").json["found"] == []
    assert_sound(home.db)
    assert home.run("check").code == 0


def test_the_keys_are_in_all_those_places_without_redaction(planted, tmp_path, data, nursery):
    """Else the tests above would show nothing."""
    _, _, folder = planted
    home = Home(tmp_path / "open", data, nursery)
    home.run("ingest", folder, "--no-redact", "--flush")
    found = home.run("check", "--secrets", "--json").json["found"]
    assert {(each["table"], each["column"]) for each in found} >= {
        *((table, "agent_id") for table in ("sessions", "memories", "segments")),
        *((table, "tag") for table in ("session_tags", "memory_tags")),
        *(("messages", column) for column in ("external_id", "speaker", "model")),
        *(("files", column) for column in ("path", "state")),
        ("sessions", "key"),
    }


def test_an_export_is_imported_without_them(planted, tmp_path, data, nursery):
    _, _, folder = planted
    before = Home(tmp_path / "open", data, nursery)
    before.run("ingest", folder, "--no-redact", "--flush")
    out = tmp_path / "export.jsonl"
    assert before.run("export", "--out", out).code == 0
    plain = write(
        tmp_path / "plain.jsonl",
        *(
            {
                "id": f"i-{form}",
                "content": TALK[0],
                "keywords": [form],
                "metadata": {"session": f"s-{form}", "agent": f"a-{form}", "speaker": form, "tags": [form], form: form},
            }
            for form in FORMS.values()
        ),
        *({"content": "x", "type": form} for form in FORMS.values()),
    )
    for number, source in enumerate((out, before.db, plain)):
        home = Home(tmp_path / f"other{number}", data, nursery)
        said = [home.run("import", source, "--json"), home.run("import", source, "--json")]
        assert said[0].code in {0, 3}, said
        assert home.rows("SELECT count(*) FROM memories")[0][0] >= len(FORMS)
        assert home.run("check", "--secrets", "--json").json["found"] == []
        for key in KEYS.values():
            assert_nowhere(home, key, *said, home.run("export"))
        assert_sound(home.db)
        assert said[1].json["messages_new"] == 0
        assert home.rows("SELECT count(DISTINCT key) FROM sessions")[0][0] >= len(FORMS)


def test_what_is_named_after_a_key_is_found_by_the_name_in_the_transcript(planted):
    home, _, folder = planted
    key = KEYS["github-token"]
    source = folder / key / "flat" / f"{key} 1.jsonl"
    for flag, name in (("--session", f"s-{key}"), ("--agent", f"a-{key}"), ("--source", source)):
        (answer,) = home.run("search", "tea", flag, name, "--json").json
        hits = answer["hits"]
        assert hits, flag
        assert all("[redacted:github-token#" in json.dumps(hit) for hit in hits)
    assert len(home.run("export", "--agent", f"a-{key}").out.splitlines()) == 1 + 2 + 2


def test_a_path_that_was_stored_as_it_stands_is_found_by_it(home, tmp_path):
    key = KEYS["github-token"]
    path = write(tmp_path / key / "a.jsonl", flat(TALK[0], id="1"))
    other = write(tmp_path / f"q {key}" / "b.jsonl", flat(TALK[1], id="2"))
    assert home.run("ingest", path, "--no-redact", "--flush").code == 0
    assert home.run("ingest", path, other, "--flush").code == 0
    (answer,) = home.run("search", "tea", "--source", path, "--json").json
    assert answer["hits"]


# --- what tells things apart ------------------------------------------------------------------------------------------


def test_two_sessions_that_differ_by_the_key_only_stay_two(tmp_path):
    db = tmp_path / "m.db"
    one, other = KEYS["github-token"], KEYS["github-token"][:-1] + "Z"
    path = write(
        tmp_path / "a.jsonl",
        *(flat(text, session_id=f"run {key}", agent_id=key, id=f"{number} {key}")
          for key in (one, other) for number, text in enumerate(TALK)),
    )  # fmt: skip
    run(db, path)
    names = query(db, "SELECT agent_id, key FROM sessions")
    assert len(set(names)) == len({agent for agent, _ in names}) == 2
    assert all("[redacted:github-token#" in name for pair in names for name in pair)
    assert query(db, "SELECT count(DISTINCT external_id), count(DISTINCT session_id) FROM messages") == [(4, 2)]
    # What is read later is put to what was read before; what was read before is known.
    append(path, flat("The garden needs water every second day.", session_id=f"run {one}", agent_id=one))
    assert run(db, path).messages_new == 1
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(path.read_bytes())
    assert run(db, copy).messages_new == 0
    assert query(db, "SELECT agent_id, key FROM sessions") == names
    assert_sound(db)


def test_names_tell_nothing_without_the_key_of_the_database(tmp_path):
    path = write(tmp_path / "a.jsonl", flat(TALK[0], session_id="postgres://me:hun" + "ter2Quux@db"))
    names = []
    for db in (tmp_path / "1.db", tmp_path / "2.db"):
        run(db, path)
        names += query(db, "SELECT key FROM sessions")
    assert len(set(names)) == 2


def test_identities_are_those_of_earlier_versions(tmp_path):
    """What was stored without redaction, or before names were redacted, is known again."""
    db = tmp_path / "m.db"
    key = KEYS["anthropic-key"]
    path = write(tmp_path / f"{key}.jsonl", *(flat(text, session_id=key, agent_id=key, id=key + text) for text in TALK))
    run(db, path, redact=False)
    append(path, flat("The garden needs water every second day.", session_id=key, agent_id=key, id="3"))
    report = run(db, path)
    assert (report.messages_read, report.messages_new) == (1, 1)  # its cursor was found
    path.write_bytes(lines(flat("A new first line.", session_id="s", id="0")) + path.read_bytes())
    report = run(db, path)
    assert (report.messages_duplicate, report.messages_new) == (3, 1)
    assert_sound(db)


@pytest.mark.parametrize("ends", ["\n", ""])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_session_named_by_the_first_line_goes_on_where_the_last_run_stopped(tmp_path, ends, is_packed):
    """The header of a Codex rollout names session, branch and model of all that follows, and none of it is stored."""

    key, db = KEYS["anthropic-key"], tmp_path / "m.db"
    records = mixed(key)["codex"]
    more = [json.loads(json.dumps(records[2]).replace(TALK[0], f"{TALK[1]} {n}")) for n in range(6)]
    path = tmp_path / ("a.jsonl.gz" if is_packed else "a.jsonl")

    def store(raw):
        path.write_bytes(gzip.compress(raw) if is_packed else raw)

    store(lines(*records, *more[:3]).removesuffix(b"\n") + ends.encode())
    first = run(db, path, limit=2)
    assert first.messages_new == 2
    second = run(db, path, limit=2)  # a limit gets on, also here
    assert (second.messages_new, second.messages_duplicate) == (2, 0)
    store(lines(*records, *more))
    third = run(db, path)
    assert (third.messages_new, third.messages_duplicate) == (3, 0 if not is_packed else third.messages_duplicate)
    assert texts(db) == [TALK[0], *(f"{TALK[1]} {n}" for n in range(6))]
    assert query(db, "SELECT count(*) FROM sessions") == [(1,)]
    path.write_bytes(b"")
    store(lines({"timestamp": "x", "type": "session_meta", "payload": {"id": key}}, *records[2:], *more))
    assert run(db, path).messages_new == 0  # the identity is that of the session as it was read
    assert query(db, "SELECT count(*) FROM files WHERE instr(state, ?)", key) == [(0,)]
    assert_sound(db)


def test_a_run_for_an_agent_that_is_named_after_a_key_is_idempotent(tmp_path):
    db, path = tmp_path / "m.db", write(tmp_path / "a.jsonl", *map(flat, TALK))
    for new in (2, 0):
        assert run(db, path, agent=KEYS["github-token"]).messages_new == new
    append(path, flat("The garden needs water every second day."))
    report = run(db, path, agent=KEYS["github-token"])
    assert (report.messages_read, report.messages_new) == (1, 1)
    assert query(db, "SELECT count(DISTINCT agent_id) FROM sessions") == [(1,)]


def test_a_zip_that_is_named_after_a_key_is_read_once(tmp_path):

    key, db = KEYS["github-token"], tmp_path / "m.db"
    with zipfile.ZipFile(tmp_path / f"{key}.zip", "w") as file:
        file.writestr(f"{key}/a.jsonl", lines(*map(flat, TALK)))
    assert [run(db, tmp_path / f"{key}.zip").messages_new for _ in range(2)] == [2, 0]
    os.utime(tmp_path / f"{key}.zip", (1, 1))
    assert run(db, tmp_path / f"{key}.zip").messages_new == 0
    assert not query(db, "SELECT path FROM files WHERE instr(path, ?)", key)


@pytest.mark.parametrize("form", FORMS.values())
@pytest.mark.parametrize(
    "around", ["{}", "/srv/{}/a.jsonl", "token={}", '"secret": "{}"', "password: {} x", "Bearer {}"]
)
def test_a_name_that_is_redacted_stays_as_it_is(form, around):
    names = Names(b"k")
    once = names.of(around.format(form))
    assert names.of(once) == once
    assert redact(once) == (once, {})
    assert Names(b"k").of(around.format(form)) == once
    assert Names(b"other").of(around.format(form)) != once
    assert Names(redacts=False).of(form) == form


def test_the_key_of_names_is_kept_only_where_a_name_needs_it(tmp_path):
    run(tmp_path / "1.db", write(tmp_path / "a.jsonl", flat(TALK[0])))
    run(tmp_path / "2.db", write(tmp_path / "b.jsonl", flat(TALK[0], session_id=KEYS["aws-key-id"])))
    found = [query(tmp_path / f"{n}.db", "SELECT length(value) FROM meta WHERE key = 'names_key'") for n in (1, 2)]
    assert found == [[], [(32,)]]
    with closing(sqlite3.connect(tmp_path / "2.db")) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
