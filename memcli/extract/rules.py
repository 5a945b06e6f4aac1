r"""The rules tier: patterns that say which sentences are worth remembering, matched by RE2 in linear time.

RE2 sets tell in a single pass which rules can hit a text at all; most texts are done with after that. RE2's `\b`,
`\w` and `\d` know ASCII only.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import re2

from memcli.errors import UsageError
from memcli.extract.pattern_errors import hint_for, locate
from memcli.model import Candidate, Extraction, MemoryType, Part, Provenance, Window
from memcli.text import clean, digest, pieces, sentences

RoleScope = Literal["user", "assistant", "both"]
Keep = Literal["match", "sentence", "message"]
Span = tuple[int, int]

# Changes whenever the same rules would give other candidates than before.
_CODE_VERSION = "2"
# In one set of thousands of rules nearly every text meets a state of RE2's automaton that no text has met before, and
# making a state takes time in the number of rules. Over 64 rules the states are few, and soon all of them are there.
_SHARD = 64
# What the sets may use for states: together, and each at least.
_SETS_MEMORY = 64 << 20
_MIN_MEMORY = 4 << 20
_PATTERN_MEMORY = 16 << 20
# RE2's instructions, of 16 bytes each. The longest pattern of the starter set has 1,600.
MAX_PROGRAM = 10_000
_STARTER_FILE = Path(__file__).with_name("starter.toml")

# What stands before the statement of a list item, a heading or a quotation.
_BULLETS = re.compile(r"(?:(?:[-*•+>]|#{1,6}|\d{1,4}[.)])[ \t]+)*")
# Quoted literals, classes and escapes (passed over) and anchors, in RE2's syntax.
_ANCHOR = re.compile(r"\\Q.*?(?:\\E|\Z)|\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]|\\.|[\^$]", re.DOTALL)
_ANYWHERE = dict.fromkeys(("^", "$", r"\A", r"\z"), "(?:)")
# A letter or digit, roughly: RE2's own Unicode classes are so large that a hundred patterns fill its memory.
_WORD = r"[0-9A-Za-z_\x{C0}-\x{1FFF}\x{3040}-\x{FEFF}\x{FF10}-\x{10FFFF}]"


@dataclass(frozen=True, slots=True)
class Rule:
    """What to look for and what to make of it.

    `pattern` is a regular expression (RE2), or, where `kind` is "simple", plain words: `*` at a word stands for the
    rest of it, `*` alone for anything between two words. `keep` is what becomes the memory: the match, the sentence
    around it, or the whole message. `roles` is whose messages the rule reads, `agent` of which agent (None: of all).
    """

    id: str
    name: str
    pattern: str
    type: MemoryType
    importance: float
    keywords: tuple[str, ...] = ()
    kind: Literal["regex", "simple"] = "regex"
    keep: Keep = "sentence"
    roles: RoleScope = "both"
    active: bool = True
    agent: str | None = None
    case_sensitive: bool = False

    def is_for(self, agent: str) -> bool:
        """Whether the rule is for messages of that agent."""
        return self.agent is None or self.agent == agent

    def reads(self, agent: str, role: str) -> bool:
        """Whether the rule is for messages of that agent and role."""
        return self.is_for(agent) and self.roles in {"both", role}


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its expression, as text and compiled, and its place among the rules."""

    rule: Rule
    expression: str
    pattern: Any
    place: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the pattern is for whole messages; all others are for sentences."""
        return self.rule.keep == "message"


def starter_rules() -> tuple[Rule, ...]:
    """The small built-in rule set (starter.toml)."""
    tables = tomllib.loads(_STARTER_FILE.read_text(encoding="utf-8"))["rules"]
    return tuple(Rule(**{**table, "keywords": tuple(table.get("keywords", ()))}) for table in tables)


def compile_rule(rule: Rule) -> CompiledRule:
    """Compile one rule.

    Raises:
        UsageError: RE2 refuses the pattern, or its program is too large; says where and what to write instead.
    """
    try:
        expression = _simple_expression(rule.pattern) if rule.kind == "simple" else rule.pattern
        pattern = re2.compile(expression, _options(_PATTERN_MEMORY, case_sensitive=rule.case_sensitive))
    except re2.error as error:
        told = _told(error)
        place = (rule.pattern, locate(rule.pattern, told, _complaint))
        raise UsageError(f"RE2 refuses the pattern: {told}", hint_for(told), place) from error
    except ValueError as error:
        why = "it is no valid Unicode" if isinstance(error, UnicodeError) else str(error)
        raise UsageError(f"not a pattern: {why}") from error
    if pattern.programsize > MAX_PROGRAM:
        raise UsageError(
            f"the pattern is too large: {pattern.programsize:,} instructions, the limit is {MAX_PROGRAM:,}",
            r"a Unicode class such as \pL counts 1,200, and repeating it so many times multiplies that: name the"
            " characters you mean, as in [a-zà-ÿ]",
        )
    return CompiledRule(rule, f"(?-i){expression}" if rule.case_sensitive else expression, pattern)


def compile_rules(rules: Iterable[Rule]) -> tuple[tuple[CompiledRule, ...], list[str]]:
    """Compile the active rules; a rule that cannot be compiled is left out and its problem is told."""
    compiled: list[CompiledRule] = []
    problems: list[str] = []
    for rule in rules:
        if not rule.active:
            continue
        try:
            compiled.append(replace(compile_rule(rule), place=len(compiled)))
        except UsageError as error:
            problems.append(f'rule "{rule.name}" ({rule.id}) is left out: {error.message}')
    return tuple(compiled), problems


class RuleExtractor:
    """Applies a rule set to windows.

    `compiled` are the rules in force, `problems` tells which were left out because they cannot be compiled.
    """

    tier = "rules"

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.compiled, self.problems = compile_rules(rules)
        scopes: dict[tuple[str | None, RoleScope], list[CompiledRule]] = defaultdict(list)
        for each in self.compiled:
            scopes[each.rule.agent, each.rule.roles].append(each)
        shards = sum(-(-len(scope) // _SHARD) for scope in scopes.values())
        memory = max(_MIN_MEMORY, _SETS_MEMORY // max(shards, 1))
        self._scopes = {key: _shards(scope, memory, self.problems) for key, scope in scopes.items()}
        self._by_reader: dict[tuple[str, str], tuple[_Shard, ...]] = {}
        self._versions: dict[str, str] = {}

    def version_for(self, agent: str) -> str:
        """See Extractor: the hash of the rules that apply to the agent, in so far as they decide what is extracted."""
        if agent not in self._versions:
            self._versions[agent] = digest(
                _CODE_VERSION,
                *(repr(replace(each.rule, id="", agent=None)) for each in self.compiled if each.rule.is_for(agent)),
            ).hex()
        return self._versions[agent]

    def extract(self, window: Window) -> Extraction:
        """See Extractor. Candidates come in the order of the text; at most one per span and type."""
        return Extraction(
            tuple(candidate for part in window.parts for candidate in self._candidates(window.agent, part))
        )

    def hits(self, agent: str, role: str, text: str) -> list[Rule]:
        """The rules that hit a message of that agent and role, in their order."""
        found = {each.place for _, _, hits in self._units(agent, role, clean(text)) for each in hits}
        return [self.compiled[place].rule for place in sorted(found)]

    def _candidates(self, agent: str, part: Part) -> Iterator[Candidate]:
        text = clean(part.text)
        kept: dict[tuple[int, int, MemoryType], _Statement] = {}
        for start, end, hits in self._units(agent, part.role, text):
            _collect(kept, hits, text, start, end)
        for (start, end, memory_type), statement in sorted(kept.items()):
            yield Candidate(
                content=text[start:end],
                type=memory_type,
                importance=statement.rule.importance,
                method=f"rules:{statement.rule.name}",
                sources=(Provenance(part.message_id, part.start + start, part.start + end),),
                keywords=statement.keywords,
            )

    def _units(self, agent: str, role: str, text: str) -> Iterator[tuple[int, int, list[CompiledRule]]]:
        """The whole text and the sentences that rules hit, each as (start, end, rules in their order)."""
        raw = text.encode()
        found = [(shard, hits) for shard in self._shards_for(agent, role) if (hits := shard.texts.Match(raw))]
        whole = [shard.rules[index] for shard, hits in found for index in hits if shard.rules[index].is_whole]
        if whole:
            yield 0, len(text), sorted(whole, key=attrgetter("place"))
        if sum(len(hits) for _, hits in found) == len(whole):
            return
        for start, end in sentences(text):
            begin = _BULLETS.match(text, start, end).end()  # type: ignore[union-attr] # it can match nothing
            raw = text[begin:end].encode()
            rules = [rule for shard, _ in found for rule in shard.of_sentence(raw)]
            if rules:
                yield begin, end, sorted(rules, key=attrgetter("place"))

    def _shards_for(self, agent: str, role: str) -> tuple[_Shard, ...]:
        shards = self._by_reader.get((agent, role))
        if shards is None:
            scopes = [
                (owner, roles) for owner, roles in self._scopes if owner in {None, agent} and roles in {"both", role}
            ]
            shards = self._by_reader[agent, role] = tuple(shard for scope in scopes for shard in self._scopes[scope])
        return shards


def matches(compiled: CompiledRule, text: str) -> Iterator[tuple[Span, Span, list[Span]]]:
    """Where a rule hits `text`: (the message or sentence, the first match in it, what would be kept of it)."""
    text = clean(text)
    spans = [(0, len(text))]
    if not compiled.is_whole:
        spans = [(_BULLETS.match(text, start, end).end(), end) for start, end in sentences(text)]  # type: ignore[union-attr] # as above
    for start, end in spans:
        found = compiled.pattern.search(text[start:end])
        if found is not None:
            yield (start, end), (start + found.start(), start + found.end()), list(_spans(compiled, text, start, end))


class _Shard:
    """Rules with the same readers, as two sets: one over whole texts, which is a cheap no, and one over sentences."""

    def __init__(self, rules: Sequence[CompiledRule], memory: int) -> None:
        self.rules = rules
        self._by_sentence = [each for each in rules if not each.is_whole]
        # The start of a sentence is not the start of the text: over whole texts anchors must hold anywhere.
        self.texts = _set(
            (each.expression if each.is_whole else _unanchored(each.expression) for each in rules), memory
        )
        self._sentences = _set((each.expression for each in self._by_sentence), memory)

    def of_sentence(self, raw: bytes) -> list[CompiledRule]:
        """The rules that hit a sentence."""
        return [self._by_sentence[index] for index in self._sentences.Match(raw) or ()] if self._by_sentence else []


def _shards(rules: Sequence[CompiledRule], memory: int, problems: list[str]) -> list[_Shard]:
    """Shards over `rules`, smaller ones where a set would be too large."""
    made: list[_Shard] = []
    waiting = [rules[first : first + _SHARD] for first in range(0, len(rules), _SHARD)]
    while waiting:
        some = waiting.pop(0)
        try:
            made.append(_Shard(some, memory if len(some) > 1 else _PATTERN_MEMORY))
        except re2.error as error:
            if len(some) == 1:
                problems.append(f'rule "{some[0].rule.name}" ({some[0].rule.id}) is left out: {_told(error)}')
            else:
                waiting[:0] = [some[: len(some) // 2], some[len(some) // 2 :]]
    return made


@dataclass(frozen=True, slots=True)
class _Statement:
    """Why a span is kept: the rule of the highest importance, and the keywords of all."""

    rule: Rule
    keywords: tuple[str, ...]


def _collect(
    kept: dict[tuple[int, int, MemoryType], _Statement],
    hits: Sequence[CompiledRule],
    text: str,
    start: int,
    end: int,
) -> None:
    """Add what the rules that hit text[start:end] keep of it: per memory type the most important rule decides."""
    for memory_type in dict.fromkeys(each.rule.type for each in hits):
        rivals = [each for each in hits if each.rule.type == memory_type]
        best = max(rivals, key=lambda each: each.rule.importance)
        words = dict.fromkeys(word for each in (best, *rivals) for word in each.rule.keywords)
        for span in _spans(best, text, start, end):
            rule = best.rule
            known = kept.get((*span, memory_type))
            if known is not None:
                words = dict.fromkeys((*known.keywords, *words))
                rule = max(known.rule, rule, key=lambda each: each.importance)
            kept[(*span, memory_type)] = _Statement(rule, tuple(words))


def _spans(compiled: CompiledRule, text: str, start: int, end: int) -> Iterator[Span]:
    """What a rule keeps of text[start:end], in pieces that an embedding model can hold."""
    unit = text[start:end]
    found = [(0, len(unit))]
    if compiled.rule.keep == "match":
        found = [match.span() for match in compiled.pattern.finditer(unit)]
    for first, last in found:
        for begin, close in pieces(unit[first:last]):
            yield start + first + begin, start + first + close


def _set(expressions: Iterable[str], memory: int) -> Any:  # noqa: ANN401 - RE2 has no types
    result = re2.Set.SearchSet(_options(memory))
    for expression in expressions:
        result.Add(expression)
    result.Compile()
    return result


def _options(memory: int, *, case_sensitive: bool = False) -> Any:  # noqa: ANN401 - as above
    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.dot_nl = True  # A sentence of a hard-wrapped text has line ends in it.
    options.log_errors = False
    options.max_mem = memory
    return options


def _complaint(expression: str) -> str | None:
    """What RE2 has against an expression."""
    try:
        re2.compile(expression, _options(_PATTERN_MEMORY))
    except re2.error as error:
        return _told(error)
    return None


def _told(error: re2.error) -> str:
    told = error.args[0]
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    # Of an odd parenthesis RE2 quotes the whole pattern.
    return text.partition(": ")[0] if text.startswith(("missing ):", "unexpected ):")) else text


def _unanchored(expression: str) -> str:
    """An expression that hits wherever `expression` hits a part of the text."""
    return _ANCHOR.sub(lambda match: _ANYWHERE.get(match[0], match[0]), expression)


def _simple_expression(pattern: str) -> str:
    """The regular expression of a simple pattern. Only where a word's edge is ASCII can RE2 tell that it is one."""
    expression = ""
    gap = ""
    for word in pattern.split():
        if not word.strip("*"):
            gap = ".*" if expression else ""
            continue
        before = r"\b" if _is_ascii_word(word[0]) else ""
        after = r"\b" if _is_ascii_word(word[-1]) else ""
        expression += gap + before + f"{_WORD}*".join(re2.escape(piece) for piece in word.split("*")) + after
        gap = r"\s+"
    if not expression:
        raise ValueError("a simple pattern needs a word")
    return expression


def _is_ascii_word(mark: str) -> bool:
    return mark.isascii() and (mark.isalnum() or mark == "_")
