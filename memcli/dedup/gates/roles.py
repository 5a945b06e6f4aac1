"""Who does what to whom, told by heads and labels: the last way in which two texts may be found to say the same.

A text is parsed, roughly, into nodes: each figure, name and word of content, with what it may belong to (its heads)
and how (its label: agent, patient, a preposition, "of" for what belongs to something). Two texts are the same where
each node has a counterpart with the same polarity, mood and tense and a head and label that agree. A rough parse is
wrong at times, and then most often the texts are found to differ; whatever it does not know is a node like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from memcli.dedup.gates.align import Context, alike
from memcli.dedup.gates.families import deed, one_deed, verbs
from memcli.dedup.gates.lexicon import readings
from memcli.dedup.gates.nodes import Node, nodes, without
from memcli.dedup.gates.segments import PREPOSITIONS
from memcli.dedup.gates.tokens import NUMBER, START, WORD, Token
from memcli.dedup.gates.words import INTRANSITIVE, PEOPLE

# Verbs that tell one deed from two sides, and which role of the first is which of the second.
_SIDES = {"agent": "from", "to": "agent"}
_CONVERSES = (
    ("sell", "buy", _SIDES),
    ("sell", "purchase", _SIDES),
    ("lend", "borrow", _SIDES),
    ("give", "receive", _SIDES),
    ("give", "get", _SIDES),
    ("send", "receive", _SIDES),
    ("send", "get", _SIDES),
    ("manage", "report", {"agent": "to", "patient": "agent"}),
    ("supervise", "report", {"agent": "to", "patient": "agent"}),
    ("own", "belong", {"agent": "to", "patient": "agent"}),
    ("employ", "work", {"agent": "for", "patient": "agent"}),
    ("beat", "lose", {"agent": "to", "patient": "agent"}),
    ("precede", "follow", {"agent": "patient", "patient": "agent"}),
)
_STAYING = frozenset(("stay", "remain"))
# Labels of what a clause is built of; the others tell what leads to a node.
_BARE = frozenset(("agent", "patient", "root", "rel", "subject", "next", "part"))
_SAME, _OTHERWISE = "the same", "told in another way"
_BELONGING = frozenset(("of", "own", "have", "from", "by"))
# What a word before a noun may be led by behind it: "the parser bug", "the bug in the parser".
_COMPOUNDING = frozenset("of in for with on to about at".split())


def same_roles(first: Sequence[Token], second: Sequence[Token], context: Context) -> bool:
    """Whether each node of one text has its counterpart in the other, with the same head and role."""
    mine, theirs = nodes(tuple(first)), nodes(tuple(second))
    if mine is None or theirs is None:
        return False
    # "Us and us" would be "us and Us".
    if any(len({node.token.key for node in side}) < len({node.token[1:3] for node in side}) for side in (mine, theirs)):
        return False
    if len(mine) != len(theirs):
        mine, theirs = (_impersonal(mine), theirs) if len(mine) > len(theirs) else (mine, _impersonal(theirs))
    for backwards in (False, True):
        pairs = _paired(mine, theirs, context, backwards=backwards)
        if pairs is not None and _all_agree(mine, theirs, pairs) and _keeps_times(mine, pairs):
            return True
        if pairs is None or len({node.token.key for node in mine}) == len(mine):
            break
    return False


def _all_agree(mine: list[Node], theirs: list[Node], pairs: Sequence[int]) -> bool:
    if not _ordered(mine, theirs, pairs):
        return False
    told = [_agrees(mine, theirs, one, pairs) for one in range(len(mine))]
    # Two nodes told in another way might have changed places.
    return None not in told and told.count(_OTHERWISE) <= 1


def _impersonal(found: list[Node]) -> list[Node]:
    """Return the nodes without the "we" that only has the deed done: "we keep logs", "logs are kept"."""
    doers = [at for at, node in enumerate(found) if node.token.key == "we"]
    if len(doers) != 1 or {label for label, _ in found[doers[0]].labels} != {"agent"} or found[doers[0]].marks:
        return found
    return without(found, {doers[0]: -1})


def _paired(mine: list[Node], theirs: list[Node], context: Context, *, backwards: bool) -> list[int] | None:
    """Return the counterpart of each node, None where one has none."""
    if len(mine) != len(theirs):
        return None
    pairs = [-1] * len(mine)
    free = set(range(len(theirs)))
    for likeness in (_equal, _alike, _kin):
        for one, node in enumerate(mine):
            if pairs[one] >= 0:
                continue
            place = next((at for at in sorted(free, reverse=backwards) if likeness(node, theirs[at], context)), -1)
            if place >= 0:
                pairs[one] = place
                free.discard(place)
    return None if free or -1 in pairs else pairs


def _equal(one: Node, other: Node, _: Context) -> bool:
    return one.token == other.token and one.is_verb == other.is_verb


def _alike(one: Node, other: Node, context: Context) -> bool:
    if not INTRANSITIVE.isdisjoint((one.token.key, other.token.key)):
        return False
    return one.is_verb == other.is_verb and alike(one.token, other.token, context)


def _kin(one: Node, other: Node, _: Context) -> bool:
    """Whether both are forms of one verb, or one is the noun for what the other does."""
    if any(node.token.kind is not WORD or node.token.case not in ("", START) for node in (one, other)):
        return False
    if one.is_verb and other.is_verb:
        if all((node.token.key, "v") in readings(node.token.key) for node in (one, other)):
            return False  # "saw" is a verb beside "see"
        if (_twofold(one.token.key) or _twofold(other.token.key)) and set(readings(one.token.key)).isdisjoint(
            readings(other.token.key)
        ):
            return False  # "found" is no form of "founded" where somebody finds
        mine, theirs = verbs(one.token.key), verbs(other.token.key)
        return not mine.isdisjoint(theirs) or _converse(mine, theirs) is not None
    if one.is_verb == other.is_verb:
        return one_deed(one.token.key, other.token.key)
    verb, noun = (one, other) if one.is_verb else (other, one)
    return not verbs(verb.token.key).isdisjoint(deed(noun.token.key))


def _twofold(word: str) -> bool:
    """Whether a word is the past of one verb and another verb itself: "saw", "found", "lay"."""
    forms = readings(word)
    return any(form == "v" and any(past == "vd" and other != lemma for other, past in forms) for lemma, form in forms)


def _converse(mine: frozenset[str], theirs: frozenset[str]) -> dict[str, str] | None:
    """Return what becomes of the roles where one verb tells the other's deed from the other side, None for others."""
    for one, other, roles in _CONVERSES:
        if one in mine and other in theirs:
            return roles
        if other in mine and one in theirs:
            return {new: old for old, new in roles.items()}
    return None


def _agrees(mine: list[Node], theirs: list[Node], one: int, pairs: Sequence[int]) -> str | None:
    """Return how a node's head and label agree with its counterpart's, None where they or the marks do not."""
    node, other = mine[one], theirs[pairs[one]]
    if not _same_marks(node, other) or not _whole(mine, theirs, one, pairs[one]):
        return None
    moved = {_moved(label, head, mine, theirs, pairs) for label, head in node.labels}
    crossed = {pairs[at] for at in range(len(mine)) if mine[at].is_verb != theirs[pairs[at]].is_verb}
    core = [{each for each in labels if each[0] in ("agent", "patient")} for labels in (moved, other.labels)]
    heads = {head for side in core for _, head in side}
    sides = [{each for each in labels if each[0] not in _BARE} for labels in (moved, other.labels)]
    turned = {label for label, _ in moved} != {label for label, _ in node.labels}
    bends = any(head in crossed for _, head in (*moved, *other.labels))
    stays = any(verbs(theirs[at].token.key) & _STAYING for at in heads)
    if core[0] != core[1] and not (heads & crossed or stays):
        return None
    if bool(sides[0]) != bool(sides[1]) and not (turned or bends or stays):
        return None
    if sides[0] & sides[1] or ((turned or not any(sides)) and moved & other.labels):
        return _SAME
    labels = sides if all(sides) else [moved, other.labels]
    return (
        _told(node, theirs, labels, crossed) if node.token.kind is NUMBER or _alone(node, mine, theirs, moved) else None
    )


def _same_marks(one: Node, other: Node) -> bool:
    """Whether both have one polarity, mood and tense: "before parsing it" has that of "before it is parsed"."""
    if one.marks == other.marks:
        return True
    timed = all(any(label in ("before", "after") for label, _ in node.labels) for node in (one, other))
    told = one.marks or other.marks
    return (
        timed and not (one.marks and other.marks) and told in ({"present"}, {"past"}) and one.is_verb and other.is_verb
    )


def _alone(node: Node, mine: list[Node], theirs: list[Node], moved: set[tuple[str, int]]) -> bool:
    """Whether no other node belongs to what this one belongs to: it could not have changed places with it."""
    return all(
        head < 0 or _belonging(found, head) <= 1
        for found, labels in ((mine, node.labels), (theirs, moved))
        for _, head in labels
    )


def _told(node: Node, theirs: list[Node], sides: Sequence[set[tuple[str, int]]], crossed: set[int]) -> str | None:
    """Return how the labels of one side are told on the other, None where they are not."""
    told = {
        _likeness(label, name, node.token, theirs[head] if head >= 0 else None, is_crossed=head in crossed)
        for label, head in sides[0]
        for name, its in sides[1]
        if head == its
    }
    return _SAME if _SAME in told else _OTHERWISE if _OTHERWISE in told else None


def _moved(label: str, head: int, mine: list[Node], theirs: list[Node], pairs: Sequence[int]) -> tuple[str, int]:
    """Return a label and its head as the other text would tell them."""
    if head < 0:
        return label, -1
    one, other = mine[head], theirs[pairs[head]]
    if one.is_verb and other.is_verb and one.token.key != other.token.key:
        mine_verbs, their_verbs = verbs(one.token.key), verbs(other.token.key)
        if mine_verbs.isdisjoint(their_verbs):
            label = (_converse(mine_verbs, their_verbs) or {}).get(label, label)
    return label, pairs[head]


def _whole(mine: list[Node], theirs: list[Node], one: int, other: int) -> bool:
    """Whether a deed told from its two sides names both: who sells, who buys."""
    if not (mine[one].is_verb and theirs[other].is_verb):
        return True
    verb, its = verbs(mine[one].token.key), verbs(theirs[other].token.key)
    roles = _converse(verb, its) if verb.isdisjoint(its) else None
    if roles is None:
        return True
    return all(
        any((label, head) in node.labels for node in found)
        for found, head, labels in ((mine, one, roles), (theirs, other, roles.values()))
        for label in labels
    )


def _belonging(found: list[Node], head: int) -> int:
    """Return how many nodes belong to that one, in whatever way that is told."""
    return sum(
        any(label in _BELONGING and at == head for label, at in node.labels) and node.token.kind is not NUMBER
        for node in found
    )


def _likeness(label: str, name: str, token: Token, head: Node | None, *, is_crossed: bool) -> str | None:
    """Return whether two labels are one, or one told in another way; None for any others."""
    both = {label, name}
    if both <= {"of", "own", "have"} or (token.kind is NUMBER and both <= {"of", "be"}):
        return _SAME
    if is_crossed and (both <= {"of", "own", "patient"} or both <= {"of", "own", "agent"}):
        return _SAME
    plain = token.case in ("", START) and token.key not in PEOPLE and not token.key.startswith("<")
    otherwise = (
        (head is not None and "from" in both and both & {"of", "own"} and deed(head.token.key))
        or ("mod" in both and (is_crossed or (both & _COMPOUNDING and (token.kind is WORD or token.key.isdigit()))))
        or (plain and "own" in both and both & {"for", "in", "mod"})
        or (head is not None and both == {"patient", "at"} and head.is_verb and verbs(head.token.key) & _STAYING)
    )
    return _OTHERWISE if otherwise else None


def _keeps_times(mine: list[Node], pairs: Sequence[int]) -> bool:
    """Whether times of one kind keep their order: "Monday at 5 and Tuesday at 6" is not "Monday at 6 and ..."."""
    kinds: dict[str, list[int]] = {}
    for at, node in enumerate(mine):
        if any(label == "time" for label, _ in node.labels):
            kind = "hour" if node.token.key.endswith("o'clock") else node.token.kind
            kinds.setdefault(kind, []).append(pairs[at])
    return all(places == sorted(places) for places in kinds.values())


def _ordered(mine: list[Node], theirs: list[Node], pairs: Sequence[int]) -> bool:
    """Whether phrases of one preposition keep their order, and at most one run of phrases has moved."""
    for at, node in enumerate(mine):
        heads = {head for label, head in node.labels if label == "mod"}
        for later in range(at + 1, len(mine)):
            both = any(label == "mod" and head in heads for label, head in mine[later].labels)
            other = {head for label, head in theirs[pairs[at]].labels if label == "mod"}
            if (
                both
                and pairs[later] < pairs[at]
                and any(label == "mod" and head in other for label, head in theirs[pairs[later]].labels)
            ):
                return False
    led = [
        (at, {label for label, _ in node.labels if label.split()[0] in PREPOSITIONS and label != "of"})
        for at, node in enumerate(mine)
    ]
    moved = [(labels, pairs[at]) for at, labels in led if labels]
    for at, (labels, place) in enumerate(moved):
        if any(labels & others and later < place for others, later in moved[at + 1 :]):
            return False
    ranks = {place: rank for rank, place in enumerate(sorted(place for _, place in moved))}
    order = [-1, *(ranks[place] for _, place in moved), len(moved)]
    return sum(later != one + 1 for one, later in pairwise(order)) <= 3  # noqa: PLR2004 - the ends of a run, and where it went
