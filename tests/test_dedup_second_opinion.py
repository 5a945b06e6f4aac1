"""The second opinion: a stronger model that is asked about merges on the border, and about nothing else."""

import numpy as np
import pytest
from support_cli import SHARED, Home
from support_dedup import dedup, review
from support_ingest import flat, query, run, write

from memcli.dedup.gates import judge
from memcli.embed.models import default_model
from memcli.embed.onnx import OnnxEmbedder
from memcli.errors import UsageError
from memcli.maintain.second import SecondOpinion

ONE, OTHER = "The deploy window is closed for 5% of users.", "The deploy window is closed for five percent of users."
THRESHOLD = 0.9


class Oracle:
    """A model under which all texts are so far apart."""

    def __init__(self, cosine):
        self.seen = []
        self._rows = np.array([[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]], dtype=np.float32)

    def embed(self, texts):
        self.seen.extend(texts)
        return self._rows[: len(texts)]


def ask(cosine, own, *, overlap_of=(ONE, OTHER)):
    oracle = Oracle(own)
    second = SecondOpinion(oracle, 0.8, THRESHOLD)
    return second.against(ONE, OTHER, cosine, judge(*overlap_of, cosine, THRESHOLD)), oracle.seen


@pytest.mark.parametrize(("own", "agrees"), [(0.79, False), (0.81, True)])
def test_on_the_border_the_threshold_of_the_other_model_decides(own, agrees):
    against, seen = ask(0.91, own)
    assert (against == "") is agrees
    assert seen == [ONE, OTHER]
    assert agrees or "below 0.8" in against


def test_far_above_the_threshold_it_is_not_asked():
    assert ask(0.96, 0.0) == ("", [])


def test_where_few_words_overlap_it_is_asked_whatever_the_cosine():
    against, seen = ask(0.99, 0.0, overlap_of=(ONE, "Quite another text."))
    assert against
    assert seen == [ONE, OTHER]


def test_a_text_is_embedded_once():
    oracle = Oracle(1.0)
    second = SecondOpinion(oracle, 0.8, THRESHOLD)
    for _ in range(3):
        second.against(ONE, OTHER, 0.91, judge(ONE, OTHER, 0.91, THRESHOLD))
    assert (second.asked, oracle.seen) == (3, [ONE, OTHER])


@pytest.fixture
def stored(tmp_path):
    db = tmp_path / "m.db"
    records = [flat(text, id=n, session_id=f"s{n}") for n, text in enumerate((ONE, OTHER))]
    run(db, write(tmp_path / "a.jsonl", *records), near_threshold=1.01, extract=("verbatim",))
    return db


@pytest.fixture
def border():
    """A threshold just below the cosine of the two texts under the default model."""
    one, other = OnnxEmbedder(default_model()).embed([ONE, OTHER])
    return float(one @ other) - 0.01


@pytest.mark.parametrize(("own", "merged"), [(0.79, False), (0.81, True)])
def test_what_the_other_model_is_against_goes_to_review(stored, border, monkeypatch, own, merged):
    monkeypatch.setattr("memcli.commands.dedup._second_opinion", lambda *_: SecondOpinion(Oracle(own), 0.8, border))
    report = dedup(stored, threshold=border, verify_model="any")
    assert (report.near, report.second_opinions) == (int(merged), 1)
    assert [pair.gates_failed for pair in review(stored)] == ([] if merged else [("second_opinion",)])
    assert len(query(stored, "SELECT 1 FROM merge_log")) == int(merged)


@pytest.mark.parametrize(("name", "said"), [("no-such-model", "no-such-model"), ("default", "no second opinion")])
def test_a_model_that_cannot_have_one_is_refused(stored, name, said):
    with pytest.raises(UsageError, match=said):
        dedup(stored, verify_model=name)


@pytest.mark.skipif(not (SHARED / "models/all-MiniLM-L6-v2").is_dir(), reason="../shared has no all-MiniLM-L6-v2")
def test_an_installed_transformer_is_asked_by_its_name(stored, border, tmp_path):
    home = Home(tmp_path / "home")
    taken = home.run("model", "import", SHARED / "models/all-MiniLM-L6-v2", "--json")
    assert taken.code == 0, taken.err
    flags = ("--threshold", str(border), "--verify-model", "all-MiniLM-L6-v2", "--json")
    done = home.run("dedup", "--db", stored, *flags)
    assert done.code == 0, done.err
    assert done.json["second_opinions"] == 1
    assert done.json["near"] + len(review(stored)) == 1
