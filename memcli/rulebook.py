"""What rules are and do, for those who look at them: lists, changes, trials of a pattern, coverage of a rule set."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

from memcli.extract.rules import CompiledRule, Rule, RuleExtractor, matches

_CONTEXT = 80
_MATCH = 200
# The cost of each rule alone is measured on so many messages, fewer where there are thousands of rules.
_TIMED_MESSAGES = 500
_TIMED_MATCHES = 200_000
_MIN_TIMED = 20
# Of a message that more rules hit, pairs are counted among so many of them: pairs grow with the square.
_PAIRED = 50
_OVERLAPS = 50
_MICROSECONDS = 1e6


# A stored message: id, agent, session key, role, text.
StoredMessage = tuple[int, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule as it is listed: whether it is built in, and why it cannot be used (None where it can).

    `table` is the rule as it is stored; that of one that cannot even be read is not what a rule must be.
    """

    table: Mapping[str, Any]
    starter: bool = False
    problem: str | None = None

    def to_json(self) -> dict[str, object]:
        """The rule as `--json` shows it."""
        return {**self.table, "starter": self.starter, "problem": self.problem}


@dataclass(frozen=True, slots=True)
class Change:
    """What a command did: ids of rules by "added", "changed", "removed", "enabled", "disabled", "unchanged"."""

    db: str
    done: Mapping[str, list[Listed]]
    dry_run: bool
    run_id: int | None = None

    def to_json(self) -> dict[str, object]:
        """The change as one JSON document."""
        rules = {what: [each.to_json() for each in listed] for what, listed in self.done.items()}
        return {"db": self.db, "run_id": self.run_id, "dry_run": self.dry_run, **rules}


@dataclass(frozen=True, slots=True)
class Exported:
    """A rule file's text, how many rules are in it, and what is wrong with those that are not."""

    text: str
    rules: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A match in its context, and what would become memories."""

    message_id: int
    agent: str
    session: str
    role: str
    before: str
    match: str
    after: str
    kept: tuple[str, ...]


@dataclass(slots=True)
class Trial:
    """What a pattern does: `messages` is how many the rule reads, `hit` how many of them it hits."""

    rule: Rule
    source: str
    messages: int = 0
    hit: int = 0
    statements: int = 0
    seconds: float = 0.0
    examples: list[Example] = field(default_factory=list)

    @property
    def microseconds(self) -> float:
        """Time per message that the rule reads."""
        return self.seconds * _MICROSECONDS / self.messages if self.messages else 0.0

    def to_json(self) -> dict[str, object]:
        """The trial as one JSON document."""
        return {
            "pattern": self.rule.pattern,
            "kind": self.rule.kind,
            "keep": self.rule.keep,
            "source": self.source,
            "messages": self.messages,
            "messages_hit": self.hit,
            "share": _share(self.hit, self.messages),
            "statements": self.statements,
            "microseconds_per_message": round(self.microseconds, 2),
            "examples": [asdict(example) for example in self.examples],
        }


def try_rule(compiled: CompiledRule, source: str, messages: Iterable[StoredMessage], first: int) -> Trial:
    """Run a rule over messages; the `first` matches are kept in their context."""
    rule = compiled.rule
    result = Trial(rule, source)
    for message_id, agent, session, role, text in messages:
        if not rule.reads(agent, role):
            continue
        began = time.perf_counter()
        hits = list(matches(compiled, text))
        result.seconds += time.perf_counter() - began
        result.messages += 1
        result.hit += bool(hits)
        for (start, end), (hit, past), kept in hits:
            result.statements += len(kept)
            if len(result.examples) < first:
                before, after = text[max(start, hit - _CONTEXT) : hit], text[past : min(end, past + _CONTEXT)]
                said = tuple(text[begin:stop] for begin, stop in kept)
                result.examples.append(
                    Example(message_id, agent, session, role, before, text[hit:past][:_MATCH], after, said)
                )
    return result


@dataclass(frozen=True, slots=True)
class Covered:
    """How one rule does: `messages` is how many it reads, `microseconds` what it costs alone per message."""

    rule: Rule
    starter: bool
    messages: int
    hits: int
    microseconds: float

    def to_json(self) -> dict[str, object]:
        """The rule's line of the JSON document."""
        return {
            "id": self.rule.id,
            "name": self.rule.name,
            "agent": self.rule.agent,
            "starter": self.starter,
            "messages": self.messages,
            "hits": self.hits,
            "share": _share(self.hits, self.messages),
            "microseconds_per_message": round(self.microseconds, 2),
        }


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two rules that hit the same messages; `share` is that of the hits of the rarer one."""

    first: Rule
    second: Rule
    messages: int
    share: float

    def to_json(self) -> dict[str, object]:
        """The pair's line of the JSON document."""
        return {
            "ids": [self.first.id, self.second.id],
            "names": [self.first.name, self.second.name],
            "messages": self.messages,
            "share": self.share,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the active rules do on the stored messages; `microseconds` is for all rules together, per message."""

    messages: int
    hit: int
    microseconds: float
    rules: tuple[Covered, ...]
    overlaps: tuple[Overlap, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The coverage as one JSON document."""
        return {
            "messages": self.messages,
            "messages_hit": self.hit,
            "share": _share(self.hit, self.messages),
            "microseconds_per_message": round(self.microseconds, 2),
            "rules": [each.to_json() for each in self.rules],
            "never": [each.rule.id for each in self.rules if not each.hits],
            "overlaps": [each.to_json() for each in self.overlaps],
            "problems": list(self.problems),
        }


def cover(extractor: RuleExtractor, messages: Iterable[StoredMessage], starters: Collection[str]) -> Coverage:
    """Run a rule set over messages and count; `starters` are the ids of the built-in rules."""
    count = _Count()
    timed = min(_TIMED_MESSAGES, max(_MIN_TIMED, _TIMED_MATCHES // max(len(extractor.compiled), 1)))
    for _, agent, _, role, text in messages:
        count.take(extractor, agent, role, text, timed=timed)
    covered = [count.covered(each, starter=each.rule.id in starters) for each in extractor.compiled]
    covered.sort(key=lambda each: -each.hits)
    return Coverage(
        messages=sum(count.read.values()),
        hit=count.hit,
        microseconds=count.seconds * _MICROSECONDS / max(sum(count.read.values()), 1),
        rules=tuple(covered),
        overlaps=count.overlaps({each.rule.id: each.rule for each in extractor.compiled}),
        problems=tuple(extractor.problems),
    )


@dataclass(slots=True)
class _Count:
    """Hits by rule id, pairs of ids that hit the same message, messages read by (agent, role)."""

    hits: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    read: Counter[tuple[str, str]] = field(default_factory=Counter)
    hit: int = 0
    seconds: float = 0.0
    sample: list[tuple[str, str, str]] = field(default_factory=list)

    def take(self, extractor: RuleExtractor, agent: str, role: str, text: str, *, timed: int) -> None:
        began = time.perf_counter()
        found = [rule.id for rule in extractor.hits(agent, role, text)]
        self.seconds += time.perf_counter() - began
        self.read[agent, role] += 1
        self.hit += bool(found)
        self.hits.update(found)
        self.pairs.update(combinations(found[:_PAIRED], 2))
        if len(self.sample) < timed:
            self.sample.append((agent, role, text))

    def covered(self, compiled: CompiledRule, *, starter: bool) -> Covered:
        rule = compiled.rule
        messages = sum(number for (agent, role), number in self.read.items() if rule.reads(agent, role))
        return Covered(rule, starter, messages, self.hits[rule.id], self._cost(compiled))

    def _cost(self, compiled: CompiledRule) -> float:
        """Microseconds that the rule alone takes for a message of the sample."""
        texts = [text for agent, role, text in self.sample if compiled.rule.reads(agent, role)]
        began = time.perf_counter()
        for text in texts:
            compiled.pattern.search(text)
        return (time.perf_counter() - began) * _MICROSECONDS / max(len(texts), 1)

    def overlaps(self, rules: Mapping[str, Rule]) -> tuple[Overlap, ...]:
        """The pairs with the largest overlap."""
        found = [
            Overlap(rules[one], rules[other], number, _share(number, min(self.hits[one], self.hits[other])))
            for (one, other), number in self.pairs.items()
        ]
        found.sort(key=lambda each: (-each.share, -each.messages, each.first.id, each.second.id))
        return tuple(found[:_OVERLAPS])


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
