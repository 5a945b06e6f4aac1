"""Moving a database to another embedding model: all texts are embedded again, while the old vectors go on serving.

The vectors of the new model are committed batch by batch beside the old ones. Only when all are there, one transaction
binds the database to the new model and drops the old vectors. A run that was killed is continued by the next one; what
was ingested in between has higher ids, and so comes last; what an undo in between gave a vector comes first.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from memcli import __version__
from memcli.maintain.compress import CompressionReport
from memcli.protocols import Embedder, Progress, Spending
from memcli.store import reindex as rows
from memcli.store import runs as run_rows
from memcli.store.db import Store, now
from memcli.store.dedup import vector_ids
from memcli.store.reindex import CompressionRow, Embedded
from memcli.store.vectors import NewRows, Vectors, append_segments

if TYPE_CHECKING:
    from sqlite3 import Connection

    from numpy.typing import NDArray

COMMAND = "reindex"


@dataclass(slots=True)
class ReindexReport:
    """What a reindex did; `resumed` are memories that an earlier, interrupted run had embedded already.

    `model_id` is None in a dry run to a provider's model: only the provider knows the length that is part of it.
    """

    db: str
    model: str
    model_id: str | None
    from_model_id: str | None
    run_id: int | None = None
    memories: int = 0
    embedded: int = 0
    reused: int = 0
    resumed: int = 0
    batches: int = 0
    embed_calls: int = 0
    embed_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    dry_run: bool = False
    compression: CompressionReport | None = None
    timings: dict[str, float] = field(default_factory=lambda: {"embed": 0.0, "commit": 0.0})

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        rounded = {name: round(seconds, 4) for name, seconds in self.timings.items()}
        return asdict(self) | {"seconds": round(self.seconds, 4), "timings": rounded}


@dataclass(frozen=True, slots=True)
class Target:
    """The model to move to: its name, where a provider has it how to go on with it, and what it costs meanwhile.

    `compression` is how its vectors are made of those of its base, `measure` compares them before the switch, `carried`
    tells how many vectors were made of others instead of embedding a text.
    """

    name: str
    provider: str | None = None
    spending: Spending = field(default_factory=Spending)
    compression: CompressionRow | None = None
    measure: Callable[[], CompressionReport] | None = None
    carried: Callable[[], int] = int


class Reindex:
    """One run over one store, with the run lock held. `run` may be called once."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        target: Target,
        vectors: Vectors,
        batch_size: int,
        progress: Progress,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._target = target
        self._vectors = vectors
        self._batch_size = batch_size
        self._progress = progress
        self._run_id = store.next_id("runs")
        self._started_at = now()
        self._report = ReindexReport(str(store.path), target.name, embedder.model_id, store.meta("model_id"))

    def run(self) -> ReindexReport:
        """Embed what has no vector of the new model yet, then switch; with nothing to do nothing is written."""
        began, report = time.perf_counter(), self._report
        model_id = self._embedder.model_id
        if report.from_model_id == model_id and not rows.stale_segments(self._store, model_id):
            return report
        work = rows.remaining(self._store, model_id)
        if self._target.compression is not None and rows.compression(self._store, model_id) is None:
            with self._store.transaction(self._store.generation()) as conn:
                run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
                rows.write_compression(conn, self._target.compression, self._run_id)
        if report.from_model_id != model_id:
            missed = self._missed(work.after_id)
            report.memories, report.resumed = work.done + work.memories, work.done - len(missed)
            self._progress.start(work.characters)
            for start in range(0, len(missed), self._batch_size):
                chosen = missed[start : start + self._batch_size]
                self._embed(rows.embedded_of(self._store, chosen), self._insert)
            after = work.after_id
            while batch := rows.embedded_after(self._store, after, self._batch_size):
                self._embed(batch, self._append)
                after = batch[-1].id
        carried = self._target.carried()
        report.embedded, report.reused = report.embedded - carried, report.reused + carried
        if self._target.measure is not None:
            report.compression = self._target.measure()
        self._switch(began)
        self._progress.finish()
        return report

    def _missed(self, reached: int) -> list[int]:
        """The memories up to `reached`, where an earlier run came to, that have no vector of the new model."""
        if not reached:
            return []
        raw = b"".join(vector_ids(self._store, self._embedder.model_id, None))
        wanted = np.array(rows.embedded_up_to(self._store, reached), dtype=np.int64)
        found: list[int] = np.setdiff1d(wanted, np.frombuffer(raw, dtype="<i8")).tolist()
        return found

    def _append(self, conn: Connection, blocks: dict[str, NewRows]) -> list[int]:
        return append_segments(conn, self._embedder.model_id, blocks, self._vectors.coding, self._vectors.made_keys)

    def _insert(self, conn: Connection, blocks: dict[str, NewRows]) -> list[int]:
        for agent, new in blocks.items():
            self._vectors.insert(conn, agent, new.ids.tolist(), list(new.vectors))
        return []

    def _embed(self, batch: list[Embedded], write: Callable[[Connection, dict[str, NewRows]], list[int]]) -> None:
        began, report = time.perf_counter(), self._report
        generation = self._store.generation()
        texts = {each.content_hash: each.content for each in batch}
        known = rows.first_with_text(self._store, list(texts), batch[0].id - 1)
        found = self._vectors.rows(sorted(set(known.values())))
        vectors = {each: found[memory_id] for each, memory_id in known.items() if memory_id in found}
        missing = [each for each in texts if each not in vectors]
        if missing:
            vectors.update(zip(missing, self._embedder.embed([texts[each] for each in missing]), strict=True))
        embedded = time.perf_counter()
        with self._store.transaction(generation) as conn:
            run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
            merged = write(conn, _blocks(batch, vectors))
        self._vectors.forget(merged)
        report.run_id = self._run_id
        report.batches += 1
        report.embedded += len(missing)
        report.reused += len(batch) - len(missing)
        report.timings["embed"] += embedded - began
        report.timings["commit"] += time.perf_counter() - embedded
        self._progress.stage("embed", embedded - began)
        self._progress.advance(sum(len(each.content) for each in batch), len(batch))

    def _switch(self, began: float) -> None:
        started, report = time.perf_counter(), self._report
        report.run_id = self._run_id
        with self._store.transaction(self._store.generation()) as conn:
            run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
            rows.switch_model(conn, self._embedder.model_id, self._target.provider)
            report.timings["commit"] += time.perf_counter() - started
            spent = self._target.spending
            report.embed_calls, report.embed_tokens, report.cost_usd = spent.calls, spent.tokens, spent.cost_usd
            report.seconds = time.perf_counter() - began
            run_rows.finish_run(conn, self._run_id, report.to_json(), complete=True, settles=False)
        report.seconds = time.perf_counter() - began


def _blocks(batch: list[Embedded], vectors: dict[bytes, NDArray[np.float32]]) -> dict[str, NewRows]:
    """The batch's rows as one block per agent, ids ascending."""
    by_agent: dict[str, list[Embedded]] = defaultdict(list)
    for each in batch:
        by_agent[each.agent].append(each)
    return {
        agent: NewRows(
            np.array([each.id for each in members], dtype=np.int64),
            np.stack([vectors[each.content_hash] for each in members]),
        )
        for agent, members in by_agent.items()
    }
