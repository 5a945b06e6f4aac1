"""From a text to its tokens: words, figures and what has a form of its own.

White space, markdown, typography, closing punctuation and the capital of a sentence are formatting and end here.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from memcli.dedup.gates.figures import FIGURE, NUMERALS, ORDINALS, figure
from memcli.dedup.gates.words import WEEKDAYS

NUMBER, IDENTIFIER, WORD = "number", "identifier", "word"
START = "?"


class Token(NamedTuple):
    """A piece of a text.

    `key` is its one name (lower case for words), `case` how it was written where that has capitals ("?" for a word
    whose only capital is that of the sentence), `stop` the strongest of ", : ; ." behind it.
    """

    kind: str
    key: str
    case: str = ""
    stop: str = ""


# NFKC would make 102 of 10², and 11/2 of 1½.
_PROTECTED = {ord(mark): "^" + unicodedata.normalize("NFKC", mark) for mark in "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"}
_PROTECTED |= {ord(mark): "_" + unicodedata.normalize("NFKC", mark) for mark in "₀₁₂₃₄₅₆₇₈₉₊₋"}
_PROTECTED |= {
    ord(mark): f" {unicodedata.normalize('NFKC', mark).replace(chr(0x2044), '/')} " for mark in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_TYPOGRAPHY = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "—": " ; ", "–": "-", "‑": "-", "−": "-", "\u00ad": None}
)
# A sign before a figure is no bullet: "- 500" may be less than nothing. A line of rules and bars is first seen to hold
# nothing else: looked for at once, it would take the square of its length.
_BULLETS = re.compile(
    r"^[ \t]*(?:(?:[-+>](?!\s+[-+$€£¥]?\d)|[*•·]|#{1,6})(?=\s)[ \t]*)+"
    r"|^(?=[-|:= \t]*+$)[-|:= \t]*?[-|=]{3}[-|:= \t]*+$",
    re.MULTILINE,
)
_TABLE_ROW = re.compile(r"^[ \t]*\|(.*?)\|[ \t]*$", re.MULTILINE)
_STARRED = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]*[^\s*])\1(?![\w*])")
# Marks whose partner stands in another sentence: "**For the record it works." "**kwargs" begins no such sentence.
_OPENED = re.compile(r"(?<![\w*])\*{1,3}(?=[A-Z][a-z]*(?:\s|$))|^_{1,3}(?=[A-Z][a-z]*\s)")
_CLOSED = re.compile(
    r"(?<=[.!?:,;)])\*{1,3}(?=[.!?:,;)]*(?:\s|$))|(?<=[a-z])\*{2,3}(?=[.!?:,;)]*(?:\s|$))|(?<!\S)([A-Za-z]+[.!?:,;)]*)__$"
)
_UNDERSCORED = re.compile(r"(?<!\w)(_{1,3})(?=[^\s_])([^_\n]*\s[^_\n]*[^\s_])\1(?!\w)")
_LINKED = re.compile(r"\[([^\[\]\n]+)\]\((\S+?)\)")
_NUMBERED = re.compile(r"^\s*\d{1,2}[.)]\s+(?=[A-Z*`\"'])")
_POINT = re.compile(r"^\.(?=\d+$)")
_ABBREVIATED = re.compile(r"(?:[A-Z]\.)+[A-Z]")
_QUOTED = re.compile(r"```(.+?)```|`([^`]+)`|(?<!\w)\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)", re.DOTALL)
_OPENING = "\"'`([{"
_CLOSING = "\"'`)]}.,;:!?。"
_BRACKETS = "[]{}"
_SENTENCE_ENDS = frozenset(".!?。")
_STOPS = ((".", _SENTENCE_ENDS), (";", frozenset(";")), (":", frozenset(":")), (",", frozenset(",)")))
_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_MEASURED = re.compile(r"(\d+(?:\.\d+)?)-([^\W\d_]+(?:-[^\W\d_]+)*)")
_FRAME = 4
_TICKET = re.compile(r"[A-Za-z]{2,10}-\d+")
_WRITTEN_SO = {
    "w/": "with",
    "w/o": "without",
    "b/c": "because",
    "k8s": "kubernetes",
    "&": "and",
    "a.m": "am",
    "p.m": "pm",
}
_COMPARED = {"~": "about", "≈": "about", "<": "less than", ">": "more than", "≤": "at most", "≥": "at least"}
_COMPARED |= {"<=": "at most", ">=": "at least"}
_WRITTEN_SO |= _COMPARED
_WRITTEN_SO["="] = "is"
# Between words: explained by a stop, "to", "and" and nothing else.
_SIGNS = {"/": "/", "-": "-", "->": "->", "→": "->", "+": "+", "@": "at"}
# "$30/hour", "200+", "31-Dec-2025", ".5", "R&D".
_PERIODS = {"hr": "hour", "h": "hour", "wk": "week", "mo": "month", "yr": "year", "min": "minute"}
_PARTED = re.compile(
    r"([$€£¥]?\d[\d.,]*[A-Za-z%€£]*)(/)(hour|hr|h|day|night|week|wk|month|mo|year|yr|minute|min)"
    r"|(\d[\d,]*)(\+)|(\d\d?)-([A-Z][a-z]{2,8})-(\d{4})|([A-Z])(&)([A-Z])"
)
_SLASHED = re.compile(r"([a-z]{3,})(/)([a-z]{3,})")
_CONTRACTED = {"m": "be", "re": "be", "ve": "have", "ll": "will", "d": "'d"}
_IT_IS = frozenset("it he she that there here what who where how this".split())
_AUXILIARIES = "do does did is are was were has have had could would should must need might".split()
_NOT = {verb + ending: verb for verb in _AUXILIARIES for ending in ("n't", "nt")}
_NOT |= dict.fromkeys(("can't", "cannot", "cant"), "can") | dict.fromkeys(("won't", "wont"), "will")
_NOT |= {"ain't": "is"}
FORMS = {
    "am": "be",
    "is": "be",
    "are": "be",
    "were": "was",
    "has": "have",
    "does": "do",
    "an": "a",
    "teh": "the",
    "hte": "the",
}
_PERSONS = {"i": "<i>", "me": "<i>", "my": "<i's>", "mine": "<i's>", "myself": "<i self>"}
_PLACED = frozenset(("user", "am", *_PERSONS, *_NOT))
_TITLES = frozenset("dr mr mrs ms st prof jr sr vs approx dept apt appt no".split())
_MARKED = frozenset(("not", "no", "never", "none"))


def prepared(text: str) -> str:
    """Return the text without what only formats it; fractions, superscripts and subscripts stay apart."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_PROTECTED)).translate(_TYPOGRAPHY)
    if len(text) > 1 and text[0] in "\"'`" and text[-1] == text[0] and text.count(text[0]) == len("``"):
        text = text[1:-1]  # a quotation of everything
    # Most texts are one line of prose: the expressions would search them in vain.
    if "\n" in text or not text[:1].isalnum():
        text = _BULLETS.sub("", text)
    if "|" in text:
        text = _TABLE_ROW.sub(r"\1", text)
    if text[:1].isdigit():
        text = _NUMBERED.sub("", text)
    if "](" in text:
        text = _LINKED.sub(r"\1 (\2)", text)
    if "*" not in text and "_" not in text:
        return text
    text = _UNDERSCORED.sub(r"\2", _STARRED.sub(r"\2", text))
    return _CLOSED.sub(r"\1", _OPENED.sub("", text))


def quotes(text: str) -> tuple[str, ...]:
    """Return what a prepared text quotes or sets as code."""
    if "`" not in text and '"' not in text and text.count("'") <= 1:
        return ()
    found = (" ".join(match[match.lastindex or 0].split()) for match in _QUOTED.finditer(text))
    # A quotation of everything quotes nothing.
    return tuple(quote for quote in found if quote and len(quote) + _FRAME < len(text))


def stands_in(quote: str, text: str) -> bool:
    """Whether a prepared text has the quote letter for letter, and not as a part of longer words."""
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


class Scanner:
    """Cuts one prepared text into tokens; `questions` counts its pieces that end with a question mark."""

    def __init__(self, text: str) -> None:
        self.tokens: list[Token] = []
        self.questions = 0
        self._start = True
        self._user = True  # "user" is the speaker at the start of a clause and behind "the"; "a user" is anyone
        for chunk in text.split():
            self._take(chunk)
        self._mark_negations()

    def _take(self, chunk: str) -> None:
        plain = _plain_word(chunk, self._start)
        if plain is not None:
            self.tokens.append(plain)
            self._start, self._user = False, plain.key == "the"
            return
        if chunk.isalpha():
            self._word(chunk)
            self._start = self._user = False
            return
        opening, core, closing = _parts(chunk)
        if not core:
            bare = chunk.rstrip(".,;:!?。")
            if len(bare) > 1 or (bare and bare in _BRACKETS):
                self._add(IDENTIFIER, bare)  # "[]", ":)"
            self._close("", chunk[len(bare) :] if bare else chunk)
            return
        if "(" in opening:
            self._stop(",")
        if closing[:1] in ("'", '"') and core[0].isdigit() and core[-1].isdigit():
            core += closing[:1] if not opening.endswith(closing[:1]) else ""  # feet, inches, minutes
        self.tokens += [Token(IDENTIFIER, mark) for mark in opening if mark in _BRACKETS]
        if core.isalpha():
            self._word(core)
        else:
            self._mixed(core)
        self.tokens += [Token(IDENTIFIER, mark) for mark in closing if mark in _BRACKETS]
        self._close(core, closing)

    def _close(self, core: str, closing: str) -> None:
        self.questions += "?" in closing
        if closing == "." and (core.lower() in _TITLES or (len(core) == 1 and core.isupper())):
            closing = ""  # "Dr. Ito", "Ursula K. Le Guin"
        ends = not _SENTENCE_ENDS.isdisjoint(closing)
        stop = next((mark for mark, marks in _STOPS if not marks.isdisjoint(closing)), "")
        if stop:
            self._stop(stop)
        if core or stop:
            self._start = ends
        self._user = bool(stop) or core.lower() == "the"

    def _stop(self, mark: str) -> None:
        if self.tokens and ",:;.".find(self.tokens[-1].stop or ",") <= ",:;.".find(mark):
            self.tokens[-1] = self.tokens[-1]._replace(stop=mark)

    def _add(self, kind: str, key: str, case: str = "") -> None:
        self.tokens.append(Token(kind, key, case))

    def _word(self, core: str) -> None:
        plain = _plain_word(core, self._start)
        if plain is not None:
            self.tokens.append(plain)
            return
        lowered = core.lower()
        if core == "I" or (lowered in _PERSONS and core[1:] == lowered[1:] and (self._start or core == lowered)):
            self._add(WORD, _PERSONS[lowered])
        elif lowered == "user" and self._user and (self._start or core == lowered):
            self._add(WORD, "<user>")
        elif lowered in _NOT and core[1:] == lowered[1:]:
            self._add(WORD, FORMS.get(_NOT[lowered], _NOT[lowered]))
            self._add(WORD, "not")
        elif lowered == "am" and self.tokens and self.tokens[-1].kind is NUMBER:
            self._add(WORD, lowered)
        else:
            self.tokens.append(_as_written(core, self._start))

    def _mixed(self, core: str) -> None:
        """Add what is not all letters: a figure, a contraction, a hyphenated word, or something with its own form."""
        lowered = core.lower()
        core, written = _pointed(core, _WRITTEN_SO.get(lowered, ""))
        if written:
            for word in written.split():
                self._word(word)
        elif found := FIGURE.fullmatch(core):
            self._figure(*found.groups())
        elif "'" in core:
            self._contraction(core, lowered)
        elif parts := _PARTED.fullmatch(core) or _SLASHED.fullmatch(core):
            for part in filter(None, parts.groups()):
                self._part(part)
        elif core in _SIGNS:
            self._add(WORD, _SIGNS[core])
        elif measured := _MEASURED.fullmatch(core):
            self._add(NUMBER, measured[1])
            self._hyphenated(measured[2], measured[2].lower())
        elif _HYPHENATED.fullmatch(core):
            self._hyphenated(core, lowered)
        else:
            self._add(IDENTIFIER, lowered, "" if _TICKET.fullmatch(core) or core == lowered else core)

    def _part(self, part: str) -> None:
        if part == "+":
            figure_token = self.tokens.pop()
            self.tokens += [Token(WORD, "more"), Token(WORD, "than"), figure_token]
        elif part == "/":
            self._add(WORD, "/")
        elif part.isalpha():
            self._word(_PERIODS.get(part, part))
        else:
            self._mixed(part)

    def _figure(self, sign: str, currency: str, digits: str, unit: str | None) -> None:
        if sign in _COMPARED:
            for word in _COMPARED[sign].split():
                self._add(WORD, word)
            sign = ""
        times = unit == "x" and not currency
        key = figure(sign, currency, digits, None if times else unit)
        mark = (currency or unit or "").removesuffix("s") if key.endswith(" pound") else ""
        self._add(NUMBER, key, mark if mark in ("£", "lb") else "")
        if times:
            self._add(WORD, "times")

    def _hyphenated(self, core: str, lowered: str) -> None:
        parts = core.split("-")
        if lowered in NUMERALS or lowered in ORDINALS:
            self._add(WORD, lowered)
            return
        for at, part in enumerate(parts):
            if at and all(each.lower() in WEEKDAYS for each in parts):
                self._add(WORD, "to")
            self._user = False
            self._word(part)
            self._start = False

    def _contraction(self, core: str, lowered: str) -> None:
        base, _, ending = core.rpartition("'")
        ending = ending.lower()
        if lowered in _NOT:
            self._add(WORD, FORMS.get(_NOT[lowered], _NOT[lowered]))
            self._add(WORD, "not")
        elif base.isalpha() and ending == "s" and base.lower() == "user" and self._user:
            self._add(WORD, "<user's>")
        elif base.isalpha() and (ending == "s" or ending in _CONTRACTED):
            self._word(base)
            if ending != "s":
                self._add(WORD, _CONTRACTED[ending])
            elif base.lower() in _IT_IS:
                self._add(WORD, "be")
            else:
                self._add(WORD, "'s")
        elif not ending and base.isalpha() and base.endswith("s"):
            self._word(base)
            self._add(WORD, "'s")
        else:
            self._add(IDENTIFIER, lowered, "" if core == lowered else core)

    def _mark_negations(self) -> None:
        """Tell a negation next to a stop from one that is not: "No, more of it" is not "No more of it"."""
        last = len(self.tokens) - 1
        for at, token in enumerate(self.tokens):
            if token.kind is WORD and token.key in _MARKED:
                before = "," if at and self.tokens[at - 1].stop and token.key == "no" else ""
                after = "," if at < last and token.stop else ""
                if before or after:
                    self.tokens[at] = token._replace(key=before + token.key + after)


def _pointed(core: str, written: str) -> tuple[str, str]:
    """Return ".5" as "0.5", and what it may be written as: "US" for "U.S"."""
    if "." not in core:
        return core, written
    return _POINT.sub("0.", core), written or (core.replace(".", "") if _ABBREVIATED.fullmatch(core) else "")


@lru_cache(maxsize=1 << 12)
def _plain_word(chunk: str, start: bool) -> Token | None:
    """Return the token of letters that mean the same wherever they stand; None for what `Scanner` has to look at."""
    return _as_written(chunk, start) if chunk.isalpha() and chunk.lower() not in _PLACED else None


def _as_written(core: str, start: bool) -> Token:
    lowered = core.lower()
    case = "" if core == lowered else START if start and core[1:] == lowered[1:] else core
    return Token(WORD, FORMS.get(lowered, lowered) if case in ("", START) else lowered, case)


@lru_cache(maxsize=1 << 12)
def _parts(chunk: str) -> tuple[str, str, str]:
    core = _core(chunk)
    at = chunk.rfind(core) if core else len(chunk)
    return chunk[:at], core, chunk[at + len(core) :]


def _core(chunk: str) -> str:
    """Strip quotes, brackets, emphasis and closing punctuation, but nothing that belongs to a name or figure."""
    if chunk[0] == "<" and chunk.rstrip(_CLOSING)[-1:] == ">" and (":" in chunk or "@" in chunk):
        chunk = chunk[1:].rstrip(_CLOSING + ">")
    core = chunk.lstrip(_OPENING).rstrip(_CLOSING)
    if core[:1] == core[-1:] == "_" and len(core) > 2 * len("_"):
        core = core[1:-1].lstrip(_OPENING).rstrip(_CLOSING)
    return core
