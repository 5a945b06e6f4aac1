"""The evidence about two similar texts: do they say the same, or do they differ where an embedding does not look?

A text is read as a sequence of tokens: numbers (with units, dates, times), identifiers (what has a form of its own:
tickets, paths, URLs, flags, names with digits, symbols) and words. Case, white space, markdown and closing punctuation
are formatting; case is kept where it means something (paths, flags, variables, one-letter units). Every difference that
nothing here explains as harmless fails a gate: a miss costs space, a false merge loses a fact.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from memcli.model import Judgement

GATE_VERSION = "1"
GATES = ("numbers", "identifiers", "negation", "overlap", "order")

_Token = tuple[str, str]
_NUMBER, _IDENTIFIER, _WORD = "number", "identifier", "word"

_EXTRA_SHARE = 0.1
_SHOWN = 80

# Words that may stand on one side only: they lead to what follows and carry no fact of their own. Not among them:
# what turns roles, verbs or time ("by", "to", "on", "was") and what hedges or limits ("may", "only", "some", "until").
_LIGHT = frozenset(("a", "and", "also", "of", "so", "that", "then", "which", "<user's>"))
_NEGATIONS = frozenset(("not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without"))
_FORMS = {
    **dict.fromkeys(("am", "is", "are"), "be"),
    "were": "was",
    "has": "have",
    "does": "do",
    "goes": "go",
    **dict.fromkeys(("i", "me"), "<user>"),
    "my": "<user's>",
    "an": "a",
    "&": "and",
}
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_NUMERALS = {word: str(value) for value, word in enumerate(("zero", *_ONES, "ten", "eleven", "twelve", *_TEENS))}
_NUMERALS |= {word: str(value) for value, word in zip(range(20, 100, 10), _TENS, strict=True)}
_NUMERALS |= {
    f"{ten}-{one}": str(value + more)
    for value, ten in zip(range(20, 100, 10), _TENS, strict=True)
    for more, one in enumerate(_ONES, start=1)
}
_MONTHS = {
    name: f"{at:02}"
    for at, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ),
        start=1,
    )
    for name in names.split()
}
_UNITS = {
    name: names.split()[0]
    for names in (
        "% percent",
        "°c celsius",
        "°f fahrenheit",
        "$ dollar dollars",
        "€ euro euros",
        "£",
        "¥",
        "ms millisecond milliseconds",
        "s sec secs second seconds",
        "min mins minute minutes",
        "h hr hrs hour hours",
        "day days",
        "week weeks",
        "month months",
        "year years",
        "kb kilobyte kilobytes",
        "mb megabyte megabytes",
        "gb gigabyte gigabytes",
        "tb terabyte terabytes",
        "mm millimetre millimetres millimeter millimeters",
        "cm centimetre centimetres centimeter centimeters",
        "km kilometre kilometres kilometer kilometers",
        "kg kilogram kilograms",
        "am",
        "pm",
    )
    for name in names.split()
}

# NFKC would make 102 of 10², and 11/2 of 1½.
_PROTECTED = {ord(mark): "^" + unicodedata.normalize("NFKC", mark) for mark in "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"}
_PROTECTED |= {ord(mark): "_" + unicodedata.normalize("NFKC", mark) for mark in "₀₁₂₃₄₅₆₇₈₉₊₋"}
_PROTECTED |= {
    ord(mark): f" {unicodedata.normalize('NFKC', mark).replace(chr(0x2044), '/')} " for mark in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_TYPOGRAPHY = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "—": " ", "…": " ", "–": "-", "‑": "-", "−": "-", "\u00ad": None}
)
_BULLETS = re.compile(r"^[ \t]*(?:(?:[-*+>•·]|#{1,6})(?=\s)[ \t]*)+", re.MULTILINE)
_OPENING = "\"'`([{"
_CLOSING = "\"'`)]}.,;:!?。"
_STOPS = frozenset(".,;:!?。")
_EMPHASIS = "*_"
_SILENT = re.compile(r"[-=]+>|[-|•·→⇒]+")
_CASED = re.compile(r"[/\\_=@]|^-")
_SLASHED_WORDS = re.compile(r"[^\W\d_]+(?:/[^\W\d_]+)+")
_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_FIGURE = re.compile(r"([-+<>=~≤≥±]*)([$€£¥]?)(\d+(?:[.,:/-]\d+)*)(%|°[CFcf]?|[A-Za-z]+)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CLOCK = re.compile(r"(\d{1,2})(?::([0-5]\d))?")
_DAY = re.compile(r"0?([1-9]|[12]\d|3[01])(?:st|nd|rd|th)?")
_YEAR = re.compile(r"(?:19|20)\d\d")
_CONTRACTED = {"'m": "be", "'re": "be", "'ve": "have", "'ll": "will", "'d": "'d"}
_IT_IS = frozenset(("it", "he", "she", "that", "there", "here", "what", "who", "where", "how", "this"))
_AUXILIARIES = (
    "do",
    "does",
    "did",
    "is",
    "are",
    "was",
    "were",
    "has",
    "have",
    "had",
    "could",
    "would",
    "should",
    "must",
)
_NOT = {verb + ending: verb for verb in _AUXILIARIES for ending in ("n't", "nt")}
_NOT |= dict.fromkeys(("can't", "cannot", "cant"), "can") | dict.fromkeys(("won't", "wont"), "will")
_SHORTEST_PLURAL = 4
_NOON = 12


@dataclass(frozen=True, slots=True)
class Signature:
    """The evidence that must be equal: two signatures are equal exactly when these three gates pass.

    `negations` and `questions` are counts; together they are the gate "negation".
    """

    numbers: tuple[str, ...]
    identifiers: tuple[str, ...]
    negations: int
    questions: int


@dataclass(frozen=True, slots=True)
class _Reading:
    tokens: tuple[_Token, ...]
    signature: Signature


def signature(text: str) -> Signature:
    """Return the numbers, identifiers and negations of `text`: cheap to compare, and to group templated texts by."""
    return _read(text).signature


def judge(a: str, b: str, cosine: float, threshold: float) -> Judgement:
    """Weigh the evidence about two texts of cosine `cosine` under a model whose near threshold is `threshold`.

    - numbers: the same figures, dates, times and units ("1,000" is "1000", "3pm" is "15:00", "5 ms" is not "5 s").
    - identifiers: the same tickets, paths, URLs, flags, variables, names with digits, symbols.
    - negation: as many negations ("don't" is "do not"), as many questions.
    - overlap: no word is replaced by another; words on one side only are light ones, at most a tenth of the text,
      and the cosine is at least half-way from the threshold to 1. `Judgement.overlap` is the Jaccard overlap of the
      two multisets of words, 0 to 1.
    - order: what both sides have comes in the same order ("A manages B" is not "B manages A").

    Symmetric but for the sides of `differences`, deterministic, and all gates pass for a text and its re-formatting.
    """
    left, right = _read(a), _read(b)
    first, second = left.signature, right.signature
    words_a, words_b = Counter(_words(left.tokens)), Counter(_words(right.tokens))
    only_a, only_b = words_a - words_b, words_b - words_a
    longer = max(words_a.total(), words_b.total())
    allowed = _EXTRA_SHARE * longer if cosine >= (threshold + 1) / 2 else 0
    differences = {
        "numbers": _difference(first.numbers, second.numbers),
        "identifiers": _difference(first.identifiers, second.identifiers),
        "negation": _polarity(first, second),
        "overlap": _words_apart(only_a, only_b, allowed),
        "order": _displaced(left.tokens, right.tokens),
    }
    union = (words_a | words_b).total()
    return Judgement(
        passed=tuple(gate for gate in GATES if not differences[gate]),
        failed=tuple(gate for gate in GATES if differences[gate]),
        overlap=(words_a & words_b).total() / union if union else 1.0,
        differences={gate: differences[gate] for gate in GATES if differences[gate]},
    )


# The same text is read once for its signature and again for each pair that it is judged in.
@lru_cache(maxsize=1024)
def _read(text: str) -> _Reading:
    scattered, questions = _tokens(_prepared(text))
    tokens = _composed(scattered)
    kinds: dict[str, list[str]] = {_NUMBER: [], _IDENTIFIER: [], _WORD: []}
    for kind, value in tokens:
        kinds[kind].append(value)
    return _Reading(
        tokens=tuple(tokens),
        signature=Signature(
            numbers=tuple(sorted(kinds[_NUMBER])),
            identifiers=tuple(sorted(kinds[_IDENTIFIER])),
            negations=sum(word in _NEGATIONS for word in kinds[_WORD]),
            questions=questions,
        ),
    )


def _prepared(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_PROTECTED)).translate(_TYPOGRAPHY)
    return _BULLETS.sub("", text)


def _tokens(text: str) -> tuple[list[_Token], int]:
    """Return the tokens of a prepared text, and how many pieces of it end with a question mark."""
    tokens: list[_Token] = []
    questions = 0
    user = True  # "user" is the speaker at the start of a sentence and behind "the"; "a user" is anyone
    for chunk in text.split():
        if chunk.isalpha():
            core, ends = chunk, False
        else:
            core = _core(chunk)
            closing = chunk[chunk.rfind(core) + len(core) :] if core else chunk
            questions += "?" in closing
            ends = not _STOPS.isdisjoint(closing)
        lowered = core.casefold()
        if core.isalpha():
            _add_word(tokens, core, lowered, user=user)
        elif core and not _SILENT.fullmatch(core):
            _add_mixed(tokens, core, lowered, user=user)
        user = ends or lowered == "the"
    return tokens, questions


def _core(chunk: str) -> str:
    """Strip quotes, brackets, emphasis and closing punctuation, but nothing that belongs to a name or figure."""
    if chunk[0] == "<" and chunk.rstrip(_CLOSING)[-1:] == ">":
        chunk = chunk[1:].rstrip(_CLOSING + ">")
    marks = len(chunk) - len(chunk.lstrip(_EMPHASIS))
    inner = chunk.rstrip(_CLOSING)[marks:]
    if marks and len(inner) > marks and inner.endswith(chunk[:marks]):
        chunk = inner[:-marks]  # "**C++**": both marks go, or the + would protect the closing one
    core = chunk.lstrip(_OPENING + _EMPHASIS)
    if not core[:1].isalnum():
        core = chunk.lstrip(_OPENING)
    stripped = core.rstrip(_CLOSING + _EMPHASIS)
    return stripped if stripped[-1:].isalnum() else core.rstrip(_CLOSING)


def _add_word(tokens: list[_Token], core: str, lowered: str, *, user: bool) -> None:
    behind_number = bool(tokens) and tokens[-1][0] is _NUMBER
    if behind_number and lowered in _UNITS:
        tokens.append((_WORD, core if len(core) == 1 else lowered))
    elif behind_number and len(core) == 1 and lowered not in ("a", "i"):
        tokens.append((_WORD, core))  # "5 M" is not "5 m"
    elif lowered in ("few", "little") and tokens and tokens[-1][1] == "a":
        tokens[-1] = (_WORD, "a " + lowered)  # "few" is nearly none, "a few" is some
    elif user and lowered == "user":
        tokens.append((_WORD, "<user>"))
    else:
        tokens += _word(lowered)


@lru_cache(maxsize=16384)
def _word(lowered: str) -> tuple[_Token, ...]:
    """Return the tokens of one word: none for "the", two for "cannot"."""
    if lowered == "the":
        return ()
    if lowered in _NOT:
        return (_WORD, _inflected(_NOT[lowered])), (_WORD, "not")
    if lowered in _NUMERALS:
        return ((_NUMBER, _NUMERALS[lowered]),)
    return ((_WORD, _inflected(lowered)),)


def _inflected(word: str) -> str:
    """Unify the persons of a verb and the numbers of a noun. Tense is a fact, so -ed and -ing stay."""
    form = _FORMS.get(word)
    if form is not None:
        return form
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > _SHORTEST_PLURAL:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zzes")) else word[:-1]


def _add_mixed(tokens: list[_Token], core: str, lowered: str, *, user: bool) -> None:
    """Add what is not all letters: a figure, a contraction, a hyphenated word, or something with a form of its own."""
    figure = _FIGURE.fullmatch(core)
    if figure:
        tokens.append((_NUMBER, _number(*figure.groups())))
    elif "'" in core:
        _add_contraction(tokens, lowered, user=user)
    elif core == "&":
        tokens.append((_WORD, "and"))
    elif _CASED.search(core) and not _SLASHED_WORDS.fullmatch(core):
        tokens.append((_IDENTIFIER, core))
    elif _HYPHENATED.fullmatch(core):
        for part in [lowered] if lowered in _NUMERALS else lowered.split("-"):
            _add_word(tokens, part, part, user=False)
    else:
        tokens.append((_IDENTIFIER, lowered))


def _add_contraction(tokens: list[_Token], lowered: str, *, user: bool) -> None:
    base, _, ending = lowered.rpartition("'")
    if lowered in _NOT:
        _add_word(tokens, lowered, lowered, user=False)
    elif not base.isalpha() or (ending != "s" and "'" + ending not in _CONTRACTED):
        tokens.append((_IDENTIFIER, lowered))
    elif ending == "s" and base == "user" and user:
        tokens.append((_WORD, "<user's>"))
    else:
        _add_word(tokens, base, base, user=user)
        if ending != "s":
            tokens.append((_WORD, _CONTRACTED["'" + ending]))
        elif base in _IT_IS:
            tokens.append((_WORD, "be"))


def _number(sign: str, currency: str, digits: str, unit: str | None) -> str:
    if _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    clock = _CLOCK.fullmatch(digits)
    value = sign + (digits.zfill(len("00:00")) if clock and clock[2] else digits)
    if unit:
        value = _with_unit(value, unit) or value + (unit if len(unit) == 1 else unit.casefold())
    return f"{value} {currency}" if currency else value


def _with_unit(value: str, unit: str) -> str | None:
    """Return the number with its unit's one name, None when that is no known unit."""
    # One letter's case tells million from milli and byte from bit.
    known = _UNITS.get(unit if len(unit) == 1 else unit.casefold())
    clock = _CLOCK.fullmatch(value) if known in ("am", "pm") else None
    if clock and 1 <= int(clock[1]) <= _NOON:
        return f"{int(clock[1]) % _NOON + (_NOON if known == 'pm' else 0):02}:{clock[2] or '00'}"
    return known and f"{value} {known}"


def _composed(tokens: list[_Token]) -> list[_Token]:
    """Join numbers with the units behind them, and days, months and years into dates."""
    if not any(kind is _NUMBER for kind, _ in tokens):
        return tokens
    composed: list[_Token] = []
    at = 0
    while at < len(tokens):
        value, taken = _date(tokens, at)
        if not taken and tokens[at][0] is _NUMBER and tokens[at][1][-1:].isdigit() and at + 1 < len(tokens):
            kind, unit = tokens[at + 1]
            value = (_with_unit(tokens[at][1], unit) if kind is not _NUMBER else None) or ""
            taken = 2 if value else 0
        composed.append((_NUMBER, value) if taken else tokens[at])
        at += taken or 1
    return composed


def _date(tokens: list[_Token], at: int) -> tuple[str, int]:
    """Return the date that begins at that token and how many tokens it takes: "March 5, 2026" is "2026-03-05"."""
    first, second, third = ([value for _, value in tokens[at : at + 3]] + ["", ""])[:3]
    month = _MONTHS.get(first) or _MONTHS.get(second)
    if month is None:
        return "", 0
    if first in _MONTHS and _YEAR.fullmatch(second):
        return f"{second}-{month}", 2
    day = _DAY.fullmatch(second if first in _MONTHS else first)
    if day is None:
        return "", 0
    year = third if _YEAR.fullmatch(third) else ""
    return f"{year or '-'}-{month}-{int(day[1]):02}", 3 if year else 2


def _difference(first: Iterable[str], second: Iterable[str]) -> str:
    """Say what only one side has, "260 | 480"; empty when both have the same."""
    if first == second:
        return ""
    left, right = Counter(first), Counter(second)
    only = [", ".join(sorted(side.elements()))[:_SHOWN] or "-" for side in (left - right, right - left)]
    return " | ".join(only) if left != right else ""


def _polarity(first: Signature, second: Signature) -> str:
    sides = [f"{side.negations} negations, {side.questions} questions" for side in (first, second)]
    return " | ".join(sides) if sides[0] != sides[1] else ""


def _words_apart(only_a: Counter[str], only_b: Counter[str], allowed: float) -> str:
    """Say which words differ, empty when only one side has more words and these are light and at most `allowed`."""
    extra = only_a or only_b
    if not (only_a and only_b) and extra.total() <= allowed and extra.keys() <= _LIGHT:
        return ""
    return _difference(only_a.elements(), only_b.elements())


def _words(tokens: tuple[_Token, ...]) -> list[str]:
    return [value for kind, value in tokens if kind is _WORD]


def _displaced(first: tuple[_Token, ...], second: tuple[_Token, ...]) -> str:
    """Say where the order of what both sides have alike begins to differ."""
    if first == second:
        return ""
    left, right = Counter(first), Counter(second)
    # A token that one side has more often is a matter of the other gates: which of its places counts is unknown.
    alike = {token for token, count in left.items() if right[token] == count}
    pairs = zip((t for t in first if t in alike), (t for t in second if t in alike), strict=True)
    return next((f"{x[1]} | {y[1]}"[: 2 * _SHOWN] for x, y in pairs if x != y), "")
