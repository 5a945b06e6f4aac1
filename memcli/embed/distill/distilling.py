"""From a teacher and a corpus to a finished model folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from memcli.embed.distill.corpus import Corpus
from memcli.embed.distill.graph import build_graph, quantise
from memcli.embed.distill.scores import Judged, score_judged, score_teacher
from memcli.embed.distill.teacher import Teacher
from memcli.embed.distill.training import Lesson, first_table, principal_axes, smooth, train
from memcli.embed.distill.vocabulary import as_text, build_tokenizer, byte_scale, serialise
from memcli.embed.models import CARD_FILE, MODEL_FILE, TOKENIZER_FILE, compute_model_id, load_card, sealed
from memcli.embed.onnx import OnnxEmbedder
from memcli.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Report = Callable[[str, int, int], None]

MAX_TOKENS = 512
NEAR_THRESHOLD = 0.9
_HELD_OUT = 4000
_HELD_OUT_SHARE = 20
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What a model is made with; the same settings, teacher and corpus give the same model on the same machine."""

    seed: int = 0
    dim: int = 256
    rows: int = 30_700
    epochs: int = 3
    rate: float = 2e-3


@dataclass(frozen=True, slots=True)
class Words:
    """What the card says and no file tells: the model's name, licence and threshold, and where things came from.

    `teacher` and each entry of `corpus` (by file name) have `source` and `licence`; `teacher` also a `name`.
    """

    name: str
    licence: str = "not stated"
    attribution: str = ""
    near_threshold: float = NEAR_THRESHOLD
    teacher: Mapping[str, str] = field(default_factory=dict)
    corpus: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def distill(
    teacher: Teacher,
    corpus: Corpus,
    out: Path,
    cache: Path,
    settings: Settings,
    words: Words,
    judged: Sequence[Judged],
    report: Report,
) -> dict[str, object]:
    """Write model.onnx, tokenizer.json and card.json to `out` and return the card.

    1. A tokenizer of the teacher's Latin words and the corpus's own.
    2. The teacher's vectors of all texts (kept in `cache`) and of every token alone. An int8 teacher's float32 graph
       speaks for the texts that weigh more than 1: their rounding would be learned several times.
    3. A table of token vectors on the principal axes of the teacher's, learned from them; rare rows smoothed.
    4. An int8 table with a scale per row as ONNX graph, measured as it will be used.

    `report` hears (stage, done, total). Raises UsageError when a folder cannot be written.
    """
    tokenizer = build_tokenizer(
        teacher.vocabulary, dict(zip(corpus.texts, corpus.weights.tolist(), strict=True)), settings.rows
    )
    tokens = [str(tokenizer.id_to_token(number)) for number in range(tokenizer.get_vocab_size())]
    exact = teacher.exact()
    vectors = _taught(teacher, exact, corpus, cache, report)
    alone = teacher.embed([as_text(token) for token in tokens], cache, lambda done: report("tokens", done, len(tokens)))

    rng = np.random.default_rng(settings.seed)
    counts = _count(tokenizer, corpus.texts)
    scales = np.array([byte_scale(token) for token in tokens])
    fixed = ~np.isnan(scales)
    # Of characters that are no tokens the teacher knows nothing: such texts would teach noise.
    usable = rng.permutation(np.flatnonzero((counts.sum(axis=1).A1 > 0) & (counts[:, fixed].sum(axis=1).A1 == 0)))
    held, learned = np.split(usable, [min(_HELD_OUT, len(usable) // _HELD_OUT_SHARE)])
    if not len(learned):
        raise UsageError("no text of the corpus is in Latin letters", "the teacher and the student read those only")
    lesson = Lesson(counts[learned], vectors[learned], corpus.weights[learned], fixed)
    axes = principal_axes(lesson.vectors, settings.dim, rng)
    table = first_table(alone.astype(np.float32), axes, lesson, rng)
    table[fixed] *= scales[fixed, None].astype(np.float32)
    train(
        table,
        lesson,
        axes,
        epochs=settings.epochs,
        rate=settings.rate,
        rng=rng,
        report=lambda done, total: report("training", done, total),
    )
    table = smooth(table, alone.astype(np.float32), lesson)

    card = _card(teacher, exact, corpus, settings, words, table.shape)
    _write(out, build_graph(*quantise(table)), serialise(tokenizer), card)
    embedder = OnnxEmbedder(load_card(out))
    scores: dict[str, object] = {}
    if len(held) > 1:
        scores |= score_teacher(embedder, [corpus.texts[at] for at in held], vectors[held], axes)
    scores |= {
        "sts": [
            {"file": each.name, "n": len(each.pairs), "spearman": round(score_judged(embedder, each), 4)}
            for each in judged
        ]
    }
    card["scores"] = scores
    _write_card(out, card)
    return card


def _taught(teacher: Teacher, exact: Teacher, corpus: Corpus, cache: Path, report: Report) -> NDArray[np.float16]:
    """The teacher's vectors of all texts, without int8 rounding for those that an epoch shows more than once."""
    vectors = teacher.embed(corpus.texts, cache, lambda done: report("teacher", done, len(corpus.texts)))
    often = _often(corpus)
    if exact is not teacher and len(often):
        texts = [corpus.texts[at] for at in often]
        vectors[often] = exact.embed(texts, cache, lambda done: report("exact teacher", done, len(texts)))
    return vectors


def _often(corpus: Corpus) -> NDArray[np.intp]:
    return np.flatnonzero(corpus.weights > 1)


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> sparse.csr_matrix:
    """How often each token is in each text, shape (texts, tokens)."""
    rows: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), _AT_ONCE):
        encodings = tokenizer.encode_batch_fast(list(texts[start : start + _AT_ONCE]), add_special_tokens=False)
        rows += [np.array(encoding.ids[:MAX_TOKENS], dtype=np.int32) for encoding in encodings]
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    data = np.ones(ends[-1], dtype=np.float32)
    counts = sparse.csr_matrix((data, np.concatenate(rows), ends), shape=(len(texts), tokenizer.get_vocab_size()))
    counts.sum_duplicates()
    return counts


def _card(
    teacher: Teacher, exact: Teacher, corpus: Corpus, settings: Settings, words: Words, shape: tuple[int, ...]
) -> dict[str, object]:
    stated = {"source": "not stated", "licence": "not stated"}
    by_exact = len(_often(corpus)) if exact is not teacher else 0
    graphs = [(teacher, len(corpus.texts) - by_exact), (exact, by_exact)]
    return {
        "name": words.name,
        "model_id": "",
        "dim": shape[1],
        "max_tokens": MAX_TOKENS,
        "pooling": "in-graph",
        "normalise": "in-graph",
        "near_threshold": words.near_threshold,
        "teacher": words.teacher.get("name", teacher.folder.resolve().name),
        "teacher_files": [
            {"name": each.graph.name, "blake2b": each.hash, "texts": texts} for each, texts in graphs if texts
        ],
        "source": words.teacher.get("source", "not stated"),
        "licence": words.licence,
        "attribution": words.attribution,
        "corpus": [asdict(each) | stated | dict(words.corpus.get(each.name, {})) for each in corpus.sources],
        "settings": asdict(settings) | {"tokens": shape[0], "table": "int8"},
        "scores": {},
    }


def _write(out: Path, graph: bytes, tokenizer: str, card: dict[str, object]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / MODEL_FILE).write_bytes(graph)
        (out / TOKENIZER_FILE).write_text(tokenizer, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}", "name another folder with --out") from error
    _write_card(out, card)
    card["model_id"] = compute_model_id(out)
    _write_card(out, card)


def _write_card(out: Path, card: dict[str, object]) -> None:
    (out / CARD_FILE).write_text(json.dumps(sealed(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
