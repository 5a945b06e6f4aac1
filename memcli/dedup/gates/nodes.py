"""The nodes of a text: its figures, names and words of content, each with what it may belong to and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from memcli.dedup.gates.families import deed, verbs
from memcli.dedup.gates.segments import (
    AUXILIARY,
    JOINING,
    MODAL,
    NEGATIVE,
    PREPOSITIONS,
    SILENT,
    SUBJECTS,
    Clause,
    forms_of,
    function_word,
    is_adverb,
    segments,
    uncleft,
)
from memcli.dedup.gates.tokens import NUMBER, START, WORD, Token
from memcli.dedup.gates.words import DATING, PLAIN_WEEKDAYS

# Verbs that only carry the noun behind them where this is the noun of a deed.
_LIGHT = frozenset("make take undergo perform conduct".split())
# Verbs with two objects: the first is who gets the second.
_GIVING = frozenset("give lend send sell pay teach owe show offer hand promise tell".split())
_RECEIVERS = frozenset("him her them us <speaker>".split())
_MOST_NODES = 40


@dataclass(slots=True)
class Node:
    """A figure, name or word of content: what it may belong to, how, and what is said along with it."""

    token: Token
    is_verb: bool = False
    labels: set[tuple[str, int]] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)


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
            parser.parse(uncleft(sentence))
            sentence = []
    if sentence:
        parser.parse(uncleft(sentence))
    found = parser.result()
    told = {node.token.key for node in found}.union(*(node.marks for node in found))
    # Of two in a row, as in "from may must", one may have got lost: then nothing can be said.
    return found if told.issuperset(token.key for token in tokens if token.key in MODAL) else None


def _group_begin(clause: Clause) -> int:
    """Return the place of the first auxiliary, negation or adverb of a clause's verb."""
    tokens, begin = clause.tokens, clause.verb
    helping = AUXILIARY | MODAL | NEGATIVE
    while (
        begin
        and (tokens[begin - 1].key in helping or is_adverb(tokens[begin - 1]))
        and any(each.key in helping for each in tokens[:begin])
    ):
        begin -= 1
    return begin


class _Parser:
    """Adds the nodes of one sentence."""

    def __init__(self, found: list[Node]) -> None:
        self._found = found
        self._subject = -1
        self._last = -1
        self._light: dict[int, int] = {}

    def result(self) -> list[Node]:
        """Return all nodes but the verbs that only carry a noun: "made a decision"."""
        return without(self._found, self._light) if self._light else self._found

    def parse(self, sentence: Sequence[Token]) -> None:
        """Add the nodes of a sentence, clause by clause."""
        self._subject = self._last = -1
        main = -1
        waiting: list[tuple[int, str]] = []
        for clause in segments(sentence):
            centre = self._clause(clause)
            if centre < 0:
                continue
            if clause.link in ("or", "nor"):
                self._found[centre].marks.add(clause.link)
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

    def add(self, token: Token, marks: set[str] | None = None, *, is_verb: bool = False) -> int:
        """Add a node and return its place."""
        self._found.append(Node(token._replace(stop=""), is_verb, marks=marks or set()))
        return len(self._found) - 1

    def _clause(self, clause: Clause) -> int:
        """Add the nodes of a clause; return the one that stands for the whole, -1 for none."""
        if clause.verb < 0:
            heads = self._phrases(clause.tokens, -1, "part")
            return heads[0] if heads else -1
        first = len(self._found)
        antecedent = self._last
        tokens, begin = clause.tokens, _group_begin(clause)
        verb = -1 if clause.copula else self.add(tokens[clause.verb], set(clause.marks), is_verb=True)
        before = self._phrases(tokens[:begin], verb, "subject")
        own = next((at for at in before if any(label == "subject" for label, _ in self._found[at].labels)), -1)
        subject = own if own >= 0 else antecedent if clause.link == "rel" else self._subject
        self._front(before, verb, subject, own)
        rest = tokens[clause.verb + 1 :]
        centre = self._copula(clause, subject, rest) if clause.copula else self._deed(clause, verb, subject, rest)
        if clause.link == "rel" and not clause.copula:
            self._found[verb].labels.add(("rel", antecedent))
        for token in tokens[begin : clause.verb]:
            if is_adverb(token):
                self._found[self.add(token)].labels.add(("adverb", centre))
        if own >= 0:
            self._subject = subject
        self._mark_adverbs(tokens, first)
        return centre

    def _mark_adverbs(self, tokens: Sequence[Token], first: int) -> None:
        """Mark the adverbs behind a clause's "not", "I don't really like it", and those that limit the next word."""
        denied = next((at for at, token in enumerate(tokens) if token.key in NEGATIVE), len(tokens))
        behind = {token.key for token in tokens[denied + 1 :] if is_adverb(token)} - DATING
        limits = {
            one.key: other.key
            for one, other in pairwise(tokens)
            if one.key == "just" or (is_adverb(one) and is_adverb(other))
        }
        for node in self._found[first:]:
            if node.token.key in behind and not node.is_verb:
                node.marks.add("denied")
            if node.token.key in limits:
                node.marks.add(limits[node.token.key])

    def _front(self, before: Sequence[int], verb: int, subject: int, own: int) -> None:
        """Let what stands before the subject belong to it as well as to the verb."""
        for at in before:
            node = self._found[at]
            if verb < 0:
                node.labels = {
                    (label, subject if head < 0 and label != "subject" else head) for label, head in node.labels
                }
            if at != own and own >= 0 and any(head == verb for label, head in node.labels if label != "of"):
                node.labels |= {(label, own) for label, head in node.labels if head == verb}

    def _deed(self, clause: Clause, verb: int, subject: int, rest: Sequence[Token]) -> int:
        """Add what stands behind a verb of content and tell who does it to whom; return the verb."""
        after = self._phrases(rest, verb, "patient")
        if subject >= 0:
            self._found[subject].labels.discard(("subject", verb))
            self._found[subject].labels.add(("patient" if clause.passive else "agent", verb))
        self._given(after, verb)
        self._lighten(verb, subject, after)
        for at in after:
            if clause.passive and ("by", verb) in self._found[at].labels:
                self._found[at].labels = {("agent", verb)}
        return verb

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
        if not deed(self._found[thing].token.key) or "ns" in forms_of(self._found[thing].token):
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

    def _copula(self, clause: Clause, subject: int, rest: Sequence[Token]) -> int:
        """Add what is said of the subject with "be" or "have"; return the node that stands for the clause."""
        if subject < 0:
            subject = self.add(Token(WORD, "there"))
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
        self._same = self._parted = self._stops = False
        self._bares = 0
        self._inner = -1

    def read(self, tokens: Sequence[Token]) -> list[int]:
        """Add the nodes of the stretch; return the heads of its phrases."""
        for at, token in enumerate(tokens):
            key = function_word(token)
            if key == "'s" and not (at and is_adverb(tokens[at - 1])):
                self._flush(owning=True)
            elif key in JOINING:
                self._flush()
                if not self._heads:  # it joins nothing that is known
                    self._found[self._parser.add(token)].labels.add(("particle", self._verb))
                self._same = True
                if key != "and":
                    self._marks.add(key)  # "80 or 443" is not "80 and 443"
            elif key in PREPOSITIONS:
                self._flush()
                self._preposition = f"{self._preposition} {key}".removeprefix("of ").strip()
            elif key in NEGATIVE:
                self._flush()
                self._marks.add(key)
            elif key not in SILENT:
                self._content(tokens, at)
            self._stops = bool(token.stop) or at + 1 == len(tokens)
            if token.stop:
                self._flush()
                self._parted = True
        self._flush()
        self._strand()
        return self._heads

    def _content(self, tokens: Sequence[Token], at: int) -> None:
        """Take a word of content, a name or a figure."""
        token = tokens[at]
        if is_adverb(token):
            self._flush()
            self._found[self._parser.add(token)].labels.add(("adverb", self._verb))
        elif self._preposition and not self._chunk and self._begins_verb(tokens, at):
            self._nonfinite(token)
        elif self._chunk and "vg" in forms_of(token) <= {"vg", "v"}:
            self._flush()
            self._preposition = "doing"
            self._nonfinite(token)
        else:
            if self._chunk and self._parts(token, tokens[at - 1], is_last=at + 1 == len(tokens)):
                self._flush()
            self._chunk.append(token)

    def _parts(self, token: Token, before: Token, *, is_last: bool) -> bool:
        """Whether that token begins another phrase than the one before it."""
        last = self._chunk[-1]
        return (
            (_is_time(token) and last.key != "every")
            or _is_time(last)
            or (token.key == "every" and not is_last)
            or self._given(token)
            or before.key in SUBJECTS
        )

    def _strand(self) -> None:
        """Keep a preposition that leads nothing: "turn the lights on"."""
        if self._preposition and self._stops:
            place = self._parser.add(Token(WORD, self._preposition))
            self._found[place].labels.add(("particle", self._verb))
            self._preposition = ""

    def _given(self, token: Token) -> bool:
        """Whether the name before that token is who gets it: "gave Omar the keys"."""
        if self._verb < 0 or self._bare != "patient" or token.case not in ("", START):
            return False
        got = self._chunk[-1].case not in ("", START) or self._chunk[-1].key in _RECEIVERS
        return got and not verbs(self._found[self._verb].token.key).isdisjoint(_GIVING)

    def _begins_verb(self, tokens: Sequence[Token], at: int) -> bool:
        forms = forms_of(tokens[at])
        if self._preposition == "to":
            return "v" in forms and (not forms & {"n"} or at + 1 < len(tokens))
        return "vg" in forms and at + 1 < len(tokens) and not tokens[at].stop and tokens[at + 1].key not in PREPOSITIONS

    def _nonfinite(self, token: Token) -> None:
        place = self._parser.add(token, is_verb=True)
        self._found[place].labels = {(self._preposition, head) for head in {self._verb, *self._heads[-1:]}}
        self._inner, self._preposition = place, ""
        if token.stop:
            self._inner = -1

    def _flush(self, *, owning: bool = False) -> None:
        if not self._chunk:
            self._strand()
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
        return token.key.endswith("o'clock") or token.key.count("-") > 1 or ".." in token.key
    return token.kind is WORD and (token.key in PLAIN_WEEKDAYS or token.key in ("today", "tomorrow", "yesterday"))


def without(found: list[Node], gone: dict[int, int]) -> list[Node]:
    """Return the nodes without some, whose place as a head another node takes."""
    kept = [at for at in range(len(found)) if at not in gone]
    place = {at: new for new, at in enumerate(kept)} | {-1: -1}
    result = []
    for at in kept:
        node = found[at]
        labels = {(label, place[gone.get(head, head)]) for label, head in node.labels if gone.get(head, head) != at}
        result.append(Node(node.token, node.is_verb, labels or {("root", -1)}, node.marks))
    return result
