"""The verdict on one memory after another, and the stars that grow from them. Pure: no database, no vectors.

A star is an active memory and the losers linked to it; every loser was compared with that winner itself, or has its
very text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from memcli.dedup.gates import Signature, judge, signature
from memcli.model import Candidate, Decision, Judgement
from memcli.store.memories import Known, Link, NewReview

VERBATIM = "verbatim"
MAX_REVIEW_PAIRS = 5
_SAME_TEXT = ("content",)

_signature = lru_cache(maxsize=1 << 13)(signature)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a new memory; `review_pairs` counts all pairs that failed, `reviews` holds the strongest."""

    decision: Decision
    reviews: tuple[NewReview, ...] = ()
    review_pairs: int = 0


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
    failed: list[tuple[float, _Memory]] = field(default_factory=list)


class Judge:
    """Knows the memories that matter to a batch and takes new ones in their order."""

    def __init__(self, known: Iterable[Known], threshold: float) -> None:
        self._threshold = threshold
        self._memories: dict[int, _Memory] = {}
        self._by_text: dict[tuple[str, bytes], list[_Memory]] = defaultdict(list)
        self._followers: dict[int, dict[int, _Memory]] = defaultdict(dict)
        self._changed: dict[int, Link] = {}
        self._ended: dict[int, None] = {}
        self._stored: set[int] = set()
        for each in known:
            if each.id not in self._memories:
                self._stored.add(each.id)
                self._add(
                    _Memory(
                        each.id,
                        each.agent,
                        each.type,
                        each.method == VERBATIM,
                        each.content,
                        each.content_hash,
                        each.link,
                    )
                )

    def take(
        self,
        memory_id: int,
        agent: str,
        candidate: Candidate,
        content_hash: bytes,
        pairs: Sequence[tuple[int, float]],
        *,
        exact: bool,
        left_out: int = 0,
    ) -> Verdict:
        """Judge a new memory.

        Args:
            memory_id: its id, higher than all before.
            agent: whose memory it is.
            candidate: what it says.
            content_hash: the hash of its text.
            pairs: earlier memories of the agent at or above the threshold, as (id ascending, cosine).
            exact: an earlier memory has this text in its scope.
            left_out: how many more are above the threshold, none of which it could merge with.
        """
        memory = _Memory(
            memory_id, agent, candidate.type, candidate.method == VERBATIM, candidate.content, content_hash
        )
        same = list(self._by_text[agent, content_hash])
        self._add(memory)
        if exact:
            self._link(self._to_same_text(memory, same))
            return Verdict("exact")
        replaced = [] if memory.verbatim else [each for each in same if self._is_subordinate(each)]
        # They are about to follow this memory: none of them may win it.
        apart = {each.id for each in replaced}
        star = self._compare(memory, [pair for pair in pairs if pair[0] not in apart] if apart else pairs)
        judged = Verdict("new")
        # The memory that takes over the star of a verbatim one stays a centre: its losers know no other.
        if star.winner is not None and not any(self._followers[each.id] for each in replaced):
            self._link(star.winner)
            judged = Verdict("near")
        elif star.failed:
            judged = self._for_review(memory, star.failed, left_out)
        for each in replaced:
            self._take_over(memory, each)
        return judged

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

    def _to_same_text(self, memory: _Memory, same: Sequence[_Memory]) -> Link:
        """The link of an exact duplicate: to the memory with its text, or where that one went, with its evidence."""
        scope = [each for each in same if not each.verbatim and (memory.verbatim or each.type == memory.type)]
        first = scope[0] if scope else next(each for each in same if each.type == memory.type)
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

    def _compare(self, memory: _Memory, pairs: Sequence[tuple[int, float]]) -> _Star:
        """Go through the earlier memories, lowest id first, up to the first one that the evidence lets win."""
        star = _Star()
        own: Signature | None = None
        for other_id, cosine in pairs:
            other = self._memories[other_id]
            if other.link is not None or other.type != memory.type:
                continue
            if own is None:
                own = _signature(memory.content)
            if _signature(other.content) == own:
                judgement = judge(memory.content, other.content, cosine, self._threshold)
                if not judgement.failed:
                    star.winner = Link(memory.id, other.id, "near", cosine, judgement.overlap, judgement.passed)
                    return star
            star.failed.append((cosine, other))
        return star

    def _for_review(self, memory: _Memory, failed: list[tuple[float, _Memory]], left_out: int) -> Verdict:
        strongest = sorted(failed, key=lambda pair: (-pair[0], pair[1].id))[:MAX_REVIEW_PAIRS]
        reviews = []
        for cosine, other in strongest:
            judgement: Judgement = judge(memory.content, other.content, cosine, self._threshold)
            reviews.append(NewReview(memory.id, other.id, cosine, judgement))
        return Verdict("review", tuple(reviews), len(failed) + left_out)
