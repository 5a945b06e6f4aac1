"""Deduplication of what is stored: every memory is judged once more, in the order of the ids, as an ingest would.

A memory is compared with the active ones before it, at the threshold of this run; the merge that it already has counts
as passing. So the outcome is what one ingest of everything at that threshold would have left, plus what is merged
already. Each batch is one transaction that leaves whole stars: when a memory loses, those of its own losers that are
judged later stand alone until then. A killed run is gone on with where its last commit stopped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from memcli import __version__
from memcli.dedup.gates import GATE_VERSION
from memcli.dedup.judge import ACCEPTED, MAX_REVIEW_PAIRS, VERBATIM, Judge, Verdict
from memcli.maintain.report import DedupReport
from memcli.maintain.second import SecondOpinion
from memcli.maintain.slices import Slice, Slicer
from memcli.model import Known, Link, NewReview, Ruling
from memcli.protocols import Progress
from memcli.store import dedup as dedup_rows
from memcli.store import memories as memory_rows
from memcli.store import runs as run_rows
from memcli.store.db import Store, now
from memcli.store.dedup import Ended, Scope
from memcli.store.memories import Evidence
from memcli.store.vectors import Vectors

ALL = ""
COMMAND = "dedup"


@dataclass(frozen=True, slots=True)
class Options:
    """What a run does: `threshold` is the least cosine of a candidate, `batch_size` counts memories per transaction.

    `rethreshold` looks at everything again and ends the merges by evidence that are below the threshold.
    """

    threshold: float
    batch_size: int
    scope: Scope = field(default_factory=Scope)
    rethreshold: bool = False


@dataclass(slots=True)
class _Batch:
    """What one transaction writes."""

    slices: list[Slice]
    generation: int
    ended: list[Ended] = field(default_factory=list)
    added: list[Link] = field(default_factory=list)
    failed: dict[int, Verdict] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    taken_over: int = 0
    timings: dict[str, float] = field(default_factory=dict)


class Dedup:
    """One run over one store. `run` may be called once."""

    def __init__(
        self,
        store: Store,
        vectors: Vectors,
        model_id: str,
        options: Options,
        progress: Progress,
        second: SecondOpinion | None = None,
    ) -> None:
        self._store = store
        self._options = options
        self._scope = options.scope
        self._evidence = Evidence(model_id, options.threshold, GATE_VERSION)
        self._slicer = Slicer(store, vectors, model_id, options.threshold, options.batch_size)
        self._progress = progress
        self._second = second
        self._from: dict[str, int] = {}
        self._run_id = store.next_id("runs")
        self._started_at = now()
        self.report = DedupReport(
            db=str(store.path),
            threshold=options.threshold,
            model_id=model_id,
            gate_version=GATE_VERSION,
            agent=self._scope.agent,
            across_types=self._scope.across_types,
            across_agents=self._scope.across_agents,
            rethreshold=options.rethreshold,
        )

    def run(self) -> DedupReport:
        """Compare what has not been compared at this threshold, merge, and settle the run."""
        began = time.perf_counter()
        marks = {} if self._options.rethreshold else dedup_rows.watermarks(self._store, self._scope, self._evidence)
        after = marks.get(ALL, 0)
        grown = dedup_rows.grown(self._store, after, self._scope.agent)
        last = self._store.next_id("memories") - 1
        if self._scope.across_agents and grown:
            grown = [(ALL, sum(count for _, count, _ in grown), last)]
        self._progress.phase("comparing", sum(count for _, count, _ in grown))
        self._from = {agent: max(after, marks.get(agent, 0)) for agent, _, _ in grown}
        slices = (
            each for agent, _, end in grown for each in self._slicer.slices(agent or None, self._from[agent], end)
        )
        while (batch := self._next(slices)) is not None:
            self._judge(batch)
            self._commit(batch)
            self._progress.advance(0, sum(len(each.members) for each in batch.slices))
        self.report.seconds = time.perf_counter() - began
        self._settle(last if self._scope.agent is None and last > after else None)
        self._progress.finish()
        return self.report

    def _next(self, slices: Iterator[Slice]) -> _Batch | None:
        """Slices of small agents go together into one transaction."""
        began, total = time.perf_counter(), 0
        batch = _Batch([], self._store.generation())
        while total < self._options.batch_size and (taken := next(slices, None)) is not None:
            batch.slices.append(taken)
            total += len(taken.members)
        self._took(batch, "scan", began)
        return batch if batch.slices else None

    def _took(self, batch: _Batch, stage: str, began: float) -> None:
        batch.timings[stage] = time.perf_counter() - began
        self.report.timings[stage] += batch.timings[stage]
        self._progress.stage(stage, batch.timings[stage])

    # --- judging -----------------------------------------------------------------------------------------------------

    def _judge(self, batch: _Batch) -> None:
        began = time.perf_counter()
        surroundings = _Surroundings(self._store, self._scope, batch.slices)
        ids = list(surroundings.members)
        judge = Judge(
            surroundings.known(),
            self._options.threshold,
            surroundings.rulings,
            dedup_rows.centres(self._store, ids, ACCEPTED),
            None if self._second is None else self._second.against,
        )
        dropped: set[int] = set()
        for part in batch.slices:
            for member in part.members:
                kept = member.link
                if kept is not None and surroundings.has_later_speaker(member):
                    kept = None
                elif kept is not None and self._is_below(kept):
                    kept = None
                    dropped.add(member.id)
                flat = replace(self._scope.flattened(member), link=kept)
                verdict = judge.take(flat, part.pairs.get(member.id, ()), left_out=part.left_out.get(member.id, 0))
                batch.verdicts[verdict.decision] += 1
                if verdict.decision == "review":
                    batch.failed[member.id] = verdict
        self._collect_changes(batch, surroundings, judge, dropped)
        self._took(batch, "judge", began)

    def _is_below(self, link: Link) -> bool:
        """Whether a new threshold ends this merge: not what has one text, nor what the user has decided."""
        return self._options.rethreshold and link.cosine < self._options.threshold and link.gates_passed != (ACCEPTED,)

    def _collect_changes(self, batch: _Batch, surroundings: _Surroundings, judge: Judge, dropped: set[int]) -> None:
        before = surroundings.stored_links()
        changed = dict.fromkeys([*surroundings.members, *(link.loser for link in judge.links()[0])])
        lost: dict[int, Link] = {}
        for memory_id in changed:
            old, new = before[memory_id], judge.link_of(memory_id)
            if (old and (old.winner, old.kind)) == (new and (new.winner, new.kind)):
                continue
            if old is not None:
                batch.ended.append(Ended(memory_id, "rethreshold" if memory_id in dropped else "relinked"))
            if new is not None:
                batch.added.append(new)
            if old is None and new is not None:
                lost[memory_id] = new
                # Judged new in an earlier batch of this run, and taken over now.
                batch.taken_over += surroundings.is_examined(memory_id, self._from)
        for follower in memory_rows.losers(self._store, list(lost)):
            if follower.id in changed or follower.link is None:
                continue
            # It is judged in a later batch; until then it must not follow a loser.
            batch.ended.append(Ended(follower.id, "relinked"))
            centre = lost[follower.link.winner]
            if follower.content_hash == surroundings.hash_of(centre.loser):
                batch.added.append(replace(centre, loser=follower.id, kind="exact"))

    def _reviews(self, batch: _Batch) -> list[NewReview]:
        """The pairs to list: the strongest, as far as there is room beside those listed already."""
        kept = dedup_rows.review_room(self._store, list(batch.failed))
        return [
            review
            for memory_id, verdict in batch.failed.items()
            for review in verdict.reviews[: max(MAX_REVIEW_PAIRS - kept.get(memory_id, 0), 0)]
        ]

    # --- writing -----------------------------------------------------------------------------------------------------

    def _commit(self, batch: _Batch) -> None:
        began = time.perf_counter()
        reached = {part.agent: part.last for part in batch.slices}
        with self._store.transaction(batch.generation) as conn:
            run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
            dedup_rows.end_links(conn, batch.ended, self._run_id)
            dedup_rows.add_links(conn, batch.added, self._evidence, self._run_id)
            kept = memory_rows.add_reviews(conn, self._reviews(batch), self._evidence, self._run_id)
            dedup_rows.write_watermarks(conn, self._scope, self._evidence, reached.items(), self._run_id)
        self._took(batch, "commit", began)
        report = self.report
        report.run_id = self._run_id
        report.batches += 1
        report.examined += sum(len(part.members) for part in batch.slices)
        report.compared += sum(part.compared for part in batch.slices)
        report.candidates += sum(
            sum(map(len, part.pairs.values())) + sum(part.left_out.values()) for part in batch.slices
        )
        report.review += batch.verdicts["review"]
        report.new += batch.verdicts["new"] - batch.taken_over
        report.review_pairs += sum(verdict.review_pairs for verdict in batch.failed.values())
        report.kept_pairs += kept

    def _settle(self, last: int | None) -> None:
        """Close the run, unless there was nothing to compare: then nothing is written at all."""
        report = self.report
        if report.run_id is None and not run_rows.unfinished(self._store, COMMAND):
            return
        report.run_id = self._run_id
        report.second_opinions = self._second.asked if self._second is not None else 0
        for name, count in dedup_rows.changes(self._store, self._run_id).items():
            setattr(report, name, count)
        with self._store.transaction(self._store.generation()) as conn:
            run_rows.write_run(conn, self._run_id, COMMAND, __version__, self._started_at)
            if last is not None:
                dedup_rows.write_watermarks(conn, self._scope, self._evidence, [(ALL, last)], self._run_id)
            run_rows.finish_run(conn, self._run_id, report.to_json(), complete=True, settles=False)


class _Surroundings:
    """What the database knows about the memories of a batch: earlier ones, those of the same text, their losers."""

    def __init__(self, store: Store, scope: Scope, slices: Sequence[Slice]) -> None:
        self._scope = scope
        self.members = {each.id: each for part in slices for each in part.members}
        first = {part.agent: part.members[0].id for part in reversed(slices) if part.members}
        others = {other for part in slices for found in part.pairs.values() for other, _ in found}
        others |= {each.link.winner for each in self.members.values() if each.link is not None}
        mates = memory_rows.by_content(store, {each.content_hash for each in self.members.values()})
        verbatim = [each.id for each in mates if each.method == VERBATIM and each.id not in self.members]
        followers = memory_rows.losers(store, [*self.members, *verbatim])
        near = memory_rows.by_id(store, sorted(others - self.members.keys()))
        # A loser of a memory of the batch that is itself judged later does not count yet.
        self._known = {
            each.id: each
            for each in (*mates, *followers, *near)
            if each.id not in self.members and each.id < first.get(self._agent(each), 0)
        }
        self._mates: dict[tuple[str, bytes], list[Known]] = {}
        for each in mates:
            self._mates.setdefault((self._agent(each), each.content_hash), []).append(each)
        ids = {*self.members, *self._known, *(each.id for each in mates)}
        self.rulings = [self._flattened(each) for each in dedup_rows.rulings(store, sorted(ids))]
        self._apart = {
            frozenset((each.one[0], each.other[0])): each.accepted
            for each in self.rulings
            if each.one[2] == each.other[2]
        }

    def known(self) -> Iterable[Known]:
        """The earlier memories, as the judge is to see them."""
        for each in self._known.values():
            winner = self.members.get(each.link.winner) if each.link is not None else None
            # A verbatim memory steps back behind one of the batch once more, when that one is judged.
            again = winner is not None and each.method == VERBATIM and each.content_hash == winner.content_hash
            yield self._scope.flattened(replace(each, link=None) if again else each)

    def stored_links(self) -> dict[int, Link | None]:
        """The live links of all memories that the judge knows."""
        return {memory_id: each.link for memory_id, each in (self._known | self.members).items()}

    def hash_of(self, memory_id: int) -> bytes:
        """The content hash of a memory that the judge knows."""
        return (self._known.get(memory_id) or self.members[memory_id]).content_hash

    def is_examined(self, memory_id: int, first: Mapping[str, int]) -> bool:
        """Whether an earlier batch of a run has judged a memory; `first` is after which id the run began, by agent."""
        known = self._known.get(memory_id)
        return known is not None and memory_id > first.get(self._agent(known), memory_id)

    def has_later_speaker(self, member: Known) -> bool:
        """Whether a later memory of a rule or a model has the text of a verbatim one, which then takes it over."""
        return member.method == VERBATIM and any(
            each.id > member.id
            and each.method != VERBATIM
            and self._apart.get(frozenset((each.id, member.id))) is not False
            for each in self._mates[self._agent(member), member.content_hash]
        )

    def _agent(self, known: Known) -> str:
        return ALL if self._scope.across_agents else known.agent

    def _flattened(self, ruling: Ruling) -> Ruling:
        if not self._scope.across_agents:
            return ruling
        (one, _, first), (other, _, second) = ruling.one, ruling.other
        return Ruling((one, ALL, first), (other, ALL, second), ruling.accepted)
