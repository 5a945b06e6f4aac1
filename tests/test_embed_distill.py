"""Distilling, with a teacher of a few tokens; and what the shipped model must be able to do."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from memcli.embed.models import compute_model_id, default_model, load_card
from memcli.embed.onnx import OnnxEmbedder

SHARED = Path(__file__).resolve().parents[2] / "shared"
HIDDEN = 24
TOPICS = {
    "kitchen": "soup oven bread knife plate onion recipe butter".split(),
    "garden": "rose hedge spade lawn seed apple bee tulip".split(),
    "harbour": "boat anchor sail wave crane dock gull rope".split(),
}
FILLERS = "the a my we see near old with".split()
WORDS = [word for topic in TOPICS.values() for word in topic]


def word_piece(tokens):
    special = [{"id": at, "special": True, "content": tokens[at]} for at in range(4)]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    pieces = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token | flags for token in special],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "lowercase": True,
            "strip_accents": None,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": pieces | {"max_input_chars_per_word": 100, "vocab": {token: at for at, token in enumerate(tokens)}},
    }


def look_up(table):
    """An ONNX file that gives each token its row."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "teacher",
        [helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, ["b", "s", HIDDEN])],
        [numpy_helper.from_array(table.astype(np.float32), "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A teacher that looks each token up in a table where words of one topic are alike."""
    folder = tmp_path_factory.mktemp("teacher")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "##s", *FILLERS, *WORDS]
    (folder / "tokenizer.json").write_text(json.dumps(word_piece(tokens)))
    rng = np.random.default_rng(5)
    table = rng.normal(scale=0.1, size=(len(tokens), HIDDEN))
    for number, words in enumerate(TOPICS.values()):
        centre = rng.normal(size=HIDDEN)
        first = 6 + len(FILLERS) + number * 8
        table[first : first + len(words)] += centre
    (folder / "model.onnx").write_bytes(look_up(table))
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Six hundred sentences, each of one topic."""
    rng = np.random.default_rng(1)
    lines = []
    for words in TOPICS.values():
        for _ in range(200):
            picked = [*rng.choice(FILLERS, 3), *rng.choice(words, 3)]
            lines.append(" ".join(rng.permutation(picked)) + ".")
    path = tmp_path_factory.mktemp("corpus") / "texts.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def memcli(*arguments, **kwargs):
    command = [sys.executable, "-m", "memcli", "model", "distill", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **kwargs)


@pytest.fixture(scope="session")
def made(tmp_path_factory, teacher, corpus):
    """A finished distillation: its folder and the --json answer."""
    folder = tmp_path_factory.mktemp("made")
    judged = folder / "judged.csv"
    rows = [
        ["my soup", "the bread", 5],
        ["the boat", "old anchor", 5],
        ["my soup", "the boat", 0],
        ["a bee", "a crane", 0],
    ]
    with judged.open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    done = memcli(
        "--teacher", teacher, "--corpus", corpus, "--sts", judged, "--out", folder / "out", "--json", "--epochs", "40"
    )
    assert done.returncode == 0, done.stderr
    return folder / "out", json.loads(done.stdout)


def test_the_student_says_what_the_teacher_says(made):
    folder, answer = made
    vectors = OnnxEmbedder(load_card(folder)).embed(["my soup", "the bread", "the boat", "old anchor"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    same, other = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert same > other + 0.4
    assert answer["scores"]["held_out_texts"] >= 20
    assert answer["scores"]["held_out_cosine"] > 0.9
    assert answer["scores"]["sts"] == [{"file": "judged.csv", "n": 4, "spearman": pytest.approx(0.894, abs=0.12)}]


def test_the_card_says_what_the_model_is_made_of(made, corpus):
    folder, answer = made
    card = json.loads((folder / "card.json").read_text())
    assert card == answer | {"hash": card["hash"]}
    assert card["model_id"] == compute_model_id(folder) == load_card(folder).model_id
    assert card["dim"] == HIDDEN
    (source,) = card["corpus"]
    assert (source["name"], source["weight"]) == (corpus.name, 1.0)
    assert source["texts"] == len(set(corpus.read_text().splitlines()))
    assert len(source["blake2b"]) == 32
    assert source["licence"] == card["licence"] == "not stated"
    assert card["settings"]["seed"] == 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path, teacher, corpus):
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        done = memcli("--teacher", teacher, "--out", tmp_path / name / "out", "--seed", seed, "--corpus", corpus)
        assert done.returncode == 0, done.stderr
    for name in ("model.onnx", "tokenizer.json", "card.json"):
        assert (tmp_path / "one" / "out" / name).read_bytes() == (tmp_path / "two" / "out" / name).read_bytes()
    assert (tmp_path / "one" / "out" / "model.onnx").read_bytes() != (
        tmp_path / "three" / "out" / "model.onnx"
    ).read_bytes()


def test_the_int8_table_has_a_scale_per_row(made):
    graph = onnx.load(str(made[0] / "model.onnx")).graph
    table = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    assert table["codes"].dtype == np.int8
    assert table["scales"].shape == (len(table["codes"]),)
    assert not table["codes"][0].any()
    assert np.abs(table["codes"][1:].astype(int)).max(axis=1)[2:].min() == 127


def test_kept_teacher_vectors_are_not_computed_again(tmp_path, teacher, corpus):
    kept = tmp_path / "kept"
    first = memcli("--teacher", teacher, "--corpus", corpus, "--out", tmp_path / "a", "--cache", kept)
    assert first.returncode == 0, first.stderr
    shards = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    assert shards
    # Were they computed again, the teacher's own vectors would come out instead of these.
    for path in shards:
        rows = np.load(path)
        np.save(path, rows[::-1])
    again = memcli("--teacher", teacher, "--corpus", corpus, "--out", tmp_path / "b", "--cache", kept)
    assert again.returncode == 0, again.stderr
    assert set(kept.iterdir()) == set(shards)
    assert (tmp_path / "a" / "model.onnx").read_bytes() != (tmp_path / "b" / "model.onnx").read_bytes()


def test_an_interrupted_teacher_goes_on_to_the_same_model(tmp_path, teacher, corpus):
    big = tmp_path / "many.txt"
    lines = corpus.read_text().split()
    big.write_text("\n".join(f"{lines[n % len(lines)]} {n} {lines[n * 7 % len(lines)]}" for n in range(40_000)))
    kept = tmp_path / "kept"
    command = [
        sys.executable,
        "-m",
        "memcli",
        "model",
        "distill",
        "--teacher",
        teacher,
        "--corpus",
        big,
        "--epochs",
        "1",
    ]
    process = subprocess.Popen([*map(str, command), "--cache", str(kept), "--out", str(tmp_path / "a")])
    deadline = time.monotonic() + 60
    while not list(kept.glob("*.npy")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.npy")}
    assert 0 < len(before) < 6
    assert not (tmp_path / "a").exists()
    for name, cache in (("a", kept), ("b", tmp_path / "fresh")):
        done = memcli("--teacher", teacher, "--corpus", big, "--epochs", 1, "--cache", cache, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.npy")}
    assert before.items() <= after.items()
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


def test_a_weight_shows_a_file_more_often(tmp_path, teacher, corpus):
    second = tmp_path / "more.txt"
    second.write_text("\n".join(f"we see {word} with {word}." for word in WORDS))
    done = memcli(
        "--teacher", teacher, "--out", tmp_path / "out", "--corpus", f"{corpus}=0.5", f"{second}=3", "--quiet"
    )
    assert (done.returncode, done.stderr) == (0, "")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert [(each["name"], each["weight"]) for each in card["corpus"]] == [("texts.txt", 0.5), ("more.txt", 3.0)]


@pytest.mark.parametrize("weight", [1, 2])
def test_texts_that_weigh_more_than_1_are_learned_from_the_float32_graph(tmp_path, teacher, corpus, weight):
    folder = tmp_path / "teacher"
    (folder / "onnx").mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes((teacher / "tokenizer.json").read_bytes())
    (folder / "onnx" / "model.onnx").write_bytes((teacher / "model.onnx").read_bytes())
    # Nobody's rounding is that bad: what the student knows of the topics, it has from the other file.
    nonsense = np.random.default_rng(8).normal(size=(6 + len(FILLERS) + len(WORDS), HIDDEN))
    (folder / "onnx" / "model_qint8.onnx").write_bytes(look_up(nonsense))
    rare = tmp_path / "rare.txt"
    rare.write_text("\n".join(f"we see the {word}." for word in WORDS))
    command = ["--teacher", folder, "--corpus", f"{corpus}={weight}", f"{rare}=0.1", "--epochs", "40", "--seed", "2"]
    done = memcli(*command, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    soup, bread, boat = OnnxEmbedder(load_card(tmp_path / "out")).embed(["my soup", "the bread", "the boat"])
    assert (soup @ bread > soup @ boat + 0.4) == (weight > 1)
    often, rarely = (each["texts"] for each in json.loads(done.stdout)["corpus"])
    files = [(each["name"], each["texts"]) for each in json.loads(done.stdout)["teacher_files"]]
    if weight > 1:
        assert files == [("model_qint8.onnx", rarely), ("model.onnx", often)]
    else:
        assert files == [("model_qint8.onnx", often + rarely)]


def test_the_database_is_a_corpus_too(tmp_path, teacher):
    lines = [
        {"role": "user", "content": f"We see the {word} near my old {WORDS[n - 3]}."} for n, word in enumerate(WORDS)
    ]
    transcript = tmp_path / "chat.json"
    transcript.write_text(json.dumps({"messages": lines}))
    db = tmp_path / "m.db"
    ingest = [
        sys.executable,
        "-m",
        "memcli",
        "ingest",
        str(transcript),
        "--db",
        str(db),
        "--quiet",
        "--extract",
        "verbatim",
        "--flush",
    ]
    env = os.environ | {"MEMCLI_DATA_DIR": str(tmp_path)}
    subprocess.run(ingest, check=True, capture_output=True, env=env)
    done = memcli("--teacher", teacher, "--from-db", "--db", db, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    (source,) = json.loads(done.stdout)["corpus"]
    assert (source["name"], source["texts"]) == ("m.db", len(WORDS))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "nothing to learn from"),
        (["--corpus", "missing.txt"], 2, "cannot read missing.txt"),
        (["--corpus", "texts.txt=lots"], 2, "not a weight: lots"),
        (["--corpus", "binary.bin"], 2, "no UTF-8 text"),
        (["--corpus", "empty.txt"], 2, "holds no text"),
        (["--corpus", "chinese.txt"], 2, "no text of the corpus is in Latin letters"),
        (["--from-db", "--db", "missing.db"], 4, "missing.db"),
        (["--corpus", "texts.txt", "--sts", "texts.txt"], 2, "texts.txt:1: 1 columns"),
        (["--corpus", "texts.txt", "--card", "texts.txt"], 2, "not TOML"),
        (["--corpus", "texts.txt", "--card", "wrong.toml"], 2, "'licence' is unknown or of the wrong kind"),
    ],
)
def test_what_cannot_be_learned_from_is_named(tmp_path, teacher, corpus, arguments, code, said):
    (tmp_path / "texts.txt").write_text(corpus.read_text())
    (tmp_path / "binary.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "chinese.txt").write_text("今天天气很好\n我喜欢吃苹果\n")
    (tmp_path / "wrong.toml").write_text("licence = 3\n")
    done = memcli("--teacher", teacher, "--out", "out", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_is_replaced_as_a_whole_and_nothing_else_is_touched(tmp_path, teacher, corpus):
    command = ["--teacher", teacher, "--corpus", corpus, "--cache", tmp_path / "kept", "--quiet"]
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "diary.txt").write_text("mine")
    for taken in (notes, notes / "diary.txt"):
        refused = memcli(*command, "--out", taken)
        assert (refused.returncode, "is no model folder" in refused.stderr) == (2, True)
    assert [path.name for path in notes.iterdir()] == ["diary.txt"]

    out = tmp_path / "new" / "out"
    assert memcli(*command, "--out", out).returncode == 0
    first = load_card(out).model_id
    (out / "calibration.json").write_text(json.dumps({"model_id": first, "threshold": 0.5}))
    # The scores come last: what fails there must leave the model that was there before.
    failing = (
        "import memcli.embed.distill.distilling as d, sys; d.score_teacher = None; from memcli.cli import main; main()"
    )
    arguments = ["model", "distill", *command, "--out", out, "--seed", "1"]
    done = subprocess.run([sys.executable, "-c", failing, *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode not in {0, 2}
    assert (load_card(out).model_id, load_card(out).near_threshold) == (first, 0.5)
    assert memcli(*command, "--out", out, "--seed", 1).returncode == 0
    assert load_card(out).model_id != first
    assert {path.name for path in out.iterdir()} == {"model.onnx", "tokenizer.json", "card.json"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_folder_that_is_no_teacher_is_named(tmp_path, teacher, corpus, name):
    for each in ("model.onnx", "tokenizer.json"):
        if each != name:
            (tmp_path / each).write_bytes((teacher / each).read_bytes())
    done = memcli("--teacher", tmp_path, "--corpus", corpus, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    (tmp_path / name).write_bytes(b"{}")
    done = memcli("--teacher", tmp_path, "--corpus", corpus, "--out", tmp_path / "out")
    assert done.returncode == 8, done.stderr


@pytest.mark.parametrize("package", ["onnx", "scipy"])
def test_without_the_extra_its_name_is_said(tmp_path, teacher, corpus, package):
    (tmp_path / f"{package}.py").write_text("raise ModuleNotFoundError('none', name=__name__)")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = memcli("--teacher", teacher, "--corpus", corpus, "--out", tmp_path / "out", env=env)
    assert done.returncode == 2
    assert package in done.stderr
    assert 'pip install "memcli[train]"' in done.stderr


# The shipped model.


@pytest.fixture(scope="module")
def shipped():
    return OnnxEmbedder(default_model())


def test_the_shipped_model_judges_sentences_nearly_as_its_teacher_does(shipped):
    path = SHARED / "data" / "eval" / "stsb-dev.csv"
    if not path.is_file():
        pytest.skip("the judged sentences are not here")
    from memcli.embed.distill.scores import read_judged, score_judged

    assert score_judged(shipped, read_judged(path)) >= 0.845


def test_the_shipped_card_is_complete():
    card = json.loads((default_model().folder / "card.json").read_text())
    assert card["model_id"] == compute_model_id(default_model().folder)
    assert len(card["corpus"]) == 10
    for source in card["corpus"]:
        assert source["licence"] != "not stated", source
        assert source["texts"] > 1000
        assert len(source["blake2b"]) == 32
    assert "Apache-2.0" in card["attribution"]
    assert {"seed", "dim", "rows", "epochs", "rate", "tokens"} <= set(card["settings"])
    assert card["scores"]["sts"][0]["spearman"] >= 0.845
    assert card["scores"]["held_out_cosine"] > 0.8


def test_the_shipped_model_is_small():
    folder = default_model().folder
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_500_000


# An alphabet that the model has no words of leaves it the letters, which two sentences of one language share.
DIFFERENT = [
    ("今天天气很好，我们去公园散步吧。", "请把这份合同翻译成英文。", 0.8),
    ("我喜欢吃苹果", "他在学校教书", 0.8),
    ("今日はとても寒いですね", "電車が遅れています", 0.8),
    ("오늘 날씨가 좋네요", "기차가 늦었어요", 0.8),
    ("Сегодня хорошая погода", "Где находится вокзал", 0.9),
    ("مرحبا كيف حالك", "أين المحطة", 0.9),
    ("🎉🎉", "😭", 0.8),
    ("🚀", "🐛", 0.8),
    ("def read_rows(path): return csv.reader(open(path))", "SELECT name FROM users WHERE id = 7", 0.8),
    ("getUserName", "parse_config_file", 0.8),
    ("42", "1999", 0.8),
    ("PR #260", "issue #9481", 0.8),
    ("x" * 300, "q" * 300, 0.8),
    ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "c29tZSBvdGhlciBibG9iIG9mIGJhc2U2NA==", 0.8),
    ("???", "...", 0.8),
]


@pytest.mark.parametrize(("first", "second", "most"), DIFFERENT)
def test_different_texts_of_any_script_do_not_collapse(shipped, first, second, most):
    one, other = shipped.embed([first, second])
    assert one @ other < most
    assert np.allclose([one @ one, other @ other], 1, atol=1e-5)


def test_every_visible_character_has_a_vector(shipped):
    characters = [chr(code) for code in range(0x21, 0x30000, 7) if chr(code).isprintable() and not chr(code).isspace()]
    vectors = shipped.embed(characters)
    assert len(characters) > 15_000
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
