"""The judge: verdicts on one memory after another, and stars that never become chains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcli.dedup.judge import MAX_REVIEW_PAIRS, Judge
from memcli.dedup.standing import Standing, mark_of
from memcli.model import Known, Link
from memcli.text import content_hash

TEXT = "The deploy window is on Tuesday morning."
NEAR = "**The deploy window is on Tuesday morning.**"
ALSO = "the deploy window is on Tuesday morning!"
NOT = "The deploy window is not on Tuesday morning."
RULE = "rules:decision"


def known(memory_id, text, *, method="verbatim", kind="episodic", agent="a", winner=None, how="near"):
    link = None if winner is None else Link(memory_id, winner, how, 0.95, 0.9, ("numbers",))
    return Known(memory_id, agent, kind, method, text, content_hash(text), embedded=True, link=link)


def take(judge, memory_id, text, pairs=(), *, method="verbatim", kind="episodic", agent="a"):
    return judge.take(known(memory_id, text, method=method, kind=kind, agent=agent), pairs)


def linked(judge):
    """Links as {loser: (winner, kind)}; those of stored memories that end."""
    links, ended = judge.links()
    assert [link.loser for link in links] == sorted(link.loser for link in links)
    assert all(link.loser != link.winner for link in links)
    return {link.loser: (link.winner, link.kind) for link in links}, ended


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_what_is_like_nothing_is_new():
    judge = Judge([known(1, TEXT)], 0.9)
    assert take(judge, 2, "Nobody feeds the office cat.").decision == "new"
    assert linked(judge) == ({}, [])


def test_a_product_of_vectors_that_are_not_quite_of_unit_length_is_no_cosine_above_1():
    judge = Judge([known(1, TEXT)], 0.9)
    assert take(judge, 2, NEAR, [(1, 1.0004)]).decision == "near"
    assert take(judge, 3, NOT, [(1, 1.0004)]).reviews[0].cosine == 1.0
    (link,), _ = judge.links()
    assert link.cosine == 1.0


def test_an_exact_duplicate_goes_to_the_memory_with_its_text():
    judge = Judge([known(1, TEXT)], 0.9)
    assert take(judge, 2, TEXT).decision == "exact"
    assert linked(judge) == ({2: (1, "exact")}, [])


def test_an_exact_duplicate_of_a_loser_goes_to_its_winner_with_the_evidence_for_it():
    judge = Judge([known(1, TEXT), known(2, NEAR, winner=1)], 0.9)
    take(judge, 3, NEAR)
    (link,), _ = judge.links()
    assert link == Link(3, 1, "exact", 0.95, 0.9, ("numbers",))


def test_an_exact_duplicate_of_a_loser_of_this_batch_goes_to_its_winner():
    judge = Judge([], 0.9)
    take(judge, 1, TEXT)
    take(judge, 2, NEAR, [(1, 0.94)])
    take(judge, 3, NEAR)
    assert linked(judge)[0] == {2: (1, "near"), 3: (1, "exact")}


def test_a_verbatim_duplicate_prefers_the_memory_of_a_rule():
    judge = Judge([known(1, TEXT, winner=2, how="exact"), known(2, TEXT, method=RULE, kind="semantic")], 0.9)
    take(judge, 3, TEXT)
    assert linked(judge)[0] == {3: (2, "exact")}


def test_near_goes_to_the_lowest_id_that_passes_and_not_to_the_highest_cosine():
    judge = Judge([known(1, NOT), known(2, TEXT), known(3, ALSO)], 0.9)
    judged = take(judge, 4, NEAR, [(1, 0.99), (2, 0.94), (3, 0.98)])
    assert (judged.decision, judged.reviews, judged.review_pairs) == ("near", (), 0)
    assert linked(judge)[0] == {4: (2, "near")}


def test_a_loser_is_no_winner():
    judge = Judge([known(1, TEXT), known(2, NEAR, winner=1)], 0.9)
    assert take(judge, 3, ALSO, [(2, 0.94)]).decision == "new"
    assert linked(judge) == ({}, [])


def test_another_type_is_no_winner_and_nothing_to_review():
    judge = Judge([known(1, TEXT, kind="semantic", method=RULE), known(2, NOT, kind="semantic", method=RULE)], 0.9)
    judged = take(judge, 3, NEAR, [(1, 0.94), (2, 0.94)])
    assert (judged.decision, judged.review_pairs) == ("new", 0)


def test_a_failed_gate_is_for_review_with_its_name():
    judge = Judge([known(1, TEXT)], 0.9)
    judged = take(judge, 2, NOT, [(1, 0.99)])
    assert (judged.decision, judged.review_pairs) == ("review", 1)
    (review,) = judged.reviews
    assert (review.memory, review.other, review.cosine) == (2, 1, 0.99)
    assert "negation" in review.judgement.failed
    assert linked(judge) == ({}, [])


@pytest.mark.parametrize("count", [MAX_REVIEW_PAIRS, MAX_REVIEW_PAIRS + 1, 20])
def test_the_strongest_review_pairs_are_kept_and_all_are_counted(count):
    judge = Judge([known(n, f"PR #{n} was merged.") for n in range(1, count + 1)], 0.9)
    judged = take(judge, 99, "PR #99 was merged.", [(n, 0.9 + n % 7 / 100) for n in range(1, count + 1)])
    assert judged.review_pairs == count
    assert len(judged.reviews) == MAX_REVIEW_PAIRS
    strongest = sorted(((0.9 + n % 7 / 100, -n) for n in range(1, count + 1)), reverse=True)[:MAX_REVIEW_PAIRS]
    assert [(review.cosine, -review.other) for review in judged.reviews] == strongest


# --- taking over from verbatim memories ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["semantic", "episodic"])
def test_the_memory_of_a_rule_takes_over_an_earlier_verbatim_one_and_its_losers(kind):
    judge = Judge([known(1, TEXT), known(2, NEAR, winner=1), known(3, TEXT, winner=1, how="exact")], 0.9)
    assert take(judge, 4, TEXT, [(1, 1.0)], method=RULE, kind=kind).decision == "new"
    links, ended = linked(judge)
    assert links == {1: (4, "exact"), 2: (4, "near"), 3: (4, "exact")}
    assert sorted(ended) == [2, 3]


@pytest.mark.parametrize("kind", ["semantic", "episodic"])
def test_a_take_over_within_a_batch_ends_no_stored_link(kind):
    judge = Judge([], 0.9)
    take(judge, 1, TEXT)
    take(judge, 2, NEAR, [(1, 0.94)])
    take(judge, 3, TEXT, [(1, 1.0), (2, 0.94)], method=RULE, kind=kind)
    assert linked(judge) == ({1: (3, "exact"), 2: (3, "near")}, [])


def test_a_rule_memory_that_goes_to_another_takes_the_verbatim_one_there():
    judge = Judge([known(1, NEAR, method=RULE), known(2, NOT), known(3, TEXT, winner=2)], 0.9)
    assert take(judge, 4, TEXT, [(1, 0.94), (3, 1.0)], method=RULE).decision == "near"
    links, ended = linked(judge)
    assert links == {3: (1, "exact"), 4: (1, "near")}
    assert ended == [3]


def test_a_rule_memory_that_inherits_losers_stays_a_centre_though_another_is_near():
    judge = Judge([known(1, NEAR, method=RULE), known(2, TEXT), known(3, ALSO, winner=2)], 0.9)
    assert take(judge, 4, TEXT, [(1, 0.94), (2, 1.0)], method=RULE).decision == "new"
    assert linked(judge)[0] == {2: (4, "exact"), 3: (4, "near")}


def test_a_rule_memory_leaves_alone_what_another_rule_made_of_its_text():
    judge = Judge([known(1, TEXT, method=RULE, kind="semantic"), known(2, TEXT, winner=1, how="exact")], 0.9)
    assert take(judge, 3, TEXT, [], method="rules:deadline").decision == "new"
    assert linked(judge) == ({}, [])


def test_a_verbatim_memory_takes_nothing_over():
    judge = Judge([known(1, TEXT, agent="b")], 0.9)
    assert take(judge, 2, TEXT, []).decision == "new"
    assert linked(judge) == ({}, [])


def test_agents_are_judged_apart():
    judge = Judge([known(1, TEXT), known(2, TEXT, agent="b")], 0.9)
    take(judge, 3, TEXT, [(2, 1.0)], method=RULE, agent="b")
    assert linked(judge)[0] == {2: (3, "exact")}


# --- stars, whatever comes -------------------------------------------------------------------------------------------

TEXTS = (TEXT, NEAR, ALSO, NOT)
methods = st.sampled_from([("verbatim", "episodic"), (RULE, "episodic"), (RULE, "semantic")])
offered = st.tuples(st.sampled_from(TEXTS), methods)


def feed(stream, batches):
    """Judge a stream cut into batches as an ingest does; the live links by loser."""
    stored, live, verdicts = [], {}, []
    position = 0
    for size in [*batches, len(stream)]:
        judge = Judge([each_with(each, live) for each in stored], 0.9)
        for memory_id, (text, (method, kind)) in list(enumerate(stream, 1))[position : position + size]:
            same = [each for each in stored if each.content == text]
            exact = any(
                (each.type == kind and each.method == method) or (method == "verbatim" and each.method == RULE)
                for each in same
            )
            pairs = [(each.id, 0.95) for each in stored]
            judged = take(judge, memory_id, text, pairs if not exact else (), method=method, kind=kind)
            verdicts.append(judged.decision)
            stored.append(known(memory_id, text, method=method, kind=kind))
        links, _ = judge.links()
        live |= {link.loser: link for link in links}
        position += size
    return {loser: (link.winner, link.kind) for loser, link in live.items()}, verdicts, stored


def each_with(memory, live):
    link = live.get(memory.id)
    return Known(*(getattr(memory, name) for name in memory.__slots__[:-1]), link)


@given(st.lists(offered, max_size=14), st.lists(st.integers(1, 6), max_size=4))
def test_stars_do_not_depend_on_batches_and_are_no_chains(stream, batches):
    whole, verdicts, stored = feed(stream, [])
    assert feed(stream, batches)[:2] == (whole, verdicts)
    assert not whole.keys() & {winner for winner, _ in whole.values()}
    by_id = {memory.id: memory for memory in stored}
    for loser, (winner, kind) in whole.items():
        assert loser != winner
        assert (by_id[loser].content == NOT) == (by_id[winner].content == NOT), kind
    for memory in stored:
        if memory.method == "verbatim" and any(
            each.method == RULE and each.content == memory.content for each in stored
        ):
            assert memory.id in whole, "a verbatim memory beside a rule's with the same text"


def test_a_centre_that_another_could_win_counts_the_pairs_that_are_asked_about_alone():
    """Whatever weaker pairs there are: behind the winner that it might have had nobody has looked for them."""
    counts = []
    for weaker, left_out in (((4, 0.85),), 0), ((), 1):
        stored = [known(1, TEXT), known(2, ALSO, winner=1), known(3, NEAR, method=RULE), known(4, "SUP-7", method=RULE)]
        judge = Judge(stored, 0.8)
        rule = known(9, TEXT, method=RULE)
        found = judge.take(rule, [(1, 1.0), (2, 0.99), (3, 0.97), *weaker], left_out=left_out)
        assert judge.link_of(9) is None
        counts.append(found.review_pairs)
    assert counts[0] == counts[1]


# --- what is known of stored memories ---------------------------------------------------------------------------------


def test_what_is_known_of_a_memory_says_whether_another_may_matter_to_it():
    standing = Standing()
    assert standing.unknown(np.array([3, 1, 3, 2])) == [1, 2, 3]
    standing.learn(
        [known(1, "Ask for SUP-1"), known(2, "Ask for SUP-2", kind="semantic"), known(3, "SUP-1!", winner=1)]
    )
    assert standing.unknown(np.array([1, 2, 3, 4])) == [4]
    ids = np.array([1, 2, 3, 4, 900])
    marks, kinds = np.full(5, mark_of("**SUP-1**")), np.full(5, standing.kind("episodic"))
    assert standing.unknown(ids) == [4, 900]
    is_kind, is_marked = standing.compared(ids, marks, kinds)
    assert is_kind.tolist() == [True, False, False, False, False]
    assert is_marked.tolist()[:3] == [True, False, True]
    standing.forget([1, 5000])
    assert standing.unknown(ids) == [1, 4, 900]


@given(st.lists(st.tuples(st.integers(1, 3000), st.sampled_from([TEXT, "Ask for SUP-1", "Ask for SUP-2"])), min_size=1))
def test_memories_stay_known_whatever_ids_they_have(asked):
    standing, texts = Standing(), dict(asked)
    for memory_id, text in asked:
        standing.learn([known(memory_id, text)])
    ids = np.array(list(texts))
    assert standing.unknown(ids) == []
    marks, kinds = np.array([mark_of(text) for text in texts.values()]), np.full(len(ids), standing.kind("episodic"))
    assert all(found.all() for found in standing.compared(ids, marks, kinds))
    assert not standing.compared(ids, np.full(len(ids), mark_of("Ask for SUP-3")), kinds)[1].any()
