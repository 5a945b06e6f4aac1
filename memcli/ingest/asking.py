"""Asking the models: what was answered before is not asked again, the rest a few at a time within the budget."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from memcli.cost import Price, dollars
from memcli.errors import ProviderError
from memcli.ingest.budget import Budget, BudgetReachedError
from memcli.model import PlannedCall, Reading, Window
from memcli.protocols import ModelTier
from memcli.provider import BusyModelError, UnusableModelError, in_order
from memcli.store import calls as call_rows
from memcli.store.calls import Ledger, NewCall, Spent
from memcli.store.db import Store

# So many windows in a row that fail: the model is not there, and each further one would take its retries to find out.
_GIVE_UP_AFTER = 3


# The client would try anything again that is an Exception.
class _StoppedError(BaseException):
    """Others have found out that no more calls are to be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """A window to ask a model about."""

    tier: ModelTier
    window: Window


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a question: `done` with a reading, `failed`, or `waiting`: no model took it. With the reason.

    `spent` is what the question has cost and no window is down for yet, now or in a run that was killed.
    """

    status: str
    key: bytes
    reading: Reading | None = None
    error: str | None = None
    spent: Spent = field(default_factory=Spent)
    seconds: float = 0.0


@dataclass(slots=True)
class TierTally:
    """What a tier did in a run. `reused` are windows whose question had been answered before."""

    model: str
    calls: int = 0
    refused: int = 0
    lost: int = 0
    reused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    priced: bool = True
    statements: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    done: int = 0
    failed: int = 0
    permanent: int = 0
    waiting: int = 0
    too_short: int = 0

    def to_json(self) -> dict[str, object]:
        """The tally as a JSON object; the cost is None where no price is known."""
        return {
            "model": self.model,
            "windows": {
                "done": self.done,
                "failed": self.failed,
                "permanent": self.permanent,
                "waiting": self.waiting,
                "too_short": self.too_short,
            },
            "calls": self.calls,
            "refused": self.refused,
            "lost": self.lost,
            "answers_reused": self.reused,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "cost_usd": self.cost_usd if self.priced else None,
            "statements": self.statements,
            "rejected": dict(self.rejected),
        }


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one question got: a text, or why there is none; `asked` says that the model was, and took it."""

    text: str | None
    error: str = ""
    asked: bool = True
    seconds: float = 0.0


class Asking:
    """The model tiers of a run. `plan` set: nobody is asked, it is told what would be."""

    def __init__(
        self,
        store: Store,
        tiers: Sequence[ModelTier],
        prices: Mapping[str, Price],
        budget: Budget,
        concurrency: int,
        note: Callable[[str], None],
        plan: Callable[[PlannedCall], None] | None = None,
    ) -> None:
        self.tiers = tiers
        self.tallies = {tier.tier: TierTally(tier.model, priced=tier.tier in prices) for tier in tiers}
        self.plan = plan
        self._store = store
        self._prices = prices
        self._budget = budget
        self._concurrency = concurrency
        self._note = note
        self._ledger: Ledger | None = None
        self._halted: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._uncounted: set[str] = set()
        self._lock = threading.Lock()

    @property
    def has_given_up(self) -> bool:
        """Whether no tier will ask anyone any more in this run."""
        return all(tier.tier in self._halted for tier in self.tiers)

    def start(self, ledger: Ledger) -> None:
        """Go to work with a ledger; `finish` closes it."""
        self._ledger = ledger

    def finish(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()

    def ask(self, questions: Sequence[Question]) -> list[Outcome]:
        """What became of the questions, in their order; each different one is asked once."""
        keys = [each.tier.key(each.window) for each in questions]
        known = call_rows.answers(self._store, dict.fromkeys(keys))
        unknown = {key: each for key, each in zip(keys, questions, strict=True) if key not in known}
        answers = {key: _Answer(text) for key, text in known.items()}
        answers |= self._planned(unknown) if self.plan is not None else self._asked(unknown)
        spent = call_rows.unbooked(self._store, dict.fromkeys(keys))
        outcomes = []
        for key, each in zip(keys, questions, strict=True):
            answer = answers[key]
            # Only the first of several windows with the same content has paid for the answer.
            outcome = self._outcome(each, key, answer, spent.pop(key, Spent()))
            was_asked = unknown.pop(key, None) is not None
            self.tallies[each.tier.tier].reused += outcome.status == "done" and not was_asked
            outcomes.append(outcome)
        return outcomes

    def _planned(self, unknown: Mapping[bytes, Question]) -> dict[bytes, _Answer]:
        for each in unknown.values():
            if self.plan is not None:
                self.plan(each.tier.plan(each.window))
        return dict.fromkeys(unknown, _Answer(None, "dry run", asked=False))

    def _asked(self, unknown: Mapping[bytes, Question]) -> dict[bytes, _Answer]:
        pairs = list(unknown.items())
        return dict(zip(unknown, in_order(self._answer, pairs, self._concurrency), strict=True))

    def _answer(self, pair: tuple[bytes, Question]) -> _Answer:
        key, question = pair
        tier = question.tier
        halted = self._halted.get(tier.tier)
        if halted is not None:
            return _Answer(None, halted, asked=False)
        began = time.perf_counter()
        call = _MeteredCall(self, question, key)
        try:
            text = tier.ask(question.window, call)
        except BudgetReachedError as limit:
            reason = f"the budget is reached: {limit}"
            for each in self.tiers:
                self._halt(each.tier, reason, f" ({limit.detail})")
            return _Answer(None, reason, asked=False)
        except _StoppedError as stopped:
            return _Answer(None, str(stopped), asked=False)
        except ProviderError as error:
            return self._failed(tier.tier, error, time.perf_counter() - began)
        finally:
            call.close()
        with self._lock:
            self._failures[tier.tier] = 0
        return _Answer(text, seconds=time.perf_counter() - began)

    def _failed(self, tier: str, error: ProviderError, seconds: float) -> _Answer:
        with self._lock:
            self._failures[tier] += 1
            in_a_row = self._failures[tier]
        if isinstance(error, UnusableModelError):
            self._halt(tier, f"{error.message} ({error.hint})")
            return _Answer(None, error.message, asked=False, seconds=seconds)
        if in_a_row >= _GIVE_UP_AFTER:
            self._halt(tier, f"{in_a_row} windows in a row failed, the last since {error.message}")
        return _Answer(None, error.message, asked=not isinstance(error, BusyModelError), seconds=seconds)

    def _halt(self, tier: str, reason: str, detail: str = "") -> None:
        with self._lock:
            is_news = tier not in self._halted and reason not in self._halted.values()
            self._halted.setdefault(tier, reason)
        if is_news:
            self._note(f"no more calls in this run: {reason}{detail}")

    def _outcome(self, question: Question, key: bytes, answer: _Answer, spent: Spent) -> Outcome:
        if answer.text is None:
            status = "failed" if answer.asked else "waiting"
            return Outcome(status, key, None, answer.error, spent, answer.seconds)
        reading = question.tier.read(question.window, answer.text)
        return Outcome("done", key, reading, None, spent, answer.seconds)

    def begin(self, call: NewCall) -> tuple[int, NewCall]:
        """Reserve a call in the budget, then in the ledger, with its cost at worst.

        Raises:
            BudgetReachedError: it might pass a limit.
            _StoppedError: no more calls are to be made.
        """
        if (halted := self._halted.get(call.tier)) is not None:
            raise _StoppedError(halted)
        usd = self.price(call.tier, call.tokens_in, call.tokens_out)
        call = replace(call, cost_usd=usd)
        self._budget.reserve(call.tokens_in + call.tokens_out, usd or 0.0)
        return self.ledger.begin(call), call

    def end(self, call: NewCall, tokens: tuple[int, int], usd: float | None, kind: str) -> None:
        """Settle a call in the budget and in the tally of its tier: it was `done`, `refused` or `lost`."""
        reserved = (call.tokens_in + call.tokens_out, call.cost_usd or 0.0)
        self._budget.settle(reserved, sum(tokens), usd or 0.0, counts=kind != "refused")
        with self._lock:
            tally = self.tallies[call.tier]
            tally.calls += kind != "refused"
            tally.refused += kind == "refused"
            tally.lost += kind == "lost"
            tally.tokens_in += tokens[0]
            tally.tokens_out += tokens[1]
            tally.cost_usd += usd or 0.0

    def uncounted(self, tier: str) -> None:
        """Tell, once, that the server of a tier does not say how many tokens its answers took."""
        with self._lock:
            is_news = tier not in self._uncounted
            self._uncounted.add(tier)
        if is_news:
            self._note(f"the {tier} model does not say how many tokens it took: its calls count at their worst case")

    def price(self, tier: str, tokens_in: int, tokens_out: int) -> float | None:
        """What so many tokens cost, None where the tier has no price."""
        price = self._prices.get(tier)
        return None if price is None else dollars(price, tokens_in, tokens_out)

    @property
    def ledger(self) -> Ledger:
        """The ledger of `start`."""
        if self._ledger is None:
            raise RuntimeError("a model is asked before the ledger is open")
        return self._ledger


class _MeteredCall:
    """The requests about one window, retries and repairs included, on their way into the ledger."""

    def __init__(self, asking: Asking, question: Question, key: bytes) -> None:
        self._asking = asking
        tier, window = question.tier, question.window
        self._next = NewCall(window.agent, tier.tier, tier.model, key, len(window.parts), 0, 0, None)
        self._open: tuple[int, NewCall] | None = None
        self._began = 0.0

    def expect(self, tokens_in: int, tokens_out: int) -> None:
        """See Call."""
        self._next = replace(self._next, tokens_in=tokens_in, tokens_out=tokens_out)

    def sent(self) -> None:
        """See Meter."""
        self.lost("another request was made")
        self._open = self._asking.begin(self._next)
        self._began = time.perf_counter()

    def refused(self, reason: str) -> None:
        """See Meter."""
        if (call := self._taken()) is not None:
            self._asking.ledger.refused(call[0], self._seconds(), reason)
            self._asking.end(call[1], (0, 0), 0.0, "refused")

    def lost(self, reason: str) -> None:
        """See Meter."""
        if (call := self._taken()) is not None:
            worst = call[1]
            self._asking.ledger.lost(call[0], self._seconds(), reason)
            self._asking.end(worst, (worst.tokens_in, worst.tokens_out), worst.cost_usd, "lost")

    def answered(self, tokens_in: int | None, tokens_out: int | None, answer: str | None) -> None:
        """See Call. Where the tokens were not said, the worst case stays."""
        if (call := self._taken()) is not None:
            worst = call[1]
            if tokens_in is None or tokens_out is None:
                self._asking.uncounted(worst.tier)
            tokens = (
                worst.tokens_in if tokens_in is None else tokens_in,
                worst.tokens_out if tokens_out is None else tokens_out,
            )
            usd = self._asking.price(worst.tier, *tokens)
            self._asking.ledger.answered(call[0], self._seconds(), tokens, usd, answer)
            self._asking.end(worst, tokens, usd, "done")

    def close(self) -> None:
        """Nothing more is heard of a request that is still open."""
        self.lost("no answer was read")

    def _taken(self) -> tuple[int, NewCall] | None:
        call, self._open = self._open, None
        return call

    def _seconds(self) -> float:
        return time.perf_counter() - self._began
