"""Files that change under their cursor: messages without ids or session ids are neither skipped nor repeated."""

from support_ingest import query, run, write


def said(*numbers):
    return [{"role": "user", "content": f"Statement number {number} about the harbour."} for number in numbers]


def numbers(db):
    return [int(text.split()[2]) for (text,) in query(db, "SELECT text FROM messages ORDER BY id")]


def test_a_log_that_lost_its_first_lines_goes_on_where_it_was(tmp_path):
    db, log = tmp_path / "m.db", tmp_path / "log.jsonl"
    write(log, *said(*range(10)))
    run(db, log)
    log.write_text("")
    write(log, *said(*range(5, 15)))
    report = run(db, log)
    assert (report.messages_new, report.messages_duplicate) == (5, 5)
    assert numbers(db) == list(range(15))


def test_a_log_that_was_replaced_by_a_new_version_of_itself_goes_on_where_it_was(tmp_path):
    db, log = tmp_path / "m.db", tmp_path / "log.jsonl"
    write(log, *said(*range(10)))
    run(db, log)
    write(tmp_path / "new", *said(*range(5, 15)))
    (tmp_path / "new").replace(log)
    assert run(db, log).messages_new == 5
    assert numbers(db) == list(range(15))


def test_a_line_put_before_all_others_is_the_only_new_one(tmp_path):
    db, log = tmp_path / "m.db", tmp_path / "log.jsonl"
    write(log, *said(1, 2, 3))
    run(db, log)
    write(log, *said(0, 1, 2, 3))
    assert run(db, log).messages_new == 1


def test_a_file_is_read_again_for_another_agent(tmp_path):
    db, log = tmp_path / "m.db", tmp_path / "log.jsonl"
    write(log, *said(1, 2))
    for agent in ("ann", "bob"):
        assert run(db, log, agent=agent).messages_new == 2
        assert run(db, log, agent=agent).files.unchanged == 1
    agents = query(db, "SELECT agent_id, count(*) FROM memories GROUP BY agent_id")
    assert agents == [("ann", 2), ("bob", 2)]
