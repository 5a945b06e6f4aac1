"""Sixteen windows at 200 ms each, one at a time and eight at a time."""

import time

from support_chat import Chat, configure, honest, talk
from support_cli import write_jsonl
from support_ingest import logical

DELAY = 0.2
WINDOWS = 16


def test_eight_at_a_time_are_five_times_faster_and_change_nothing(home, tmp_path, nursery):
    transcript = write_jsonl(tmp_path / "chat.jsonl", talk(20 * WINDOWS))

    def slow(number, body):
        # The first answers come last.
        time.sleep(DELAY + (0.01 if number % 2 else 0))
        return 200, {}, honest(body)

    taken, found = {}, {}
    for concurrency in (1, 8):
        user = type(home)(tmp_path / f"at{concurrency}", home.data, nursery)
        with Chat(slow) as chat:
            configure(user, chat.url, "small")
            done = user.run("ingest", transcript, "--concurrency", str(concurrency), "--json", "--quiet")
            assert done.code == 0, done.err
            assert len(chat.requests) == WINDOWS
            assert chat.most_at_once == concurrency
        taken[concurrency] = done.json["timings"]["extract"]
        found[concurrency] = logical(user.db)
        order = user.rows(
            "SELECT min(m.id), min(p.message_id) FROM memories AS m JOIN provenance AS p ON p.memory_id = m.id"
            " WHERE m.extraction_method LIKE 'small%' GROUP BY m.id ORDER BY m.id"
        )
        assert [message for _, message in order] == sorted(message for _, message in order)
    for name in ("memories", "windows", "tiers", "provenance", "links", "reviews"):
        assert found[1][name] == found[8][name], f"{name} differ"
    assert taken[1] >= WINDOWS * DELAY
    assert taken[1] / taken[8] >= 5, taken
