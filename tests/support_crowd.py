"""Eight processes at once on one database, each doing its own thing over and over, and what each of them came to."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from support_cli import Done, Home, Nursery, some_chat

from memcli.cli.app import COMMANDS

BUSY = 5
_PAUSE = 0.01
_TRIES = 200
_MORE = 12  # messages, or lines, that are new each time
_INDEXES = (("reindex",), ("reindex", "--compress", "int8"), ("reindex", "--check"), ("reindex", "--compress", "none"))
_QUESTIONS = ("what was decided about the rate limit", "the nightly build", "tea")


@dataclass
class Member:
    """One of the crowd: `turn` gives the arguments of its next call. `waits` says that nobody may turn it away."""

    name: str
    turn: Callable[[int], tuple[object, ...]]
    waits: bool = False
    done: list[tuple[tuple[object, ...], Done]] = field(default_factory=list)
    held: list[float] = field(default_factory=list)

    @property
    def codes(self) -> Counter[int]:
        """How often it ended with which exit code."""
        return Counter(done.code for _, done in self.done)

    def wrong(self) -> list[tuple[object, ...]]:
        """The calls that ended as they should not have."""
        allowed = {0} if self.waits else {0, BUSY}
        return [(args, done.code, done.err) for args, done in self.done if done.code not in allowed]


def crowd(folder: Path) -> list[Member]:
    """Who is in the crowd: five that write and three that read; the files that are ingested grow with each turn."""
    transcripts, lines = folder / "transcripts", folder / "lines.jsonl"
    chats = {name: _sessions(name) for name in ("one", "two")}

    def ingest(name: str, *flags: object) -> Callable[[int], tuple[object, ...]]:
        def turn(_: int) -> tuple[object, ...]:
            _append(transcripts / f"{name}.jsonl", [next(chats[name]) for _ in range(_MORE)])
            return ("ingest", transcripts, "--batch-size", 10, *flags)

        return turn

    def bring(number: int) -> tuple[object, ...]:
        ids = range(number * _MORE, (number + 1) * _MORE)
        _append(lines, ({"id": each, "content": f"Ticket {each} is about the printer."} for each in ids))
        return ("import", lines, "--batch-size", 5)

    def leave(number: int) -> tuple[object, ...]:
        out = folder / f"left-{number % 2}"
        return ("backup", out, "--force") if "backup" in COMMANDS and number % 2 else ("export", "--out", out)

    return [
        Member("ingest", ingest("one")),
        Member("ingest --wait", ingest("two", "--wait", 100), waits=True),
        Member("import", bring),
        Member("dedup", lambda _: ("dedup", "--json")),
        Member("reindex", lambda number: _INDEXES[number % len(_INDEXES)]),
        Member("search", lambda _: ("search", *_QUESTIONS, "--json"), waits=True),
        Member("search anew", lambda number: ("search", f"ticket {number}", "--no-cache", "--json"), waits=True),
        Member("export", leave, waits="backup" not in COMMANDS),
    ]


def run(
    home: Home, members: list[Member], folder: Path, seconds: float, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Let all go on for so many seconds, each in a process of its own at a time, and until each has had its turn.

    `meanwhile` is called over and over in this one. `held` of a member are the seconds that each of its write
    transactions took.
    """
    ready = threading.Barrier(len(members) + 1)
    ended = threading.Event()

    def go_on(member: Member) -> None:
        own = Home(folder / member.name.replace(" ", "_"), home.data)
        own.env["MEMCLI_DB"] = str(home.db)
        with Nursery() as nursery:
            nursery.run(own, "--version")  # by then all is imported
            ready.wait()
            for number in count():
                args = member.turn(number)
                member.done.append((args, nursery.run(own, *args, trace=True)))
                member.held.extend(json.loads((own.folder / "trace").read_text())["held"])
                if ended.is_set() and (member.codes[0] or number > _TRIES):
                    return

    threads = [threading.Thread(target=go_on, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    ready.wait()
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            meanwhile()
            time.sleep(_PAUSE)
    finally:
        ended.set()
    for thread in threads:
        thread.join()


def _append(path: Path, records: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))


def _sessions(name: str) -> Iterator[dict[str, object]]:
    """Messages without end, of sessions that no other name has."""
    for seed in count():
        for message in some_chat(200, seed):
            yield {**message, "session_id": f"{name}-{seed}"}
