"""Which messages are the same message: ids, occurrences, agents, records, resumed and forked sessions."""

import pytest
from support_ingest import (
    append,
    assert_same,
    assert_sound,
    assistant,
    flat,
    lines,
    memories,
    query,
    run,
    texts,
    user,
    write,
)

ALPHA = "The harbour office moved to the second floor."
BETA = "Invoices are archived for ten years by the clerk."
GAMMA = "Nobody feeds the office cat on public holidays."


@pytest.fixture
def db(tmp_path):
    return tmp_path / "memory.db"


def counts(report):
    return report.messages_read, report.messages_new, report.messages_duplicate


# --- messages with an id -------------------------------------------------------------------------------------------


def test_an_id_seen_again_in_its_session_is_the_same_message(db, tmp_path):
    file = write(tmp_path / "a.jsonl", flat(ALPHA, id="1", session_id="s"), flat(ALPHA, id="1", session_id="s"))
    assert counts(run(db, file)) == (2, 1, 1)
    append(file, flat(ALPHA, id="1", session_id="s"), flat(ALPHA, id=2, session_id="s"))
    assert counts(run(db, file)) == (2, 1, 1)
    assert texts(db) == [ALPHA, ALPHA]


def test_the_same_id_in_another_session_is_another_message(db, tmp_path):
    file = write(tmp_path / "a.jsonl", flat(ALPHA, id=1, session_id="s"), flat(BETA, id=1, session_id="t"))
    assert counts(run(db, file)) == (2, 2, 0)


def test_an_id_that_looks_like_the_parts_of_another_identity_is_not_mixed_up(db, tmp_path):
    records = [
        flat(ALPHA, id="b", session_id="a"),
        flat(ALPHA, id="b:1", session_id="a"),
        flat(ALPHA, session_id="a:b"),
        flat(ALPHA, id="user", session_id="a"),
        flat(ALPHA, session_id="a"),
    ]
    assert counts(run(db, write(tmp_path / "a.jsonl", *records))) == (5, 5, 0)


def test_identity_is_that_of_the_text_before_redaction(db, tmp_path):
    keys = ["sk-ant-" + letter * 30 for letter in "ab"]
    file = write(tmp_path / "a.jsonl", *(flat(f"My key is {key} as of now.", session_id="s") for key in keys))
    assert counts(run(db, file)) == (2, 2, 0)
    assert memories(db) == [("My key is [redacted:anthropic-key] as of now.", 2)]


# --- messages without an id ----------------------------------------------------------------------------------------


def test_the_same_text_said_three_times_without_an_id_is_three_messages(db, tmp_path):
    file = write(tmp_path / "a.jsonl", *[flat(ALPHA)] * 3)
    assert counts(run(db, file, batch_size=2)) == (3, 3, 0)
    append(file, flat(ALPHA))
    assert counts(run(db, file)) == (1, 1, 0)
    assert memories(db) == [(ALPHA, 4)]


@pytest.mark.parametrize("change", [{"role": "assistant"}, {"timestamp": "2026-03-02T09:00:00Z"}, {"content": BETA}])
def test_role_time_and_text_tell_messages_without_an_id_apart(db, tmp_path, change):
    base = flat(ALPHA, timestamp="2026-03-02T08:00:00Z")
    assert counts(run(db, write(tmp_path / "a.jsonl", base, {**base, **change}), batch_size=1)) == (2, 2, 0)


def test_a_file_copied_byte_for_byte_adds_nothing(db, tmp_path):
    file = write(tmp_path / "a.jsonl", *[flat(ALPHA)] * 3, flat(BETA))
    copy = tmp_path / "b.jsonl"
    copy.write_bytes(file.read_bytes())
    assert counts(run(db, file, copy)) == (8, 4, 4)
    again = tmp_path / "c.jsonl"
    again.write_bytes(file.read_bytes())
    assert counts(run(db, tmp_path)) == (4, 0, 4)
    assert memories(db) == [(ALPHA, 3), (BETA, 1)]


@pytest.mark.parametrize("batch_size", [1, 2, 1024])
def test_a_line_that_an_original_and_its_copy_both_get_is_added_once(db, tmp_path, batch_size):
    file = write(tmp_path / "a.jsonl", *[flat(ALPHA)] * 2)
    copy = tmp_path / "b.jsonl"
    copy.write_bytes(file.read_bytes())
    run(db, file, copy, batch_size=batch_size)
    append(copy, flat(ALPHA))
    assert counts(run(db, file, copy, batch_size=batch_size)) == (1, 1, 0)
    append(file, flat(ALPHA))
    assert counts(run(db, file, copy, batch_size=batch_size)) == (1, 0, 1)
    append(file, flat(ALPHA))
    assert counts(run(db, file, copy, batch_size=batch_size)) == (1, 1, 0)
    assert memories(db) == [(ALPHA, 4)]


def test_the_same_opening_line_is_told_apart_by_session(db, tmp_path):
    for name in ("s", "t"):
        write(tmp_path / f"{name}.jsonl", flat(ALPHA, session_id=name))
    assert counts(run(db, tmp_path)) == (2, 2, 0)
    assert memories(db) == [(ALPHA, 2)]


# --- agents ----------------------------------------------------------------------------------------------------------


def test_agents_have_memories_of_their_own(db, tmp_path):
    file = write(tmp_path / "a.jsonl", *(flat(ALPHA, id=1, session_id="s", agent_id=agent) for agent in ("ann", "bob")))
    report = run(db, file)
    assert (report.messages_new, report.created, report.merged_exact) == (2, 2, 0)
    assert query(db, "SELECT agent_id, content FROM active_memories") == [("ann", ALPHA), ("bob", ALPHA)]
    assert_sound(db)


def test_the_text_of_another_agent_is_not_embedded_again(db, tmp_path):
    file = write(tmp_path / "a.jsonl", *(flat(ALPHA, agent_id=agent) for agent in ("ann", "bob")))
    report = run(db, file, batch_size=1)
    assert (report.created, report.embedded, report.embed_reused) == (2, 1, 1)


def test_the_agent_of_the_user_outranks_the_records(db, tmp_path):
    file = write(tmp_path / "a.jsonl", *(flat(ALPHA, id=1, session_id="s", agent_id=agent) for agent in ("ann", "bob")))
    assert counts(run(db, file, agent="zoe")) == (2, 1, 1)
    assert query(db, "SELECT DISTINCT agent_id FROM sessions") == [("zoe",)]


def test_without_an_agent_the_format_names_it(db, tmp_path):
    write(tmp_path / "a.jsonl", flat(ALPHA))
    write(tmp_path / "b.jsonl", user(BETA, "u1"))
    run(db, tmp_path)
    assert query(db, "SELECT agent_id, content FROM active_memories") == [("default", ALPHA), ("claude-code", BETA)]


# --- Claude Code: several records of one message -------------------------------------------------------------------


def test_records_of_one_message_are_one_message(db, tmp_path):
    records = [assistant(ALPHA, "a1", "m1"), assistant(BETA, "a2", "m1"), assistant(GAMMA, "a3", "m1")]
    run(db, write(tmp_path / "s.jsonl", user("Who moved where?", "u1"), *records))
    assert texts(db) == ["Who moved where?", f"{ALPHA}\n\n{BETA}\n\n{GAMMA}"]


def test_a_run_may_end_between_two_records_of_a_message(db, tmp_path):
    file = write(tmp_path / "s.jsonl", assistant(ALPHA, "a1", "m1"))
    run(db, file)
    append(file, assistant(BETA, "a2", "m1"), user(GAMMA, "u1"))
    report = run(db, file)
    assert counts(report) == (2, 1, 1)
    assert texts(db) == [f"{ALPHA}\n\n{BETA}", GAMMA]
    assert memories(db) == [(ALPHA, 1), (BETA, 1), (GAMMA, 1)]
    assert query(db, 'SELECT memory_id, message_id, start, "end" FROM provenance') == [
        (1, 1, 0, len(ALPHA)),
        (2, 1, len(ALPHA) + 2, len(ALPHA) + 2 + len(BETA)),
        (3, 2, 0, len(GAMMA)),
    ]
    assert_sound(db)


def test_text_that_waits_for_its_window_may_grow(db, tmp_path):
    waiting = {"profile": "customer-support", "extract": ("verbatim",)}
    file = write(tmp_path / "s.jsonl", assistant(ALPHA, "a1", "m1"))
    run(db, file, **waiting)
    append(file, assistant(BETA, "a2", "m1"))
    assert run(db, file, **waiting).pending == 1
    assert run(db, file, **waiting, flush=True).windows_processed == 1
    assert memories(db) == [(ALPHA, 1), (BETA, 1)]
    assert_sound(db)


def test_a_record_that_comes_back_is_ignored(db, tmp_path):
    file = write(tmp_path / "s.jsonl", assistant(ALPHA, "a1", "m1"), assistant(BETA, "a2", "m1"), user(GAMMA, "u1"))
    run(db, file)
    append(file, user(GAMMA, "u1"), assistant(ALPHA, "a1", "m1"), assistant(BETA, "a2", "m1"))
    report = run(db, file)
    assert (report.messages_new, report.windows_processed, report.created) == (0, 0, 0)
    assert texts(db) == [f"{ALPHA}\n\n{BETA}", GAMMA]


@pytest.mark.parametrize("batch_size", [1, 1024])
def test_records_of_a_message_with_others_between_are_one_message(db, tmp_path, batch_size):
    records = [assistant(ALPHA, "a1", "m1"), user(GAMMA, "u1"), assistant(BETA, "a2", "m1")]
    run(db, write(tmp_path / "s.jsonl", *records), batch_size=batch_size)
    assert texts(db) == [f"{ALPHA}\n\n{BETA}", GAMMA]
    assert memories(db) == [(ALPHA, 1), (GAMMA, 1), (BETA, 1)]
    assert_sound(db)


def test_a_message_that_was_dropped_is_kept_once_a_record_brings_more(db, tmp_path):
    file = write(tmp_path / "s.jsonl", assistant("Done.", "a1", "m1"))
    assert run(db, file).filtered == {"confirmation": 1}
    append(file, assistant(BETA, "a2", "m1"))
    run(db, file)
    assert query(db, "SELECT text, filter_reason FROM messages") == [(f"Done.\n\n{BETA}", None)]
    assert memories(db) == [(BETA, 1)]
    assert_sound(db)


def test_a_record_without_worth_leaves_a_kept_message_as_it_was(db, tmp_path):
    file = write(tmp_path / "s.jsonl", assistant(ALPHA, "a1", "m1"))
    run(db, file)
    append(file, assistant("Done.", "a2", "m1"))
    assert run(db, file).filtered == {"confirmation": 1}
    assert query(db, "SELECT text, filter_reason FROM messages") == [(ALPHA, None)]
    append(file, assistant("Done.", "a2", "m1"))
    assert run(db, file).filtered == {}


# --- Claude Code: resumed and forked sessions ----------------------------------------------------------------------


def original():
    return [user(GAMMA, "u1"), assistant(ALPHA, "a1", "m1"), assistant(BETA, "a2", "m1")]


def resumed(records):
    return [{**record, "sessionId": "s2"} for record in records]


@pytest.mark.parametrize("batch_size", [1, 1024])
def test_a_resumed_session_holds_copies_and_no_second_messages(db, tmp_path, batch_size):
    write(tmp_path / "s1.jsonl", *original())
    write(tmp_path / "s2.jsonl", *resumed(original()), user("What I said next.", "u9", "s2"))
    report = run(db, tmp_path, batch_size=batch_size)
    assert counts(report) == (5, 3, 2)
    assert texts(db) == [GAMMA, f"{ALPHA}\n\n{BETA}", "What I said next."]


def test_a_copy_in_a_resumed_session_is_known_in_a_later_run(db, tmp_path):
    run(db, write(tmp_path / "s1.jsonl", *original()))
    assert counts(run(db, write(tmp_path / "s2.jsonl", *resumed(original())))) == (2, 0, 2)


def test_a_copy_of_a_message_that_two_runs_read_is_no_second_message(db, tmp_path):
    first = write(tmp_path / "s1.jsonl", *original()[:2])
    run(db, first)
    append(first, original()[2])
    run(db, first)
    write(tmp_path / "s2.jsonl", *resumed(original()))
    assert counts(run(db, tmp_path)) == (2, 0, 2)
    assert texts(db) == [GAMMA, f"{ALPHA}\n\n{BETA}"]


def test_a_copy_that_two_runs_read_is_no_second_message(db, tmp_path):
    write(tmp_path / "s1.jsonl", *original())
    copy = write(tmp_path / "s2.jsonl", *resumed(original()[:2]))
    run(db, tmp_path)
    append(copy, resumed(original())[2])
    run(db, tmp_path)
    assert texts(db) == [GAMMA, f"{ALPHA}\n\n{BETA}"]


def test_a_record_id_with_another_text_in_another_session_is_a_message_of_its_own(db, tmp_path):
    write(tmp_path / "s1.jsonl", user(ALPHA, "u1"))
    write(tmp_path / "s2.jsonl", user(BETA, "u1", "s2"))
    assert counts(run(db, tmp_path)) == (2, 2, 0)


@pytest.mark.parametrize("fork_first", [False, True])
def test_a_forked_session_holds_its_history_once(db, tmp_path, fork_first):
    history = write(tmp_path / "b.jsonl", *original())
    fork = [
        {**record, "uuid": f"f{record['uuid']}", "sessionId": "s2"}
        | {"forkedFrom": {"sessionId": "s1", "messageUuid": record["uuid"]}}
        for record in original()
    ]
    forked = write(tmp_path / ("a.jsonl" if fork_first else "c.jsonl"), *fork, user("I go another way.", "u7", "s2"))
    assert counts(run(db, *sorted([history, forked]))) == (5, 3, 2)
    keys = query(
        db, "SELECT s.key, count(*) FROM messages AS m JOIN sessions AS s ON s.id = m.session_id GROUP BY s.key"
    )
    assert keys == [("s1", 2), ("s2", 1)]


# --- what belongs to the whole --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_transcript_read_in_two_runs_has_the_messages_of_one_run(tmp_path, cut):
    records = [
        user(GAMMA, "u1"),
        assistant(ALPHA, "a1", "m1"),
        {"type": "summary", "summary": "Offices", "leafUuid": "u1"},
        assistant(ALPHA, "a1", "m1"),
        user("The window on the stairs is broken.", "u2", "s2"),
        user(GAMMA, "u1", "s2"),
        assistant(BETA, "a2", "m2"),
        assistant("The lift is under repair until summer.", "a3", "m2"),
    ]
    whole = write(tmp_path / "s.jsonl", *records)
    run(tmp_path / "one.db", whole)
    whole.write_bytes(lines(*records[:cut]))
    run(tmp_path / "two.db", whole)
    append(whole, *records[cut:])
    run(tmp_path / "two.db", whole)
    # The border falls between two records of a message only at 7: there the text of the rest is windowed by itself.
    assert sorted(texts(tmp_path / "one.db")) == sorted(texts(tmp_path / "two.db"))
    assert_sound(tmp_path / "two.db")


def test_two_files_of_one_session_in_one_run_or_two_say_the_same(tmp_path):
    first = write(tmp_path / "a.jsonl", flat(ALPHA, session_id="s"), flat(BETA, session_id="s"))
    second = write(tmp_path / "b.jsonl", flat(GAMMA, session_id="s"), flat("A second file goes on.", session_id="s"))
    run(tmp_path / "one.db", first, second, flush=True, profile="customer-support", extract=("verbatim",))
    run(tmp_path / "two.db", first, profile="customer-support", extract=("verbatim",))
    run(tmp_path / "two.db", second, flush=True, profile="customer-support", extract=("verbatim",))
    assert len(query(tmp_path / "one.db", "SELECT id FROM windows")) == 1
    assert_same(tmp_path / "one.db", tmp_path / "two.db")
