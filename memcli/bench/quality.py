"""How good an embedding model is, on labelled data of the user's: sentence similarity, duplicates, retrieval."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memcli.embed.judged import read_sts, spearman, text_lines
from memcli.errors import UsageError
from memcli.protocols import Embedder
from memcli.text import clean

LABELS: dict[object, bool] = {"duplicate": True, "distinct": False, 1: True, 0: False, "1": True, "0": False}
RECALL_AT = (1, 10)

T = TypeVar("T")

_PAIRS_HINT = 'each line is like {"a": "...", "b": "...", "label": "duplicate"}, or "distinct"; 1 and 0 do as well'
_RETRIEVAL_HINT = 'each line is like {"query": "...", "positive": "..."}'
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Question:
    """What to measure: files of sentence pairs with scores, of labelled pairs, of queries with what answers them."""

    sts: Sequence[Path] = ()
    pairs: Sequence[Path] = ()
    retrieval: Sequence[Path] = ()


def bench_quality(
    embedder: Embedder, name: str, megabytes: float | None, question: Question, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Score a model; the JSON document of `memcli bench quality`.

    `megabytes` is the size of the model's files (None: it is not on this machine). All files are read and checked
    before the first text is embedded. `pairs` and `retrieval` are in the document where files were given.

    Raises:
        UsageError: a file cannot be read, or says nothing that could be scored (with file:line).
    """
    sts = [(path, read_sts(path)) for path in question.sts]
    pairs = [(path, read_pairs(path)) for path in question.pairs]
    retrieval = [(path, read_retrieval(path)) for path in question.retrieval]
    vectors = _Vectors(embedder)
    document: dict[str, Any] = {"model": name, "dim": embedder.dim, "megabytes": megabytes}
    document["sts"] = _scored(sts, partial(_score_sts, vectors), announce)
    if pairs:
        document["pairs"] = _scored(pairs, partial(_score_pairs, vectors), announce)
    if retrieval:
        document["retrieval"] = _scored(retrieval, partial(_score_retrieval, vectors), announce)
    return document


def _scored(
    files: Sequence[tuple[Path, Sequence[T]]],
    score: Callable[[Sequence[T]], dict[str, object]],
    announce: Callable[[str], None],
) -> list[dict[str, object]]:
    result = []
    for path, rows in files:
        announce(f"{path}: {len(rows):,} rows")
        result.append({"file": str(path), "n": len(rows), **score(rows)})
    return result


class _Vectors:
    """Vectors of texts; a text that was asked for before, in any file, is not embedded again."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._places: dict[str, int] = {}
        self._matrix = np.empty((0, embedder.dim), dtype=np.float32)

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        missing = [text for text in dict.fromkeys(texts) if text not in self._places]
        if missing:
            self._places |= {text: len(self._matrix) + place for place, text in enumerate(missing)}
            self._matrix = np.concatenate([self._matrix, self._embedder.embed(missing)])
        return self._matrix[[self._places[text] for text in texts]]

    def cosines(self, first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.einsum("ij,ij->i", self.of(first), self.of(second), dtype=np.float64)
        return found


def best_f1(cosines: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The best F1 that any threshold reaches, that threshold, and the average precision.

    "Duplicate" is said of cosine >= threshold. Average precision is the sum over thresholds of precision times the
    recall gained (no interpolation); pairs of equal cosine share one threshold.
    """
    order = np.argsort(-cosines, kind="stable")
    scores, hits = cosines[order], np.cumsum(labels[order])
    last = np.append(scores[1:] != scores[:-1], True)  # of each run of equal cosines
    found, said = hits[last], np.flatnonzero(last) + 1
    precision, recall = found / said, found / hits[-1]
    f1 = 2 * found / (said + hits[-1])
    best = int(np.argmax(f1))
    return float(f1[best]), float(scores[last][best]), float(np.sum(precision * np.diff(recall, prepend=0.0)))


def first_ranks(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], right: Sequence[Sequence[int]]
) -> NDArray[np.int64]:
    """For each query (q, dim) the rank, from 1, of the best of its `right` rows of `candidates` (n, dim).

    A wrong candidate of the same score stands before it: a model that knows no difference finds nothing.
    """
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _ROWS_AT_ONCE):
        scores = queries[start : start + _ROWS_AT_ONCE] @ candidates.T
        for place, row in enumerate(scores, start):
            best = row[right[place]].max()
            row[right[place]] = -np.inf
            ranks[place] = 1 + np.count_nonzero(row >= best)
    return ranks


def _score_sts(vectors: _Vectors, rows: Sequence[tuple[str, str, float]]) -> dict[str, object]:
    first, second, scores = zip(*rows, strict=True)
    found = spearman(vectors.cosines(first, second), np.array(scores, dtype=np.float64))
    return {"spearman": None if math.isnan(found) else round(found, 4)}


def _score_pairs(vectors: _Vectors, rows: Sequence[tuple[str, str, bool]]) -> dict[str, object]:
    first, second, labels = zip(*rows, strict=True)
    f1, threshold, precision = best_f1(vectors.cosines(first, second), np.array(labels, dtype=np.bool_))
    return {
        "duplicates": sum(labels),
        "best_f1": round(f1, 4),
        "threshold": round(threshold, 4),
        "average_precision": round(precision, 4),
    }


def _score_retrieval(vectors: _Vectors, rows: Sequence[tuple[str, str]]) -> dict[str, object]:
    places = {text: place for place, text in enumerate(dict.fromkeys(text for _, text in rows))}
    right: dict[str, list[int]] = {}
    for query, positive in rows:
        right.setdefault(query, []).append(places[positive])
    ranks = first_ranks(vectors.of(list(right)), vectors.of(list(places)), list(right.values()))
    recalls = {f"recall_at_{k}": round(float(np.mean(ranks <= k)), 4) for k in RECALL_AT}
    return {"queries": len(right), "candidates": len(places), **recalls, "mrr": round(float(np.mean(1 / ranks)), 4)}


def read_pairs(path: Path) -> list[tuple[str, str, bool]]:
    """The rows of a JSON Lines file of {a, b, label}.

    Raises:
        UsageError: the file cannot be read, a line is something else, or all labels are alike.
    """
    rows = []
    for where, record in _records(path, _PAIRS_HINT):
        label = record.get("label")
        if isinstance(label, list | dict) or label not in LABELS:
            raise UsageError(f"{where}: the label is {json.dumps(label)[:40]}", _PAIRS_HINT)
        rows.append((_text(record, "a", where, _PAIRS_HINT), _text(record, "b", where, _PAIRS_HINT), LABELS[label]))
    if len({label for _, _, label in rows}) < 2:  # noqa: PLR2004 - a threshold stands between two kinds
        raise UsageError(f"{path}: needs pairs that are duplicates and pairs that are not", _PAIRS_HINT)
    return rows


def read_retrieval(path: Path) -> list[tuple[str, str]]:
    """The rows of a JSON Lines file of {query, positive}. A query is to find its own among all positives.

    Raises:
        UsageError: the file cannot be read, a line is something else, or there is only one text to find.
    """
    rows = [
        (_text(record, "query", where, _RETRIEVAL_HINT), _text(record, "positive", where, _RETRIEVAL_HINT))
        for where, record in _records(path, _RETRIEVAL_HINT)
    ]
    if len({positive for _, positive in rows}) < 2:  # noqa: PLR2004 - finding means choosing
        raise UsageError(f"{path}: fewer than two different positives, nothing to choose from", _RETRIEVAL_HINT)
    return rows


def _records(path: Path, hint: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: not JSON", hint) from error
        if not isinstance(record, dict):
            raise UsageError(f"{where}: not a JSON object", hint)
        yield where, record


def _text(record: dict[str, Any], key: str, where: str, hint: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {key!r} is not a text", hint)
    return clean(value)
