"""Sixteen windows at 200 ms each, one at a time and eight at a time."""

import time

from support_chat import Chat, configure, honest, talk
from support_cli import write_jsonl
from support_ingest import logical

DELAY = 0.2
WINDOWS = 16


class Slow:
    """Takes its time over every answer, the later ones a little less; `span` is what all of them took together."""

    def __init__(self):
        self.begun = []
        self.ended = []

    def __call__(self, number, body):
        self.begun.append(time.monotonic())
        time.sleep(DELAY + (0.02 if number % 2 else 0))
        self.ended.append(time.monotonic())
        return 200, {}, honest(body)

    @property
    def span(self):
        return max(self.ended) - min(self.begun)


def test_eight_at_a_time_are_five_times_faster_and_change_nothing(home, tmp_path, nursery):
    transcript = write_jsonl(tmp_path / "chat.jsonl", talk(20 * WINDOWS))

    def ingested(name, concurrency):
        user = type(home)(tmp_path / name, home.data, nursery)
        slow = Slow()
        with Chat(slow) as chat:
            configure(user, chat.url, "small")
            done = user.run("ingest", transcript, "--concurrency", str(concurrency), "--json", "--quiet")
            assert done.code == 0, done.err
            assert len(chat.requests) == WINDOWS
            assert chat.most_at_once <= concurrency
        order = user.rows(
            "SELECT p.message_id FROM memories AS m JOIN provenance AS p ON p.memory_id = m.id"
            " WHERE m.extraction_method LIKE 'small%' ORDER BY m.id"
        )
        assert order == sorted(order)
        return slow.span, chat.most_at_once, logical(user.db)

    alone, _, wanted = ingested("alone", 1)
    assert alone >= WINDOWS * DELAY
    # A busy machine may stop a thread for as long as an answer takes: the best of three is what the pool can do.
    spans, together = [], 0
    for attempt in range(3):
        span, most_at_once, found = ingested(f"together{attempt}", 8)
        together = max(together, most_at_once)
        for name in ("memories", "windows", "tiers", "provenance", "links", "reviews"):
            assert found[name] == wanted[name], f"{name} differ"
        spans.append(span)
        if alone / min(spans) >= 5 and together == 8:
            break
    assert together == 8
    assert alone / min(spans) >= 5, (alone, spans)
