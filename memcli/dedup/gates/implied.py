"""Words that one text leaves out because they are understood: a subject said once, "please", "of" in an amount."""

from __future__ import annotations

from collections.abc import Sequence

from memcli.dedup.gates.lexicon import agree, common, readings
from memcli.dedup.gates.tokens import NUMBER, START, WORD, Token
from memcli.dedup.gates.words import CLOSED, PEOPLE

# Subjects that may be said again behind "and", and what may give the verb behind it another subject.
_REPEATED = frozenset("<speaker> we they you he she".split())
_THIRD = frozenset("he she they him her them his their".split())
_SUBORDINATING = frozenset(
    """that who which whom whose if when while because since unless until before after where what how whether
    than though although as let make""".split()
)
# Nobody is told to do these: "Prefer tabs" is what somebody prefers.
_HELPING = frozenset("be was have had do did can could will would must want-to plan-to".split())
_PLACING = frozenset("in on at near from every with under over".split())
_STATIVE = frozenset("prefer like love hate want dislike enjoy need".split())


def implied(told: Sequence[Token], at: int, untold: Sequence[Token], to: int) -> bool:
    """Whether a word on one side is understood on the other: a subject said once, "please", the "of" of an amount."""
    key = told[at].key
    if key == "be" and (_telegraphic(told, at, untold, to) or _headlined(told, at, untold, to)):
        return True
    if key == "please":
        return told[at].case in ("", START)
    if key == "of":
        if at and told[at - 1].kind is NUMBER and " " in told[at - 1].key:
            return to < len(untold) and untold[to].kind is WORD and at + 1 < len(told) and told[at + 1].kind is WORD
        amount = at + 1 < len(told) and told[at + 1].kind is NUMBER and told[at - 1].key not in CLOSED
        return amount and to < len(untold) and untold[to].kind is NUMBER and at > 0 and told[at - 1].kind is WORD
    return key.rstrip("~") in _REPEATED and to < len(untold) and _repeated(told, at)


def _repeated(tokens: Sequence[Token], at: int) -> bool:
    """Whether a pronoun behind "and" is the subject that the sentence has had all along: "I sing and I dance"."""
    if not 1 < at < len(tokens) - 1 or tokens[at - 1].key not in ("and", "but", "or") or tokens[at].stop:
        return False
    begin = next((place + 1 for place in range(at - 2, -1, -1) if tokens[place].stop in (".", ";", ":")), 0)
    before = tokens[begin : at - 1]
    if not before or not _SUBORDINATING.isdisjoint(token.key for token in before):
        return False
    if any(token.key == "to" and _is_base(tokens[place]) for place, token in enumerate(tokens[:at], start=1)):
        return False
    if before[0].key == tokens[at].key:
        return True
    named = [token for token in before if token.case not in ("", START) or token.key in PEOPLE]
    person = tokens[at].key.rstrip("~") in ("he", "she") and not any(token.key in _THIRD for token in before)
    first = before[0].case not in ("", START) or (before[0].case == START and not common(before[0].key))
    others = [token for token in named if token is not before[0]]
    return person and (
        (first and not others) or (len(named) == 1 and before[0].key == "<speaker's>" and named[0] is before[1])
    )


def begins(tokens: Sequence[Token], at: int) -> bool:
    """Whether a sentence begins there."""
    return at == 0 or tokens[at - 1].stop in (".", ";")


def _telegraphic(told: Sequence[Token], at: int, untold: Sequence[Token], to: int) -> bool:
    """Whether "is" is left out behind the user: "User allergic to nuts"."""
    if not at == to == 1 or len(untold) == 1 or {told[0].key, untold[0].key} != {"<speaker>"}:
        return False
    return any(form == "a" for _, form in readings(untold[1].key))


def _headlined(told: Sequence[Token], at: int, untold: Sequence[Token], to: int) -> bool:
    """Whether "is" is left out of a note without any verb: "Recital on 6 June, dress code linen"."""
    if not (at and to) or at + 1 >= len(told) or to >= len(untold) or told[at + 1].key != untold[to].key:
        return False
    following = untold[to]
    if (
        following.kind is WORD
        and following.key not in _PLACING
        and not any(form == "a" for _, form in readings(following.key))
    ):
        return False
    return not any(_finite(token) for token in untold)


def _finite(token: Token) -> bool:
    """Whether a word is, or may well be, a finite verb."""
    if token.kind is not WORD or token.case not in ("", START):
        return False
    forms = {form for _, form in readings(token.key)}
    return token.key in _HELPING or (bool(forms & {"vs", "vd"}) and not forms & {"n", "ns", "a"})


def _is_base(token: Token) -> bool:
    return any(form == "v" for _, form in readings(token.key))


def untold_subject(told: Sequence[Token], untold: Sequence[Token]) -> bool:
    """Whether one side leaves out that it is the user who does it: "Booked a cabin", "Speaks Thai"."""
    if len(told) <= 1 or not untold or told[0].key != "<speaker>":
        return False
    if untold[0].key == told[1].key and untold[0].key in _HELPING:
        return True
    if untold[0].key != told[1].key:
        return untold[0].key in _STATIVE and agree(untold[0].key, told[1].key)
    return untold[0].key in _STATIVE or any(form in ("vs", "vd") for _, form in readings(untold[0].key))
