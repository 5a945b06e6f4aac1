"""The verdict on one memory after another, and the stars that grow from them. Pure: no database, no vectors.

A star is an active memory and the losers linked to it; every loser was compared with that winner itself, or has its
very text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from memcli.dedup.gates import judge, same_signature
from memcli.model import Decision, Judgement, Known, Link, NewReview, Ruling, as_cosine

VERBATIM = "verbatim"
MAX_REVIEW_PAIRS = 5
# A near threshold may lie so low that most of what fails above it are mere neighbours, which nobody wants to be asked
# about: these are counted only.
REVIEWED_COSINE = 0.88
ACCEPTED = "accepted by review"
SECOND_OPINION = "second_opinion"
_SAME_TEXT = ("content",)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a new memory; `review_pairs` counts all pairs that failed, `reviews` holds the strongest."""

    decision: Decision
    reviews: tuple[NewReview, ...] = ()
    review_pairs: int = 0


_NEW = Verdict("new")


@dataclass(slots=True)
class _Memory:
    """A memory as it stands while the batch is judged."""

    id: int
    agent: str
    type: str
    verbatim: bool
    content: str
    hash: bytes
    link: Link | None = None


@dataclass(slots=True)
class _Star:
    """What one pass over the earlier memories above the threshold found."""

    winner: Link | None = None
    failed: list[tuple[float, _Memory, Judgement | None]] = field(default_factory=list)


# Two texts, their cosine, and their judgement with every gate passed -> what is against a merge after all.
Confirm = Callable[[str, str, float, Judgement], str]
_Pair = tuple[int, int] | tuple[tuple[str, bytes], tuple[str, bytes]]


class Judge:
    """Knows the memories that matter to a batch and takes the batch in its order, that of the ids.

    A batch is of new memories, or of stored ones that are judged once more. `rulings` are what the user decided about
    any of them; a memory of `centres` goes into no other one, whatever the evidence says. `confirm` may stop a merge
    that the evidence supports: it says what is against it, or nothing.
    """

    def __init__(
        self,
        known: Iterable[Known],
        threshold: float,
        rulings: Iterable[Ruling] = (),
        centres: Collection[int] = (),
        confirm: Confirm | None = None,
    ) -> None:
        self._threshold = threshold
        self._rulings = {_pair(ruling.one, ruling.other): ruling.accepted for ruling in rulings}
        self._centres = centres
        self._confirm = confirm
        self._memories: dict[int, _Memory] = {}
        self._by_text: dict[tuple[str, bytes], list[_Memory]] = defaultdict(list)
        self._followers: dict[int, dict[int, _Memory]] = defaultdict(dict)
        self._changed: dict[int, Link] = {}
        self._ended: dict[int, None] = {}
        self._stored: set[int] = set()
        for each in known:
            if each.id not in self._memories:
                self._stored.add(each.id)
                self._add(_memory(each, each.link))

    def take(self, known: Known, pairs: Sequence[tuple[int, float]], *, left_out: int = 0) -> Verdict:
        """Judge a memory.

        Args:
            known: the memory, its id higher than all of the same agent before. Its `link`, which a stored memory may
                have, counts as passing the gates, unless its winner has become a loser.
            pairs: earlier memories of the agent at or above the threshold, as (id ascending, cosine).
            left_out: how many more are above the threshold, none of which it could merge with.
        """
        memory = _memory(known, None)
        mates = self._by_text.get((memory.agent, memory.hash), ())
        same = [each for each in mates if self._ruling(memory, each) is not False]
        self._add(memory)
        if not (same or pairs or left_out or known.link):
            return _NEW
        exact = self._to_same_text(memory, same)
        if exact is not None and self._follow(memory, exact):
            return Verdict("exact")
        replaced = [] if memory.verbatim else [each for each in same if self._is_subordinate(each)]
        # They are about to follow this memory: none of them may win it.
        apart = {each.id for each in replaced}
        star = self._compare(memory, [pair for pair in pairs if pair[0] not in apart] if apart else pairs, known.link)
        judged = _NEW
        if star.winner is not None and not self._stays_centre(memory, replaced):
            self._link(star.winner)
            judged = Verdict("exact" if star.winner.kind == "exact" else "near")
        elif star.failed or left_out:
            judged = self._for_review(memory, star.failed, left_out, ended=star.winner is not None)
        for each in replaced:
            self._take_over(memory, each)
        return judged

    def follow(self, known: Known, link: Link) -> None:
        """Take a memory that goes where `link` says, as somebody else has decided."""
        self._add(_memory(known, None))
        self._link(link)

    def _follow(self, memory: _Memory, exact: Link) -> bool:
        """Link an exact duplicate, along with the losers that it may have: its text is what they were compared with."""
        followers = list(self._followers[memory.id].values())
        if followers and (exact.winner == memory.id or self._memories[exact.winner].hash != memory.hash):
            return False
        for each in (memory, *followers):
            self._link(exact if each.link is None else replace(each.link, winner=exact.winner))
        return True

    def _stays_centre(self, memory: _Memory, replaced: Sequence[_Memory]) -> bool:
        """Whether the memory has losers, or takes over those of a verbatim one, that know no other winner."""
        return memory.id in self._centres or any(self._followers[each.id] for each in (memory, *replaced))

    def link_of(self, memory_id: int) -> Link | None:
        """Where a memory goes that is known or was taken; None for an active one."""
        return self._memories[memory_id].link

    def links(self) -> tuple[list[Link], list[int]]:
        """The links made, loser ascending, and the stored losers whose earlier live link ends."""
        return [self._changed[loser] for loser in sorted(self._changed)], list(self._ended)

    def _add(self, memory: _Memory) -> None:
        self._memories[memory.id] = memory
        self._by_text[memory.agent, memory.hash].append(memory)
        if memory.link is not None:
            self._followers[memory.link.winner][memory.id] = memory

    def _link(self, link: Link) -> None:
        loser = self._memories[link.loser]
        if loser.link is not None:
            self._followers[loser.link.winner].pop(loser.id, None)
            if loser.id in self._stored:
                self._ended[loser.id] = None
        loser.link = link
        self._followers[link.winner][loser.id] = loser
        self._changed[loser.id] = link

    def _to_same_text(self, memory: _Memory, same: Sequence[_Memory]) -> Link | None:
        """The link of an exact duplicate: to the memory with its text, or where that one went, with its evidence."""
        first = next(
            (each for each in same if not each.verbatim and (memory.verbatim or each.type == memory.type)), None
        )
        if first is None and memory.verbatim:
            first = next((each for each in same if each.type == memory.type), None)
        if first is None:
            return None
        if first.link is None:
            return Link(memory.id, first.id, "exact", 1.0, 1.0, _SAME_TEXT)
        return Link(
            memory.id, first.link.winner, "exact", first.link.cosine, first.link.overlap, first.link.gates_passed
        )

    def _is_subordinate(self, earlier: _Memory) -> bool:
        """Whether a verbatim memory stands in no star of a memory that a rule or a model made of its text."""
        if not earlier.verbatim:
            return False
        if earlier.link is None:
            return True
        winner = self._memories.get(earlier.link.winner)
        return winner is None or winner.verbatim or winner.hash != earlier.hash

    def _take_over(self, memory: _Memory, replaced: _Memory) -> None:
        """Link a verbatim memory, and what was linked to it, to the memory with its text (or to that one's winner)."""
        centre = memory.link
        for each in [*self._followers[replaced.id].values(), replaced]:
            evidence = each.link if each is not replaced else None
            if centre is not None and evidence is None:
                link = Link(each.id, centre.winner, "exact", centre.cosine, centre.overlap, centre.gates_passed)
            elif evidence is None:
                link = Link(each.id, memory.id, "exact", 1.0, 1.0, _SAME_TEXT)
            else:
                link = Link(each.id, memory.id, evidence.kind, evidence.cosine, evidence.overlap, evidence.gates_passed)
            self._link(link)

    def _compare(self, memory: _Memory, pairs: Sequence[tuple[int, float]], kept: Link | None) -> _Star:
        """Go through the earlier memories, lowest id first, up to the first one that the evidence lets win."""
        star = _Star()
        if kept is not None and self._is_loser(kept.winner):
            kept = None
        for other_id, product in pairs:
            if kept is not None and kept.winner <= other_id:
                break
            other = self._memories[other_id]
            ruling = self._ruling(memory, other)
            if other.link is not None or other.type != memory.type or ruling is False:
                continue
            judgement, cosine = None, as_cosine(product)
            if ruling or same_signature(memory.content, other.content):
                judgement = self._judged(memory, other, cosine, is_accepted=bool(ruling))
                if not judgement.failed:
                    star.winner = Link(memory.id, other.id, "near", cosine, judgement.overlap, judgement.passed)
                    return star
            star.failed.append((cosine, other, judgement))
        star.winner = kept
        return star

    def _judged(self, memory: _Memory, other: _Memory, cosine: float, *, is_accepted: bool) -> Judgement:
        """What is to be said of a pair after all: by the user, by the gates, and where these agree, by `confirm`."""
        found = judge(memory.content, other.content, cosine, self._threshold)
        if is_accepted:
            return Judgement((ACCEPTED,), (), found.overlap)
        if found.failed or self._confirm is None:
            return found
        doubt = self._confirm(memory.content, other.content, cosine, found)
        if not doubt:
            return found
        return Judgement(found.passed, (SECOND_OPINION,), found.overlap, {SECOND_OPINION: doubt})

    def _is_loser(self, memory_id: int) -> bool:
        known = self._memories.get(memory_id)
        return known is not None and known.link is not None

    def _ruling(self, one: _Memory, other: _Memory) -> bool | None:
        """What the user decided of a pair, None where nothing."""
        if not self._rulings:
            return None
        return self._rulings.get(_pair((one.id, one.agent, one.hash), (other.id, other.agent, other.hash)))

    def _for_review(
        self, memory: _Memory, failed: list[tuple[float, _Memory, Judgement | None]], left_out: int, *, ended: bool
    ) -> Verdict:
        """What to ask about. Where the search `ended` with a winner, weaker pairs were not all seen, and none count."""
        asked = [pair for pair in failed if pair[0] >= REVIEWED_COSINE or _is_doubted(pair[2])]
        strongest = sorted(asked, key=lambda pair: (-pair[0], pair[1].id))[:MAX_REVIEW_PAIRS]
        reviews = []
        for cosine, other, known in strongest:
            judgement = known or judge(memory.content, other.content, cosine, self._threshold)
            reviews.append(NewReview(memory.id, other.id, cosine, judgement))
        count = len(asked) if ended else len(failed) + left_out
        return Verdict("review" if reviews else "new", tuple(reviews), count)


def _is_doubted(judgement: Judgement | None) -> bool:
    """Whether the gates let a pair pass and the second opinion does not."""
    return judgement is not None and SECOND_OPINION in judgement.failed


def _memory(known: Known, link: Link | None) -> _Memory:
    return _Memory(known.id, known.agent, known.type, known.method == VERBATIM, known.content, known.content_hash, link)


def _pair(one: tuple[int, str, bytes], other: tuple[int, str, bytes]) -> _Pair:
    """What a ruling about two memories is known by."""
    if one[1:] == other[1:]:
        return min(one[0], other[0]), max(one[0], other[0])
    return min(one[1:], other[1:]), max(one[1:], other[1:])
