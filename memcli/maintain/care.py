"""Looking after an index: small segments become large ones, what is of no memory goes, what lacks comes.

Each step is a transaction that leaves the index as good as it was: searches go on meanwhile, and a run that was killed
is gone on with by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from memcli import __version__
from memcli.protocols import Embedder, Progress
from memcli.store import reindex as rows
from memcli.store import runs as run_rows
from memcli.store import segments as segment_rows
from memcli.store.check_words import is_whole
from memcli.store.db import Store, now
from memcli.store.undo import write_words
from memcli.store.vectors import Vectors

COMMAND = "reindex"
# A smaller share of free pages is filled by the next runs: writing the whole file anew for it is not worth it.
FREE_SHARE = 0.25
_BATCH = 512


@dataclass(slots=True)
class CareReport:
    """What was done.

    `dropped` are vectors of no memory, `embedded` memories that lacked theirs, `words` entries of the keyword index
    that were added or taken away, `unfinished` segments of a move that was interrupted.
    """

    db: str
    model_id: str | None
    run_id: int | None = None
    segments_before: int = 0
    segments: int = 0
    vectors: int = 0
    dropped: int = 0
    embedded: int = 0
    words: int = 0
    unfinished: int = 0
    file_before: int = 0
    file_after: int = 0
    seconds: float = 0.0
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return asdict(self) | {"seconds": round(self.seconds, 4)}


@dataclass(slots=True)
class CheckReport:
    """What is wrong with an index, and what the user might want to do; nothing was changed."""

    db: str
    model_id: str | None
    segments: int = 0
    vectors: int = 0
    words: int = 0
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    kept: float | None = None
    kept_when_fitted: float | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return asdict(self) | {"seconds": round(self.seconds, 4)}


class Care:
    """One run over one store, with the run lock held. `run` may be called once."""

    def __init__(self, store: Store, embedder: Embedder, vectors: Vectors, progress: Progress) -> None:
        self._store = store
        self._embedder = embedder
        self._vectors = vectors
        self._progress = progress
        self._run_id = store.next_id("runs")
        self._started_at = now()
        size = rows.index_size(store, embedder.model_id)
        self._report = CareReport(str(store.path), embedder.model_id, segments_before=size.segments)
        self._report.unfinished = rows.stale_segments(store, embedder.model_id)

    def run(self) -> CareReport:
        """Do what is to be done; where nothing has changed since the last time, nothing is even looked at."""
        began, report, store = time.perf_counter(), self._report, self._store
        report.file_before = report.file_after = rows.file_bytes(store)
        if store.meta(segment_rows.KEPT_GENERATION) != store.generation():
            alive = segment_rows.embedded_ids(store)
            self._join(alive)
            self._embed(alive)
            self._words(alive)
            self._settle(began)
            if rows.free_share(store) > FREE_SHARE:
                segment_rows.give_back(store)
                report.file_after = rows.file_bytes(store)
        size = rows.index_size(store, self._embedder.model_id)
        report.segments, report.vectors = size.segments, size.vectors
        report.seconds = time.perf_counter() - began
        self._progress.finish()
        return report

    def _join(self, alive: dict[str, NDArray[np.int64]]) -> None:
        coding = self._vectors.coding
        listed = segment_rows.stored(self._store, self._embedder.model_id, coding.version)
        groups = list(segment_rows.groups(listed, alive))
        if groups:
            self._progress.phase("compacting segments", sum(len(each.ids) for group in groups for each in group))
        for group in groups:
            with self._store.transaction(self._store.generation()) as conn:
                run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
                segment_rows.join(conn, group, alive, coding)
            self._vectors.forget([each.id for each in group])
            self._report.dropped += sum(segment_rows.dead(each, alive) for each in group)
            self._report.run_id = self._run_id
            self._progress.advance(0, sum(len(each.ids) for each in group))

    def _embed(self, alive: dict[str, NDArray[np.int64]]) -> None:
        """Give memories their vectors that have lost them."""
        for agent, ids in lacking(self._store, self._vectors, self._embedder.model_id, alive).items():
            for start in range(0, len(ids), _BATCH):
                batch = rows.embedded_of(self._store, ids[start : start + _BATCH])
                found = self._embedder.embed([each.content for each in batch])
                with self._store.transaction(self._store.generation()) as conn:
                    run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
                    self._vectors.insert(conn, agent, [each.id for each in batch], list(found))
                self._report.embedded += len(batch)
                self._report.run_id = self._run_id

    def _words(self, alive: dict[str, NDArray[np.int64]]) -> None:
        """Bring the keyword index into one piece that has exactly the memories that should be found."""
        wanted = np.sort(np.concatenate([np.empty(0, np.int64), *alive.values()]))
        present = segment_rows.words_of(self._store)
        missing, extra = np.setdiff1d(wanted, present), np.setdiff1d(present, wanted)
        with self._store.transaction(self._store.generation()) as conn:
            run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
            if len(extra) or not segment_rows.words_are_whole(self._store):
                # What was indexed under an entry that should not be there cannot be known any more.
                segment_rows.write_words_anew(conn)
                self._report.words = max(len(extra), len(missing), 1)
            elif len(missing):
                write_words(conn, missing.tolist())
                self._report.words = len(missing)
            segment_rows.merge_words(conn)
        self._report.run_id = self._run_id

    def _settle(self, began: float) -> None:
        with self._store.transaction(self._store.generation()) as conn:
            self._report.seconds = time.perf_counter() - began
            run_rows.finish_run(conn, self._run_id, self._report.to_json(), complete=True, settles=False)
            segment_rows.keep_generation(conn)


def check(
    store: Store,
    vectors: Vectors,
    model_id: str | None,
    drift: Callable[[], tuple[float, float] | None],
) -> CheckReport:
    """See whether segments, keywords and the file are as they should be; nothing is changed.

    `drift` tells the share of the vectors' length that a PCA keeps of new texts, and what it kept when it was fitted.
    """
    began = time.perf_counter()
    report = CheckReport(str(store.path), model_id, problems=segment_rows.quick_check(store))
    report.problems += [f"segment {segment_id}: {wrong}" for segment_id, wrong in segment_rows.damaged(store)]
    alive = segment_rows.embedded_ids(store)
    if model_id is not None:
        listed = segment_rows.stored(store, model_id, vectors.coding.version)
        report.segments, report.vectors = len(listed), sum(len(each.ids) for each in listed)
        dead = sum(segment_rows.dead(each, alive) for each in listed)
        without = sum(len(ids) for ids in lacking(store, vectors, model_id, alive).values())
        _tell(report.advice, dead, "vectors are of no memory any more")
        _tell(report.problems, without, "memories have no vector")
        _tell(report.advice, sum(1 for _ in segment_rows.groups(listed, alive)), "segments would be written anew")
        _tell(report.advice, rows.stale_segments(store, model_id), "segments are of a move that was not finished")
    wanted = np.sort(np.concatenate([np.empty(0, np.int64), *alive.values()]))
    present = segment_rows.words_of(store)
    report.words = len(present)
    _tell(report.problems, len(np.setdiff1d(wanted, present)), "memories are not in the keyword index")
    _tell(report.problems, len(np.setdiff1d(present, wanted)), "entries of the keyword index are of no memory")
    if not is_whole(store.conn):
        report.problems.append("the keyword index is damaged")
    if (found := drift()) is not None:
        report.kept, report.kept_when_fitted = found
    report.seconds = time.perf_counter() - began
    return report


def _tell(told: list[str], count: int, what: str) -> None:
    if count:
        told.append(f"{count:,} {what}")


def lacking(
    store: Store, vectors: Vectors, model_id: str, alive: dict[str, NDArray[np.int64]]
) -> dict[str, Sequence[int]]:
    """The memories that have no vector, by agent."""
    present: dict[str, list[NDArray[np.int64]]] = {}
    for each in segment_rows.stored(store, model_id, vectors.coding.version):
        present.setdefault(each.agent, []).append(each.ids)
    none = np.empty(0, np.int64)
    found = {agent: np.setdiff1d(ids, np.concatenate([none, *present.get(agent, [])])) for agent, ids in alive.items()}
    return {agent: ids.tolist() for agent, ids in found.items() if len(ids)}
