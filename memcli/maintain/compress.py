"""Compressing the vectors of a database: fitting a basis to them, and measuring what the compression costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcli.embed.carried import Find
from memcli.embed.compressed import INT7, PCA, Compression, fitted
from memcli.embed.packed import can_pack, packed_bytes
from memcli.store.db import Store
from memcli.store.reindex import CompressionRow, file_bytes, first_with_text, index_size
from memcli.store.vectors import Vectors

QUERIES, DEPTH = 200, 10
_ROWS = 1 << 12
_EVERY = (1 << 63) - 1


@dataclass(slots=True)
class CompressionReport:
    """What a compression changed. Sizes are in bytes.

    `index_*` is what the segments take in the file, `scanned_*` what of them a scan keeps in memory: float32 vectors
    would be 4 bytes per dimension. `recall_at_10` is the share of the ten nearest that are still among the ten nearest,
    `rss_*` the largest memory of a whole search process; None where there is nothing to compare.
    """

    spec: str
    vectors: int
    dim_before: int
    dim_after: int
    index_before: int
    index_after: int
    scanned_before: int
    scanned_after: int
    file_before: int
    file_after: int = 0
    queries: int = 0
    recall_at_10: float | None = None
    energy: float | None = None
    rss_before: int | None = None
    rss_after: int | None = None


def compression(vectors: Vectors, base_id: str, spec: str) -> Compression:
    """The compression `spec` of the stored vectors of a model; a PCA is fitted on all of them, a segment at a time."""
    kind, _, dims = spec.partition(":")
    if kind != PCA:
        return Compression(base_id, spec)
    moment: NDArray[np.float64] | None = None
    rows = last = 0
    for _, segment in vectors.segments():
        whole = segment.whole()
        for start in range(0, len(whole), _ROWS):
            block = whole[start : start + _ROWS].astype(np.float64)
            moment = block.T @ block if moment is None else moment + block.T @ block
        rows += len(whole)
        last = max(last, int(segment.memory_ids[-1]))
    if moment is None:
        raise ValueError("there are no vectors to fit a basis to")
    basis, energy = fitted(moment, int(dims))
    return Compression(base_id, spec, basis, energy, rows, last)


def to_row(found: Compression, base_dim: int) -> CompressionRow:
    """A compression as it is stored."""
    basis = None if found.basis is None else np.ascontiguousarray(found.basis, "<f4").tobytes()
    return CompressionRow(
        found.model_id,
        found.base_id,
        found.spec,
        found.dim(base_dim),
        basis,
        found.energy,
        found.rows,
        found.last_memory_id,
    )


def stored_in(store: Store, vectors: Vectors) -> Find:
    """How to find vectors of texts that a database has."""

    def find(hashes: Sequence[bytes]) -> Mapping[bytes, NDArray[np.float32]]:
        ids = first_with_text(store, list(hashes), _EVERY)
        stored = vectors.rows(sorted(set(ids.values())))
        return {each: stored[memory_id] for each, memory_id in ids.items() if memory_id in stored}

    return find


def compare(
    store: Store, old: Vectors, new: Vectors, old_id: str, found: Compression, dim: int, *, is_whole: bool
) -> CompressionReport:
    """Compare the vectors of a model with those made of them, before the former go; only `is_whole` ones tell a recall.

    Every nearest neighbour is found by comparing with all vectors, in float32; no vector counts as its own neighbour.
    """
    before, after = index_size(store, old_id), index_size(store, found.model_id)
    report = CompressionReport(
        found.spec,
        after.vectors,
        dim,
        found.dim(dim),
        before.stored_bytes,
        after.stored_bytes,
        before.scanned_bytes,
        after.scanned_bytes,
        file_bytes(store),
        energy=None if found.basis is None else found.energy,
    )
    if found.spec == INT7 and can_pack(found.dim(dim)):
        # Codes are stored a byte each, and packed when a search reads them.
        report.scanned_after -= after.vectors * (found.dim(dim) - packed_bytes(found.dim(dim)))
    if is_whole and before.vectors > DEPTH:
        ids, queries = _sample(old, before.vectors)
        exact = _nearest(old, ids, queries)
        kept = _nearest(new, ids, found.project(queries))
        report.queries = len(ids)
        hits = sum(len(np.intersect1d(one, other)) for one, other in zip(exact, kept, strict=True))
        report.recall_at_10 = hits / exact.size
    return report


def _sample(vectors: Vectors, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Up to QUERIES vectors with their ids, spread evenly over all."""
    step = max(count // QUERIES, 1)
    ids, rows = [np.empty(0, np.int64)], []
    at = 0
    for _, segment in vectors.segments():
        places = np.arange(-at % step, len(segment.memory_ids), step)
        at += len(segment.memory_ids)
        if len(places):
            ids.append(segment.memory_ids[places])
            rows.append(segment.vectors[places])
    found = np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
    return np.concatenate(ids)[:QUERIES], found[:QUERIES]


def _nearest(vectors: Vectors, ids: NDArray[np.int64], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """The ids of the DEPTH nearest of each query, (q, DEPTH), the query itself left out; equal ones by lower id."""
    scores = np.full((len(queries), DEPTH), -np.inf, np.float32)
    found = np.full((len(queries), DEPTH), -1, np.int64)
    for _, segment in vectors.segments():
        products = queries @ segment.whole().T
        products[ids[:, None] == segment.memory_ids[None, :]] = -np.inf
        both = np.concatenate([scores, products], axis=1)
        names = np.concatenate([found, np.broadcast_to(segment.memory_ids, products.shape)], axis=1)
        best = np.argsort(-both, axis=1, kind="stable")[:, :DEPTH]
        scores, found = np.take_along_axis(both, best, axis=1), np.take_along_axis(names, best, axis=1)
    return found
