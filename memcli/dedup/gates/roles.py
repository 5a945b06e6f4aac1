"""Who does what to whom, told by heads and labels: the last way in which two texts may be found to say the same.

A text is parsed, roughly, into nodes: each figure, name and word of content, with what it may belong to (its heads)
and how (its label: agent, patient, a preposition, "of" for what belongs to something). Two texts are the same where
each node has a counterpart with the same polarity, mood and tense and a head and label that agree. A rough parse is
wrong at times, and then most often the texts are found to differ; whatever it does not know is a node like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from memcli.dedup.gates.align import Context, alike
from memcli.dedup.gates.families import deed, mostly_verb, one_deed, verbs
from memcli.dedup.gates.lexicon import readings
from memcli.dedup.gates.tokens import NUMBER, START, WORD, Token
from memcli.dedup.gates.words import ADVERBS, INTRANSITIVE, PEOPLE, PLAIN_WEEKDAYS

_BE = frozenset("be was been being".split())
_AUXILIARY = _BE | frozenset("have had do did".split())
_MODAL = frozenset("can could may might must shall should will would".split())
_NEGATIVE = frozenset("not never no ,no not, no, never, none need-not".split()) | {"no longer"}
_DEPENDING = frozenset("because if unless when while although though whenever whether so once".split())
_EITHER = frozenset("before after until since as than".split())
_JOINING = frozenset("and but or nor".split())
_RELATIVE = frozenset("which who whose whom".split())
_PREPOSITIONS = (
    frozenset(
        """in on at by for from with into under over above below between among through during against about without within
    along across behind beyond near toward instead-of of to at-most at-least about-n over-n under-n except""".split()
    )
    | _EITHER
)
_SILENT = frozenset("the a 's that there please also both".split())
# Verbs that only carry the noun behind them where this is the noun of a deed.
_LIGHT = frozenset("make take undergo perform conduct".split())
_SUBJECTS = frozenset("we you he she it they i this <speaker> <i> <user>".split())
_PERIODS = frozenset("morning evening afternoon night day week month year hour minute".split())
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
# Verbs with two objects: the first is who gets the second.
_GIVING = frozenset("give lend send sell pay teach owe show offer hand promise tell".split())
_STAYING = frozenset(("stay", "remain"))
_OWNING = frozenset(("of", "own", "mod", "have"))
_BELONGING = frozenset(("of", "own", "have", "from", "by"))
# What a word before a noun may be led by behind it: "the parser bug", "the bug in the parser".
_COMPOUNDING = frozenset("of in for with on to about at".split())
_MOST_NODES = 40


@dataclass(slots=True)
class Node:
    """A figure, name or word of content: what it may belong to, how, and what is said along with it."""

    token: Token
    is_verb: bool = False
    labels: set[tuple[str, int]] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Clause:
    """A stretch of tokens with at most one finite verb; `link` is the conjunction before it."""

    link: str
    tokens: list[Token]
    verb: int = -1
    marks: set[str] = field(default_factory=set)
    passive: bool = False
    copula: str = ""


def same_roles(first: Sequence[Token], second: Sequence[Token], context: Context) -> bool:
    """Whether each node of one text has its counterpart in the other, with the same head and role."""
    mine, theirs = nodes(tuple(first)), nodes(tuple(second))
    if mine is None or theirs is None:
        return False
    if abs(len(mine) - len(theirs)) == 1:
        mine, theirs = (_impersonal(mine), theirs) if len(mine) > len(theirs) else (mine, _impersonal(theirs))
    if len(mine) != len(theirs):
        return False
    for backwards in (False, True):
        pairs = _paired(mine, theirs, context, backwards=backwards)
        if pairs is None:
            return False
        if _ordered(mine, theirs, pairs) and all(_agrees(mine, theirs, one, pairs) for one in range(len(mine))):
            return True
        if len({node.token.key for node in mine}) == len(mine):
            return False
    return False


@lru_cache(maxsize=1 << 9)
def nodes(tokens: tuple[Token, ...]) -> list[Node] | None:
    """Return the nodes of a text in their order, None for what is too long or built in a way that is not known."""
    if len(tokens) > _MOST_NODES or any(token.key == "whose" for token in tokens):
        return None
    parser = _Parser([])
    sentence: list[Token] = []
    for token in tokens:
        sentence.append(token)
        if token.stop in (".", ";"):
            parser.parse(_uncleft(sentence))
            sentence = []
    if sentence:
        parser.parse(_uncleft(sentence))
    return parser.result()


def _uncleft(sentence: list[Token]) -> list[Token]:
    """Return "Marta paid" for "it was Marta who paid"."""
    keys = [token.key for token in sentence]
    if keys[0] != "it" or not {"was", "be"} & set(keys[1:2]) or "not" in keys:
        return sentence
    at = next((at for at, key in enumerate(keys) if key in ("who", "that") and at > 2), 0)  # noqa: PLR2004 - it was X who
    return [*sentence[2:at], *sentence[at + 1 :]] if 0 < at < len(keys) - 1 else sentence


def _forms(token: Token) -> frozenset[str]:
    if token.kind is not WORD or token.case not in ("", START):
        return frozenset()
    return frozenset(form for _, form in readings(token.key))


def _function(token: Token) -> str:
    """Return a word by which a sentence is built, "" for a name: "as", but not "AS"."""
    return token.key if token.kind is WORD and token.case in ("", START) else ""


def _is_adverb(token: Token) -> bool:
    if token.key in ADVERBS or token.key in ("still", "already", "always", "just", "ever", "too"):
        return True
    return _forms(token) == {"r"} and token.key.endswith("ly")


def _segments(sentence: Sequence[Token]) -> list[_Clause]:
    """Cut a sentence at its conjunctions, relative pronouns and stops; what has no finite verb is put to a neighbour."""
    cut: list[_Clause] = [_Clause("", [])]
    for at, token in enumerate(sentence):
        key = _function(token)
        link = ""
        if key in _DEPENDING or key in _JOINING:
            link = key
        elif key in _RELATIVE or (key == "that" and at and _before_verb(sentence, at + 1)):
            link = "rel"
        elif key in _EITHER and _has_finite(sentence, at + 1):
            link = key
        if link:
            cut.append(_Clause(link, []))
        else:
            if at and sentence[at - 1].stop and cut[-1].tokens:
                cut.append(_Clause(",", []))
            cut[-1].tokens.append(token)
    for clause in cut:
        _find_verb(clause)
    return _joined([clause for clause in cut if clause.tokens or clause.link])


def _before_verb(sentence: Sequence[Token], at: int) -> bool:
    return at < len(sentence) and (
        sentence[at].key in _AUXILIARY | _MODAL | _SUBJECTS or bool(_forms(sentence[at]) & {"vs", "vd"})
    )


def _has_finite(sentence: Sequence[Token], at: int) -> bool:
    """Whether a finite verb stands between that place and the next cut."""
    part: list[Token] = []
    for token in sentence[at:]:
        if token.key in _DEPENDING or token.key in _JOINING or token.key in _RELATIVE:
            break
        part.append(token)
        if token.stop:
            break
    clause = _Clause("before", part)
    _find_verb(clause)
    return clause.verb > 0


def _joined(cut: list[_Clause]) -> list[_Clause]:
    """Put what has no finite verb to the clause before it, or behind it where it begins the sentence."""
    result: list[_Clause] = []
    for clause in cut:
        last = result[-1] if result else None
        if last is not None and (clause.verb < 0 or (last.verb < 0 and clause.link in ("and", "or", ","))):
            word = [] if clause.link == "," else [Token(WORD, clause.link)]
            fronted = last.verb < 0
            topic = last.tokens
            if clause.link == "," and topic and topic[-1].stop == ":" and not any(_leads(token) for token in topic):
                topic, word = [*topic[:-1], topic[-1]._replace(stop="")], [Token(WORD, "'s")]
            merged = _Clause(last.link, [*topic, *word, *clause.tokens])
            shift = len(last.tokens) + len(word)
            source = clause if fronted else last
            merged.verb = (clause.verb + shift if clause.verb >= 0 else -1) if fronted else last.verb
            merged.marks, merged.passive, merged.copula = source.marks, source.passive, source.copula
            result[-1] = merged
        else:
            result.append(clause)
    return result


def _leads(token: Token) -> bool:
    return token.kind is WORD and (token.key in _PREPOSITIONS or token.key in _JOINING)


def _find_verb(clause: _Clause) -> None:
    """Set the place of the clause's finite verb, its marks, and whether it is passive or a copula."""
    tokens = clause.tokens
    for at, token in enumerate(tokens):
        if token.kind is WORD and token.case in ("", START) and token.key in _AUXILIARY | _MODAL:
            if at and (tokens[at - 1].key == "to" or (token.key == "may" and tokens[at - 1].key in _PREPOSITIONS)):
                continue
            _group(clause, at)
            return
    best, rank = -1, 0.0
    for at, token in enumerate(tokens):
        forms = _forms(token)
        before = tokens[at - 1] if at else None
        if before is None and tokens[-1].stop == ":":
            continue
        if not forms & {"v", "vs", "vd"} or not _may_be_finite(forms, before, clause.link):
            continue
        mine = 3 if not forms & {"n", "ns", "a"} else 2 if any(mostly_verb(lemma) for lemma in verbs(token.key)) else 1
        if before is None and "v" in forms and forms & {"n", "a"}:
            mine = 0.5
        if mine > rank:
            best, rank = at, mine
    if best >= 0:
        clause.verb = best
        clause.marks = {"past" if "vd" in _forms(tokens[best]) else "present"}


def _may_be_finite(forms: frozenset[str], before: Token | None, link: str) -> bool:
    """Whether a verb of these forms may be the finite one behind that token."""
    if before is None:
        return bool(forms & {"vs", "vd", "v"}) if link != "rel" else bool(forms & {"vs", "vd", "v"})
    if before.stop or before.kind is NUMBER or before.key in _PREPOSITIONS or before.key in _NEGATIVE - {"never"}:
        return False
    if before.key in _SUBJECTS or _is_adverb(before) or before.key == "never":
        return True
    mine = _forms(before)
    noun = not mine or bool(mine & {"n", "ns", "vg"})
    if forms & {"vs", "vd"}:
        return noun
    return bool(mine & {"ns"})


def _group(clause: _Clause, begin: int) -> None:
    """Read the group of auxiliaries that begins there, up to its main verb."""
    tokens, at = clause.tokens, begin
    been = had = False
    marks = {"past" if tokens[begin].key in ("was", "had", "did") else "present"}
    verb = begin
    while at < len(tokens):
        key, forms = tokens[at].key, _forms(tokens[at])
        if key in _MODAL:
            marks.add(key)
        elif key in _NEGATIVE:
            marks.add(key.strip(","))
        elif key in _BE:
            been, verb = True, at
        elif key in ("have", "had") and not had and not been:
            had, verb = True, at
        elif key in ("do", "did") and at == begin:
            verb = at
        elif _is_adverb(tokens[at]):
            pass
        elif been and ("vd" in forms or key in ("run", "overrun", "rerun")):
            clause.passive, verb = True, at
            break
        elif been and "vg" in forms:
            marks.add("going on")
            verb = at
            break
        elif been:
            clause.copula = "be"
            break
        elif had and "vd" in forms:
            marks.add("done")
            verb = at
            break
        elif had:
            clause.copula = "have"
            break
        else:
            verb = at if "v" in forms else verb
            break
        at += 1
    if verb == at and at >= len(tokens):
        verb = at - 1
    if at >= len(tokens) and not clause.passive:
        clause.copula = "be" if been else "have" if had else ""
    clause.verb, clause.marks = verb, marks


class _Parser:
    """Adds the nodes of one sentence."""

    def __init__(self, found: list[Node]) -> None:
        self._found = found
        self._subject = -1
        self._last = -1
        self._light: dict[int, int] = {}

    def result(self) -> list[Node]:
        """Return all nodes but the verbs that only carry a noun: "made a decision"."""
        return _without(self._found, self._light) if self._light else self._found

    def parse(self, sentence: Sequence[Token]) -> None:
        """Add the nodes of a sentence, clause by clause."""
        self._subject = self._last = -1
        main = -1
        waiting: list[tuple[int, str]] = []
        for clause in _segments(sentence):
            centre = self._clause(clause)
            if centre < 0:
                continue
            depends = clause.link not in ("", "and", "but", "or", "nor", ",", "rel")
            if depends and main < 0:
                waiting.append((centre, clause.link))
            elif depends:
                self._found[centre].labels.add((clause.link, main))
            elif clause.link != "rel":
                self._found[centre].labels.add(("root", -1))
                main = centre if main < 0 else main
        for centre, link in waiting:
            self._found[centre].labels.add((link, main))

    def _add(self, token: Token, marks: set[str] | None = None, *, is_verb: bool = False) -> int:
        self._found.append(Node(token._replace(stop=""), is_verb, marks=marks or set()))
        return len(self._found) - 1

    def _clause(self, clause: _Clause) -> int:
        """Add the nodes of a clause; return the one that stands for the whole, -1 for none."""
        if clause.verb < 0:
            heads = self._phrases(clause.tokens, -1, "part")
            return heads[0] if heads else -1
        antecedent = self._last
        tokens = clause.tokens
        begin = clause.verb
        while (
            begin
            and (tokens[begin - 1].key in _AUXILIARY | _MODAL | _NEGATIVE or _is_adverb(tokens[begin - 1]))
            and any(each.key in _AUXILIARY | _MODAL | _NEGATIVE for each in tokens[:begin])
        ):
            begin -= 1
        adverbs = [token for token in tokens[begin : clause.verb] if _is_adverb(token)]
        verb = -1 if clause.copula else self._add(tokens[clause.verb], set(clause.marks), is_verb=True)
        before = self._phrases(tokens[:begin], verb, "subject")
        subject = next((at for at in before if any(label == "subject" for label, _ in self._found[at].labels)), -1)
        own = subject >= 0
        if not own:
            subject = antecedent if clause.link == "rel" else self._subject
        for at in before:
            self._found[at].labels = {
                (label, subject if head < 0 and label != "subject" and verb < 0 else head)
                for label, head in self._found[at].labels
            }
            if at != subject and own and any(head == verb for label, head in self._found[at].labels if label != "of"):
                self._found[at].labels |= {(label, subject) for label, head in self._found[at].labels if head == verb}
        rest = tokens[clause.verb + 1 :]
        if clause.copula:
            centre = self._copula(clause, subject, rest)
        else:
            after = self._phrases(rest, verb, "patient")
            role = "patient" if clause.passive else "agent"
            if subject >= 0:
                self._found[subject].labels.discard(("subject", verb))
                self._found[subject].labels.add((role, verb))
            self._given(after, verb)
            self._lighten(verb, subject, after)
            if clause.passive:
                for at in after:
                    if ("by", verb) in self._found[at].labels:
                        self._found[at].labels = {("agent", verb)}
            if clause.link == "rel":
                self._found[verb].labels.add(("rel", antecedent))
            centre = verb
        for token in adverbs:
            self._found[self._add(token)].labels.add(("adverb", centre))
        if own:
            self._subject = subject
        return centre

    def _lighten(self, verb: int, subject: int, after: Sequence[int]) -> None:
        """Let the noun stand for the deed where the verb only carries it: "made a decision", "an upgrade happened"."""
        lemmas = verbs(self._found[verb].token.key)
        things = [at for at in after if ("patient", verb) in self._found[at].labels]
        if lemmas & _LIGHT and len(things) == 1:
            thing = things[0]
        elif lemmas & {"happen", "occur"} and subject >= 0:
            thing = subject
        else:
            return
        if not deed(self._found[thing].token.key) or "ns" in _forms(self._found[thing].token):
            return
        self._found[thing].marks |= self._found[verb].marks
        self._found[thing].labels = {each for each in self._found[thing].labels if each[1] != verb} | set(
            self._found[verb].labels
        )
        if "undergo" in lemmas and subject >= 0:
            self._found[subject].labels = {
                ("patient" if label == "agent" and head == verb else label, head)
                for label, head in self._found[subject].labels
            }
        self._light[verb] = thing

    def _given(self, after: Sequence[int], verb: int) -> None:
        """Tell who gets something from what they get: "lent Tomasz $1,200"."""
        if verbs(self._found[verb].token.key).isdisjoint(_GIVING):
            return
        bare = [at for at in after if self._found[at].labels & {("patient", verb), ("next", after[0])}]
        if len(bare) == 2 and bare[0] == after[0] and bare[1] == after[1]:  # noqa: PLR2004 - who, and what
            self._found[bare[0]].labels, self._found[bare[1]].labels = {("to", verb)}, {("patient", verb)}

    def _copula(self, clause: _Clause, subject: int, rest: Sequence[Token]) -> int:
        """Add what is said of the subject with "be" or "have"; return the node that stands for the clause."""
        if subject < 0:
            subject = self._add(Token(WORD, "there"))
        self._found[subject].labels = {
            each for each in self._found[subject].labels if each[0] not in ("subject", "root")
        } or set()
        after = self._phrases(rest, subject, clause.copula)
        marks = set(clause.marks)
        things = [at for at in after if (clause.copula, subject) in self._found[at].labels]
        if clause.copula == "have" and things:
            for thing in things:
                self._found[thing].labels = {("root", -1)}
                self._found[thing].marks |= marks
                self._found[subject].labels.add(("of", thing))
            return things[0]
        self._found[subject].marks |= marks | ({"have"} if clause.copula == "have" else set())
        return subject

    def _phrases(self, tokens: Sequence[Token], verb: int, bare: str) -> list[int]:
        """Add the phrases before or behind a verb; return their heads. `bare` labels those without a preposition."""
        return _Phrases(self, self._found, verb, bare).read(tokens)

    def add(self, token: Token, marks: set[str] | None = None, *, is_verb: bool = False) -> int:
        """Add a node and return its place."""
        return self._add(token, marks, is_verb=is_verb)

    def note_last(self, head: int) -> None:
        """Note the last head: what a relative clause is about."""
        self._last = head


class _Phrases:
    """Cuts a stretch without finite verb into noun phrases and those with a preposition."""

    def __init__(self, parser: _Parser, found: list[Node], verb: int, bare: str) -> None:
        self._parser = parser
        self._found = found
        self._verb = verb
        self._bare = bare
        self._heads: list[int] = []
        self._chunk: list[Token] = []
        self._preposition = ""
        self._owner = -1
        self._marks: set[str] = set()
        self._same = self._parted = False
        self._bares = 0
        self._inner = -1

    def read(self, tokens: Sequence[Token]) -> list[int]:
        """Add the nodes of the stretch; return the heads of its phrases."""
        for at, token in enumerate(tokens):
            key = _function(token)
            before = tokens[at - 1] if at else None
            if key == "'s":
                self._flush(owning=True)
            elif key in _SILENT:
                pass
            elif key in _JOINING:
                self._flush()
                self._same = True
            elif key in _PREPOSITIONS:
                self._flush()
                self._preposition = key
            elif key in _NEGATIVE:
                self._flush()
                self._marks.add(key.strip(","))
            elif _is_adverb(token):
                self._flush()
                place = self._parser.add(token)
                self._found[place].labels.add(("adverb", self._verb))
            elif self._preposition and not self._chunk and self._begins_verb(tokens, at):
                self._nonfinite(token)
            elif self._chunk and _forms(token) == {"vg"} or (self._chunk and _forms(token) == {"vg", "v"}):
                self._flush()
                self._preposition = "doing"
                self._nonfinite(token)
            else:
                apart = self._chunk and (
                    (_is_time(token) and self._chunk[-1].key != "every")
                    or _is_time(self._chunk[-1])
                    or (key == "every" and at + 1 < len(tokens))
                    or self._given(token)
                    or (before is not None and before.key in _SUBJECTS)
                )
                if apart:
                    self._flush()
                self._chunk.append(token)
            if token.stop:
                self._flush()
                self._parted = True
        self._flush()
        return self._heads

    def _given(self, token: Token) -> bool:
        """Whether the name before that token is who gets it: "gave Omar the keys"."""
        if self._verb < 0 or self._bare != "patient" or token.case not in ("", START):
            return False
        got = self._chunk[-1].case not in ("", START) or self._chunk[-1].key in (
            "him",
            "her",
            "them",
            "us",
            "<speaker>",
        )
        return got and not verbs(self._found[self._verb].token.key).isdisjoint(_GIVING)

    def _begins_verb(self, tokens: Sequence[Token], at: int) -> bool:
        forms = _forms(tokens[at])
        if self._preposition == "to":
            return "v" in forms and (not forms & {"n"} or at + 1 < len(tokens))
        return (
            "vg" in forms
            and self._preposition
            and at + 1 < len(tokens)
            and not tokens[at].stop
            and tokens[at + 1].key not in _PREPOSITIONS
        )

    def _nonfinite(self, token: Token) -> None:
        place = self._parser.add(token, is_verb=True)
        self._found[place].labels = {(self._preposition, head) for head in {self._verb, *self._heads[-1:]}}
        self._inner, self._preposition = place, ""
        if token.stop:
            self._inner = -1

    def _flush(self, *, owning: bool = False) -> None:
        if not self._chunk:
            if owning and self._heads:
                self._owner = self._heads.pop()
            return
        head = self._parser.add(self._chunk[-1], self._marks)
        places = [self._parser.add(token) for token in self._chunk[:-1]]
        for at, place in enumerate(places):
            self._found[place].labels |= {("mod", later) for later in (*places[at + 1 :], head)}
        if self._owner >= 0:
            self._found[self._owner].labels = {("own", head)}
        if owning:
            self._owner = head
            self._chunk, self._marks = [], set()
            return
        self._owner = -1
        self._label(head)
        self._heads.append(head)
        self._parser.note_last(head)
        self._chunk, self._preposition, self._marks, self._same = [], "", set(), False
        self._parted = False

    def _label(self, head: int) -> None:
        node = self._found[head]
        earlier = self._heads
        if self._same and earlier and not self._preposition:
            node.labels = set(self._found[earlier[-1]].labels)
        elif self._preposition == "of" and earlier:
            node.labels = {("of", earlier[-1])}
        elif self._preposition:
            fronted = self._bare == "subject" and not self._bares
            inside = self._bare == "subject" and self._bares
            hosts = set(earlier) if inside else {self._verb} if fronted else {self._verb, *earlier}
            hosts |= {self._inner} if self._inner >= 0 else set()
            node.labels = {(self._preposition, host) for host in hosts}
        elif self._parted and self._bare != "subject" and earlier:
            node.labels = {("next", earlier[-1])}
        elif self._inner >= 0:
            node.labels, self._inner = {("patient", self._inner)}, -1
        elif _is_time(node.token):
            node.labels = {("time", self._verb), *(("time", host) for host in earlier)}
        else:
            node.labels = {(self._bare, self._verb)} if self._bares == 0 else {("next", earlier[-1] if earlier else -1)}
            self._bares += 1


def _is_time(token: Token) -> bool:
    if token.kind is NUMBER:
        return token.key.endswith("o'clock") or token.key.count("-") > 1
    return token.kind is WORD and (token.key in PLAIN_WEEKDAYS or token.key in ("today", "tomorrow", "yesterday"))


def _impersonal(found: list[Node]) -> list[Node]:
    """Return the nodes without the "we" that only has the deed done: "we keep logs", "logs are kept"."""
    doers = [at for at, node in enumerate(found) if node.token.key == "we"]
    if len(doers) != 1 or {label for label, _ in found[doers[0]].labels} != {"agent"} or found[doers[0]].marks:
        return found
    return _without(found, {doers[0]: -1})


def _without(found: list[Node], gone: dict[int, int]) -> list[Node]:
    """Return the nodes without some, whose place as a head another node takes."""
    kept = [at for at in range(len(found)) if at not in gone]
    place = {at: new for new, at in enumerate(kept)} | {-1: -1}
    result = []
    for at in kept:
        node = found[at]
        labels = {(label, place[gone.get(head, head)]) for label, head in node.labels if gone.get(head, head) != at}
        result.append(Node(node.token, node.is_verb, labels or {("root", -1)}, node.marks))
    return result


def _paired(mine: list[Node], theirs: list[Node], context: Context, *, backwards: bool) -> list[int] | None:
    """Return the counterpart of each node, None where one has none."""
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
        mine, theirs = verbs(one.token.key), verbs(other.token.key)
        return not mine.isdisjoint(theirs) or _converse(mine, theirs) is not None
    if one.is_verb == other.is_verb:
        return one_deed(one.token.key, other.token.key)
    verb, noun = (one, other) if one.is_verb else (other, one)
    return not verbs(verb.token.key).isdisjoint(deed(noun.token.key))


def _converse(mine: frozenset[str], theirs: frozenset[str]) -> dict[str, str] | None:
    """Return what becomes of the roles where one verb tells the other's deed from the other side, None for others."""
    for one, other, roles in _CONVERSES:
        if one in mine and other in theirs:
            return roles
        if other in mine and one in theirs:
            return {new: old for old, new in roles.items()}
    return None


def _agrees(mine: list[Node], theirs: list[Node], one: int, pairs: Sequence[int]) -> bool:
    """Whether a node and its counterpart have the same marks and a head and label that agree."""
    node, other = mine[one], theirs[pairs[one]]
    if node.marks != other.marks:
        return False
    moved = {_moved(label, head, mine, theirs, pairs) for label, head in node.labels}
    crossed = {pairs[at] for at in range(len(mine)) if mine[at].is_verb != theirs[pairs[at]].is_verb}
    core = [{each for each in labels if each[0] in ("agent", "patient")} for labels in (moved, other.labels)]
    if core[0] != core[1] and not any(head in crossed for side in core for _, head in side):
        return False
    alone = all(
        _belonging(side, head) <= 1 for side, head in ((mine, pairs.index(h)) for _, h in moved if h >= 0)
    ) and all(_belonging(theirs, h) <= 1 for _, h in moved if h >= 0)
    return any(
        head == its
        and (label == name or alone)
        and _same_label(label, name, node.token, theirs[head] if head >= 0 else None, is_crossed=head in crossed)
        for label, head in moved
        for name, its in other.labels
    )


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


def _belonging(found: list[Node], head: int) -> int:
    """Return how many nodes belong to that one, in whatever way that is told."""
    return sum(
        any(label in _BELONGING and at == head for label, at in node.labels) and node.token.kind is not NUMBER
        for node in found
    )


def _same_label(label: str, name: str, token: Token, head: Node | None, *, is_crossed: bool) -> bool:
    if label == name:
        return True
    both = {label, name}
    if head is not None and "from" in both and both & {"of", "own"} and deed(head.token.key):
        return True
    if (token.kind is WORD or token.key.isdigit()) and "mod" in both and both & _COMPOUNDING:
        return True
    plain = token.case in ("", START) and token.key not in PEOPLE and not token.key.startswith("<")
    if plain and "own" in both and both & {"for", "in"}:
        return True
    if head is not None and both == {"patient", "at"} and head.is_verb and verbs(head.token.key) & _STAYING:
        return True
    if both <= _OWNING or (token.kind is NUMBER and both <= {"of", "be"}):
        return True
    return is_crossed and ("mod" in both or both <= {"of", "own", "patient"} or both <= {"of", "own", "agent"})


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
        (at, {label for label, _ in node.labels if label in _PREPOSITIONS and label != "of"})
        for at, node in enumerate(mine)
    ]
    moved = [(labels, pairs[at]) for at, labels in led if labels]
    for at, (labels, place) in enumerate(moved):
        if any(labels & others and later < place for others, later in moved[at + 1 :]):
            return False
    ranks = {place: rank for rank, place in enumerate(sorted(place for _, place in moved))}
    order = [-1, *(ranks[place] for _, place in moved), len(moved)]
    return sum(later != one + 1 for one, later in pairwise(order)) <= 3  # noqa: PLR2004 - the ends of a run, and where it went
