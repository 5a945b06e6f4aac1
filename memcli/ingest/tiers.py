"""Bringing the tiers to the windows of a batch: the free ones at once, the models together, the result in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from memcli.config import Profile, RateScope
from memcli.ingest.asking import Asking, Outcome, Question, TierTally
from memcli.ingest.forgotten import without_forgotten
from memcli.ingest.resolve import Extracted
from memcli.ingest.restated import without_restated
from memcli.ingest.windows import is_sampled
from memcli.model import Candidate, Window
from memcli.protocols import Extractor, ModelTier, Tier
from memcli.store.db import Store
from memcli.store.runs import TierRow, WindowRow
from memcli.store.windows import StoredWindow

FREE_TIERS = frozenset({"rules", "verbatim"})
SKIPPED = "skipped_by_rate"
TOO_SHORT = "too_short"


@dataclass(slots=True)
class Worked:
    """What the tiers made of windows: rows in order, what was extracted, and which of that relates to which."""

    rows: list[WindowRow] = field(default_factory=list)
    extracted: list[Extracted] = field(default_factory=list)
    links: list[tuple[Extracted, Extracted]] = field(default_factory=list)


@dataclass(slots=True)
class _Slot:
    """A window on its way: what every tier extracted so far, in the order of the tiers."""

    window: Window
    row: WindowRow
    extracted: list[Extracted] = field(default_factory=list)
    links: list[tuple[Extracted, Extracted]] = field(default_factory=list)


class Tiers:
    """The tiers of a run, free ones first."""

    def __init__(
        self,
        store: Store,
        extractors: Sequence[Extractor],
        asking: Asking | None,
        profile: Profile,
        rate_applies_to: RateScope,
    ) -> None:
        self.all: tuple[Tier, ...] = (*extractors, *(asking.tiers if asking is not None else ()))
        self._store = store
        self._free = {each.tier: each for each in extractors}
        self._models = {each.tier: each for each in (asking.tiers if asking is not None else ())}
        self._tallies: dict[str, TierTally] = asking.tallies if asking is not None else {}
        self._asking = asking
        self._profile = profile
        self._rate_applies_to = rate_applies_to

    def lacking(self, stored: StoredWindow) -> tuple[Tier, ...]:
        """The tiers that a stored window lacks in their present version.

        One that was tried counts as done, whatever came of it: failures are tried again by the runs that read. One that
        passed the window over is wanted where the rate or the minimum lets it through by now.
        """
        return tuple(
            tier
            for tier in self.all
            if (status := stored.tiers.get((tier.tier, tier.version_for(stored.agent)))) is None
            or (status in {SKIPPED, TOO_SHORT} and self._takes(tier, stored))
        )

    def _takes(self, tier: Tier, stored: StoredWindow) -> bool:
        model = self._models.get(tier.tier)
        if model is not None and stored.messages < model.min_messages:
            return False
        return not self._is_rated(tier) or is_sampled(
            stored.agent, stored.session_id, (stored.first, stored.start), self._profile.rate
        )

    def _is_rated(self, tier: Tier) -> bool:
        return self._rate_applies_to == "all" or tier.tier not in FREE_TIERS

    def work(
        self, wanted: Sequence[tuple[Window, Sequence[Tier]]], told: set[tuple[str, bytes]] | None = None
    ) -> Worked:
        """Run the wanted tiers over each window; `told` are sentences of boot files that are new in this batch."""
        slots = [_Slot(window, window_row(window)) for window, _ in wanted]
        questions: list[tuple[_Slot, Question]] = []
        for slot, (_, tiers) in zip(slots, wanted, strict=True):
            began = time.perf_counter()
            questions.extend((slot, Question(model, slot.window)) for model in self._run_free(slot, tiers))
            slot.row.seconds = time.perf_counter() - began
        if self._asking is not None and questions:
            self._ask(self._asking, questions, told or set())
        return Worked(
            [slot.row for slot in slots],
            without_forgotten(self._store, [each for slot in slots for each in slot.extracted]),
            [each for slot in slots for each in slot.links],
        )

    def _run_free(self, slot: _Slot, tiers: Sequence[Tier]) -> list[ModelTier]:
        """Run the free tiers; the models that are to be asked about the window."""
        window, row = slot.window, slot.row
        first = window.parts[0]
        rate = self._profile.rate
        sampled = is_sampled(window.agent, window.session_id, (first.message_id, first.start), rate)
        asked = []
        for tier in tiers:
            version = tier.version_for(window.agent)
            model = self._models.get(tier.tier)
            if self._is_rated(tier) and not sampled:
                row.tiers.append(TierRow(tier.tier, version, SKIPPED))
            elif model is None:
                row.tiers.append(TierRow(tier.tier, version, "done"))
                row.methods.append(tier.tier)
                slot.extracted.extend(_extracted(slot, self._free[tier.tier].extract(window).candidates))
            elif len(window.parts) < model.min_messages:
                row.tiers.append(TierRow(tier.tier, version, TOO_SHORT))
                self._tallies[tier.tier].too_short += 1
            else:
                asked.append(model)
        return asked

    def _ask(self, asking: Asking, questions: Sequence[tuple[_Slot, Question]], told: set[tuple[str, bytes]]) -> None:
        outcomes = asking.ask([question for _, question in questions])
        read = [
            (slot.window, outcome.reading)
            for (slot, _), outcome in zip(questions, outcomes, strict=True)
            if outcome.reading is not None
        ]
        readings = iter(without_restated(self._store, read, told))
        for (slot, question), outcome in zip(questions, outcomes, strict=True):
            tier, row = question.tier, slot.row
            version = tier.version_for(slot.window.agent)
            _book(row, outcome)
            tally = self._tallies[tier.tier]
            if outcome.reading is None:
                failed = outcome.status == "failed"
                row.tiers.append(TierRow(tier.tier, version, outcome.status, int(failed), outcome.error))
                tally.failed += failed
                tally.waiting += not failed
                continue
            reading = next(readings)
            row.tiers.append(TierRow(tier.tier, version, "done"))
            row.methods.append(tier.tier)
            row.rejected.extend((tier.tier, version, reason, count) for reason, count in reading.rejected.items())
            made = _extracted(slot, reading.candidates)
            slot.extracted.extend(made)
            slot.links.extend((made[one], made[other]) for one, other in reading.links)
            tally.done += 1
            tally.statements += len(made)
            tally.rejected.update(reading.rejected)


def window_row(window: Window) -> WindowRow:
    """The row of a window that no tier has seen yet."""
    times = [part.timestamp for part in window.parts if part.timestamp is not None]
    return WindowRow(
        window.id,
        window.session_id,
        [(part.message_id, part.start, part.start + len(part.text)) for part in window.parts],
        min(times, default=None),
        max(times, default=None),
    )


def _book(row: WindowRow, outcome: Outcome) -> None:
    row.tokens += outcome.spent.tokens
    row.cost_usd += outcome.spent.usd
    row.seconds += outcome.seconds
    row.asked.append(outcome.key)


def _extracted(slot: _Slot, candidates: Sequence[Candidate]) -> list[Extracted]:
    window = slot.window
    times = {part.message_id: part.timestamp for part in window.parts}
    return [
        Extracted(each, window.id, window.session_id, window.agent, times[each.sources[0].message_id])
        for each in candidates
    ]
