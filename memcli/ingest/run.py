"""The ingest run: batch after batch through the stages, each committed in one transaction with its cursors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from memcli import __version__
from memcli.config import Profile, RateScope
from memcli.ingest.ahead import Ahead, InTurn
from memcli.ingest.feed import Feed, ReadBatch
from memcli.ingest.identify import Identified, Intake, identify
from memcli.ingest.reextract import Undone, undone, without_known
from memcli.ingest.report import SHOWN_REJECTIONS, STAGES, IngestReport
from memcli.ingest.resolve import Extracted, Resolved, Resolver
from memcli.ingest.windows import Cut, cut_all, cut_full, is_due, is_sampled
from memcli.model import Part, Window
from memcli.protocols import Embedder, Extractor, Progress, Spending
from memcli.redact import redact_bytes_head
from memcli.store import files as file_rows
from memcli.store import memories as memory_rows
from memcli.store import messages as message_rows
from memcli.store import runs as run_rows
from memcli.store import windows as window_rows
from memcli.store.db import Store, now
from memcli.store.runs import BatchRow, WindowRow
from memcli.store.vectors import Vectors, append_segments
from memcli.workers import workers

FREE_TIERS = frozenset({"rules", "verbatim"})


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
    windows: list[WindowRow] = field(default_factory=list)
    extracted: list[Extracted] = field(default_factory=list)
    resolved: Resolved = field(default_factory=Resolved)
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    revisited: bool = False
    spent: Spending = field(default_factory=Spending)


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
    ) -> None:
        self._store = store
        self._spending = spending or Spending()
        self._booked = Spending()
        self._extractors = extractors
        self._vectors = vectors
        self._resolver = Resolver(store, embedder, vectors, near_threshold)
        self._options = options
        self._progress = progress
        self._run_id = store.next_id("runs")
        self._started_at = now()
        self._command = "ingest"
        self.report = IngestReport(db=str(store.path))

    def run(self, feed: Feed) -> IngestReport:
        """Ingest all that `feed` gives, close the windows that are due, and settle the run."""
        report, started = self.report, time.perf_counter()
        if self._options.reextract and not feed.files.seen:
            self._command = "reextract"
        report.files = feed.files
        self._progress.start(feed.total_bytes())
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
            if self._options.reextract and report.stopped is None:
                self._revisit_windows(started)
        elif report.stopped is None:
            report.stopped = "limit"
        report.pending = message_rows.pending_count(self._store)
        report.seconds = time.perf_counter() - started
        self._settle()
        self._progress.finish()
        return report

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
            self._extract(batch, 0 if before is None else len(before.windows))
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
        groups = undone(self._store, self._extractors, self._options.batch_size)
        if lacking := sum(each.window.messages for group in groups for each in group):
            self._progress.phase("bringing new rules", lacking)
        for group in undone(self._store, self._extractors, self._options.batch_size):
            batch = _Batch(now(), self._store.generation(), ReadBatch(), Identified(), Cut((), (), ()), revisited=True)
            with self._stage(batch, "read"):
                parts = window_rows.window_parts(self._store, [each.window.id for each in group])
                sessions = list(dict.fromkeys(each.window.session_id for each in group))
                batch.identified.tags.update(message_rows.session_tags(self._store, sessions))
            with self._stage(batch, "extract"):
                self._revisit(batch, group, parts)
            self._resolve(batch)
            if self._is_out_of_time(started):
                return

    def _revisit(self, batch: _Batch, group: Sequence[Undone], parts: dict[int, list[Part]]) -> None:
        for each in group:
            stored = each.window
            window = Window(stored.id, stored.session_id, stored.agent, tuple(parts[stored.id]))
            self._run_tiers(batch, window, each.extractors)
        batch.extracted = without_known(self._store, batch.extracted)

    def _process(self, batch: _Batch) -> None:
        with self._stage(batch, "extract"):
            self._extract(batch)
        self._resolve(batch)

    def _resolve(self, batch: _Batch, coming: _Batch | None = None) -> None:
        """Embed, judge and commit a batch; meanwhile the texts of the `coming` one are embedded."""
        with self._stage(batch, "embed"):
            plan = self._resolver.plan(batch.extracted)
            vectors, embedded = self._resolver.embed(plan)
            if coming is not None:
                self._resolver.embed_ahead(coming.extracted, plan)
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
        now_spent, booked = self._spending, self._booked
        batch.spent = Spending(
            now_spent.calls - booked.calls, now_spent.tokens - booked.tokens, now_spent.cost_usd - booked.cost_usd
        )
        self._booked = replace(now_spent)

    @contextmanager
    def _stage(self, batch: _Batch, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        batch.timings[name] += time.perf_counter() - began
        self._progress.stage(name, batch.timings[name])

    def _extract(self, batch: _Batch, before: int = 0) -> None:
        """Bring the tiers to the windows of a batch; `before` windows will be stored before them."""
        next_id = self._store.next_id("windows") + before
        for number, (session_id, parts) in enumerate(batch.cut.closed):
            agent = batch.identified.sessions[session_id][0]
            self._run_tiers(batch, Window(next_id + number, session_id, agent, parts), self._extractors)

    def _run_tiers(self, batch: _Batch, window: Window, extractors: Sequence[Extractor]) -> None:
        row = _window_row(window)
        agent, parts = window.agent, window.parts
        sampled = is_sampled(agent, window.session_id, parts, self._options.profile.rate)
        times = {part.message_id: part.timestamp for part in parts}
        began = time.perf_counter()
        for extractor in extractors:
            version = extractor.version_for(agent)
            is_rated = self._options.rate_applies_to == "all" or extractor.tier not in FREE_TIERS
            if is_rated and not sampled:
                row.tiers.append((extractor.tier, version, "skipped_by_rate"))
                continue
            extraction = extractor.extract(window)
            row.tiers.append((extractor.tier, version, "done"))
            row.methods.append(extractor.tier)
            row.tokens += extraction.tokens
            row.cost_usd += extraction.cost_usd
            batch.extracted.extend(
                Extracted(candidate, row.id, row.session_id, agent, times[candidate.sources[0].message_id])
                for candidate in extraction.candidates
            )
        row.seconds = time.perf_counter() - began
        batch.windows.append(row)

    def _commit(self, batch: _Batch) -> None:
        began = time.perf_counter()
        identified, resolved, read = batch.identified, batch.resolved, batch.read
        _count_per_window(batch)
        with self._store.transaction(batch.generation) as conn:
            row = _batch_row(batch, self._store.next_id("batches"))
            run_rows.write_run(conn, self._run_id, self._command, __version__, self._started_at)
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
            any(status == "skipped_by_rate" for _, _, status in window.tiers) for window in batch.windows
        )
        lost = resolved.lost()
        report.created += len(resolved.memories) - lost.total()
        report.merged_exact += lost["exact"]
        report.merged_near += lost["near"]
        report.review += sum(memory.verdict == "review" for memory in resolved.memories)
        report.embedded += resolved.embedded
        report.embed_reused += len(batch.extracted) - resolved.embedded
        report.embed_calls += batch.spent.calls
        report.embed_tokens += batch.spent.tokens
        report.cost_usd += sum(window.cost_usd for window in batch.windows) + batch.spent.cost_usd
        for stage, seconds in batch.timings.items():
            report.timings[stage] += seconds

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
            run_rows.write_run(conn, self._run_id, self._command, __version__, self._started_at)
            run_rows.finish_run(conn, self._run_id, report.to_json(), complete=complete, settles=settles)


def _window_row(window: Window) -> WindowRow:
    times = [part.timestamp for part in window.parts if part.timestamp is not None]
    return WindowRow(
        window.id,
        window.session_id,
        [(part.message_id, part.start, part.start + len(part.text)) for part in window.parts],
        min(times, default=None),
        max(times, default=None),
    )


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
    )


def _rejected_rows(read: ReadBatch) -> list[tuple[int, int, int, str, str]]:
    return [
        (file_id, line.line, line.start, line.reason, redact_bytes_head(line.head)) for file_id, line in read.rejected
    ]
