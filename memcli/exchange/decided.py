"""Stars of another database beside the memories of this one.

What the other database says of its memories among themselves holds: which are one, and which are not. Dedup compares
them with the memories that this database has from elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from memcli.dedup.judge import VERBATIM, Judge, Verdict
from memcli.exchange.place import Placed
from memcli.exchange.records import Parted
from memcli.ingest.resolve import Extracted, Near, Plan, Resolved, Resolver, exact_scope
from memcli.model import Known, Link, Ruling, as_cosine
from memcli.store import memories as memory_rows
from memcli.store.db import Store

_Scope = tuple[str, str, bool, bytes]
# Content hashes of two texts, and the cosine that the other database told -> their cosine.
Cosine = Callable[[bytes, bytes, float], float]


class Own:
    """Which memories of this database the file at hand has brought or names: one bit each, and all from `first` on."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._bits = bytearray(first // 8 + 1)

    def add(self, memory_id: int) -> None:
        """Note a memory that was there before."""
        if memory_id < self._first:
            self._bits[memory_id // 8] |= 1 << memory_id % 8

    def __contains__(self, memory_id: int) -> bool:
        return memory_id >= self._first or bool(self._bits[memory_id // 8] & 1 << memory_id % 8)


@dataclass(slots=True)
class _Row:
    """A memory of a star: `place` is its place in the plan where it is new, `stored` what it is where it is not."""

    placed: Placed
    id: int
    place: int | None
    stored: Known | None


def resolve(
    store: Store,
    resolver: Resolver,
    stars: Sequence[Sequence[Placed]],
    items: Sequence[Extracted],
    own: Own,
    parted: Sequence[Parted],
    stage: Callable[[str], AbstractContextManager[None]],
    *,
    same_model: bool,
) -> Resolved:
    """Decide what becomes of the new memories of `stars`; `items` are these, in their order.

    With another model than this database's, the cosines of merges are those of the vectors here, where both are new.
    """
    known = memory_rows.by_id(store, sorted({each.known for star in stars for each in star if each.known is not None}))
    for each in known:
        own.add(each.id)
    with stage("embed"):
        plan = _plan(store, stars, items, own)
        vectors, embedded = resolver.embed(plan)
    groups = _rows(stars, plan, {each.id: each for each in known})

    def cosine(one: bytes, other: bytes, told: float) -> float:
        if same_model or one not in vectors or other not in vectors:
            return told
        return as_cosine(float(vectors[one].astype(np.float64) @ vectors[other].astype(np.float64)))

    with stage("dedup"):
        near, judge = resolver.survey(plan, vectors, _rulings(plan, groups, own, parted))
        deciding = _Deciding(plan, near, judge, own, cosine)
        for group in groups:
            deciding.take(group)
    result = deciding.result
    result.links, result.relinked = judge.links()
    result.embedded = embedded
    return result


def _plan(store: Store, stars: Sequence[Sequence[Placed]], items: Sequence[Extracted], own: Own) -> Plan:
    """The plan of the new memories: one with the text of its star's first one, or of a stored one, needs no vector."""
    hashes = [each.hash for star in stars for each in star if each.known is None]
    known = memory_rows.by_content(store, dict.fromkeys(hashes))
    others = [each for each in known if each.id not in own]
    taken = {exact_scope(each.agent, each.type, each.method, each.content_hash) for each in others}
    spoken = {(each.agent, each.content_hash) for each in others if each.method != VERBATIM}
    exact = []
    for star in stars:
        within: set[_Scope] = set()
        said: set[tuple[str, bytes]] = set()
        for each in star:
            if each.known is None:
                is_first = each.member.merge is None
                is_same = _repeats(each, taken, spoken) if is_first else _is_same(each, star, within, said)
                exact.append(is_same)
            within.add(_scope(each))
            if each.member.method != VERBATIM:
                said.add((each.member.agent, each.hash))
    return Plan(items, store.next_id("memories"), hashes, exact, known)


def _scope(each: Placed) -> _Scope:
    return exact_scope(each.member.agent, each.member.type, each.member.method, each.hash)


def _repeats(each: Placed, taken: AbstractSet[_Scope], spoken: AbstractSet[tuple[str, bytes]]) -> bool:
    """Whether one of the memories that `taken` and `spoken` are of has its text, so that it is an exact duplicate."""
    return _scope(each) in taken or (each.member.method == VERBATIM and (each.member.agent, each.hash) in spoken)


def _is_same(
    each: Placed, star: Sequence[Placed], within: AbstractSet[_Scope], said: AbstractSet[tuple[str, bytes]]
) -> bool:
    """Whether a duplicate has the text of its star's first memory, or of another duplicate that comes before it."""
    if each.member.embedded or not _is_whole(star):
        return False
    return each.hash == star[0].hash or _repeats(each, within, said)


def _is_whole(star: Sequence[Placed]) -> bool:
    """Whether a star has its first memory, which it lacks where that stands elsewhere in the batch too."""
    return star[0].member.merge is None


def _rows(stars: Sequence[Sequence[Placed]], plan: Plan, stored: dict[int, Known]) -> list[list[_Row]]:
    groups: list[list[_Row]] = []
    place = 0
    for star in stars:
        group = []
        for each in star:
            if each.known is None:
                group.append(_Row(each, plan.first_id + place, place, None))
                place += 1
            else:
                group.append(_Row(each, each.known, None, stored[each.known]))
        groups.append(group)
    return groups


def _rulings(plan: Plan, groups: list[list[_Row]], own: Own, parted: Sequence[Parted]) -> list[Ruling]:
    """What the other database decided of texts: pairs it has parted, and memories of one text in several stars."""
    rulings = [Ruling((0, *each.one), (0, *each.other), accepted=False) for each in parted if each.one != each.other]
    same: dict[tuple[str, bytes], list[tuple[int, int]]] = defaultdict(list)
    for each in plan.known:
        if each.id in own:
            same[each.agent, each.content_hash].append((each.id, -1))
    for number, group in enumerate(groups):
        for row in group:
            if row.place is not None:
                same[row.placed.member.agent, row.placed.hash].append((row.id, number))
    for (agent, found), ids in same.items():
        rulings.extend(
            Ruling((one, agent, found), (other, agent, found), accepted=False)
            for place, (one, star) in enumerate(ids)
            for other, others in ids[:place]
            if star != others
        )
    return rulings


class _Deciding:
    """Takes one star after another."""

    def __init__(self, plan: Plan, near: Near, judge: Judge, own: Own, cosine: Cosine) -> None:
        self.result = Resolved(blocks=near.blocks)
        self._plan = plan
        self._near = near
        self._judge = judge
        self._own = own
        self._cosine = cosine

    def take(self, group: list[_Row]) -> None:
        """Decide about a star: its first memory is compared with others, its duplicates go where they can go."""
        first, ids = group[0], {row.id for row in group}
        if first.placed.member.merge is not None:
            for row in group:
                self._judge_alone(row, ids)
            return
        link = self._first(group, ids) if first.stored is None else first.stored.link
        same_text = link is None or self._has_text(link.winner, group)
        for row in group[1:]:
            evidence = row.placed.member.merge
            if evidence is None or same_text:
                self._follow(row, first.id if link is None else link.winner, first)
            elif link is not None and row.placed.hash == first.placed.hash:
                self._judge_follow(row, replace(link, loser=row.id, kind="exact"))
            else:
                self._judge_alone(row, ids)

    def _first(self, group: list[_Row], ids: set[int]) -> Link | None:
        """Decide about a new memory that other ones of its star follow; where it goes."""
        first = group[0]
        heir = next((row for row in group[1:] if _is_heir(row, first)), None)
        if heir is None:
            self._judge_alone(first, ids)
        else:
            self._follow(first, heir.id, heir)
        return self._judge.link_of(first.id)

    def _follow(self, row: _Row, winner: int, other: _Row) -> None:
        """Link a memory to `winner`, by the evidence about the texts of `row` and `other`, one of which has it."""
        merge = row.placed.member.merge or other.placed.member.merge
        if merge is not None:
            is_same = row.placed.hash == other.placed.hash
            cosine = 1.0 if is_same else self._cosine(row.placed.hash, other.placed.hash, merge.cosine)
            kind = merge.kind if row.placed.member.merge else "exact" if is_same else "near"
            self._judge_follow(row, Link(row.id, winner, kind, cosine, merge.overlap, merge.gates_passed))

    def _judge_follow(self, row: _Row, link: Link) -> None:
        if row.place is not None:
            self._judge.follow(self._plan.as_known(row.place), link)
            self.result.add(self._plan, row.place, Verdict("exact" if link.kind == "exact" else "near"))

    def _judge_alone(self, row: _Row, star: set[int]) -> None:
        if row.place is not None:
            found = self._near.pairs.get(row.id, ())
            pairs = [pair for pair in found if pair[0] in star or pair[0] not in self._own]
            left_out = self._near.left_out.get(row.id, 0)
            judged = self._judge.take(self._plan.as_known(row.place), pairs, left_out=left_out)
            self.result.add(self._plan, row.place, judged)

    def _has_text(self, memory_id: int, group: Sequence[_Row]) -> bool:
        """Whether a memory has the text of a star's first one, so that what was found of this holds of that."""
        wanted = group[0].placed.hash
        return any(each.id == memory_id and each.content_hash == wanted for each in self._plan.known) or any(
            row.id == memory_id and row.placed.hash == wanted for row in group
        )


def _is_heir(row: _Row, first: _Row) -> bool:
    """Whether a stored active memory of the star comes before its first one, which is new here."""
    if row.stored is None or row.stored.link is not None or row.placed.member.merge is None:
        return False
    is_subordinate = row.stored.method == VERBATIM and first.placed.member.method != VERBATIM
    return not (is_subordinate and row.placed.hash == first.placed.hash)
