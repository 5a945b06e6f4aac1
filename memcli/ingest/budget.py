"""The budget of model calls: the worst case of every call is reserved before it, and settled to what it took after."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from memcli.store.calls import Spent


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may be spent, None: no limit; `tokens` are those read and those written."""

    usd: float | None = None
    calls: int | None = None
    tokens: int | None = None


# The clients of providers try anything again that is an Exception.
class BudgetReachedError(BaseException):
    """The next call might pass a limit, which the message names; `detail` says what is taken, and what it would take.

    The message is the same for all calls of a run, so that what did not get done for one reason is counted together.
    """

    def __init__(self, limit: str, detail: str) -> None:
        super().__init__(limit)
        self.detail = detail


class Budget:
    """What is left of the limits of a run and of a month; for any thread.

    A call whose worst case does not fit waits for the calls under way: they mostly take less than was reserved.
    """

    def __init__(self, run: Limits, month: Limits, spent_this_month: Spent) -> None:
        self._scopes = (
            ("max_usd", run.usd, 0.0),
            ("max_calls", run.calls, 0),
            ("max_tokens", run.tokens, 0),
            ("max_usd_per_month", month.usd, spent_this_month.usd),
            ("max_calls_per_month", month.calls, spent_this_month.calls),
            ("max_tokens_per_month", month.tokens, spent_this_month.tokens),
        )
        self._calls = 0
        self._tokens = 0
        self._usd = 0.0
        self._under_way = 0
        self._changed = threading.Condition()

    @property
    def limits_dollars(self) -> bool:
        """Whether calls without a price cannot be allowed."""
        return any(limit is not None for name, limit, _ in self._scopes if "usd" in name)

    def reserve(self, tokens: int, usd: float) -> None:
        """Take the worst case of one call out of what is left.

        Raises:
            BudgetReachedError: it does not fit, and nothing is under way that could make room.
        """
        with self._changed:
            while (found := self._in_the_way(tokens, usd)) is not None:
                if not self._under_way:
                    raise BudgetReachedError(*found)
                self._changed.wait()
            self._under_way += 1
            self._calls += 1
            self._tokens += tokens
            self._usd += usd

    def settle(self, reserved: tuple[int, float], tokens: int, usd: float, *, counts: bool = True) -> None:
        """Replace what `reserve` took, as (tokens, usd), by what the call took; without `counts` it was none."""
        with self._changed:
            self._under_way -= 1
            self._calls -= not counts
            self._tokens += tokens - reserved[0]
            self._usd += usd - reserved[1]
            self._changed.notify_all()

    def _in_the_way(self, tokens: int, usd: float) -> tuple[str, str] | None:
        """The limit that one more call might pass, and by how much, as texts."""
        taken = {"usd": self._usd, "calls": self._calls, "tokens": self._tokens}
        wanted = {"usd": usd, "calls": 1, "tokens": tokens}
        for name, limit, before in self._scopes:
            unit = name.split("_")[1]
            so_far = before + taken[unit]
            # Sums of fractions of a cent are not exact to the last bit.
            if limit is not None and so_far + wanted[unit] > limit * (1 + 1e-12):
                said, more = (f"{round(number, 6):.12g}" for number in (so_far, wanted[unit]))
                return f"{name} = {limit:.12g}", f"{said} taken so far, at most {more} for the next call"
        return None
