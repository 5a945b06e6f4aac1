"""How well search finds the turns that answer a question: per-turn evidence recall on LoCoMo conversations.

Each turn is one memory, each conversation an agent of its own. A question's recall is the share of its evidence turns
among the first k hits; the figure is the mean over the questions of categories 1 to 4 (5 has no answer).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memcli.bench.child import run_python
from memcli.bench.machine import machine, versions
from memcli.bench.search_memories import Open
from memcli.errors import UsageError
from memcli.search import Mode, Request, Searcher
from memcli.search.engine import fused
from memcli.search.fusion import WEIGHTS, Weights
from memcli.search.pool import Pool
from memcli.store import search as search_rows
from memcli.store.search import Filters

CUTS = (5, 10)
_ANSWERED = range(1, 5)
_EVIDENCE = re.compile(r"D(\d+):(\d+)")
_SESSION = re.compile(r"session_(\d+)")
# Every turn becomes a memory of its own: nothing is noise, no rule picks sentences, near texts are kept apart.
_SETTINGS = """
profile = "turns"
extract = ["verbatim"]
near_threshold = 1.0
[profiles.turns]
filters = "none"
min_chars = 1
rate = 1.0
"""
# What leave-one-out chooses from: one weight after the other, twice over.
_GRID: Mapping[str, Sequence[float]] = {
    "meaning": (0.5, 0.7, 0.9),
    "next_to": (0.3, 0.4, 0.5),
    "beyond": (0.1, 0.2, 0.3),
    "speaker": (0.2, 0.4, 0.6),
    "date": (0.4, 0.6, 0.8),
    "question": (-0.1, -0.2, -0.3),
}
_ROUNDS = 2
_PLAIN: tuple[Mode, ...] = ("keyword", "vector")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the turns that answer it, as (session, turn)."""

    text: str
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation: its name, its turns as flat messages, and its questions."""

    name: str
    turns: list[dict[str, str]]
    questions: list[Question]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A conversation's questions with their contenders, and the turns of each star."""

    questions: list[Question]
    pools: list[Pool]
    turns: Mapping[int, frozenset[str]]

    def recall(self, weights: Weights) -> list[tuple[float, ...]]:
        """For each question its recall at each of CUTS."""
        return [
            self._recalls(question, [each.star for each in fused(pool, CUTS[-1], weights)])
            for question, pool in zip(self.questions, self.pools, strict=True)
        ]

    def _recalls(self, question: Question, stars: Sequence[int]) -> tuple[float, ...]:
        return tuple(_found(question, [self.turns[star] for star in stars[:cut]]) for cut in CUTS)


def bench_locomo(files: Sequence[Path], open_searcher: Open, announce: Callable[[str], None]) -> dict[str, Any]:
    """Measure recall on the conversations of LoCoMo files; the document of `memcli bench search --locomo --json`.

    Where there are several conversations, the weights are chosen anew for each on all others (leave-one-out): that is
    what to expect of conversations that nobody has seen.

    Raises:
        UsageError: a file cannot be read, or holds no conversations with questions.
    """
    conversations = [conversation for file in files for conversation in read_locomo(file)]
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        announce(f"ingesting {sum(len(each.turns) for each in conversations):,} turns")
        _ingest(conversations, folder)
        with open_searcher(folder / "memory.db", use_cache=False) as searcher:
            plain = {mode: _plain(searcher, conversations, mode, announce) for mode in _PLAIN}
            asked = [_ask(searcher, each, announce) for each in conversations]
    shipped = [each.recall(WEIGHTS) for each in asked]
    chosen = [_without(asked, number, announce) for number in range(len(asked))] if len(asked) > 1 else []
    held_out = [each.recall(weights) for each, weights in zip(asked, chosen, strict=False)]
    return {
        "benchmark": "search --locomo",
        "versions": versions(),
        "machine": machine(),
        "files": [str(file) for file in files],
        "turns": sum(len(each.turns) for each in conversations),
        "questions": sum(len(each.questions) for each in conversations),
        "weights": asdict(WEIGHTS),
        "recall": {name: _mean(found) for name, found in plain.items()} | {"hybrid": _mean(shipped)},
        "leave_one_out": _mean(held_out) if held_out else None,
        "conversations": [
            {
                "name": each.name,
                "turns": len(each.turns),
                "questions": len(each.questions),
                "hybrid": _mean([shipped[number]]),
                "leave_one_out": _mean([held_out[number]]) if held_out else None,
                "chosen_weights": asdict(chosen[number]) if chosen else None,
            }
            for number, each in enumerate(conversations)
        ],
    }


def read_locomo(file: Path) -> list[Conversation]:
    """The conversations of a LoCoMo file, an array of them.

    Raises:
        UsageError: it cannot be read, or is something else.
    """
    try:
        records = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"cannot read {file}: {error.strerror}", "--locomo takes a file of the LoCoMo benchmark"
        ) from error
    except ValueError as error:
        raise UsageError(f"{file} is no JSON: {error}", "--locomo takes a file of the LoCoMo benchmark") from error
    try:
        found = [_conversation(record, number) for number, record in enumerate(records)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"{file} holds no LoCoMo conversations: {type(error).__name__} {error}"
        raise UsageError(message, 'an array of {"conversation": {"session_1": [...]}, "qa": [...]}') from error
    if not any(each.questions for each in found):
        raise UsageError(f"{file} holds no questions with evidence", "categories 1 to 4 are asked")
    return found


def _conversation(record: Mapping[str, Any], number: int) -> Conversation:
    name = str(record.get("sample_id", number))
    said = record["conversation"]
    sessions = sorted(int(match[1]) for match in map(_SESSION.fullmatch, said) if match)
    turns = [turn for session in sessions for turn in _turns(said, name, session)]
    known = {turn["id"] for turn in turns}
    questions = []
    for asked in record["qa"]:
        places = _EVIDENCE.findall(" ".join(map(str, asked.get("evidence", ()))))
        evidence = frozenset(_turn_id(name, *map(int, place)) for place in places) & known
        if int(asked["category"]) in _ANSWERED and evidence:
            questions.append(Question(str(asked["question"]), evidence))
    return Conversation(name, turns, questions)


def _turns(said: Mapping[str, Any], name: str, session: int) -> Iterator[dict[str, str]]:
    began = _time(str(said.get(f"session_{session}_date_time", "")))
    for place, turn in enumerate(said[f"session_{session}"], 1):
        match = _EVIDENCE.fullmatch(str(turn.get("dia_id", "")))
        numbers = (int(match[1]), int(match[2])) if match else (session, place)
        yield {
            "id": _turn_id(name, *numbers),
            "session_id": f"{name}/{session}",
            "agent_id": name,
            "speaker": str(turn["speaker"]),
            "text": str(turn["text"]),
        } | ({"timestamp": began} if began else {})


def _turn_id(name: str, session: int, turn: int) -> str:
    return f"{name}/D{session}:{turn}"


def _time(written: str) -> str | None:
    """LoCoMo's "1:56 pm on 8 May, 2023"."""
    try:
        return datetime.strptime(written, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).isoformat()
    except ValueError:
        return None


def _ingest(conversations: Sequence[Conversation], folder: Path) -> None:
    with (folder / "turns.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(turn) + "\n" for each in conversations for turn in each.turns)
    (folder / "memcli.toml").write_text(_SETTINGS, encoding="utf-8")
    run_python(["-m", "memcli", "ingest", "turns.jsonl", "--flush", "--json", "--quiet"], folder)


def _plain(
    searcher: Searcher, conversations: Sequence[Conversation], mode: Mode, announce: Callable[[str], None]
) -> list[list[tuple[float, ...]]]:
    """The recalls of one mode alone, as `memcli search` gives it."""
    announce(f"asking, mode {mode}")
    found = []
    for each in conversations:
        request = Request(mode, Filters(agent=each.name), CUTS[-1])
        answers = searcher.answer([question.text for question in each.questions], request)
        found.append(
            [
                tuple(_found(question, [_turns_of(hit.details) for hit in answer.hits[:cut]]) for cut in CUTS)
                for question, answer in zip(each.questions, answers, strict=True)
            ]
        )
    return found


def _ask(searcher: Searcher, conversation: Conversation, announce: Callable[[str], None]) -> _Asked:
    announce(f"asking {len(conversation.questions):,} questions about {conversation.name}")
    request = Request("hybrid", Filters(agent=conversation.name), CUTS[-1])
    pools = searcher.pools([question.text for question in conversation.questions], request)
    stars = sorted({star for pool in pools for star in pool.stars.tolist()})
    details = search_rows.details(searcher.store, stars)
    return _Asked(conversation.questions, pools, {star: _turns_of(each) for star, each in details.items()})


def _turns_of(details: search_rows.Details) -> frozenset[str]:
    return frozenset(str(source["external_id"]) for source in details.sources)


def _found(question: Question, hits: Sequence[frozenset[str]]) -> float:
    return len(question.evidence & frozenset[str]().union(*hits)) / len(question.evidence)


def _without(asked: Sequence[_Asked], left_out: int, announce: Callable[[str], None]) -> Weights:
    """The weights that are best on all conversations but one.

    Those that memcli has were chosen on all of them, so the choice does not begin there but in the middle of the grid.
    """
    announce(f"choosing weights without conversation {left_out + 1} of {len(asked)}")
    others = [each for number, each in enumerate(asked) if number != left_out]
    best = replace(WEIGHTS, **{name: values[len(values) // 2] for name, values in _GRID.items()})
    reached = _worth(others, best)
    for _ in range(_ROUNDS):
        for name, values in _GRID.items():
            for value in values:
                tried = replace(best, **{name: value})
                worth = _worth(others, tried)
                if worth > reached:
                    best, reached = tried, worth
    return best


def _worth(asked: Sequence[_Asked], weights: Weights) -> float:
    return sum(_mean([each.recall(weights) for each in asked]).values())


def _mean(found: Sequence[Sequence[tuple[float, ...]]]) -> dict[str, float]:
    """The mean recall at each cut over all questions."""
    rows = [row for each in found for row in each]
    return {str(cut): round(sum(row[at] for row in rows) / max(len(rows), 1), 4) for at, cut in enumerate(CUTS)}
