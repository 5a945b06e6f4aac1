"""What RE2 has against a pattern, for people: where in the pattern it is, and what to write instead. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

# Quoted literals, classes and escapes are passed over; what is left over of the parentheses are groups.
_TOKEN = re.compile(r"\\Q.*?(?:\\E|\Z)|\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]|\\.|[()]", re.DOTALL)

_WORDS_ONLY = "match the words themselves; what must not stand there cannot be said in one pattern"
_NO_BACKTRACKING = "it never goes back in the text, so a plain group or repeat is as fast"
# The first prefix of what RE2 told decides.
_HINTS = (
    ("invalid perl operator: (?<=", f"RE2 has no look-behind: {_WORDS_ONLY}"),
    ("invalid perl operator: (?<!", f"RE2 has no look-behind: {_WORDS_ONLY}"),
    ("invalid perl operator: (?<", "a group is named as (?P<name>...), or not at all"),
    ("invalid perl operator: (?=", f"RE2 has no look-ahead: {_WORDS_ONLY}"),
    ("invalid perl operator: (?!", f"RE2 has no look-ahead: {_WORDS_ONLY}"),
    ("invalid perl operator: (?>", f"RE2 has no atomic groups: {_NO_BACKTRACKING}"),
    ("invalid perl operator: (?#", "RE2 has no comments in patterns: put them into the rule's name"),
    ("invalid perl operator: (?(", "RE2 has no conditions: write both cases as alternatives, (...|...)"),
    ("invalid perl operator: (?P", "a group is named as (?P<name>...); RE2 cannot refer back to it"),
    ("invalid perl operator", "a group starts with (, (?:, (?i:, (?-i: or (?P<name>"),
    ("invalid named capture", "a named group is written (?P<name>...)"),
    (r"invalid escape sequence: \Z", r"write \z for the end of the text"),
    (r"invalid escape sequence: \u", r"write a character itself, or its code as \x{e9}"),
    (r"invalid escape sequence: \k", "RE2 has no back-references: write the repeated words out"),
    ("invalid escape sequence", r"a backslash that is meant itself is written \\"),
    ("missing )", r"close the group with ), or write \( for the character itself"),
    ("unexpected )", r"remove it, or write \) for the character itself"),
    ("missing ]", r"close the class with ], or write \[ for the character itself"),
    ("trailing \\", r"a backslash that is meant itself is written \\"),
    ("no argument for repetition", r"write \* for the character itself, .* for anything, or use --simple"),
    ("bad repetition operator", f"RE2 has no possessive or double repeats: {_NO_BACKTRACKING}"),
    ("invalid repetition size", "a repeat is at most {1000} in all, nested repeats multiplied, and its low end first"),
    (
        "invalid character class range",
        r"a range goes from low to high, as in [a-z]; classes are \pL, \p{Greek}, [:alpha:]",
    ),
)
_BACK_REFERENCE = re.compile(r"invalid escape sequence: \\[1-9]")
_SYNTAX = "the syntax is described at https://github.com/google/re2/wiki/Syntax"


def hint_for(told: str) -> str:
    """What to write instead, for what RE2 `told`."""
    if _BACK_REFERENCE.match(told):
        return "RE2 has no back-references: write the repeated words out"
    return next((hint for start, hint in _HINTS if told.startswith(start)), _SYNTAX)


def locate(pattern: str, told: str, complaint: Callable[[str], str | None]) -> int:
    """The index in `pattern` that RE2's complaint `told` is about.

    RE2 reads from left to right and quotes what it stumbled over. Where that stands more than once, it is the first
    place behind which, before the next one, `complaint` says the same of the pattern so far.
    """
    kind, _, quoted = told.partition(": ")
    if kind in {"missing )", "unexpected )"}:
        return _odd_parenthesis(pattern)
    if kind.startswith("trailing"):
        return max(len(pattern) - 1, 0)
    if kind == "missing ]":
        return max(len(pattern) - len(quoted), 0)
    place = pattern.find(quoted) if quoted else 0
    while (later := pattern.find(quoted, place + 1)) >= 0 and complaint(pattern[:later]) != told:
        place = later
    return max(place, 0)


def _odd_parenthesis(pattern: str) -> int:
    """The parenthesis that has no other half."""
    opened: list[int] = []
    for token in _TOKEN.finditer(pattern):
        if token[0] == "(":
            opened.append(token.start())
        elif token[0] == ")":
            if not opened:
                return token.start()
            opened.pop()
    return opened[-1] if opened else 0
