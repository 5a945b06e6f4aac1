"""The same clauses and phrases in another order, and the passive for the active: what keeps every role.

A text is cut into sentences, these into clauses, these into pieces that begin at a preposition or a time. Then only
three things are harmless: a subordinate clause before or behind its one main clause, one run of pieces moved within
its clause as a whole, and "A is managed by B" for "B manages A". Anything else may exchange who does what to whom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise, product

from memcli.dedup.gates.align import Context, aligned, alike
from memcli.dedup.gates.lexicon import readings, same_lemma
from memcli.dedup.gates.tokens import IDENTIFIER, NUMBER, START, WORD, Token
from memcli.dedup.gates.words import ADVERBS, MODALS, MONTHS, PEOPLE, PLAIN_WEEKDAYS

Piece = tuple[Token, ...]
Clause = tuple[Piece, ...]

_SUBORDINATE = frozenset("unless if because when while although though once whenever".split())
# These begin a clause where a verb follows, else a piece.
_EITHER = frozenset("before after until since".split())
_SUBJECTS = frozenset("we you he she it they <speaker> <speaker's> there".split())
_COORDINATE = frozenset("and but or nor".split())
# Not "of": what it leads belongs to the noun before it.
_PREPOSITIONS = frozenset(
    """in on at by for with from to into under over above below between among through during against about without
    within along across behind beyond near via toward upon instead instead-of before after until since""".split()
)
_FRONTING = _PREPOSITIONS | {"every"}
# What the passive, a possessive or "there is" have and the other way to say it has not.
_CONSTRUCTING = frozenset(
    (
        "by",
        "be",
        "was",
        "of",
        "in",
        "on",
        "at",
        "'s",
        "have",
        "there",
        "that",
        "which",
        "who",
        "called",
        "named",
        "<speaker>",
        "<speaker's>",
    )
)
_BE = {"be": "vs", "was": "vd"}
_ADVERBS = frozenset("always usually often never not still currently now also already".split())
# Before, between and behind two runs that change places.
_BREAKS = 3
_MOST_PIECES = 10
_MOST_APART = 16
_LONGEST_APPOSITION = 3


def reordered(first: Sequence[Token], second: Sequence[Token], context: Context) -> bool:
    """Whether two texts say the same, sentence by sentence, in another order of clauses and pieces."""
    if not _near(first, second, context):
        return False
    mine, others = _sentences(first), _sentences(second)
    return len(mine) == len(others) and all(
        aligned(one, other, context) or _same_sentence(one, other, context)
        for one, other in zip(mine, others, strict=True)
    )


def _near(first: Sequence[Token], second: Sequence[Token], context: Context) -> bool:
    """Whether each word has a counterpart somewhere, but for those that another construction adds. Most have not."""
    one, other = Counter(token.key for token in first), Counter(token.key for token in second)
    left = [token for token in first if one[token.key] > other[token.key] and token.key not in _CONSTRUCTING]
    right = [token for token in second if other[token.key] > one[token.key] and token.key not in _CONSTRUCTING]
    return len(left) + len(right) <= _MOST_APART and all(
        any(alike(token, each, context) or same_lemma(token.key, each.key) for each in theirs)
        for mine, theirs in ((left, right), (right, left))
        for token in mine
    )


def _sentences(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    found: list[list[Token]] = [[]]
    for token in tokens:
        found[-1].append(token._replace(stop="") if token.stop in (".", ";") else token)
        if token.stop in (".", ";"):
            found.append([])
    return [tuple(sentence) for sentence in found if sentence]


def _same_sentence(one: tuple[Token, ...], other: tuple[Token, ...], context: Context) -> bool:
    return any(_same_clauses(mine, theirs, context) for mine, theirs in product(_variants(one), _variants(other)))


@lru_cache(maxsize=1 << 9)
def _variants(sentence: tuple[Token, ...]) -> tuple[tuple[Clause, ...], ...]:
    """Return the clauses of a sentence as they stand, and with each passive that names its agent made active."""
    clauses = tuple(_pieces(clause) for clause in _clauses(sentence))
    active = tuple(_active(clause) or clause for clause in clauses)
    plain = tuple(_clauses(sentence))
    found = [clauses, active]
    rewritten = (_apposed, _equated, _placed, _told, _named)
    found += [tuple(_pieces(rewrite(clause) or clause) for clause in plain) for rewrite in rewritten]
    for at, clause in enumerate(plain):
        for other in _possessed(clause):
            written = tuple(_pieces(each) for each in (*plain[:at], other, *plain[at + 1 :]))
            found += [written, tuple(_active(each) or each for each in written)]
    return tuple(dict.fromkeys(found))


def _equated(clause: tuple[Token, ...]) -> tuple[Token, ...] | None:
    """Return "B is A" for "A is B": what is told of a thing by another name of it, None for any other clause."""
    verbs = [at for at, token in enumerate(clause) if token.kind is WORD and token.key in _BE]
    if len(verbs) != 1 or not 0 < verbs[0] < len(clause) - 1 or any(token.stop for token in clause[:-1]):
        return None
    one, verb, other = clause[: verbs[0]], clause[verbs[0]], clause[verbs[0] + 1 :]
    if other[0].key in _PREPOSITIONS or any(token.key in ("not", *_COORDINATE) for token in clause):
        return None
    if not any(_is_one(token) for token in (*one, *other)):
        return None  # "whales are mammals", "the managers are engineers"
    return tuple(token._replace(stop="") for token in (*other, verb, *one))


def _is_one(token: Token) -> bool:
    """Whether a word names a single thing: a name, a figure, the user and what is the user's."""
    return token.kind is not WORD or token.case not in ("", START) or token.key.startswith("<")


def _placed(clause: tuple[Token, ...]) -> tuple[Token, ...] | None:
    """Return "Y has X" for "there is X in Y", None for any other clause."""
    if len(clause) < _LONGEST_APPOSITION or (clause[0].key, clause[1].key) != ("there", "be"):
        return None
    place = next((at for at, token in enumerate(clause) if token.key in ("in", "on", "at")), 0)
    if place and clause[place].key != "in":
        return None  # what has it tells "in" from "on" no more
    if not 2 < place < len(clause) - 1:  # noqa: PLR2004 - "there", "is", something, and where
        return None
    return (*(token._replace(stop="") for token in clause[place + 1 :]), Token(WORD, "have"), *clause[2:place])


def _told(clause: tuple[Token, ...]) -> tuple[Token, ...] | None:
    """Return "I adopted a dog called Rex in May" for "Rex is the dog that I adopted in May", None for any other."""
    keys = [token.key for token in clause]
    verb = next((at for at, key in enumerate(keys) if key in _BE), 0)
    relative = next((at for at, key in enumerate(keys) if key in ("that", "which", "who") and at > verb), 0)
    if keys[verb] != "be" or not 0 < verb < relative - 1 or relative + 2 >= len(clause) or "not" in keys:
        return None
    doer = relative + 2
    plain = [token._replace(stop="") for token in clause]
    return (
        *plain[relative + 1 : doer + 1],
        *plain[verb + 1 : relative],
        Token(WORD, "called"),
        *plain[:verb],
        *plain[doer + 1 :],
    )


def _named(clause: tuple[Token, ...]) -> tuple[Token, ...] | None:
    """Return "the user's dog is called Rex" for "the user has a dog called Rex", None for any other clause."""
    keys = [token.key for token in clause]
    at = next((at for at, key in enumerate(keys) if key in ("called", "named")), 0)
    if keys[:2] != ["<speaker>", "have"] or not 2 < at < len(clause) - 1:  # noqa: PLR2004 - has what
        return None
    if any(token.kind is not WORD or token.case in ("", START) for token in clause[at + 1 :]):
        return None
    plain = tuple(token._replace(stop="") for token in clause)
    return (Token(WORD, "<speaker's>"), *plain[2:at], Token(WORD, "be"), *plain[at:])


def _possessed(clause: tuple[Token, ...]) -> Iterator[tuple[Token, ...]]:
    """Yield "leak in worker" for "worker's leak", with each word that may lead and for each length of either."""
    at = next((at for at, token in enumerate(clause) if token.key == "'s" and at), 0)
    if not at or any(token.stop for token in clause[:at]):
        return
    for owned in range(1, min(_LONGEST_APPOSITION, len(clause) - at - 1) + 1):
        for owner in range(1, min(_LONGEST_APPOSITION, at) + 1):
            thing, whose = clause[at + 1 : at + 1 + owned], clause[at - owner : at]
            if any(token.key in _PREPOSITIONS for token in (*thing, *whose)):
                continue
            if owner < at and clause[at - owner - 1].key == "of":
                continue  # "the head of Acme's partner": of whose partner?
            behind = clause[at + 1 + owned].key if at + 1 + owned < len(clause) else ""
            if behind in ("of", "in", "by", "from", "'s"):
                continue  # "Acme's purchase of Nordlys": both would belong to it
            if "'s" in [token.key for token in (*thing, *whose)]:
                continue  # "Tom's friend's mother" is no "friend of Tom's mother"
            # "Germany's ambassador" is no "ambassador in Germany".
            plain = all(token.kind is WORD and token.case in ("", START) and token.key not in PEOPLE for token in whose)
            for lead in ("of", "in") if plain else ("of",):
                yield (*clause[: at - owner], *thing, Token(WORD, lead), *whose, *clause[at + 1 + owned :])


def _apposed(clause: tuple[Token, ...]) -> tuple[Token, ...] | None:
    """Return "the customer Acme paid" for "Acme, the customer, paid", None where nothing stands in apposition."""
    stops = [at for at, token in enumerate(clause) if token.stop == ","]
    if len(stops) < 2 or not 1 <= stops[1] - stops[0] <= _LONGEST_APPOSITION or stops[0] >= _LONGEST_APPOSITION:  # noqa: PLR2004 - a comma on either side
        return None
    name, role = clause[: stops[0] + 1], clause[stops[0] + 1 : stops[1] + 1]
    if role[0].key in _PREPOSITIONS or stops[1] + 1 == len(clause):
        return None
    return tuple(token._replace(stop="") for token in (*role, *name)) + clause[stops[1] + 1 :]


def _clauses(sentence: tuple[Token, ...]) -> Iterator[tuple[Token, ...]]:
    """Cut a sentence before its conjunctions, and behind the comma that ends a subordinate clause."""
    clause: list[Token] = []
    depends = False
    for at, token in enumerate(sentence):
        begins = token.kind is WORD and (
            token.key in _COORDINATE
            or token.key in _SUBORDINATE
            or (token.key in _EITHER and _has_verb(sentence, at + 1))
        )
        if begins and clause:
            yield tuple(clause)
            clause = []
        depends = depends if clause else begins and token.key not in _COORDINATE
        clause.append(token)
        if token.stop == "," and depends:
            yield tuple(clause)
            clause = []
    if clause:
        yield tuple(clause)


def _has_verb(sentence: tuple[Token, ...], at: int) -> bool:
    """Whether a finite verb stands between that place and the next stop."""
    for token in sentence[at:]:
        if token.kind is WORD and (token.key in _BE or any(form in ("vd", "vs") for _, form in readings(token.key))):
            return True
        if token.stop:
            return False
    return False


def _pieces(clause: tuple[Token, ...]) -> Clause:
    pieces: list[list[Token]] = [[]]
    for at, token in enumerate(clause):
        before = clause[at - 1] if at else None
        if before is not None and (
            before.stop
            or _is_time(before)
            or (_is_time(token) and before.key != "every" and before.key not in _PREPOSITIONS)
            or (token.kind is WORD and (token.key in _PREPOSITIONS or token.key in ADVERBS or before.key in ADVERBS))
            or (token.key in _SUBJECTS and pieces[-1][0].key in _FRONTING and len(pieces[-1]) > 1)
            or (token.key == "every" and _is_period(clause, at + 1))
        ):
            pieces.append([])
        pieces[-1].append(token._replace(stop=""))
    return tuple(tuple(piece) for piece in pieces)


def _is_time(token: Token) -> bool:
    if token.kind is NUMBER:
        return token.key.endswith("o'clock") or token.key.count("-") > 1
    return token.kind is WORD and token.key in PLAIN_WEEKDAYS


def _is_period(clause: tuple[Token, ...], at: int) -> bool:
    periods = ("morning", "evening", "afternoon", "night", "day", "week", "month", "year", "hour", "minute")
    return at < len(clause) and (clause[at].key in periods or clause[at].key in PLAIN_WEEKDAYS)


def _same_clauses(mine: tuple[Clause, ...], theirs: tuple[Clause, ...], context: Context) -> bool:
    if len(mine) != len(theirs):
        return False
    if len(mine) > 1:
        straight = all(_same_clause(one, other, context) for one, other in zip(mine, theirs, strict=True))
        return straight or _turned(mine, theirs, context)
    return _same_clause(mine[0], theirs[0], context)


def _turned(mine: tuple[Clause, ...], theirs: tuple[Clause, ...], context: Context) -> bool:
    """Whether a subordinate clause stands before its main clause on one side and behind it on the other."""
    if len(mine) != 2:  # noqa: PLR2004 - one main clause and one that depends on it
        return False
    depends = [clause[0][0].key in _SUBORDINATE or clause[0][0].key in _EITHER for clause in (*mine, *theirs)]
    if depends not in ([True, False, False, True], [False, True, True, False]):
        return False
    return _same_clause(mine[0], theirs[1], context) and _same_clause(mine[1], theirs[0], context)


def _same_clause(one: Clause, other: Clause, context: Context) -> bool:
    if aligned(_joined(one), _joined(other), context):
        return True
    if not 1 < len(one) == len(other) <= _MOST_PIECES:
        return False
    order = _matched(one, other, context)
    return order is not None and _one_moved(order) and _keeps_prepositions(one, order)


def _joined(clause: Clause) -> tuple[Token, ...]:
    return tuple(token for piece in clause for token in piece)


def _matched(one: Clause, other: Clause, context: Context) -> list[int] | None:
    """Return for each piece of one clause its place in the other, None when a piece has no counterpart."""
    order: list[int] = []
    for piece in one:
        place = next(
            (at for at, theirs in enumerate(other) if at not in order and aligned(piece, theirs, context)), None
        )
        if place is None:
            return None
        order.append(place)
    return order


def _one_moved(order: list[int]) -> bool:
    """Whether an order comes from the natural one by moving a single run: 0 3 4 1 2 does."""
    breaks = [at for at, (one, next_one) in enumerate(pairwise([-1, *order, len(order)])) if next_one != one + 1]
    return len(breaks) <= _BREAKS


def _keeps_prepositions(clause: Clause, order: list[int]) -> bool:
    """Whether pieces that begin alike keep their order: "from Rome" and "from Oslo" belong to what is before them."""
    heads = [
        (piece[0].key if piece[0].key in _PREPOSITIONS else "", place)
        for piece, place in zip(clause, order, strict=True)
    ]
    return all(
        one < other or not head or head != next_head
        for at, (head, one) in enumerate(heads)
        for next_head, other in heads[at + 1 :]
    )


def _active(clause: Clause) -> Clause | None:
    """Return "B manages A" for "A is managed by B", None for a clause that is no passive with an agent."""
    lead = _fronted(clause)
    agent = next((at for at, piece in enumerate(clause) if at >= lead and _names_agent(piece)), None)
    if agent is None:
        return None
    tokens = [token for piece in clause[lead:agent] for token in piece]
    verb = next((at for at, token in enumerate(tokens) if at and token.kind is WORD and token.key in _BE), None)
    if verb is None:
        return None
    place = verb + 1
    while place < len(tokens) and tokens[place].key in _ADVERBS:
        place += 1
    if place >= len(tokens) or tokens[place].kind is not WORD:
        return None
    lemma = next((lemma for lemma, form in readings(tokens[place].key) if form == "vd"), None)
    if lemma is None:
        return None
    subject, adverbs, rest = tokens[:verb], tokens[verb + 1 : place], tokens[place + 1 :]
    if "not" in [token.key for token in adverbs]:
        return None
    modal = len(subject) > 1 and subject[-1].key in MODALS
    form = lemma if modal else tokens[place].key if _BE[tokens[verb].key] == "vd" else third_person(lemma)
    doer = clause[agent][1:]
    helper = [subject.pop()] if modal else []
    whole = (*doer, *helper, *adverbs, Token(WORD, form), *subject, *rest)
    return (*clause[:lead], *_pieces(whole), *clause[agent + 1 :])


def _names_agent(piece: Piece) -> bool:
    """Whether a piece tells who does it: "by Rahul", and "in conf.yaml" for what a file sets."""
    if len(piece) == 1 or _is_time(piece[1]) or piece[1].key in MONTHS:
        return False
    kind = piece[1].kind
    counted = kind is NUMBER and piece[1].key.isdigit() and len(piece) > 2 and piece[2].kind is WORD  # noqa: PLR2004 - "by two managers"
    return (piece[0].key == "by" and (kind is not NUMBER or counted)) or (piece[0].key == "in" and kind is IDENTIFIER)


def _fronted(clause: Clause) -> int:
    """Return how many pieces stand before the subject: a preposition and what it leads."""
    return 1 if len(clause) > 1 and clause[0][0].key in _PREPOSITIONS else 0


def third_person(lemma: str) -> str:
    """Return the form of a verb behind "he": "manages", "tries"."""
    if lemma.endswith(("s", "x", "z", "ch", "sh", "o")):
        return lemma + "es"
    if lemma.endswith("y") and lemma[-2:-1] not in tuple("aeiou"):
        return lemma[:-1] + "ies"
    return lemma + "s"
