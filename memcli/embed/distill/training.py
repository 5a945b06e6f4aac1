"""Learn a vector per token, so that the sum over a text's tokens points where the teacher's vector points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_BATCH = 1024
_SIMILARITIES = 20.0
# How much more the cosine of two texts counts that mean the same: search and dedup live on those, and a batch of
# texts drawn at random has few.
_ALIKE = 8.0
_MOMENTUM, _SCALING = 0.9, 0.999  # of Adam (Kingma and Ba, ICLR 2015)
_SIF_A = 1e-3
_AXES_FROM = 100_000
# A token seen in this many texts is half what it learned and half what its spelling tells.
_TRUST_AT = 10
_WELL_KNOWN = 100
_RIDGE = 5.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from: `counts` (texts x tokens) and the teacher's unit vectors of the texts (texts x hidden).

    `weights` says how often an epoch shows each text; `fixed` marks the tokens whose vectors are not learned.
    """

    counts: sparse.csr_matrix
    vectors: NDArray[np.float16]
    weights: NDArray[np.float64]
    fixed: NDArray[np.bool_]


def principal_axes(vectors: NDArray[np.float16], columns: int, rng: np.random.Generator) -> Floats:
    """Return the `columns` directions that hold most of the vectors, shape (hidden, columns), most first.

    The mean stays in: cosines are to be those of the teacher.
    """
    sample = vectors[np.sort(rng.permutation(len(vectors))[:_AXES_FROM])].astype(np.float32)
    _, axes = np.linalg.eigh(sample.T @ sample)
    axes = axes[:, ::-1][:, :columns]
    # An eigenvector's sign is arbitrary: fix it, so that the same texts always give the same model.
    strongest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.ascontiguousarray(axes * np.sign(strongest), dtype=np.float32)


def first_table(alone: Floats, axes: Floats, lesson: Lesson, rng: np.random.Generator) -> Floats:
    """Return the table to start from, shape (tokens, columns).

    A row is what the teacher says of the token alone, without the mean, under a smooth inverse frequency weight
    a / (a + p) (Arora, Liang, Ma, ICLR 2017). The rows that are not learned are random directions.
    """
    seen = np.asarray(lesson.counts.sum(axis=0)).ravel()
    weights = _SIF_A / (_SIF_A + seen / max(seen.sum(), 1))
    table = unit((alone - alone.mean(axis=0)) @ axes) * weights[:, None]
    random = rng.normal(size=table.shape)
    return np.where(lesson.fixed[:, None], unit(random), table).astype(np.float32)


def train(
    table: Floats,
    lesson: Lesson,
    axes: Floats,
    *,
    epochs: int,
    rate: float,
    rng: np.random.Generator,
    report: Callable[[int, int], None],
) -> None:
    """Change `table` in place by Adam with a linearly falling `rate`; only the rows of a batch's tokens move.

    The loss of a batch is the mean of 1 - cosine to the teacher's vector on the axes, plus 20 times the mean squared
    error of the cosines between its texts, in which a pair of the teacher's cosine s weighs 1 + 8 max(s, 0).
    """
    first, second = np.zeros_like(table), np.zeros_like(table)
    steps = max(int(epochs * lesson.weights.sum() / _BATCH), epochs)
    step = 0
    for _ in range(epochs):
        order = _epoch(lesson.weights, rng)
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            step += 1
            tokens, gradient = _gradient(table, lesson, batch, axes)
            mean = first[tokens]
            mean += (1 - _MOMENTUM) * (gradient - mean)
            first[tokens] = mean
            spread = second[tokens]
            spread += (1 - _SCALING) * (gradient * gradient - spread)
            second[tokens] = spread
            now = rate * max(1 - (step - 1) / steps, 1 / steps) / (1 - _MOMENTUM**step)
            table[tokens] -= now * mean / (np.sqrt(spread / (1 - _SCALING**step)) + 1e-8)
            report(min(step, steps), steps)


def _epoch(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """The texts of one epoch in random order; a weight of 2.5 shows a text two or three times."""
    whole = np.floor(weights)
    times = whole + (rng.random(len(weights)) < weights - whole)
    return rng.permutation(np.repeat(np.arange(len(weights)), times.astype(np.intp)))


def _gradient(table: Floats, lesson: Lesson, batch: NDArray[np.intp], axes: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the learned tokens of a batch and the loss's gradient by their rows."""
    counts = lesson.counts[batch]
    tokens, places = np.unique(counts.indices, return_inverse=True)
    counts = sparse.csr_matrix((counts.data, places, counts.indptr), shape=(len(batch), len(tokens)))
    summed = counts @ table[tokens]
    lengths = np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-9)
    student = summed / lengths
    teacher = lesson.vectors[batch].astype(np.float32)
    similar = teacher @ teacher.T
    shares = 1 + np.float32(_ALIKE) * np.maximum(similar, 0)
    error = (student @ student.T - similar) * (shares / shares.mean())
    down = error @ student * np.float32(4 * _SIMILARITIES / len(batch) ** 2) - unit(teacher @ axes) / len(batch)
    down -= student * (student * down).sum(axis=1, keepdims=True)
    gradient: Floats = counts.T @ (down / lengths)
    learned = ~lesson.fixed[tokens]
    return tokens[learned].astype(np.intp), gradient[learned]


def smooth(table: Floats, alone: Floats, lesson: Lesson) -> Floats:
    """Return the table with rare tokens drawn to what their spelling tells, and the rows not learned at their length.

    A ridge regression over the well-known tokens maps the teacher's vector of a token alone to the direction that
    was learned for it. A token's row is mixed from both by the number of texts that it was seen in.
    """
    seen = np.asarray((lesson.counts > 0).sum(axis=0)).ravel()
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    known = (seen >= min(_WELL_KNOWN, seen.max())) & ~lesson.fixed & (lengths[:, 0] > 0)
    features = np.concatenate([alone, np.ones((len(alone), 1), dtype=np.float32)], axis=1).astype(np.float64)
    system = features[known].T @ features[known] + _RIDGE * np.eye(features.shape[1])
    mapped = unit(features @ np.linalg.solve(system, features[known].T @ unit(table[known])))
    rare = (seen >= 1) & (seen <= _WELL_KNOWN) & ~lesson.fixed
    usual = float(np.median(lengths[rare])) if rare.any() else 1.0
    trust = (seen / (seen + _TRUST_AT))[:, None]
    mixed = trust * table + (1 - trust) * mapped * usual
    return np.where(lesson.fixed[:, None], table * usual, mixed).astype(np.float32)


def unit(rows: NDArray[np.floating]) -> Floats:
    """Return the rows at length 1; a zero row stays one."""
    scaled: Floats = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return scaled
