"""What the user decides about pairs whose evidence failed: the same after all, or not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from memcli import __version__
from memcli.dedup.gates import judge
from memcli.dedup.judge import ACCEPTED
from memcli.errors import UsageError
from memcli.model import Known, Link, NewReview
from memcli.store import dedup as dedup_rows
from memcli.store import memories as memory_rows
from memcli.store import review as review_rows
from memcli.store import runs as run_rows
from memcli.store.db import Store
from memcli.store.dedup import Ended
from memcli.store.memories import Evidence
from memcli.store.review import Pair
from memcli.store.vectors import Vectors

ACCEPT = "dedup accept"
LISTED = "memcli dedup --review lists the pairs"


@dataclass(slots=True)
class Decision:
    """What became of a decision: `pair` as it is now, by run `run_id`.

    After an acceptance `loser` is merged into `winner`; so are those of its losers that the evidence lets (`followed`),
    the others (`released`) stand alone and are listed for review.
    """

    db: str
    pair: Pair
    run_id: int
    winner: int | None = None
    loser: int | None = None
    followed: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """The decision as one JSON document."""
        return {
            "run_id": self.run_id,
            "db": self.db,
            "dry_run": self.dry_run,
            "pair": self.pair.to_json(),
            "merge": None
            if self.winner is None
            else {
                "winner": self.winner,
                "loser": self.loser,
                "followed": self.followed,
                "released": self.released,
            },
        }


def reject(store: Store, review_id: int) -> Decision:
    """Keep both memories of a pair apart, for good.

    Raises:
        UsageError: there is no such pair, or it is decided already.
    """
    pair = _pair(store, review_id)
    if pair.status == "rejected":
        raise UsageError(f"review pair {review_id} is rejected already", LISTED)
    if pair.status == "accepted":
        raise UsageError(
            f"review pair {review_id} was accepted",
            f"see its merge with: memcli dedup --explain {pair.other}; undo it with --undo-merge",
        )
    run_id = store.next_id("runs")
    decision = Decision(str(store.path), replace(pair, status="rejected"), run_id)
    with store.transaction(store.generation()) as conn:
        run_rows.record_run(conn, run_id, "dedup reject", __version__, decision.to_json())
        review_rows.decide(conn, review_id, "rejected", run_id)
    return decision


def accept(store: Store, vectors: Vectors, evidence: Evidence, review_id: int) -> Decision:
    """Merge the later memory of a pair into the earlier one, as the user says that they are the same.

    Raises:
        UsageError: there is no such pair, it is accepted already, or one of its memories has been merged since.
    """
    pair = _pair(store, review_id)
    if pair.status == "accepted":
        raise UsageError(f"review pair {review_id} is accepted already", LISTED)
    known = {each.id: each for each in memory_rows.by_id(store, [pair.memory, pair.other])}
    for each in known.values():
        if each.link is not None:
            raise UsageError(
                f"memory {each.id} of review pair {review_id} was merged into {each.link.winner} since",
                f"see it with: memcli dedup --explain {each.id}",
            )
    winner, loser = known[min(known)], known[max(known)]
    run_id = store.next_id("runs")
    decision = Decision(str(store.path), replace(pair, status="accepted"), run_id, winner.id, loser.id)
    link = Link(loser.id, winner.id, "near", pair.cosine, pair.overlap, (ACCEPTED,))
    followers = memory_rows.losers(store, [loser.id])
    links, reviews = _followers(vectors, evidence.threshold, link, winner, loser, followers)
    decision.followed = [each.loser for each in links]
    decision.released = [each.id for each in followers if each.id not in set(decision.followed)]
    with store.transaction(store.generation()) as conn:
        run_rows.record_run(conn, run_id, ACCEPT, __version__, decision.to_json())
        review_rows.decide(conn, review_id, "accepted", run_id)
        dedup_rows.end_links(conn, [Ended(each.id, "relinked") for each in followers], run_id)
        dedup_rows.add_links(conn, [link, *links], evidence, run_id)
        memory_rows.add_reviews(conn, reviews, evidence, run_id)
    return decision


def _pair(store: Store, review_id: int) -> Pair:
    pair = review_rows.pair(store, review_id)
    if pair is None:
        raise UsageError(f"there is no review pair {review_id}", LISTED)
    return pair


def _followers(
    vectors: Vectors, threshold: float, link: Link, winner: Known, loser: Known, followers: list[Known]
) -> tuple[list[Link], list[NewReview]]:
    """Where the losers of a new loser go: each is compared with the winner itself, unless it has the loser's text."""
    rows = vectors.rows([winner.id, *(each.id for each in followers if each.embedded)])
    links, reviews = [], []
    for each in followers:
        if each.content_hash == loser.content_hash:
            links.append(replace(link, loser=each.id, kind="exact"))
        elif each.id in rows and winner.id in rows:
            cosine = float(np.dot(rows[each.id].astype(np.float64), rows[winner.id].astype(np.float64)))
            judgement = judge(each.content, winner.content, cosine, threshold)
            if cosine >= threshold and not judgement.failed:
                links.append(Link(each.id, winner.id, "near", cosine, judgement.overlap, judgement.passed))
            else:
                reviews.append(NewReview(max(each.id, winner.id), min(each.id, winner.id), cosine, judgement))
    # What has the text of another loser goes where that one goes.
    gone = {each.content_hash: found for found in links for each in followers if each.id == found.loser}
    links.extend(
        replace(gone[each.content_hash], loser=each.id, kind="exact")
        for each in followers
        if not each.embedded and each.content_hash in gone and each.content_hash != loser.content_hash
    )
    return links, reviews
