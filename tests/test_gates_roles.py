"""Who does what to whom: the same told in another way passes, a change of places, polarity, tense or words does not."""

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memcli.dedup.gates import judge, same_signature

SHARED = Path(__file__).resolve().parents[2] / "shared"


def passes(a, b, cosine=0.97):
    one, other = judge(a, b, cosine, 0.74), judge(b, a, cosine, 0.74)
    assert one.failed == other.failed
    if not one.failed:
        assert same_signature(a, b)
    return not one.failed


NAMES = st.sampled_from("Ilse Jorma Katja Ludek Mirko Nadja".split())
# What somebody did, the same in the passive, and from the side of whoever it was done to.
DEEDS = st.sampled_from(
    [
        ("{a} interviewed {b} in Oslo.", "{b} was interviewed by {a} in Oslo.", "In Oslo, {a} interviewed {b}."),
        ("{a} sold the sledge to {b}.", "{b} bought the sledge from {a}.", "The sledge was sold to {b} by {a}."),
        ("{a} lent {b} the ladder.", "{b} borrowed the ladder from {a}.", "{a} lent the ladder to {b}."),
        ("{a} manages {b}.", "{b} reports to {a}.", "{b} is managed by {a}."),
        ("{a} approved the plan of {b}.", "{b}'s plan was approved by {a}.", "The plan of {b} was approved by {a}."),
    ]
)


@settings(max_examples=60, deadline=None)
@given(DEEDS, NAMES, NAMES)
def test_a_deed_told_from_another_side_is_the_same_and_one_of_other_roles_is_not(deed, one, other):
    assume(one != other)
    for told in deed[1:]:
        assert passes(deed[0].format(a=one, b=other), told.format(a=one, b=other))
        assert not passes(deed[0].format(a=one, b=other), told.format(a=other, b=one))


@settings(max_examples=40, deadline=None)
@given(DEEDS, NAMES, NAMES, st.sampled_from(("may have", "did not", "never", "nearly", "will")))
def test_what_was_not_done_or_only_may_have_been_is_not_what_was_done(deed, one, other, turn):
    assume(one != other)
    told = deed[0].format(a=one, b=other)
    assert not passes(told, told.replace(one, f"{one} {turn}", 1))
    assert not passes(told.replace(one, f"{one} {turn}", 1), deed[1].format(a=one, b=other))


SWAPPED = [
    ("The {} with the {} passed a bridge.", "stork", "otter"),
    ("The {} caused the {}.", "flood", "strike"),
    ("A review of the {} was sent to the {}.", "museum", "ministry"),
    ("The key of the {} is in the {}.", "attic", "cellar"),
    ("Acme's {} of Borealis preceded the {}.", "takeover", "strike"),
    ("The {} was repaired before the {} was painted.", "porch", "fence"),
    ("Ilse likes {} more than {}.", "chess", "bridge"),
    ("A man in a {} coat holds a {} kite.", "green", "grey"),
    ("The {} update broke the {}.", "parser", "printer"),
]


@pytest.mark.parametrize(("frame", "one", "other"), SWAPPED)
def test_two_things_that_change_places_are_another_fact(frame, one, other):
    assert passes(frame.format(one, other), frame.format(one, other))
    assert not passes(frame.format(one, other), frame.format(other, one))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Turn the heater on at six.", "Turn the heater off at six."),
        ("The rent must stay under 800 euros this year.", "The rent must stay over 800 euros this year."),
        ("The vault is open, and the gate was shut.", "The vault was open, and the gate is shut."),
        ("It was late, so I opened the shutters.", "It was late, so I open the shutters."),
        ("Gustav may attend the hearing.", "Gustav is allowed to attend the hearing."),
        ("All lockers together hold 40 coats.", "Every locker holds 40 coats."),
        ("Henrike told Piet to rest and she plays the oboe.", "Henrike told Piet to rest and play the oboe."),
        ("The balance was 300 lbs.", "The balance was £300."),
        ("It was Henrike who repaired the loom.", "It was not Henrike who repaired the loom."),
        ("Thursday, 28 August 2025 is free.", "Friday, 28 August 2025 is free."),
    ],
)
def test_what_a_rough_parse_could_lose_is_kept(a, b):
    assert not passes(a, b)


def test_a_far_pair_needs_the_same_order_and_a_near_one_the_same_roles():
    a, b = "Ilse sold the sledge to Jorma.", "Jorma bought the sledge from Ilse."
    assert passes(a, b, 0.9)
    assert not passes(a, b, 0.8)


def test_no_swap_negation_or_new_figure_in_real_captions_passes_but_for_lists():
    path = SHARED / "corpus" / "coco.txt.gz"
    if not path.is_file():
        pytest.skip("../shared has no captions")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        captions = [line.strip() for line in lines][:40_000:400]
    turned = {"a": "two", "is": "is not", "are": "are not", "on": "under", "with": "without", "man": "boy"}
    wrong = []
    for caption in captions:
        words = caption.split()
        at = len(caption) % len(words)
        for word, other in turned.items():
            if word in words:
                mutated = re.sub(rf"\b{word}\b", other, caption, count=1)
                wrong += [(caption, mutated)] if passes(caption, mutated) else []
        dropped = " ".join(words[:at] + words[at + 1 :])
        light = words[at].strip(".,").lower() in (
            "a",
            "an",
            "the",
            "that",
            "and",
            "also",
            "so",
            "then",
            "which",
            "is",
            "are",
        )
        wrong += [(caption, dropped)] if not light and passes(caption, dropped) else []
    assert wrong == []


PERFECT = [
    ("The user has been a {0}.", "The user is a {0}."),
    ("We have been using {0}s.", "We are using {0}s."),
    ("The {0} had been ill.", "The {0} was ill."),
    ("The {0} is being treated for gout.", "The {0} has been treated for gout."),
    ("The {0} is being reviewed by Ann.", "The {0} is reviewed by Ann."),
    ("In Bonn Ann has been the owner of the {0}.", "Ann is the {0}'s owner in Bonn."),
]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(PERFECT), st.sampled_from("baker saddler gardener beekeeper".split()))
def test_what_has_been_and_what_is_going_on_are_not_what_is(texts, thing):
    assert not passes(*(text.format(thing) for text in texts))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from("really always deliberately simply usually happily".split()),
    st.sampled_from(("I do {}like the lodge{}.", "She did {}answer Bo{}.", "Ludek must {}reply{}.")),
)
def test_an_adverb_does_not_cross_a_negation(adverb, frame):
    inside = frame.format(f"not {adverb} ", "")
    assert not passes(inside, frame.format(f"{adverb} not ", ""))
    assert not passes(frame.format("not ", f" {adverb}"), frame.format(f"{adverb} not ", ""))
    assert passes("Currently Ludek does not work.", "Ludek does not currently work.")


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(
        (
            "Call {{0}} at {1} and {{1}} at {2}.",
            "Ship to Bonn on {{0}} and to Kiel on {{1}}.",
            "Meet Ilse {{0}} and Jorma {{1}}.",
        )
    ),
    st.permutations("Monday Tuesday Friday Sunday".split()),
)
def test_times_do_not_go_to_another_deed(frame, days):
    told = frame.format("", "5 pm", "6 pm").format(*days)
    if "5 pm" in told:
        assert not passes(told, frame.format("", "6 pm", "5 pm").format(*days))
    assert not passes(told, frame.format("", "5 pm", "6 pm").format(days[1], days[0]))
    assert passes(f"The call is on {days[0]} at noon.", f"The call is at noon on {days[0]}.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The lawyer met Jordan's ambassador.", "The lawyer met the ambassador in Jordan."),
        ("Tom's friend's mother is a judge.", "The friend of Tom's mother is a judge."),
        ("The head of Acme's partner resigned.", "The partner of Acme's head resigned."),
        ("Nadja nearly always eats meat.", "Nadja always nearly eats meat."),
        ("Use port 80 or 443.", "Use port 80 and 443."),
        ("Take it with or without food.", "Take it with and without food."),
        ("Mirko sings or Nadja dances.", "Mirko sings and Nadja dances."),
        ("Ilse found Acme in May.", "In May Ilse founded Acme."),
        ("Ilse saw the beam.", "Ilse sawed the beam."),
        ("The managers are engineers.", "The engineers are managers."),
        ("A whale is a mammal.", "A mammal is a whale."),
        ("The report was written by Friday.", "Friday wrote the report."),
        ("I just ate two apples.", "I ate just two apples."),
        ("my sister marta lives in rome", "my sister maria lives in rome"),
        ("Minha avó mora em Lisboa.", "Minha avô mora em Lisboa."),
    ],
)
def test_what_belongs_to_another_or_is_another_is_not_the_same(one, other):
    assert not passes(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The worker's leak is fixed.", "The leak in the worker is fixed."),
        ("The user's favorite color is green.", "Green is the user's favorite color."),
        ("The default port is 8080.", "8080 is the default port."),
        ("We met at the cafe.", "We met at the café."),
        ("Ilse saw the beam.", "The beam was seen by Ilse."),
        ("Ilse or Jorma pays on Friday.", "On Friday Ilse or Jorma pays."),
    ],
)
def test_what_says_so_in_other_words_still_is(one, other):
    assert passes(one, other)
