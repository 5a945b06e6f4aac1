"""The import run: batch after batch, each committed in one transaction with the cursor of its file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from memcli import __version__
from memcli.dedup.gates import GATE_VERSION
from memcli.embed.carried import CarriedEmbedder
from memcli.exchange.decided import Own, resolve
from memcli.exchange.feed import Feed, ReadBatch
from memcli.exchange.forgotten import drop_forgotten
from memcli.exchange.place import Placed, Placer, Places
from memcli.exchange.records import Parted, Undecided
from memcli.exchange.report import SHOWN_REJECTIONS, STAGES, ImportReport
from memcli.ingest.resolve import Extracted, Resolved, Resolver
from memcli.model import Candidate, Judgement, Known, NewReview
from memcli.protocols import Progress, Spending
from memcli.redact import redact_bytes_head
from memcli.redact.names import Names
from memcli.store import exchange as rows
from memcli.store import files as file_rows
from memcli.store import memories as memory_rows
from memcli.store import messages as message_rows
from memcli.store import runs as run_rows
from memcli.store.db import Store, now
from memcli.store.memories import NewMemory
from memcli.store.names import write_names_key
from memcli.store.runs import BatchRow, WindowRow
from memcli.store.vectors import Vectors, append_segments

if TYPE_CHECKING:
    from sqlite3 import Connection

COMMAND = "import"


@dataclass(slots=True)
class _Batch:
    """Everything that one transaction writes."""

    read: ReadBatch
    started_at: str
    generation: int
    places: Places = field(default_factory=Places)
    windows: list[WindowRow] = field(default_factory=list)
    resolved: Resolved = field(default_factory=Resolved)
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    spent: Spending = field(default_factory=Spending)

    @property
    def is_new(self) -> bool:
        """Whether it says anything new."""
        read, places = self.read, self.places
        return bool(self.resolved.memories or places.messages or places.new_tags or read.rejected or read.undecided)


class Import:
    """One run over one store, with the run lock held. `run` may be called once."""

    def __init__(
        self,
        store: Store,
        embedder: CarriedEmbedder,
        vectors: Vectors,
        near_threshold: float,
        progress: Progress,
        spending: Spending,
        names: Names | None = None,
    ) -> None:
        self._store = store
        self._names = names or Names()
        self._embedder = embedder
        self._vectors = vectors
        self._resolver = Resolver(store, embedder, vectors, near_threshold)
        self._progress = progress
        self._spending = spending
        self._booked = Spending()
        self._run_id = store.next_id("runs")
        self._started_at = now()
        self._placer = Placer(store)
        self._own = Own(store.next_id("memories"))
        self._parted: list[Parted] = []
        self._gone: set[bytes] = set()
        self.report = ImportReport(db=str(store.path))

    def run(self, feed: Feed) -> ImportReport:
        """Import all that `feed` gives, and settle the run; with nothing new nothing is written."""
        report, began = self.report, time.perf_counter()
        self._progress.start(feed.total_bytes())
        batches = feed.batches()
        while (batch := self._next(batches)) is not None:
            self._take(batch)
        report.files_read, report.files_unchanged = feed.files.read, feed.files.unchanged
        for note in feed.files.notes:
            self._progress.note(note)
        report.seconds = time.perf_counter() - began
        self._settle()
        self._progress.finish()
        return report

    def _next(self, batches: Iterator[ReadBatch]) -> _Batch | None:
        began, started_at = time.perf_counter(), now()
        read = next(batches, None)
        if read is None:
            return None
        batch = _Batch(read, started_at, self._store.generation())
        batch.timings["read"] = time.perf_counter() - began
        self._progress.stage("read", batch.timings["read"])
        return batch

    def _take(self, batch: _Batch) -> None:
        read = batch.read
        self.report.forgotten += drop_forgotten(self._store, read, self._gone)
        self._parted.extend(read.parted)
        with self._stage(batch, "read"):
            batch.places = self._placer.place(read)
        if any(each.known is None for star in batch.places.stars for each in star):
            self._resolve(batch)
        elif read.decided:
            for star in batch.places.stars:
                for each in star:
                    self._own.add(each.known or 0)
        if batch.is_new or (read.done and read.cursor.size >= 0) or (read.done and self._parted):
            self._book(batch)
            with self._stage(batch, "commit"):
                self._commit(batch)
        self._count(batch)
        if read.done:
            # What one file says of its memories says nothing of the next one's.
            self._own, self._parted = Own(self._store.next_id("memories")), []
            self._placer = Placer(self._store)
        self._progress.advance(read.bytes, sum(len(star.members) for star in read.stars))

    def _resolve(self, batch: _Batch) -> None:
        stars = batch.places.stars
        new = [each for star in stars for each in star if each.known is None]
        batch.windows = _windows(self._store, new)
        items = _items(new, batch.windows)
        if batch.read.decided:
            same_model = batch.read.model_id == self._embedder.model_id
            batch.resolved = resolve(
                self._store,
                self._resolver,
                stars,
                items,
                self._own,
                self._parted,
                partial(self._stage, batch),
                same_model=same_model,
            )
        else:
            with self._stage(batch, "embed"):
                plan = self._resolver.plan(items)
                vectors, embedded = self._resolver.embed(plan)
            with self._stage(batch, "dedup"):
                batch.resolved = self._resolver.decide(plan, vectors)
            batch.resolved.embedded = embedded
        batch.resolved.memories = [
            replace(memory, imported=each.imported, created_at=each.member.created_at)
            for memory, each in zip(batch.resolved.memories, new, strict=True)
        ]
        _count_per_window(batch.windows, batch.resolved.memories)

    def _book(self, batch: _Batch) -> None:
        batch.spent = self._spending.since(self._booked)
        self._booked = replace(self._spending)

    @contextmanager
    def _stage(self, batch: _Batch, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        batch.timings[name] += time.perf_counter() - began
        self._progress.stage(name, batch.timings[name])

    def _commit(self, batch: _Batch) -> None:
        read, places, resolved = batch.read, batch.places, batch.resolved
        began = time.perf_counter()
        with self._store.transaction(batch.generation) as conn:
            row = _batch_row(batch, self._store.next_id("batches"))
            run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
            write_names_key(conn, self._names.new_key)
            file_rows.write_cursors(conn, [read.cursor, *places.files])
            file_rows.write_rejected(conn, _rejected_rows(read), self._run_id)
            run_rows.write_batch(conn, row, self._run_id)
            message_rows.write_sessions(conn, places.new_sessions, places.new_tags)
            message_rows.write_messages(conn, places.messages, row.id)
            message_rows.write_identities(conn, places.records, {}, ())
            run_rows.write_windows(conn, batch.windows, row.id)
            tags = [
                (memory.id, tag)
                for memory in resolved.memories
                for tag in sorted(places.tags.get(memory.session_id, ()))
            ]
            memory_rows.write_memories(conn, resolved.memories, tags, self._run_id)
            memory_rows.write_merges(
                conn, resolved.links, resolved.relinked, resolved.reviews, self._resolver.evidence, self._run_id
            )
            merged = append_segments(
                conn, self._embedder.model_id, resolved.blocks, self._vectors.coding, self._vectors.made_keys
            )
            self._write_undecided(conn, read.undecided)
            if read.done:
                self._write_parted(conn)
            batch.timings["commit"] = time.perf_counter() - began
            run_rows.write_batch_timings(conn, row.id, batch.timings)
            batch.timings["commit"] = 0.0
        self._vectors.forget(merged)
        self.report.run_id = self._run_id
        self.report.batches += 1

    def _write_parted(self, conn: Connection) -> None:
        """Keep what the user of the other database has parted, of texts that are here."""
        wanted = dict.fromkeys(found for each in self._parted for _, found in (each.one, each.other))
        ids: dict[tuple[str, bytes], list[int]] = {}
        for known in memory_rows.by_content(self._store, wanted):
            ids.setdefault((known.agent, known.content_hash), []).append(known.id)
        pairs = []
        for each in self._parted:
            one, other = ids.get(each.one, [])[each.one == each.other :], ids.get(each.other, [])
            if one and other:
                later, earlier = max(one[0], other[0]), min(one[0], other[0])
                pairs.append((later, earlier, each.cosine, each.overlap, json.dumps(each.gates_failed)))
        self.report.parted += rows.write_parted(conn, pairs, GATE_VERSION, self._run_id)

    def _write_undecided(self, conn: Connection, pairs: Sequence[Undecided]) -> None:
        """Keep what the user is to decide, of texts that active memories have here; what was decided here holds."""
        if not pairs:
            return
        active: dict[tuple[str, bytes], list[Known]] = {}
        for known in memory_rows.by_content(
            self._store, {text[1] for pair in pairs for text in (pair.one, pair.other)}
        ):
            if known.link is None:
                active.setdefault((known.agent, known.content_hash), []).append(known)
        reviews = []
        for pair in pairs:
            found = [(one, other) for one in active.get(pair.one, ()) for other in active.get(pair.other, ())]
            alike = [(one.id, other.id) for one, other in found if one.id != other.id and one.type == other.type]
            if alike:
                judgement = Judgement((), pair.gates_failed, pair.overlap, dict(pair.differences))
                reviews.append(NewReview(max(alike[0]), min(alike[0]), pair.cosine, judgement))
        self.report.review_pairs += memory_rows.add_reviews(conn, reviews, self._resolver.evidence, self._run_id)

    def _count(self, batch: _Batch) -> None:
        report, read, places, resolved = self.report, batch.read, batch.places, batch.resolved
        report.lines += read.lines
        report.rejected += len(read.rejected)
        for line in read.rejected[: SHOWN_REJECTIONS - len(report.rejections)]:
            report.rejections.append((read.cursor.path, line.line, line.reason))
        report.messages += len(read.messages)
        report.messages_new += len(places.messages)
        report.memories += sum(len(star.members) for star in read.stars)
        report.known += places.known
        lost = resolved.lost()
        report.created += len(resolved.memories) - lost.total()
        report.merged_exact += lost["exact"]
        report.merged_near += lost["near"]
        report.review += sum(memory.verdict == "review" for memory in resolved.memories)
        report.vectors_taken = self._embedder.carried
        report.embedded += resolved.embedded
        report.embed_reused += sum(memory.embedded for memory in resolved.memories) - resolved.embedded
        report.redacted.update(read.redacted)
        report.embed_calls += batch.spent.calls
        report.embed_tokens += batch.spent.tokens
        report.cost_usd += batch.spent.cost_usd
        for stage, seconds in batch.timings.items():
            report.timings[stage] += seconds

    def _settle(self) -> None:
        report = self.report
        report.embedded -= report.vectors_taken
        if report.run_id is None and not run_rows.unfinished(self._store, COMMAND):
            return
        report.run_id = self._run_id
        with self._store.transaction(self._store.generation()) as conn:
            run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
            settles = not run_rows.unfinished(self._store, "ingest")
            run_rows.finish_run(conn, self._run_id, report.to_json(), complete=True, settles=settles)


def _windows(store: Store, new: Sequence[Placed]) -> list[WindowRow]:
    """A window per session, without messages: an import is extracted from none, and no tier shall see it later."""
    first = store.next_id("windows")
    sessions = dict.fromkeys(each.session_id for each in new)
    return [
        WindowRow(first + number, session_id, [], None, None, methods=[COMMAND])
        for number, session_id in enumerate(sessions)
    ]


def _items(new: Sequence[Placed], windows: Sequence[WindowRow]) -> list[Extracted]:
    by_session = {window.session_id: window.id for window in windows}
    return [
        Extracted(
            Candidate(
                each.member.content,
                each.member.type,
                each.member.importance,
                each.member.method,
                each.sources,
                each.member.keywords,
            ),
            by_session[each.session_id],
            each.session_id,
            each.member.agent,
            each.member.timestamp,
        )
        for each in new
    ]


def _count_per_window(windows: Sequence[WindowRow], memories: Sequence[NewMemory]) -> None:
    by_id = {window.id: window for window in windows}
    for memory in memories:
        if memory.verdict in {"exact", "near"}:
            by_id[memory.window_id].memories_merged += 1
        else:
            by_id[memory.window_id].memories_created += 1


def _batch_row(batch: _Batch, batch_id: int) -> BatchRow:
    read, places = batch.read, batch.places
    lost = batch.resolved.lost().total()
    return BatchRow(
        id=batch_id,
        started_at=batch.started_at,
        message_ids=[message.id for message in places.messages],
        lines_read=read.lines,
        lines_skipped={},
        messages_in=len(read.messages),
        messages_duplicate=places.known_messages,
        messages_kept=len(places.messages),
        messages_filtered={},
        memories_created=len(batch.resolved.memories) - lost,
        memories_merged=lost,
        methods=[COMMAND],
        timings=batch.timings,
        tokens=batch.spent.tokens,
        cost_usd=batch.spent.cost_usd,
    )


def _rejected_rows(read: ReadBatch) -> list[tuple[int, int, int, str, str]]:
    file_id = read.cursor.file_id
    return [(file_id, line.line, line.start, line.reason, redact_bytes_head(line.head)) for line in read.rejected]
