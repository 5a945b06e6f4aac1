"""Undoing merges: those of a run, or a single one. In whatever order, undoing everything gives back what was."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memcli import __version__
from memcli.errors import UsageError
from memcli.maintain.dedup import COMMAND as DEDUP
from memcli.maintain.review import ACCEPT
from memcli.store import memories as memory_rows
from memcli.store import runs as run_rows
from memcli.store import undo as undo_rows
from memcli.store.db import Store
from memcli.store.undo import REVERTED, UNDONE, LinkRow
from memcli.store.vectors import Vectors

if TYPE_CHECKING:
    from sqlite3 import Connection

COMMAND = "dedup undo"


@dataclass(slots=True)
class UndoReport:
    """What an undo did: `undone` merges, of which `active` memories stand alone now and `restored` went back.

    `moved` memories have the text of an undone one and follow it; `reviews` pairs were taken off the list for review,
    `reopened` ones are on it again.
    """

    db: str
    of_run: int | None = None
    of_merge: int | None = None
    run_id: int | None = None
    undone: int = 0
    active: int = 0
    restored: int = 0
    moved: int = 0
    reviews: int = 0
    reopened: int = 0
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "run_id": self.run_id,
            "db": self.db,
            "dry_run": self.dry_run,
            "of": {"run": self.of_run, "merge": self.of_merge},
            "undone": self.undone,
            "active": self.active,
            "restored": self.restored,
            "moved": self.moved,
            "reviews": self.reviews,
            "reopened": self.reopened,
        }


def undo_run(store: Store, vectors: Vectors, run_id: int) -> UndoReport:
    """Undo every merge that a run made, and let those live again that it ended.

    Raises:
        UsageError: there is no such run, or nothing of it is left to undo.
    """
    run = undo_rows.run_of(store, run_id)
    if run is None:
        raise UsageError(f"there is no run {run_id}", "the runs are listed by: memcli stats")
    rows = undo_rows.made_by(store, run_id)
    left = [row for row in rows if row.ended_reason not in {UNDONE, REVERTED}]
    plan = _Undo(store, left, undo_rows.ended_by(store, run_id))
    report = UndoReport(str(store.path), of_run=run_id)
    plan.write(report, vectors, of_run=(run_id, run[0]))
    if report.run_id is None:
        why = "its merges are undone already" if rows else f"it merged nothing ({run[0]})"
        raise UsageError(f"run {run_id} has nothing to undo: {why}", "the runs are listed by: memcli stats")
    return report


def undo_merge(store: Store, vectors: Vectors, merge_id: int) -> UndoReport:
    """Undo one merge. One of an exact duplicate of a merged text undoes that text's merge.

    Raises:
        UsageError: there is no such merge, or it has ended.
    """
    row = undo_rows.by_id(store, merge_id)
    if row is None:
        raise UsageError(f"there is no merge {merge_id}", "memcli dedup --explain MEMORY_ID lists a memory's merges")
    if not row.is_live:
        raise UsageError(
            f"merge {merge_id} has ended already: {row.ended_reason} by run {row.ended_run_id}",
            f"see what memory {row.loser} is now: memcli dedup --explain {row.loser}",
        )
    rows = [row]
    if not row.same_text:
        star = undo_rows.live_of(store, [row.winner])
        rows += [
            each for each in star if each.loser_hash == row.loser_hash and each.kind == "near" and each.id != row.id
        ]
        # A duplicate of a text that is undone along with it goes with that text.
        rows = [each for each in rows if each.kind == "near"] or rows
    losers = {each.loser for each in rows}
    before = [
        each
        for run_id in {each.run_id for each in rows}
        for each in undo_rows.ended_by(store, run_id)
        if each.loser in losers
    ]
    plan = _Undo(store, rows, before)
    report = UndoReport(str(store.path), of_merge=merge_id)
    plan.write(report, vectors)
    return report


@dataclass(slots=True)
class _Live:
    """The live links around some memories, as they become."""

    by_loser: dict[int, LinkRow] = field(default_factory=dict)
    by_winner: dict[int, dict[int, LinkRow]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, row: LinkRow) -> None:
        self.by_loser[row.loser] = row
        self.by_winner[row.winner][row.loser] = row

    def remove(self, row: LinkRow) -> None:
        del self.by_loser[row.loser]
        del self.by_winner[row.winner][row.loser]

    def in_the_way(self, row: LinkRow) -> LinkRow | None:
        """A live link that keeps another from living again: stars are no chains, and a loser has one winner."""
        own = self.by_loser.get(row.loser) or self.by_loser.get(row.winner)
        return own or next(iter(self.by_winner[row.loser].values()), None)


class _Undo:
    """Which links end, live again or move; `rows` are to be undone, `before` is what they took the place of."""

    def __init__(self, store: Store, rows: Sequence[LinkRow], before: Iterable[LinkRow]) -> None:
        self._store = store
        undone = {row.id for row in rows}
        before = [row for row in before if row.id not in undone]
        self._live = _Live()
        concerned = {memory for row in (*rows, *before) for memory in (row.loser, row.winner)}
        for row in undo_rows.live_of(store, sorted(concerned)):
            self._live.add(row)
        for row in rows:
            if row.is_live:
                self._live.remove(row)
        self.revived: list[LinkRow] = []
        self.waiting: list[tuple[int, int]] = []
        for row in before:
            blocking = self._live.in_the_way(row)
            if blocking is not None:
                self.waiting.append((row.id, blocking.run_id))
            else:
                self._live.add(row)
                self.revived.append(row)
        self.moved = self._followers(rows)
        former = {row.loser: row for row in self.revived}
        self.ended = [(row, self._reason(row, former.get(row.loser))) for row in rows]

    @staticmethod
    def _reason(row: LinkRow, former: LinkRow | None) -> str:
        """Going back to a winner of the same text says nothing against that text."""
        return REVERTED if former is not None and former.winner_hash == row.winner_hash else UNDONE

    def _followers(self, rows: Iterable[LinkRow]) -> list[tuple[int, int, int | None]]:
        """Exact duplicates of an undone text that came later: they follow it."""
        moved: dict[int, tuple[int, int, int | None]] = {}
        for row in sorted(rows, key=lambda row: row.loser):
            if row.same_text or not row.is_live:
                continue
            away = self._live.by_loser.get(row.loser)
            target = away.winner if away is not None else row.loser
            for other in list(self._live.by_winner[row.winner].values()):
                later = other.loser_hash == row.loser_hash and other.id > row.id and other.kind == "exact"
                if later and other.loser != target:
                    moved.setdefault(other.id, (other.id, target, away.id if away is not None else None))
        return list(moved.values())

    def write(self, report: UndoReport, vectors: Vectors, of_run: tuple[int, str] | None = None) -> None:
        """Do it in one transaction, as a run of its own; where nothing is to be done, nothing is written."""
        store, run_id = self._store, self._store.next_id("runs")
        losers = sorted({row.loser for row, _ in self.ended})
        alone = [memory_id for memory_id in losers if memory_id not in self._live.by_loser]
        with store.transaction(store.generation()) as conn:
            if of_run is not None:
                report.reopened = undo_rows.reopen_reviews(conn, of_run[0], COMMAND)
                report.reviews = undo_rows.drop_reviews(conn, of_run[0]) if of_run[1] in {DEDUP, ACCEPT} else 0
            if not (self.ended or self.revived or report.reopened or report.reviews):
                return
            report.run_id = run_id
            report.undone = len(self.ended)
            report.active, report.restored, report.moved = len(alone), len(self.revived), len(self.moved)
            run_rows.record_run(conn, run_id, COMMAND, __version__, report.to_json())
            undo_rows.end(conn, [(row.id, reason) for row, reason in self.ended], run_id)
            undo_rows.reject_accepted(conn, [(row.loser, row.winner) for row, _ in self.ended], run_id)
            undo_rows.revive(conn, [row.id for row in self.revived])
            undo_rows.hand_over(conn, self.waiting)
            undo_rows.move(conn, self.moved, run_id)
            self._index(conn, vectors, alone)

    def _index(self, conn: Connection, vectors: Vectors, alone: Sequence[int]) -> None:
        """Give vectors and words of their own to exact duplicates that stand alone: their text's are known."""
        bare = memory_rows.by_id(self._store, undo_rows.without_index(self._store, alone))
        if not bare:
            return
        mates = memory_rows.by_content(self._store, {each.content_hash for each in bare})
        embedded = {each.content_hash: each.id for each in reversed(mates) if each.embedded}
        rows = vectors.rows(sorted(embedded.values()))
        found: dict[str, list[int]] = defaultdict(list)
        for each in bare:
            if embedded.get(each.content_hash) in rows:
                found[each.agent].append(each.id)
        hashes = {each.id: each.content_hash for each in bare}
        for agent, ids in found.items():
            vectors.insert(conn, agent, ids, [rows[embedded[hashes[memory_id]]] for memory_id in ids])
        undo_rows.write_words(conn, [memory_id for ids in found.values() for memory_id in ids])
