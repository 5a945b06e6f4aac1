"""Sentence pairs that people have judged, and how well a model agrees with them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memcli.errors import UsageError
from memcli.text import clean

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STS_HINT = "each row is sentence1,sentence2,score; there is no header line"
_LONGEST_FIELD = 10_000_000


def read_sts(path: Path) -> list[tuple[str, str, float]]:
    """The rows of a headerless CSV file of sentence1,sentence2,score.

    Raises:
        UsageError: the file cannot be read, a row is something else, or no correlation can be had from the scores.
    """
    limit = csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(text_lines(path), strict=True)
    try:
        rows = [_sts_row(row, f"{path}:{reader.line_num}") for row in reader if row]
    except csv.Error as error:
        raise UsageError(f"{path}:{max(reader.line_num, 1)}: not CSV: {error}", _STS_HINT) from error
    finally:
        csv.field_size_limit(limit)
    if len({score for _, _, score in rows}) < 2:  # noqa: PLR2004 - a correlation needs two values
        raise UsageError(f"{path}: fewer than two different scores, nothing to correlate with", _STS_HINT)
    return rows


def _sts_row(row: Sequence[str], where: str) -> tuple[str, str, float]:
    if len(row) != 3:  # noqa: PLR2004 - as the message says
        raise UsageError(f"{where}: {len(row)} columns, where sentence1,sentence2,score are three", _STS_HINT)
    try:
        score = float(row[2])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UsageError(f"{where}: the score is not a number: {row[2][:40]!r}", _STS_HINT)
    return clean(row[0]), clean(row[1]), score


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Spearman's rank correlation of two samples of equal length: Pearson's of their ranks, ties averaged.

    NaN where all values of a sample are equal.
    """
    ranks = np.stack([_ranks(first), _ranks(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    variance = np.square(ranks).sum(axis=1)
    return float(ranks[0] @ ranks[1] / math.sqrt(variance[0] * variance[1])) if variance.all() else math.nan


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    averaged: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return averaged[inverse]


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without a byte order mark.

    Raises:
        UsageError: the file cannot be read, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name a file of labelled data") from error
