"""Export and import: nothing is lost or made up on the way, nothing is taken twice, whoever kills it."""

import json
import shutil
import sqlite3
import stat
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_cli import FIXTURES, Home, Nursery, finish, holds_lock, some_chat, wait_for, write_jsonl
from support_exchange import messages, parsed, stars, undecided
from support_ingest import Quiet, assert_sound, environ, flat, quick_model, run, write
from support_models import installed, static_model

from memcli.commands.dedup import undo
from memcli.commands.exchange import ExportRequest, export, import_files
from memcli.config import Config
from memcli.render.exchange import export_writer


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    """A database made of the fixtures: several agents, redactions, exact and near duplicates, pairs for review."""
    made = Home(tmp_path_factory.mktemp("filled"), nursery=nursery)
    assert made.run("ingest", FIXTURES, "--flush").code == 0
    assert made.run("export", "--out", made.folder / "all.jsonl", "--with-vectors", made.folder / "all.npz").code == 0
    return made


@pytest.fixture
def home(nursery, tmp_path):
    return Home(tmp_path / "home", nursery=nursery)


def exported(db, path, **request):
    export(Config(db=db), ExportRequest(path, **request), export_writer("jsonl"), lambda _: None)
    return path


def imported(db, *paths, **options):
    vectors = options.pop("vectors", None)
    with quick_model():
        config = Config(db=db, **options)
        return import_files(config, [str(path) for path in paths], vectors, Quiet(), environ(), dry_run=False)


# --- the round trip --------------------------------------------------------------------------------------------------

SAID = (
    "I prefer tea to coffee in the morning.",
    "i prefer tea to coffee in the  morning",
    "I do not prefer tea to coffee in the morning.",
    "We decided to keep PR #260 open until Friday.",
    "We decided to keep PR #480 open until Friday.",
    "Always run the linter before you push.",
    "Always run the linter before you  push",
    '=HYPERLINK("http://x") | *bold* <b> \u202e\x1b[31m [link](x) ` \' \\ end',
)
texts = st.one_of(st.sampled_from(SAID), st.text(min_size=10, max_size=60))
records = st.lists(
    st.builds(
        lambda text, session, agent, role: flat(text, session_id=session, agent_id=agent, role=role),
        texts,
        st.sampled_from("stu"),
        st.sampled_from(("ada", "bob")),
        st.sampled_from(("user", "assistant")),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chat=records, batch_size=st.integers(1, 40), undone=st.booleans(), by_file=st.booleans())
def test_export_and_import_into_an_empty_database_give_the_same_memories(tmp_path, chat, batch_size, undone, by_file):
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    for path in tmp_path.iterdir():
        path.unlink()
    ingested = run(one, write(tmp_path / "chat.jsonl", *chat), flush=True)
    if undone and ingested.merged_exact + ingested.merged_near:
        undo(Config(db=one), run_id=ingested.run_id, merge_id=None, dry_run=False)
    source = exported(one, tmp_path / "all.jsonl") if by_file else one
    report = imported(other, source, batch_size=batch_size)
    assert report.rejected == 0
    assert stars(other) == stars(one)
    assert messages(other) == messages(one)
    assert undecided(other) == undecided(one)
    assert_sound(other)
    again = imported(other, source, batch_size=batch_size)
    assert again.run_id is None
    copied = imported(other, shutil.copy(source, tmp_path / "copy"), batch_size=batch_size)
    assert (copied.created, copied.merged_exact, copied.merged_near) == (0, 0, 0)
    assert stars(other) == stars(one)


def test_pairs_to_review_come_along_once_and_what_was_decided_of_them_here_holds(filled, home):
    listed = filled.run("dedup", "--review", "--json").json
    assert listed, "there is nothing to bring along"
    done = home.run("import", filled.folder / "all.jsonl", "--json").json
    assert done["review_pairs"] == len(listed)
    assert undecided(home.db) == undecided(filled.db)
    ours = home.run("dedup", "--review", "--json").json
    shown = ("content", "other_content", "gates_failed", "differences", "cosine", "overlap")
    assert {repr([each[name] for name in shown]) for each in ours} == {
        repr([each[name] for name in shown]) for each in listed
    }
    assert home.run("dedup", "--reject", str(ours[0]["review_id"])).code == 0
    for source in (shutil.copy(filled.folder / "all.jsonl", home.folder / "copy.jsonl"), filled.db):
        assert home.run("import", source, "--json").json["review_pairs"] == 0
    assert len(undecided(home.db)) == len(listed) - 1


def test_an_exact_duplicate_of_a_near_one_needs_no_vector_of_its_own_after_an_import_either(home, tmp_path):
    chat = write_jsonl(home.folder / "chat.jsonl", some_chat(900))
    for _ in range(2):  # a copy of each near duplicate
        assert home.run("ingest", chat, "--agent", "ada").code == 0
        records = [json.loads(line) for line in chat.read_text().splitlines()]
        write_jsonl(chat, ({**record, "session_id": "again", "id": f"again-{n}"} for n, record in enumerate(records)))
    count = "SELECT count(*) FROM memories WHERE embedded"
    through = home.rows(
        "SELECT 1 FROM merges AS g JOIN memories AS m ON m.id = g.loser_id JOIN memories AS w ON w.id = g.winner_id"
        " WHERE g.kind = 'exact' AND m.content_hash <> w.content_hash"
    )
    assert through, "no exact duplicate of a near one"
    other = Home(tmp_path / "other", nursery=home.nursery)
    assert home.run("export", "--out", home.folder / "all.jsonl").code == 0
    assert other.run("import", home.folder / "all.jsonl").code == 0
    assert other.rows(count) == home.rows(count)
    assert stars(other.db) == stars(home.db)
    assert_sound(other.db)


def test_a_transcript_that_an_import_brought_along_is_not_read_twice(filled, home):
    assert home.run("import", filled.folder / "all.jsonl").code == 0
    before = home.rows("SELECT * FROM active_memories")
    report = home.run("ingest", FIXTURES, "--flush", "--json").json
    assert report["messages"]["new"] > 0, "those that no memory was taken from are new"
    after = home.rows("SELECT * FROM active_memories")
    assert {row[4] for row in after} == {row[4] for row in before}
    assert sorted(row[6] for row in after) == sorted(row[6] for row in before), "no mention is counted twice"
    assert_sound(home.db)


def test_what_the_user_parted_stays_parted_in_the_other_database(nursery, tmp_path, home):
    one = Home(tmp_path / "one", nursery=nursery)
    chat = write(one.folder / "chat.jsonl", *(flat(text, session_id=f"s{n}") for n, text in enumerate(SAID[:2])))
    report = one.run("ingest", chat, "--flush", "--json").json
    assert report["memories"]["merged_near"] > 0
    one.run("dedup", "--undo", str(report["run_id"]))
    apart = stars(one.db)
    assert all(len(star) == 1 for star in apart)
    assert home.run("import", one.db, "--json").json["parted"] > 0
    assert stars(home.db) == apart
    for each in (home, one):
        assert each.run("dedup", "--rethreshold", "0.9").code == 0
    assert stars(home.db) == stars(one.db)
    assert {star[0][3] for star in stars(home.db)} == set(SAID[:2])


# --- merging ---------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=records, second=records, shared=records)
def test_merging_databases_deduplicates_as_if_one_had_heard_everything(tmp_path, first, second, shared):
    for path in tmp_path.iterdir():
        path.unlink()
    files = [write(tmp_path / f"{name}.jsonl", *chat) for name, chat in (("a", first), ("b", second), ("c", shared))]
    run(tmp_path / "one.db", files[2], files[0], flush=True)
    run(tmp_path / "other.db", files[2], files[1], flush=True)
    kept = stars(tmp_path / "one.db")
    imported(tmp_path / "one.db", tmp_path / "other.db")
    merged = stars(tmp_path / "one.db")
    assert_sound(tmp_path / "one.db")
    members = {each[:7] for star in merged for each in star}
    assert members == {
        each[:7] for name in ("one", "other") for star in (*kept, *stars(tmp_path / f"{name}.db")) for each in star
    }
    texts = [(star[0][0], star[0][2], " ".join(star[0][3].split())) for star in merged]
    assert len(set(texts)) == len(texts), "a text is active twice"
    said = {message for star in merged for each in star for message, *_ in each[6]}
    assert said == set(messages(tmp_path / "one.db"))


def test_near_duplicates_across_databases_are_merged_and_can_be_undone(nursery, tmp_path, home):
    for name, text in (("one", SAID[0]), ("two", SAID[1])):
        each = Home(tmp_path / name, nursery=nursery)
        each.run("ingest", write(each.folder / "chat.jsonl", flat(text, session_id=name)), "--flush")
        report = home.run("import", each.db, "--json").json
    assert report["merged_near"] > 0
    assert report["created"] == 0
    assert home.run("dedup", "--undo", str(report["run_id"])).code == 0
    assert {star[0][3] for star in stars(home.db)} == set(SAID[:2])


# --- vectors ---------------------------------------------------------------------------------------------------------


def test_vectors_of_the_same_model_are_taken_along(filled, home, tmp_path, nursery):
    report = home.run("import", filled.db, "--json").json
    assert report["embedded"] == 0 < report["vectors_taken"]
    other = Home(tmp_path / "other", nursery=nursery)
    files = (filled.folder / "all.jsonl", "--with-vectors", filled.folder / "all.npz")
    report = other.run("import", *files, "--json").json
    assert report["embedded"] == 0 < report["vectors_taken"]
    plain = Home(tmp_path / "plain", nursery=nursery)
    assert plain.run("import", files[0], "--json").json["vectors_taken"] == 0
    assert vectors(home) == vectors(other) == vectors(plain)


def vectors(home):
    found = []
    for count, dim, raw in home.rows("SELECT count, dim, vectors FROM segments"):
        found.extend(row.tobytes() for row in np.frombuffer(raw, "<f4").reshape(count, dim))
    return sorted(found)


def test_vectors_of_another_model_are_refused_or_made_anew(filled, home, tmp_path):
    folder = installed(
        tmp_path / "model", static_model(), dim=16, pooling="in-graph", normalise="in-graph", special_tokens=False
    ).folder
    refused = home.run(
        "import", filled.folder / "all.jsonl", "--with-vectors", filled.folder / "all.npz", "--model", folder
    )
    assert refused.code == 6
    assert "embedding model" in refused.err
    done = home.run("import", filled.db, "--model", folder, "--json")
    assert "another embedding model" in done.err
    report = done.json
    assert report["vectors_taken"] == 0 < report["embedded"]
    assert {row[0] for row in home.rows("SELECT dim FROM segments")} == {16}
    assert [star[0][3] for star in stars(home.db)] == [star[0][3] for star in stars(filled.db)]


@pytest.mark.parametrize("content", [b"rubbish", b""])
def test_a_file_of_vectors_that_is_none_is_named_as_damaged(filled, home, tmp_path, content):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(content)
    done = home.run("import", filled.folder / "all.jsonl", "--with-vectors", bad)
    assert (done.code, str(bad) in done.err) == (8, True)


def test_vectors_that_no_model_gives_are_refused(filled, home, tmp_path):
    with np.load(filled.folder / "all.npz") as arrays:
        changed = dict(arrays)
    changed["vectors"] = changed["vectors"] * np.float32(3)
    np.savez(tmp_path / "long.npz", **changed)
    assert home.run("import", filled.folder / "all.jsonl", "--with-vectors", tmp_path / "long.npz").code == 8


def test_a_cosine_of_vectors_that_were_compressed_may_lie_a_little_above_1(filled, home, tmp_path):
    def told(line, cosine):
        record = json.loads(line)
        for member in record.get("members", ()):
            if "merge" in member:
                member["merge"]["cosine"] = cosine
        return json.dumps(record)

    lines = (filled.folder / "all.jsonl").read_text().splitlines()
    for cosine, code in ((1.1, 3), (1.004, 0)):
        path = tmp_path / f"{cosine}.jsonl"
        path.write_text("\n".join(told(line, cosine) for line in lines) + "\n")
        done = home.run("import", path)
        assert done.code == code, done.err
    assert [star[0][3] for star in stars(home.db)] == [star[0][3] for star in stars(filled.db)]
    assert home.rows("SELECT max(cosine) FROM merges") == [(1.0,)]


# --- killed, interrupted, locked -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "moment"),
    [
        ("all.jsonl", "before:110"),
        ("all.jsonl", "commit:3:2000"),
        ("memory.db", "before:60"),
        ("memory.db", "stage:14"),
        ("plain.jsonl", "before:60"),
        ("plain.jsonl", "commit:3:2000"),
    ],
)
def test_a_killed_import_goes_on_and_ends_as_if_nothing_had_been(filled, home, tmp_path, nursery, source, moment):
    path = filled.folder / source
    if source == "plain.jsonl":
        path = write_jsonl(
            tmp_path / source,
            ({"id": n, "content": f"Note {n}: {text['content']}"} for n, text in enumerate(some_chat(120))),
        )
    home.folder.joinpath("data").mkdir()
    assert nursery.run(home, "import", path, "--batch-size", "16", moment=f"KILL:{moment}").code < 0
    assert home.run("import", path, "--batch-size", "16").code == 0
    whole = Home(tmp_path / "whole", nursery=nursery)
    assert whole.run("import", path, "--batch-size", "16").code == 0
    assert without_time(home) == without_time(whole)
    assert_sound(home.db)


def without_time(home):
    return [tuple(each[:10] + each[11:] for each in star) for star in stars(home.db)]


def test_an_interrupted_import_says_so_and_keeps_what_it_has(filled, home, nursery):
    done = nursery.run(home, "import", filled.folder / "all.jsonl", "--batch-size", "16", moment="INT:stage:60")
    assert done.code == 130
    assert home.rows("SELECT count(*) FROM memories") > [(0,)]


def test_it_waits_for_its_turn_and_a_dry_run_leaves_no_trace(filled, home):
    dry = home.run("import", filled.folder / "all.jsonl", "--dry-run", "--json").json
    assert not home.db.exists()
    assert home.run("import", filled.folder / "all.jsonl").code == 0
    wet = home.rows("SELECT count(*) FROM active_memories")
    assert [(dry["created"],)] == wet
    holder = home.start("ingest", "-", "--format", "flat")
    wait_for(holds_lock(home, holder), holder)
    assert home.run("import", filled.db).code == 5
    assert finish(holder, b"").code == 0


# --- lines of other programs -----------------------------------------------------------------------------------------


def test_lines_of_another_program_become_memories_with_their_words_kept(home, tmp_path):
    long = " ".join(f"Sentence number {n} of a long report is here." for n in range(60))
    path = write_jsonl(
        tmp_path / "notes.jsonl",
        [
            {"id": 7, "content": " The gate code is 4711. ", "importance": 0.9, "metadata": {
                "agent_id": "ada", "type": "semantic", "keywords": ["gate"], "source": "crm", "on": True,
                "nested": {"team": ["red", "blue"]}, "timestamp": "2026-02-03T04:05:06Z"}},
            {"id": "8", "content": "the gate code is  4711", "metadata": {"agent_id": "ada"}},
            {"content": long},
            {"content": "My key is sk-ant-api03-" + "aB3dE5fG" * 12 + "-abcdefghijAA"},
        ],
    )  # fmt: skip
    report = home.run("import", path, "--json").json
    assert report["rejected"] == 0
    assert report["merged_near"] + report["merged_exact"] == 1
    found = stars(home.db)
    gate = next(star for star in found if "4711" in star[0][3])
    agent, _, kind, content, importance, method, _, keywords, tags, timestamp, *_ = gate[0]
    assert (agent, kind, content, importance, method) == ("ada", "semantic", "The gate code is 4711.", 0.9, "import")
    assert (keywords, timestamp) == (("gate",), "2026-02-03T04:05:06.000Z")
    assert set(tags) == {"source:crm", "on:true", "nested.team:red", "nested.team:blue"}
    assert {source[3] for star in found for each in star for source in each[6]} == {"import"}
    assert home.rows("SELECT mentions FROM active_memories WHERE content LIKE '%4711%'") == [(2,)]
    pieces = [star[0][3] for star in found if star[0][3].startswith("Sentence")]
    assert len(pieces) > 1
    assert all(len(piece) <= 1000 for piece in pieces)
    assert not any("sk-ant" in star[0][3] for star in found)
    assert home.rows("SELECT external_id FROM messages ORDER BY id") == [("7",), ("8",), (None,), (None,)]
    assert_sound(home.db)
    assert home.run("search", "gate code", "--json").json[0]["hits"][0]["content"] == "The gate code is 4711."


def test_what_is_appended_is_all_that_is_read_again(home, tmp_path):
    path = write_jsonl(tmp_path / "notes.jsonl", [{"content": "The lift is out of order today."}])
    assert home.run("import", path, "--json").json["created"] == 1
    with path.open("a") as file:
        file.write(json.dumps({"content": "The stairs are open all night."}) + "\n")
    report = home.run("import", path, "--json").json
    assert (report["lines"], report["created"], report["known"]) == (1, 1, 0)


@pytest.mark.parametrize(
    "bad",
    [
        "no json", "[1]", "{}", '{"content": ""}', '{"content": 3}', '{"content": "x y", "importance": 2}',
        '{"content": "x y", "importance": true}', '{"content": "x y", "importance": NaN}',
        '{"content": "x y", "metadata": [1]}', '{"content": "x y", "type": "odd"}', '{"content": "x y", "id": {}}',
        '{"content": "x y", "keywords": "a"}', '{"content": "x y", "timestamp": "once"}',
        '{"content": "x y", "metadata": {"agent": 4}}', '{"content": "x y", "role": "king"}',
    ],
)  # fmt: skip
def test_a_bad_line_is_named_kept_and_passed_over(home, tmp_path, bad):
    path = tmp_path / "notes.jsonl"
    path.write_text('{"content": "One good line at the start."}\n' + bad + '\n{"content": "And one at the end."}\n')
    done = home.run("import", path)
    assert done.code == 3
    assert f"{path}:2: " in done.err
    assert home.rows("SELECT line FROM rejected_lines") == [(2,)]
    assert home.rows("SELECT count(*) FROM active_memories") == [(2,)]


@pytest.mark.parametrize("seed", range(3))
def test_an_export_that_was_tampered_with_never_ends_in_a_trace(filled, home, tmp_path, seed):
    """Values of lines are replaced at random: what cannot be is rejected, and the database stays sound."""
    draw = np.random.default_rng(seed)
    lines = (filled.folder / "all.jsonl").read_text().splitlines()
    odd = [None, -1, 1e99, "", "x", [], {}, [1], True, "\ud800", "00" * 16, 1 << 70]

    def spoil(value):
        if draw.random() < 0.04:
            return odd[draw.integers(len(odd))]
        if isinstance(value, dict):
            return {key: spoil(each) for key, each in value.items()}
        return [spoil(each) for each in value] if isinstance(value, list) else value

    path = tmp_path / "spoilt.jsonl"
    path.write_text("\n".join([lines[0], *(json.dumps(spoil(json.loads(line))) for line in lines[1:])]) + "\n")
    done = home.run("import", path)
    assert done.code == 3, done.err
    assert "bug" not in done.err
    assert home.rows("SELECT count(*) FROM rejected_lines") > [(0,)]
    content = home.rows("PRAGMA integrity_check") + home.rows("PRAGMA foreign_key_check")
    assert content == [("ok",)]
    assert home.run("dedup").code == 0


def test_credentials_in_keywords_and_tags_of_an_export_are_replaced(filled, home, tmp_path):
    key = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
    lines = []
    for record in map(json.loads, filled.run("export").out.splitlines()):
        for member in record.get("members", ()):
            member["keywords"], member["tags"] = [key, "plain"], [f"model:{key}"]
        lines.append(json.dumps(record))
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert home.run("import", tmp_path / "a.jsonl").code == 0
    assert key.encode() not in b"".join(path.read_bytes() for path in home.db.parent.glob(f"{home.db.name}*"))
    assert home.rows("SELECT DISTINCT tag FROM session_tags") == [("model:[redacted:github-token]",)]


def test_a_cut_export_is_taken_as_far_as_it_goes_and_the_user_is_told(filled, home, tmp_path):
    text = (filled.folder / "all.jsonl").read_text()
    path = tmp_path / "cut.jsonl"
    path.write_text(text[: len(text) * 3 // 4])
    done = home.run("import", path)
    assert done.code == 3
    assert "cut off" in done.err
    assert home.run("import", filled.folder / "all.jsonl").code == 0
    assert stars(home.db) == stars(filled.db)


def test_what_cannot_be_imported_is_an_error_that_says_what_to_do(filled, home, tmp_path):
    newer = write_jsonl(tmp_path / "newer.jsonl", [{"memcli": "export", "version": 99}])
    assert home.run("import", newer).code == 6
    assert home.run("import", tmp_path / "absent").code == 2
    assert home.run("import", tmp_path).code == 2
    assert home.run("import").code == 2
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as conn:
        conn.execute("CREATE TABLE t (x)")
    assert home.run("import", tmp_path / "foreign.db").code == 6
    assert not home.db.exists()
    assert filled.run("import", filled.db).code == 2
    assert home.run("export").code == 4


def test_standard_input_and_gzip_are_read_too(filled, home):
    import gzip

    text = (filled.folder / "all.jsonl").read_bytes()
    assert home.run("import", "-", stdin=text).code == 0
    packed = home.folder / "all.jsonl.gz"
    packed.write_bytes(gzip.compress(text))
    report = home.run("import", packed, "--json").json
    assert (report["known"], report["created"]) == (report["memories"], 0)


# --- what is written -------------------------------------------------------------------------------------------------


def test_an_export_to_a_file_is_whole_private_and_leaves_nothing_else(filled, home, tmp_path):
    shutil.copytree(filled.folder, home.folder, dirs_exist_ok=True)
    target = tmp_path / "out" / "all.jsonl"
    assert home.run("export", "--out", target).code == 2
    target.parent.mkdir()
    target.write_text("before")
    report = home.run("export", "--out", target, "--json").json
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["all.jsonl"]
    lines = parsed(target.read_text())
    assert report["memories"] == len(lines) == home.rows("SELECT count(*) FROM active_memories")[0][0]
    told = {
        row[0]: row[1:] for row in home.rows("SELECT memory_id, content, importance, mentions FROM active_memories")
    }
    assert {each["id"]: (each["content"], each["importance"], each["mentions"]) for each in lines} == told
    assert target.read_text() == home.run("export").out


def test_one_agent_can_be_exported_alone(filled):
    agents = {row[0] for row in filled.rows("SELECT agent_id FROM active_memories")}
    assert len(agents) > 1
    found = parsed(filled.run("export", "--agent", "support").out)
    assert {each["agent"] for each in found} == {"support"}
    assert len(found) == filled.rows("SELECT count(*) FROM active_memories WHERE agent_id = 'support'")[0][0]
    heard = {each["id"] for each in parsed(filled.run("export", "--agent", "support").out, "message")}
    assert heard == {source["message"] for star in found for each in star["members"] for source in each["sources"]}
    for other in ("nobody", "\udcff"):
        done = filled.run("export", "--agent", other)
        assert (done.code, "no memories of the agent" in done.err) == (2, True)
