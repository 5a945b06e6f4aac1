r"""The rules tier: patterns that say which sentences are worth remembering, matched by RE2 in linear time.

One RE2 set tells in a single pass which rules can hit a text at all; most texts are done with after that. RE2's `\b`,
`\w` and `\d` know ASCII only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import re2

from memcli.model import Candidate, Extraction, MemoryType, Part, Provenance, Window
from memcli.text import clean, digest, pieces, sentences

RoleScope = Literal["user", "assistant", "both"]
Keep = Literal["match", "sentence", "message"]
Span = tuple[int, int]

# Changes whenever the same rules would give other candidates than before.
_CODE_VERSION = "1"
_MIN_MEMORY = 16 << 20
_MEMORY_PER_RULE = 256 << 10
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

    `pattern` is a regular expression (RE2, any case), or, where `kind` is "simple", plain words: `*` at a word stands
    for the rest of it, `*` alone for anything between two words. `keep` is what becomes the memory: the match, the
    sentence around it, or the whole message. `roles` is whose messages the rule reads.
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


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its expression, as text and compiled."""

    rule: Rule
    expression: str
    pattern: Any


def starter_rules() -> tuple[Rule, ...]:
    """The small built-in rule set (starter.toml)."""
    tables = tomllib.loads(_STARTER_FILE.read_text(encoding="utf-8"))["rules"]
    return tuple(Rule(**{**table, "keywords": tuple(table.get("keywords", ()))}) for table in tables)


def compile_rules(rules: Iterable[Rule]) -> tuple[tuple[CompiledRule, ...], list[str]]:
    """Compile the active rules; a rule that cannot be compiled is left out and its problem is told."""
    compiled: list[CompiledRule] = []
    problems: list[str] = []
    options = _options(1)
    for rule in rules:
        if not rule.active:
            continue
        try:
            expression = _simple_expression(rule.pattern) if rule.kind == "simple" else rule.pattern
            pattern = re2.compile(expression, options)
        except (re2.error, ValueError) as error:
            told = error.args[0]
            problems.append(f'rule "{rule.name}": {told.decode() if isinstance(told, bytes) else told}')
            continue
        compiled.append(CompiledRule(rule, expression, pattern))
    return tuple(compiled), problems


class RuleExtractor:
    """Applies a rule set to windows. `problems` tells which rules were left out because they cannot be compiled."""

    tier = "rules"

    def __init__(self, rules: Sequence[Rule]) -> None:
        compiled, self.problems = compile_rules(rules)
        self.version = digest(_CODE_VERSION, *(repr(each.rule) for each in compiled)).hex()
        self._by_role = {
            role: _RoleRules([each for each in compiled if each.rule.roles in {role, "both"}])
            for role in ("user", "assistant", "both")
        }

    def extract(self, window: Window) -> Extraction:
        """See Extractor. Candidates come in the order of the text; at most one per span and type."""
        return Extraction(
            tuple(
                candidate
                for part in window.parts
                for candidate in self._by_role.get(part.role, self._by_role["both"]).candidates(part)
            )
        )


class _RoleRules:
    """The rules that read one role, as two sets: one over whole texts, which is a cheap no, and one over sentences."""

    def __init__(self, compiled: Sequence[CompiledRule]) -> None:
        self._rules = compiled
        self._by_sentence = [each for each in compiled if each.rule.keep != "message"]
        # The start of a sentence is not the start of the text: over whole texts anchors must hold anywhere.
        self._text_sets = _make_sets(
            [each.expression if each.rule.keep == "message" else _unanchored(each.expression) for each in compiled]
        )
        self._sentence_sets = _make_sets([each.expression for each in self._by_sentence])

    def candidates(self, part: Part) -> Iterator[Candidate]:
        text = clean(part.text)
        hits = [self._rules[index] for index in _hits(self._text_sets, text)]
        if not hits:
            return
        kept: dict[tuple[int, int, MemoryType], _Statement] = {}
        whole = [each for each in hits if each.rule.keep == "message"]
        if whole:
            _collect(kept, whole, text, 0, len(text))
        if len(whole) < len(hits):
            for start, end in sentences(text):
                begin = _BULLETS.match(text, start, end).end()  # type: ignore[union-attr] # it can match nothing
                hits = [self._by_sentence[index] for index in _hits(self._sentence_sets, text[begin:end])]
                if hits:
                    _collect(kept, hits, text, begin, end)
        for (start, end, memory_type), statement in sorted(kept.items()):
            yield Candidate(
                content=text[start:end],
                type=memory_type,
                importance=statement.rule.importance,
                method=f"rules:{statement.rule.name}",
                sources=(Provenance(part.message_id, part.start + start, part.start + end),),
                keywords=statement.keywords,
            )


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


def _hits(sets: Sequence[tuple[int, Any]], text: str) -> list[int]:
    """Indices of the expressions that hit `text`, in order."""
    return sorted(first + index for first, patterns in sets for index in patterns.Match(text) or ())


def _make_sets(expressions: Sequence[str], first: int = 0) -> list[tuple[int, Any]]:
    """RE2 sets over `expressions`, each with the index of its first one; several where one would be too large."""
    if not expressions:
        return []
    result = re2.Set.SearchSet(_options(len(expressions)))
    for expression in expressions:
        result.Add(expression)
    try:
        result.Compile()
    except re2.error:
        if len(expressions) == 1:
            raise
        half = len(expressions) // 2
        return _make_sets(expressions[:half], first) + _make_sets(expressions[half:], first + half)
    return [(first, result)]


def _options(rules: int) -> Any:  # noqa: ANN401 - as above
    options = re2.Options()
    options.case_sensitive = False
    options.dot_nl = True  # A sentence of a hard-wrapped text has line ends in it.
    options.log_errors = False
    options.max_mem = _MIN_MEMORY + rules * _MEMORY_PER_RULE
    return options


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
