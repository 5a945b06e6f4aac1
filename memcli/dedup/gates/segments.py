"""A sentence cut into clauses of one finite verb each: the rough half of a parse that `nodes` completes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from memcli.dedup.gates.families import mostly_verb, verbs
from memcli.dedup.gates.lexicon import readings
from memcli.dedup.gates.tokens import NUMBER, START, WORD, Token
from memcli.dedup.gates.words import ADVERBS, MODERN

_BE = frozenset("be was been being".split())
AUXILIARY = _BE | frozenset("have had do did".split())
MODAL = frozenset("can could may might must shall should will would".split())
NEGATIVE = frozenset("not never no ,no not, no, never, none need-not".split()) | {"no longer"}
_DEPENDING = frozenset("because if unless when while although though whenever whether so once".split())
_EITHER = frozenset("before after until since as than".split())
JOINING = frozenset("and but or nor".split())
_RELATIVE = frozenset("which who whose whom".split())
PREPOSITIONS = (
    frozenset(
        """in on at by for from with into under over above below between among through during against about without
    within along across behind beyond near toward instead-of of to at-most at-least about-n over-n under-n
    except""".split()
    )
    | _EITHER
)
SILENT = frozenset("the a 's that there please also both".split())
# Participles that are as their verb.
_PARTICIPLES = frozenset("run overrun rerun come overcome become".split())
SUBJECTS = frozenset("we you he she it they i this <speaker> <i> <user>".split())


@dataclass(slots=True)
class Clause:
    """A stretch of tokens with at most one finite verb; `link` is the conjunction before it."""

    link: str
    tokens: list[Token]
    verb: int = -1
    marks: set[str] = field(default_factory=set)
    passive: bool = False
    copula: str = ""


def forms_of(token: Token) -> frozenset[str]:
    """Return what a word can be, as `lexicon.readings` tells it; nothing for names and figures."""
    if token.kind is not WORD or token.case not in ("", START):
        return frozenset()
    found = frozenset(form for _, form in readings(token.key))
    return found | {"n"} if token.key in MODERN else found


def function_word(token: Token) -> str:
    """Return a word by which a sentence is built, "" for a name: "as", but not "AS"."""
    return token.key if token.kind is WORD and token.case in ("", START) else ""


def is_adverb(token: Token) -> bool:
    """Whether a word is an adverb that may stand anywhere in its clause."""
    if token.key in ADVERBS or token.key in ("still", "already", "always", "just", "ever", "too"):
        return True
    return forms_of(token) == {"r"} and token.key.endswith("ly")


def segments(sentence: Sequence[Token]) -> list[Clause]:
    """Cut a sentence at its conjunctions, relative pronouns and stops; what has no finite verb goes to a neighbour."""
    cut: list[Clause] = [Clause("", [])]
    for at, token in enumerate(sentence):
        key = function_word(token)
        link = ""
        if key in _DEPENDING or key in JOINING:
            link = key
        elif key in _RELATIVE or (key == "that" and at and _before_verb(sentence, at + 1)):
            link = "rel"
        elif key in _EITHER and _has_finite(sentence, at + 1):
            link = key
        if link:
            cut.append(Clause(link, []))
        else:
            if at and sentence[at - 1].stop and cut[-1].tokens:
                cut.append(Clause(",", []))
            cut[-1].tokens.append(token)
    for clause in cut:
        _find_verb(clause)
    return _joined(_predicated([clause for clause in cut if clause.tokens or clause.link]))


def _predicated(cut: list[Clause]) -> list[Clause]:
    """Read "taking cash only, the market opens at 8" as "the market opens at 8 and takes cash only"."""
    for at, clause in enumerate(cut):
        main = cut[at - 1] if at else cut[1] if len(cut) > 1 else clause
        if (
            clause.verb >= 0
            or main.verb < 0
            or main.link not in ("", ",")
            or len(clause.tokens) < len(("taking", "it"))
        ):
            continue
        if clause.link in ("", ",") and "vg" in forms_of(clause.tokens[0]) and not leads(clause.tokens[1]):
            told = Clause("and", clause.tokens, 0, set(main.marks))
            return [*cut[:at], told, *cut[at + 1 :]] if at else [cut[1], told, *cut[2:]]
    return cut


def _before_verb(sentence: Sequence[Token], at: int) -> bool:
    return at < len(sentence) and (
        sentence[at].key in AUXILIARY | MODAL | SUBJECTS or bool(forms_of(sentence[at]) & {"vs", "vd"})
    )


def _has_finite(sentence: Sequence[Token], at: int) -> bool:
    """Whether a finite verb stands between that place and the next cut."""
    part: list[Token] = []
    for token in sentence[at:]:
        if token.key in _DEPENDING or token.key in JOINING or token.key in _RELATIVE:
            break
        part.append(token)
        if token.stop:
            break
    clause = Clause("before", part)
    _find_verb(clause)
    return clause.verb > 0


def _joined(cut: list[Clause]) -> list[Clause]:
    """Put what has no finite verb to the clause before it, or behind it where it begins the sentence."""
    result: list[Clause] = []
    for clause in cut:
        last = result[-1] if result else None
        if last is not None and (clause.verb < 0 or (last.verb < 0 and clause.link in ("and", "or", ","))):
            word = [] if clause.link == "," else [Token(WORD, clause.link)]
            fronted = last.verb < 0
            topic = last.tokens
            if clause.link == "," and topic and topic[-1].stop == ":" and not any(leads(token) for token in topic):
                topic, word = [*topic[:-1], topic[-1]._replace(stop="")], [Token(WORD, "'s")]
            merged = Clause(last.link, [*topic, *word, *clause.tokens])
            shift = len(last.tokens) + len(word)
            source = clause if fronted else last
            merged.verb = (clause.verb + shift if clause.verb >= 0 else -1) if fronted else last.verb
            merged.marks, merged.passive, merged.copula = source.marks, source.passive, source.copula
            result[-1] = merged
        else:
            result.append(clause)
    return result


def leads(token: Token) -> bool:
    """Whether a word leads or joins a phrase and is no part of it."""
    return token.kind is WORD and (token.key in PREPOSITIONS or token.key in JOINING)


def _find_verb(clause: Clause) -> None:
    """Set the place of the clause's finite verb, its marks, and whether it is passive or a copula."""
    tokens = clause.tokens
    for at, token in enumerate(tokens):
        before = tokens[at - 1].key if at else ""
        if function_word(token) in AUXILIARY | MODAL and before != "to":
            if token.key == "may" and before in PREPOSITIONS:
                continue  # the month
            _group(clause, at)
            return
    best, rank = -1, 0.0
    for at in range(len(tokens)):
        mine = _finite_rank(tokens, at, clause.link)
        if mine > rank:
            best, rank = at, mine
    if best >= 0:
        clause.verb = best
        clause.marks = {"past" if "vd" in forms_of(tokens[best]) else "present"}
        if best == 0 and "v" in forms_of(tokens[0]) and not {"vs", "vd"} & forms_of(tokens[0]) and clause.link == "":
            clause.marks.add("must")  # "Store it in Vault": it must be stored there


def _finite_rank(tokens: Sequence[Token], at: int, link: str) -> float:
    """Return how likely that token is the finite verb of its clause, 0 for not at all."""
    forms = forms_of(tokens[at])
    if not forms & {"v", "vs", "vd"} or (at == 0 and tokens[-1].stop == ":"):
        return 0.0
    if not _may_be_finite(forms, tokens[at - 1] if at else None):
        return 0.0
    if at == 0 and "v" in forms and forms & {"n", "a"} and link != "rel":
        return 0.5  # what tells somebody to do it begins so, but rather does a noun
    known = 3 if not forms & {"n", "ns", "a"} else 2 if any(map(mostly_verb, verbs(tokens[at].key))) else 1
    return known + 0.25 * bool(forms & {"vs", "vd"})


def _may_be_finite(forms: frozenset[str], before: Token | None) -> bool:
    """Whether a verb of these forms may be the finite one behind that token."""
    if before is None:
        return True
    if before.stop or before.kind is NUMBER or before.key in PREPOSITIONS or before.key in NEGATIVE - {"never"}:
        return False
    if before.key in SUBJECTS or is_adverb(before) or before.key == "never":
        return True
    mine = forms_of(before)
    noun = not mine or bool(mine & {"n", "ns", "vg"})
    if forms & {"vs", "vd"}:
        return noun
    return bool(mine & {"ns"})


def _group(clause: Clause, begin: int) -> None:
    """Read the group of auxiliaries that begins there, up to its main verb."""
    tokens, at = clause.tokens, begin
    clause.marks = {"past" if tokens[begin].key in ("was", "had", "did") else "present"}
    clause.verb = begin
    auxiliary = ""
    while at < len(tokens):
        key = tokens[at].key
        if key in MODAL or key in NEGATIVE:
            clause.marks.add(key)
        elif key in _BE or (key in ("have", "had") and not auxiliary):
            clause.marks |= {"past"} if key in ("was", "had") else set()
            # "has been ill" may be over, "is being treated" is not.
            clause.marks |= {"done"} if key == "been" else {"going on"} if key == "being" else set()
            auxiliary, clause.verb = "be" if key in _BE else "have", at
        elif not (is_adverb(tokens[at]) or (key in ("do", "did") and at == begin)):
            _complete(clause, at, auxiliary)
            return
        at += 1
    clause.copula = auxiliary


def _complete(clause: Clause, at: int, auxiliary: str) -> None:
    """Take the main verb behind the auxiliaries, or find that these are all there is."""
    forms = forms_of(clause.tokens[at])
    if clause.tokens[at].key in _PARTICIPLES:
        forms |= {"vd"}
    if not auxiliary:
        clause.verb = at if "v" in forms else clause.verb
    elif "vd" in forms:
        clause.verb, clause.passive = at, auxiliary == "be"
        clause.marks |= {"done"} if auxiliary == "have" else set()
    elif auxiliary == "be" and "vg" in forms:
        clause.verb = at
        clause.marks.add("going on")
    else:
        clause.copula = auxiliary


def uncleft(sentence: list[Token]) -> list[Token]:
    """Return "Marta paid" for "it was Marta who paid"."""
    keys = [token.key for token in sentence]
    if keys[0] != "it" or not {"was", "be"} & set(keys[1:2]) or "not" in keys:
        return sentence
    at = next((at for at, key in enumerate(keys) if key in ("who", "that") and at >= len(("it", "was", "X"))), 0)
    if not any(token.kind is WORD and token.case not in ("", START) for token in sentence[2:at]):
        return sentence
    return [*sentence[2:at], *sentence[at + 1 :]] if 0 < at < len(keys) - 1 else sentence
