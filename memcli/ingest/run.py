"""The ingest run: batch after batch through the stages, each committed in one transaction with its cursors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from memcli import __version__
from memcli.config import MODEL_TIERS, Profile, RateScope
from memcli.ingest.ahead import Ahead, InTurn
from memcli.ingest.asking import Asking
from memcli.ingest.feed import Feed, ReadBatch
from memcli.ingest.identify import Identified, Intake, identify
from memcli.ingest.reextract import Undone, failed, undone, without_known
from memcli.ingest.report import SHOWN_REJECTIONS, STAGES, IngestReport
from memcli.ingest.resolve import Resolved, Resolver
from memcli.ingest.tiers import SKIPPED, Tiers, Worked
from memcli.ingest.windows import Cut, cut_all, cut_full, is_due
from memcli.model import Part, Window
from memcli.protocols import Embedder, Extractor, Progress, Spending
from memcli.redact import redact_bytes_head
from memcli.store import calls as call_rows
from memcli.store import files as file_rows
from memcli.store import memories as memory_rows
from memcli.store import messages as message_rows
from memcli.store import runs as run_rows
from memcli.store import windows as window_rows
from memcli.store.calls import Ledger
from memcli.store.db import Store, now
from memcli.store.names import write_names_key
from memcli.store.runs import BatchRow, WindowRow
from memcli.store.vectors import Vectors, append_segments
from memcli.workers import workers

if TYPE_CHECKING:
    from sqlite3 import Connection

# A model tier that fails on a window is tried again by later runs, five times.
MOST_ATTEMPTS = 6
SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes about its work; `time_budget` is in seconds, `flush` closes every partial window at the end.

    `embed_ahead` says that the texts of the next batch may be embedded while this one is judged and committed.
    `reextract` runs over stored windows as well, where a tier or its present version has not seen them.
    """

    profile: Profile
    rate_applies_to: RateScope
    intake: Intake
    batch_size: int
    flush: bool = False
    time_budget: float | None = None
    reextract: bool = False
    embed_ahead: bool = False


@dataclass(slots=True)
class _Batch:
    """Everything that one transaction writes; `revisited` says that its windows are stored already."""

    started_at: str
    generation: int
    read: ReadBatch
    identified: Identified
    cut: Cut
    worked: Worked = field(default_factory=Worked)
    resolved: Resolved = field(default_factory=Resolved)
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    revisited: bool = False
    spent: Spending = field(default_factory=Spending)

    @property
    def windows(self) -> list[WindowRow]:
        return self.worked.rows


class Ingest:
    """One run over one store. `run` may be called once."""

    def __init__(
        self,
        store: Store,
        extractors: Sequence[Extractor],
        embedder: Embedder,
        vectors: Vectors,
        near_threshold: float,
        options: Options,
        progress: Progress,
        spending: Spending | None = None,
        asking: Asking | None = None,
    ) -> None:
        self._store = store
        self._spending = spending or Spending()
        self._booked = Spending()
        self._asking = asking
        self._tiers = Tiers(store, extractors, asking, options.profile, options.rate_applies_to)
        self._failed_before: dict[int, dict[tuple[str, str], int]] = {}
        self._vectors = vectors
        self._resolver = Resolver(store, embedder, vectors, near_threshold)
        self._options = options
        self._progress = progress
        self._run_id = store.next_id("runs")
        self._started_at = now()
        self._command = "ingest"
        self.report = IngestReport(
            db=str(store.path), profile=options.profile, models=asking.tallies if asking is not None else {}
        )

    def run(self, feed: Feed) -> IngestReport:
        """Ingest all that `feed` gives, close the windows that are due, and settle the run."""
        report, started = self.report, time.perf_counter()
        if self._options.reextract and not feed.files.seen:
            self._command = "reextract"
        report.files = feed.files
        self._progress.start(feed.total_bytes())
        self._begin_asking()
        batches = (Ahead if workers() > 1 else InTurn)(feed.batches())
        try:
            while (read := self._next(batches)) is not None:
                self._ingest(read)
                if self._is_out_of_time(started):
                    break
        finally:
            batches.close()
        if feed.exhausted and report.stopped is None:
            self._close_due_windows(started)
            if report.stopped is None:
                self._retry_windows(started)
            if self._options.reextract and report.stopped is None:
                self._revisit_windows(started)
        elif report.stopped is None:
            report.stopped = "limit"
        report.pending = message_rows.pending_count(self._store)
        report.seconds = time.perf_counter() - started
        if self._asking is not None:
            self._asking.finish()
        self._settle()
        self._progress.finish()
        return report

    def _begin_asking(self) -> None:
        asking = self._asking
        if asking is None:
            return
        self._failed_before = window_rows.open_tiers(self._store, [tier.tier for tier in asking.tiers], MOST_ATTEMPTS)
        if asking.plan is None:
            call_rows.write_off(self._store)
            asking.start(Ledger(self._store, self._run_id, lambda conn: run_rows.write_run(conn, *self._row)))

    @property
    def _row(self) -> tuple[int, str, str, str]:
        return self._run_id, self._command, __version__, self._started_at

    def _is_out_of_time(self, started: float) -> bool:
        budget = self._options.time_budget
        if budget is not None and time.perf_counter() - started >= budget:
            self.report.stopped = "time-budget"
        return self.report.stopped is not None

    def _next(self, batches: Ahead[ReadBatch] | InTurn[ReadBatch]) -> _Batch | None:
        """The next batch; its time for `read` is what the run had to wait, since it reads one batch ahead."""
        began, started_at = time.perf_counter(), now()
        read = batches.next()
        if read is None:
            return None
        batch = _Batch(started_at, self._store.generation(), read, Identified(), Cut((), (), ()))
        batch.timings["read"] = time.perf_counter() - began
        self._progress.stage("read", batch.timings["read"])
        return batch

    def _ingest(self, batch: _Batch) -> None:
        with self._stage(batch, "filter"):
            batch.identified = identify(self._store, batch.read, self._options.intake)
            parts = batch.identified.parts
            sessions = list(dict.fromkeys(session_id for session_id, _ in parts))
            pending = message_rows.pending_parts(self._store, sessions)
            batch.cut = cut_full(pending, parts, self._options.profile.max_messages)
        self._process(batch)

    def _close_due_windows(self, started: float) -> None:
        """Close partial windows, now that all input is read: those that are due, or all with `flush`."""
        profile, at = self._options.profile, datetime.now(UTC)
        sessions = [
            (session_id, agent, parts)
            for session_id, agent, parts, newest in message_rows.pending_sessions(self._store)
            if self._options.flush or is_due(parts, newest, profile, at)
        ]
        if sessions:
            self._progress.phase("closing windows", sum(parts for _, _, parts in sessions))
        due = iter(sessions)
        coming = self._closing(self._group(due))
        while (batch := coming) is not None:
            coming = self._closing(self._group(due), batch) if self._options.embed_ahead else None
            self._resolve(batch, coming)
            if self._is_out_of_time(started):
                return
            if not self._options.embed_ahead:
                coming = self._closing(self._group(due))

    def _closing(self, group: Sequence[tuple[int, str]], before: _Batch | None = None) -> _Batch | None:
        """A batch that closes the windows of some sessions, extracted already; None where there are no sessions.

        `before` is the batch that will be committed before this one. It is of other sessions: nothing of this one
        depends on it but the ids of windows.
        """
        if not group:
            return None
        generation = self._store.generation() + (before is not None)
        batch = _Batch(now(), generation, ReadBatch(), Identified(), Cut((), (), ()))
        with self._stage(batch, "filter"):
            ids = [session_id for session_id, _ in group]
            pending = message_rows.pending_parts(self._store, ids)
            tags = message_rows.session_tags(self._store, ids)
            for session_id, agent in group:
                batch.identified.sessions[session_id] = (agent, "")
                batch.identified.tags[session_id] = tags.get(session_id, set())
            closed = [
                window
                for session_id in ids
                for window in cut_all(session_id, pending[session_id], self._options.profile.max_messages)
            ]
            batch.cut = Cut(tuple(closed), (), tuple(ids))
        with self._stage(batch, "extract"):
            self._extract(batch, 0 if before is None else len(before.worked.rows))
        return batch

    def _group(self, due: Iterator[tuple[int, str, int]]) -> list[tuple[int, str]]:
        """The next sessions whose waiting parts fill a batch; any number of parts of one session stay together."""
        group: list[tuple[int, str]] = []
        total = 0
        while total < self._options.batch_size and (taken := list(islice(due, 1))):
            session_id, agent, parts = taken[0]
            group.append((session_id, agent))
            total += parts
        return group

    def _revisit_windows(self, started: float) -> None:
        groups = undone(self._store, self._tiers.lacking, self._options.batch_size)
        if lacking := sum(each.window.messages for group in groups for each in group):
            self._progress.phase("bringing new rules", lacking)
        for group in undone(self._store, self._tiers.lacking, self._options.batch_size):
            self._revisit(group)
            if self._is_out_of_time(started):
                return

    def _retry_windows(self, started: float) -> None:
        """Ask again about the windows that model tiers failed on, or did not get to, in earlier runs."""
        before = self._failed_before
        if self._asking is None or not before:
            return
        groups = list(failed(self._store, self._asking.tiers, before, self._options.batch_size))
        self._progress.phase("asking again", sum(each.window.messages for group in groups for each in group))
        for group in groups:
            if self._asking.has_given_up:
                waiting = Counter(tier.tier for each in group for tier in each.tiers)
                for tier, count in waiting.items():
                    self.report.models[tier].waiting += count
                continue
            self._revisit(group)
            if self._is_out_of_time(started):
                return

    def _revisit(self, group: Sequence[Undone]) -> None:
        """Bring to stored windows what they lack."""
        batch = _Batch(now(), self._store.generation(), ReadBatch(), Identified(), Cut((), (), ()), revisited=True)
        with self._stage(batch, "read"):
            parts = window_rows.window_parts(self._store, [each.window.id for each in group])
            sessions = list(dict.fromkeys(each.window.session_id for each in group))
            batch.identified.tags.update(message_rows.session_tags(self._store, sessions))
        with self._stage(batch, "extract"):
            wanted = [(_stored_window(each, parts[each.window.id]), each.tiers) for each in group]
            batch.worked = self._tiers.work(wanted)
            batch.worked.extracted = without_known(self._store, batch.worked.extracted)
        self._resolve(batch)

    def _process(self, batch: _Batch) -> None:
        with self._stage(batch, "extract"):
            self._extract(batch)
        self._resolve(batch)

    def _resolve(self, batch: _Batch, coming: _Batch | None = None) -> None:
        """Embed, judge and commit a batch; meanwhile the texts of the `coming` one are embedded."""
        with self._stage(batch, "embed"):
            plan = self._resolver.plan(batch.worked.extracted)
            vectors, embedded = self._resolver.embed(plan)
            if coming is not None:
                self._resolver.embed_ahead(coming.worked.extracted, plan)
        with self._stage(batch, "dedup"):
            batch.resolved = self._resolver.decide(plan, vectors)
            batch.resolved.embedded = embedded
        self._book(batch)
        with self._stage(batch, "commit"):
            self._commit(batch)
        self._count(batch)
        # What was not read in this batch comes out of the database.
        stored = sum(len(window.parts) for window in batch.windows) if batch.read.empty else 0
        messages = stored or len(batch.read.messages)
        self._progress.advance(batch.read.bytes, messages)

    def _book(self, batch: _Batch) -> None:
        """Put what the provider of embeddings has taken since the last batch down to this one."""
        batch.spent = self._spending.since(self._booked)
        self._booked = replace(self._spending)

    @contextmanager
    def _stage(self, batch: _Batch, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        batch.timings[name] += time.perf_counter() - began
        self._progress.stage(name, batch.timings[name])

    def _extract(self, batch: _Batch, before: int = 0) -> None:
        """Bring the tiers to the windows of a batch; `before` windows will be stored before them."""
        next_id = self._store.next_id("windows") + before
        windows = [
            Window(next_id + number, session_id, batch.identified.sessions[session_id][0], parts)
            for number, (session_id, parts) in enumerate(batch.cut.closed)
        ]
        batch.worked = self._tiers.work([(each, self._tiers.all) for each in windows], batch.identified.told)

    def _commit(self, batch: _Batch) -> None:
        began = time.perf_counter()
        identified, resolved, read = batch.identified, batch.resolved, batch.read
        _count_per_window(batch)
        with self._store.transaction(batch.generation) as conn:
            row = _batch_row(batch, self._store.next_id("batches"))
            run_rows.write_run(conn, *self._row)
            write_names_key(conn, self._options.intake.names.new_key)
            file_rows.write_cursors(conn, read.cursors.values())
            file_rows.write_rejected(conn, _rejected_rows(read), self._run_id)
            run_rows.write_batch(conn, row, self._run_id)
            message_rows.write_sessions(conn, identified.new_sessions, identified.new_tags)
            message_rows.write_messages(conn, identified.new, row.id)
            message_rows.write_grown(conn, identified.grown)
            message_rows.write_identities(conn, identified.records, identified.counts, read.restarted)
            message_rows.write_pending(conn, batch.cut.windowed, batch.cut.waiting)
            if batch.revisited:
                run_rows.write_revisited(conn, batch.windows)
            else:
                run_rows.write_windows(conn, batch.windows, row.id)
            tags = [
                (memory.id, tag)
                for memory in resolved.memories
                for tag in sorted(identified.tags.get(memory.session_id, ()))
            ]
            memory_rows.write_memories(conn, resolved.memories, tags, self._run_id)
            memory_rows.write_merges(
                conn, resolved.links, resolved.relinked, resolved.reviews, self._resolver.evidence, self._run_id
            )
            self._write_models(conn, batch)
            merged = append_segments(
                conn,
                self._resolver.evidence.model_id,
                resolved.blocks,
                self._vectors.coding,
                self._vectors.made_keys,
            )
            batch.timings["commit"] = time.perf_counter() - began
            run_rows.write_batch_timings(conn, row.id, batch.timings)
            batch.timings["commit"] = 0.0
        self._vectors.forget(merged)

    def _write_models(self, conn: Connection, batch: _Batch) -> None:
        if self._asking is None:
            return
        call_rows.book(conn, [(window.id, key) for window in batch.windows for key in window.asked])
        rejected = [(window.id, *counted) for window in batch.windows for counted in window.rejected]
        call_rows.write_rejected_statements(conn, rejected)
        call_rows.write_links(conn, _links(batch), self._run_id)
        call_rows.write_told(conn, batch.identified.told)

    def _count(self, batch: _Batch) -> None:
        report, read, identified, resolved = self.report, batch.read, batch.identified, batch.resolved
        report.run_id = self._run_id
        report.batches += 1
        report.lines_read += read.lines
        report.skipped.update(read.skipped)
        report.rejected += len(read.rejected)
        for file_id, line in read.rejected[: SHOWN_REJECTIONS - len(report.rejections)]:
            report.rejections.append((read.cursors[file_id].path, line.line, line.reason))
        report.messages_read += len(read.messages)
        report.messages_new += len(identified.new)
        report.messages_duplicate += identified.duplicate
        report.filtered.update(identified.filtered)
        report.redacted.update(identified.redacted)
        report.windows_processed += sum(bool(window.methods) for window in batch.windows)
        report.windows_skipped_by_rate += sum(
            any(row.status == SKIPPED for row in window.tiers) for window in batch.windows
        )
        of_models = [
            memory.candidate.content
            for memory in resolved.memories
            if memory.verdict not in {"exact", "near"} and memory.candidate.method.partition(":")[0] in MODEL_TIERS
        ]
        report.model_memories += len(of_models)
        report.model_characters += sum(map(len, of_models))
        lost = resolved.lost()
        report.created += len(resolved.memories) - lost.total()
        report.merged_exact += lost["exact"]
        report.merged_near += lost["near"]
        report.review += sum(memory.verdict == "review" for memory in resolved.memories)
        report.embedded += resolved.embedded
        report.embed_reused += len(batch.worked.extracted) - resolved.embedded
        report.embed_calls += batch.spent.calls
        report.embed_tokens += batch.spent.tokens
        report.embed_cost_usd += batch.spent.cost_usd
        report.scan_seconds += resolved.scan_seconds
        self._count_failures(batch)
        for stage, seconds in batch.timings.items():
            report.timings[stage] += seconds

    def _count_failures(self, batch: _Batch) -> None:
        report = self.report
        for window in batch.windows:
            before = self._failed_before.get(window.id, {})
            for row in window.tiers:
                if row.status != "failed":
                    continue
                if before.get((row.tier, row.version), 0) + 1 >= MOST_ATTEMPTS:
                    report.models[row.tier].permanent += 1
                if len(report.failures) < SHOWN_FAILURES:
                    report.failures.append((window.id, row.tier, row.error or ""))

    def _settle(self) -> None:
        """Close the run, unless it found nothing to do: then nothing is written at all."""
        report = self.report
        if report.run_id is None and (
            report.stopped is not None or not run_rows.unfinished(self._store, self._command)
        ):
            return
        report.run_id = self._run_id
        complete = report.stopped is None
        # Of the transcripts that an interrupted run left unread, a run that reads none knows nothing.
        settles = complete and (self._command == "ingest" or not run_rows.unfinished(self._store, "ingest"))
        with self._store.transaction(self._store.generation()) as conn:
            run_rows.write_run(conn, *self._row)
            run_rows.finish_run(conn, self._run_id, report.to_json(), complete=complete, settles=settles)


def _stored_window(undone: Undone, parts: Sequence[Part]) -> Window:
    stored = undone.window
    return Window(stored.id, stored.session_id, stored.agent, tuple(parts))


def _links(batch: _Batch) -> list[tuple[int, int]]:
    """Links between what was extracted as (memory id, related id)."""
    pairs = zip(batch.worked.extracted, batch.resolved.memories, strict=True)
    ids = {id(extracted): memory.id for extracted, memory in pairs}
    return [(ids[id(one)], ids[id(other)]) for one, other in batch.worked.links if {id(one), id(other)} <= ids.keys()]


def _count_per_window(batch: _Batch) -> None:
    rows = {window.id: window for window in batch.windows}
    for memory in batch.resolved.memories:
        if memory.verdict in {"exact", "near"}:
            rows[memory.window_id].memories_merged += 1
        else:
            rows[memory.window_id].memories_created += 1


def _batch_row(batch: _Batch, batch_id: int) -> BatchRow:
    identified, read = batch.identified, batch.read
    lost = batch.resolved.lost().total()
    windowed = [message_id for window in batch.windows for message_id, _, _ in window.parts]
    return BatchRow(
        id=batch_id,
        started_at=batch.started_at,
        message_ids=identified.message_ids or windowed,
        lines_read=read.lines,
        lines_skipped=read.skipped,
        messages_in=len(read.messages),
        messages_duplicate=identified.duplicate,
        messages_kept=len(identified.parts),
        messages_filtered=identified.filtered,
        memories_created=len(batch.resolved.memories) - lost,
        memories_merged=lost,
        methods=list(dict.fromkeys(method for window in batch.windows for method in window.methods)),
        timings=batch.timings,
        tokens=sum(window.tokens for window in batch.windows) + batch.spent.tokens,
        cost_usd=sum(window.cost_usd for window in batch.windows) + batch.spent.cost_usd,
        embed_calls=batch.spent.calls,
        embed_tokens=batch.spent.tokens,
        embed_usd=batch.spent.cost_usd,
    )


def _rejected_rows(read: ReadBatch) -> list[tuple[int, int, int, str, str]]:
    return [
        (file_id, line.line, line.start, line.reason, redact_bytes_head(line.head)) for file_id, line in read.rejected
    ]
