"""The evidence about two similar texts: do they say the same, or do they differ where an embedding does not look?

A text is read as a sequence of tokens: numbers (with units, dates, times), identifiers (what has a form of its own:
tickets, paths, URLs, flags, names with digits, symbols, brackets) and words. White space, markdown, closing punctuation
and the capital of a sentence are formatting; all other case is evidence ("US employees" are not "us employees", 5 MW is
not 5 mW). Every difference that nothing here explains as harmless fails a gate: a miss costs space, a false merge loses
a fact.
"""

from __future__ import annotations

import hashlib
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
_LIGHT = frozenset(("a", "and", "also", "of", "so", "that", "then", "which", "<speaker's>"))
_NEGATIONS = frozenset(("not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without"))
# As they stand among the tokens, in any case, with the stops around them.
_MARKED = frozenset(
    before + form + after
    for word in _NEGATIONS
    for form in (word, word.capitalize(), word.upper())
    for before in ("", ",")
    for after in ("", ",")
)
_FORMS = {
    **dict.fromkeys(("am", "is", "are"), "be"),
    "were": "was",
    "has": "have",
    "does": "do",
    "goes": "go",
    **dict.fromkeys(("i", "me"), "<i>"),
    "my": "<i's>",
    "an": "a",
    "&": "and",
}
_SPEAKER = {"<i>": "<speaker>", "<user>": "<speaker>", "<i's>": "<speaker's>", "<user's>": "<speaker's>"}
_USER = frozenset(("<user>", "<user's>"))
_OURS = ("me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves")
_FIRST_PERSON = frozenset(("<i>", "<i's>", *_OURS, *(word.capitalize() for word in _OURS)))
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
_MONTH_NAMES = """january jan, february feb, march mar, april apr, may, june jun, july jul, august aug,
september sep sept, october oct, november nov, december dec"""
_MONTHS = {name: f"{at:02}" for at, names in enumerate(_MONTH_NAMES.split(","), start=1) for name in names.split()}
# Case is the unit: mW and MW, Mb and MB.
_SYMBOLS = frozenset(("%", "°C", "°F", "$", "€", "£", "¥", "ms", "s", "min", "h", "KB", "MB", "GB", "TB"))
_SYMBOLS |= {"mm", "cm", "km", "kg"}
_UNIT_NAMES = """% percent, °C celsius, °F fahrenheit, $ dollar dollars, € euro euros, ms millisecond milliseconds,
s sec secs second seconds, min mins minute minutes, h hr hrs hour hours, day day days, week week weeks,
month month months, year year years, KB kilobyte kilobytes, MB megabyte megabytes, GB gigabyte gigabytes,
TB terabyte terabytes, mm millimetre millimetres millimeter millimeters, cm centimetre centimetres centimeter
centimeters, km kilometre kilometres kilometer kilometers, kg kilogram kilograms, am am, pm pm"""
_SPELLED_UNITS = {name: unit for unit, *names in map(str.split, _UNIT_NAMES.split(",")) for name in names}

# NFKC would make 102 of 10², and 11/2 of 1½.
_PROTECTED = {ord(mark): "^" + unicodedata.normalize("NFKC", mark) for mark in "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"}
_PROTECTED |= {ord(mark): "_" + unicodedata.normalize("NFKC", mark) for mark in "₀₁₂₃₄₅₆₇₈₉₊₋"}
_PROTECTED |= {
    ord(mark): f" {unicodedata.normalize('NFKC', mark).replace(chr(0x2044), '/')} " for mark in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_TYPOGRAPHY = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "—": " ; ", "–": "-", "‑": "-", "−": "-", "\u00ad": None}
)
# A sign before a figure is no bullet: "- 500" may be less than nothing.
_BULLETS = re.compile(
    r"^[ \t]*(?:(?:[-+>](?!\s+[-+$€£¥]?\d)|[*•·]|#{1,6})(?=\s)[ \t]*)+|^[ \t]*[-|:= \t]*[-|=]{3}[-|:= \t]*$",
    re.MULTILINE,
)
_TABLE_ROW = re.compile(r"^[ \t]*\|(.*?)\|[ \t]*$", re.MULTILINE)
_STARRED = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]*[^\s*])\1(?![\w*])")
_QUOTED = re.compile(r"```(.+?)```|`([^`]+)`|(?<!\w)\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)", re.DOTALL)
_OPENING = "\"'`([{"
_CLOSING = "\"'`)]}.,;:!?。"
_BRACKETS = "()[]{}"
_STOPS = frozenset(".,;:!?。")
_SENTENCE_ENDS = frozenset(".!?。")
_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_FIGURE = re.compile(r"([-+<>=~≤≥±]*)([$€£¥]?)(\d+(?:[.,:/-]\d+)*)(%|°[CFcf]?|[A-Za-z]+)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CLOCK = re.compile(r"(\d{1,2})(?::([0-5]\d))?")
_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_DAY = re.compile(r"0?([1-9]|[12]\d|3[01])(?:st|nd|rd|th)?")
_YEAR = re.compile(r"(?:19|20)\d\d")
_CONTRACTED = {"'m": "be", "'re": "be", "'ve": "have", "'ll": "will", "'d": "'d"}
_IT_IS = frozenset(("it", "he", "she", "that", "there", "here", "what", "who", "where", "how", "this"))
_AUXILIARIES = "do does did is are was were has have had could would should must".split()
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
    text: str
    quoted: tuple[str, ...]
    tokens: tuple[_Token, ...]
    signature: Signature


def signature(text: str) -> Signature:
    """Return the numbers, identifiers and negations of `text`: cheap to compare, and to group templated texts by."""
    return _read(text).signature


def judge(a: str, b: str, cosine: float, threshold: float) -> Judgement:
    """Weigh the evidence about two texts of cosine `cosine` under a model whose near threshold is `threshold`.

    - numbers: the same figures, dates, times and units ("1,000" is "1000", "3pm" is "15:00", "5 ms" is not "5 s").
    - identifiers: the same tickets, paths, URLs, flags, variables, names with digits, symbols, brackets.
    - negation: as many negations ("don't" is "do not"), as many questions.
    - overlap: no word is replaced by another; words on one side only are light ones, at most a tenth of the text,
      and the cosine is at least half-way from the threshold to 1; what one side quotes or sets as code stands letter
      for letter in the other. `Judgement.overlap` is the Jaccard overlap of the two multisets of words, 0 to 1.
    - order: what both sides have comes in the same order ("A manages B" is not "B manages A").

    Symmetric but for the sides of `differences`, deterministic, and all gates pass for a text and its re-formatting.
    """
    left, right = _read(a), _read(b)
    first, second = left.signature, right.signature
    folded_a, folded_b = _folded(left.tokens), _folded(right.tokens)
    words_a, words_b = Counter(_words(folded_a)), Counter(_words(folded_b))
    longer = max(words_a.total(), words_b.total())
    allowed = _EXTRA_SHARE * longer if cosine >= (threshold + 1) / 2 else 0
    displaced = _displaced(folded_a, folded_b)
    overlap = _words_apart(words_a, words_b, allowed) or _misquoted(left, right)
    if not (displaced or overlap or (folded_a == left.tokens and folded_b == right.tokens)):
        overlap = _words_apart(Counter(_words(left.tokens)), Counter(_words(right.tokens)), allowed)
        displaced = _displaced(left.tokens, right.tokens)
    differences = {
        "numbers": _difference(first.numbers, second.numbers),
        "identifiers": _difference(first.identifiers, second.identifiers),
        "negation": _polarity(first, second),
        "overlap": overlap,
        "order": displaced,
    }
    shared = (words_a & words_b).total()
    union = words_a.total() + words_b.total() - shared
    return Judgement(
        passed=tuple(gate for gate in GATES if not differences[gate]),
        failed=tuple(gate for gate in GATES if differences[gate]),
        overlap=shared / union if union else 1.0,
        differences={gate: differences[gate] for gate in GATES if differences[gate]},
    )


def merge_key(text: str) -> int:
    """A number of 64 bits that two texts have in common wherever `judge` can let them merge; it may be stored."""
    words = sorted([value.lower() for _, value in _read(text).tokens])
    evidence = "\0".join([word for word in words if word not in _LIGHT])
    digest = hashlib.blake2b(evidence.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


# The same text is read once for its signature and again for each pair that it is judged in.
@lru_cache(maxsize=1024)
def _read(text: str) -> _Reading:
    prepared = _prepared(text)
    scattered, questions = _tokens(prepared)
    tokens = _composed(_persons(scattered))
    return _Reading(
        text=prepared,
        quoted=tuple(found[found.lastindex or 0] for found in _QUOTED.finditer(prepared))
        if "`" in prepared or '"' in prepared or prepared.count("'") > 1
        else (),
        tokens=tuple(tokens),
        signature=Signature(
            numbers=tuple(sorted([value for kind, value in tokens if kind is _NUMBER])),
            identifiers=tuple(sorted([value for kind, value in tokens if kind is _IDENTIFIER])),
            negations=len([value for kind, value in tokens if value in _MARKED and kind is _WORD]),
            questions=questions,
        ),
    )


def _prepared(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_PROTECTED)).translate(_TYPOGRAPHY)
    # Most texts are one line of prose: the expressions would search them in vain.
    if "\n" in text or not text[:1].isalnum():
        text = _BULLETS.sub("", text)
    if "|" in text:
        text = _TABLE_ROW.sub(r"\1", text)
    return _STARRED.sub(r"\2", text) if "*" in text else text


def _tokens(text: str) -> tuple[list[_Token], int]:
    """Return the tokens of a prepared text, and how many pieces of it end with a question mark."""
    tokens: list[_Token] = []
    questions = 0
    user = start = True  # "user" is the speaker at the start of a clause and behind "the"; "a user" is anyone
    stopped = False
    chunks = text.split()
    for left, chunk in zip(range(len(chunks) - 1, -1, -1), chunks, strict=True):
        before = len(tokens)
        if chunk.isalpha():
            lowered, closing = chunk.lower(), ""
            _add_word(tokens, chunk, lowered, user=user, start=start)
        else:
            lowered, closing = _add_chunk(tokens, chunk, user=user, start=start)
            questions += "?" in closing
        stops = not _STOPS.isdisjoint(closing)
        if stopped or stops:
            _mark_negations(
                tokens, before if lowered else before - 1, stopped=stopped and before > 0, stops=stops and left > 0
            )
        if lowered or stops:
            stopped = stops
            start = not _SENTENCE_ENDS.isdisjoint(closing)
        user = stops or lowered == "the"
    return tokens, questions


def _add_chunk(tokens: list[_Token], chunk: str, *, user: bool, start: bool) -> tuple[str, str]:
    """Add what stands between two spaces and is not all letters; return its lower-cased core and what closes it."""
    core = _core(chunk)
    at = chunk.rfind(core) if core else 0
    opening, closing = chunk[:at], chunk[at + len(core) :]
    if not core:
        bare = chunk.rstrip(".,;:!?。")
        if len(bare) > 1 or (bare and bare in _BRACKETS):
            tokens.append((_IDENTIFIER, bare))  # "[]", ":)"
        return "", closing
    if closing[:1] in ("'", '"') and core[0].isdigit() and core[-1].isdigit() and not opening.endswith(closing[:1]):
        core += closing[:1]  # feet, inches, minutes
    tokens += [(_IDENTIFIER, mark) for mark in opening if mark in _BRACKETS]
    lowered = core.lower()
    if core.isalpha():
        _add_word(tokens, core, lowered, user=user, start=start)
    else:
        _add_mixed(tokens, core, lowered, user=user, start=start)
    tokens += [(_IDENTIFIER, mark) for mark in closing if mark in _BRACKETS]
    return lowered, closing


def _mark_negations(tokens: list[_Token], since: int, *, stopped: bool, stops: bool) -> None:
    """Tell a negation next to a stop from one that is not: "No, more of it" is not "No more of it"."""
    for at in range(max(since, 0), len(tokens)):
        kind, value = tokens[at]
        if kind is _WORD and value in _MARKED:
            tokens[at] = (_WORD, "," * stopped + value + "," * stops)


def _persons(tokens: list[_Token]) -> list[_Token]:
    """Make "I" and "the user" one, unless the text holds both: then they are two."""
    values = {value for _, value in tokens}
    if _SPEAKER.keys().isdisjoint(values) or not (_USER.isdisjoint(values) or _FIRST_PERSON.isdisjoint(values)):
        return tokens
    return [(kind, _SPEAKER.get(value, value)) if kind is _WORD else (kind, value) for kind, value in tokens]


def _core(chunk: str) -> str:
    """Strip quotes, brackets, emphasis and closing punctuation, but nothing that belongs to a name or figure."""
    if chunk[0] == "<" and chunk.rstrip(_CLOSING)[-1:] == ">" and (":" in chunk or "@" in chunk):
        chunk = chunk[1:].rstrip(_CLOSING + ">")
    core = chunk.lstrip(_OPENING).rstrip(_CLOSING)
    if core[:1] == core[-1:] == "_" and len(core) > 2 * len("_"):
        core = core[1:-1].lstrip(_OPENING).rstrip(_CLOSING)
    return core


def _add_word(tokens: list[_Token], core: str, lowered: str, *, user: bool, start: bool) -> None:
    last = tokens[-1] if tokens else ("", "")
    if last[0] is _NUMBER and (core in _SYMBOLS or lowered in _SPELLED_UNITS):
        tokens.append((_WORD, core if core in _SYMBOLS else lowered))
    elif core in ("few", "little") and last[1] == "a":
        tokens[-1] = (_WORD, "a " + core)  # "few" is nearly none, "a few" is some
    elif lowered == "user" and user and (start or core == lowered):
        tokens.append((_WORD, "<user>"))
    elif lowered in _NUMERALS and last[1] in _MARKED:
        tokens.append((_WORD, core))  # "no one" is nobody
    else:
        tokens += _word(core, start)


@lru_cache(maxsize=16384)
def _word(core: str, start: bool) -> tuple[_Token, ...]:
    """Return the tokens of one word: none for "the", two for "cannot"."""
    word = core.lower() if core == "I" or (start and core[1:] == core[1:].lower()) else core
    if word != word.lower():
        return ((_WORD, word),)
    if word == "the":
        return ()
    if word in _NOT:
        return (_WORD, _inflected(_NOT[word])), (_WORD, "not")
    if word in _NUMERALS:
        return ((_NUMBER, _NUMERALS[word]),)
    # Whether the first word is a name, its capital does not tell: "Peters" is not "Peter".
    return ((_WORD, _FORMS.get(word, word) if start else _inflected(word)),)


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


def _add_mixed(tokens: list[_Token], core: str, lowered: str, *, user: bool, start: bool) -> None:
    """Add what is not all letters: a figure, a contraction, a hyphenated word, or something with a form of its own."""
    figure = _FIGURE.fullmatch(core)
    if figure:
        tokens.append((_NUMBER, _number(*figure.groups())))
    elif "'" in core:
        _add_contraction(tokens, core, lowered, user=user, start=start)
    elif core == "&":
        tokens.append((_WORD, "and"))
    elif _HYPHENATED.fullmatch(core):
        for part in [lowered] if lowered in _NUMERALS else core.split("-"):
            _add_word(tokens, part, part.lower(), user=False, start=start)
            start = False
    else:
        tokens.append((_IDENTIFIER, core))


def _add_contraction(tokens: list[_Token], core: str, lowered: str, *, user: bool, start: bool) -> None:
    base, _, ending = core.rpartition("'")
    ending = ending.lower()
    if lowered in _NOT:
        tokens += [(_WORD, _inflected(_NOT[lowered])), (_WORD, "not")]
    elif not base.isalpha() or (ending != "s" and "'" + ending not in _CONTRACTED):
        tokens.append((_IDENTIFIER, core))
    elif ending == "s" and lowered == "user's" and user and (start or core == lowered):
        tokens.append((_WORD, "<user's>"))
    else:
        _add_word(tokens, base, base.lower(), user=user, start=start)
        if ending != "s":
            tokens.append((_WORD, _CONTRACTED["'" + ending]))
        elif base.lower() in _IT_IS:
            tokens.append((_WORD, "be"))


def _number(sign: str, currency: str, digits: str, unit: str | None) -> str:
    if _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    value = sign + digits
    if unit:
        value = _with_unit(value, unit) or value + unit
    return f"{value} {currency}" if currency else value


def _with_unit(value: str, unit: str) -> str | None:
    """Return the number with its unit's one name, None when that is no known unit."""
    known = unit if unit in _SYMBOLS else _SPELLED_UNITS.get(unit.lower())
    clock = _CLOCK.fullmatch(value) if known in ("am", "pm") else None
    if clock and 1 <= int(clock[1]) <= _NOON:
        return _clock(int(clock[1]) % _NOON + (_NOON if known == "pm" else 0), clock[2] or "00")
    return known and f"{value} {known}"


def _clock(hour: int, minutes: str) -> str:
    """Name a time of day apart from a duration or a score of the same figures."""
    return f"{hour:02}:{minutes} o'clock"


def _composed(tokens: list[_Token]) -> list[_Token]:
    """Join numbers with the units behind them, and days, months and years into dates."""
    if not any(kind is _NUMBER for kind, _ in tokens):
        return tokens
    dated = not _MONTHS.keys().isdisjoint([value.lower() for _, value in tokens])
    composed: list[_Token] = []
    at = 0
    while at < len(tokens):
        value, taken = _date(tokens, at) if dated else ("", 0)
        if not taken and tokens[at][0] is _NUMBER:
            value, taken = _measure(tokens, at)
        composed.append((_NUMBER, value) if taken else tokens[at])
        at += taken or 1
    return composed


def _measure(tokens: list[_Token], at: int) -> tuple[str, int]:
    """Return the number at that token with the unit behind it, or as a time of day, and how many tokens it takes."""
    value = tokens[at][1]
    if value[-1:].isdigit() and at + 1 < len(tokens):
        kind, unit = tokens[at + 1]
        measure = _with_unit(value, unit) if kind is not _NUMBER else None
        if measure:
            return measure, 2
    time = _TIME_OF_DAY.fullmatch(value) if at and tokens[at - 1] == (_WORD, "at") else None
    return (_clock(int(time[1]), time[2]) if time else value), 1


def _date(tokens: list[_Token], at: int) -> tuple[str, int]:
    """Return the date that begins at that token and how many tokens it takes: "March 5, 2026" is "2026-03-05"."""
    first, second, third = ([value.lower() for _, value in tokens[at : at + 3]] + ["", ""])[:3]
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


def _words_apart(first: Counter[str], second: Counter[str], allowed: float) -> str:
    """Say which words differ, empty when only one side has more words and these are light and at most `allowed`."""
    if first == second:
        return ""
    only_a, only_b = first - second, second - first
    extra = only_a or only_b
    if not (only_a and only_b) and extra.total() <= allowed and extra.keys() <= _LIGHT:
        return ""
    return _difference(only_a.elements(), only_b.elements())


def _misquoted(first: _Reading, second: _Reading) -> str:
    """Say what one side quotes or sets as code and the other does not have letter for letter."""
    missing = [
        sorted({quote for quote in one.quoted if not _stands_in(quote, other.text)})
        for one, other in ((first, second), (second, first))
    ]
    return " | ".join(", ".join(side)[:_SHOWN] or "-" for side in missing) if any(missing) else ""


def _stands_in(quote: str, text: str) -> bool:
    """Whether the text has the quote, and not as a part of longer words."""
    at = text.find(quote)
    while at >= 0:
        end = at + len(quote)
        inside = (quote[0].isalnum() and text[at - 1 : at].isalnum()) or (
            quote[-1].isalnum() and text[end : end + 1].isalnum()
        )
        if not inside:
            return True
        at = text.find(quote, at + 1)
    return False


def _folded(tokens: tuple[_Token, ...]) -> tuple[_Token, ...]:
    return tuple([(kind, value.lower()) if kind is _WORD else (kind, value) for kind, value in tokens])


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
