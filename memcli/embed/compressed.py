"""Compressed vectors: fewer bits or fewer dimensions, behind any embedding model.

A compression makes another model of a model: its vectors are computed from those of the base model, stored under an id
of their own, and never compared with these. The store keeps what is left of them in their shortest form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memcli.errors import UsageError
from memcli.text import digest

if TYPE_CHECKING:
    from memcli.embed.api import ApiModel
    from memcli.embed.models import ModelFiles
    from memcli.protocols import Embedder

INT8, INT7, FLOAT16, PCA, NONE = "int8", "int7", "float16", "pca", "none"
_SPEC = re.compile(r"int8|int7|float16|none|pca:([1-9][0-9]{0,4})")
_CODE_RANGE = 127
# Of the 23 bits of a float32's fraction: what is left of a step times a code of 7 bits is exact.
_STEP_MASK = np.int32(~((1 << 12) - 1))


@dataclass(frozen=True, slots=True)
class Compression:
    """What is done to vectors: `spec` is int8, int7, float16 or pca:DIMS.

    Of a PCA `basis` is float32 (dims, base dim), its rows of unit length; `energy` is the share of the squared length
    of the vectors that it kept where it was fitted, on `rows` vectors up to the memory `last_memory_id`.
    """

    base_id: str
    spec: str
    basis: NDArray[np.float32] | None = None
    energy: float = 1.0
    rows: int = 0
    last_memory_id: int = 0

    @property
    def model_id(self) -> str:
        """The hash that the vectors are stored under."""
        basis = "" if self.basis is None else digest(np.ascontiguousarray(self.basis, "<f4").tobytes().hex()).hex()
        return digest("compressed", self.base_id, self.spec, basis).hex()

    def dim(self, base_dim: int) -> int:
        """The length of compressed vectors."""
        return base_dim if self.basis is None else len(self.basis)

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors float32 (n, base dim) as they are compared: of unit length again, in the dimensions that are left."""
        if self.basis is None:
            return vectors
        # In float64, so that a row does not depend on how the product is cut into blocks.
        rows = vectors.astype(np.float64) @ self.basis.T.astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        found: NDArray[np.float32] = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return found

    def compress(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors float32 (n, base dim) as they are stored: as float32 (n, dim) that need fewer bits."""
        if self.spec in {INT8, INT7}:
            return _rounded(vectors, only_odd=self.spec == INT7)
        return self.project(vectors).astype(np.float16).astype(np.float32)

    def kept(self, vectors: NDArray[np.float32]) -> float:
        """The share of the squared length of vectors that is left."""
        if self.basis is None or not len(vectors):
            return 1.0
        whole = float(np.square(vectors, dtype=np.float64).sum())
        return float(np.square(vectors.astype(np.float64) @ self.basis.T).sum()) / whole if whole else 1.0


@dataclass(frozen=True, slots=True)
class CompressedModel:
    """A model whose vectors are compressed."""

    base: ModelFiles | ApiModel
    compression: Compression

    @property
    def name(self) -> str:
        """What the user calls it."""
        return f"{self.base.name} ({self.compression.spec})"

    @property
    def model_id(self) -> str:
        """See Compression."""
        return self.compression.model_id

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        return self.compression.dim(self.base.dim)

    @property
    def near_threshold(self) -> float:
        """That of the base model."""
        return self.base.near_threshold


class CompressedEmbedder:
    """Embeds with another embedder and compresses what that gives."""

    def __init__(self, base: Embedder, compression: Compression) -> None:
        self.model_id = compression.model_id
        self.dim = compression.dim(base.dim)
        self._base = base
        self._compression = compression

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        return self._compression.compress(self._base.embed(texts))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder; a question keeps all its bits."""
        return self._compression.project(self._base.embed_queries(texts))


def checked_spec(spec: str, dim: int) -> str:
    """What the user asked for, of vectors of length `dim`.

    Raises:
        UsageError: there is no such compression, or it would leave more dimensions than there are.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(f"no such compression: {spec}", "one of int8, int7, float16, pca:DIMS (as pca:64), none")
    if match[1] and int(match[1]) >= dim:
        raise UsageError(f"{spec} is no compression of vectors of {dim} dimensions", "name fewer, as pca:64")
    return spec


def fitted(moment: NDArray[np.float64], dims: int) -> tuple[NDArray[np.float32], float]:
    """The directions in which vectors are longest, float32 (dims, dim), and the share of their squared length in them.

    `moment` is the sum of x xᵀ over the vectors, (dim, dim): no mean is taken off, since a product of two vectors must
    stay a product (the principal components of the uncentred data; Jolliffe, Principal Component Analysis, 2002).
    """
    values, directions = np.linalg.eigh(moment)
    order = np.argsort(values)[::-1][:dims]
    total = float(values.sum())
    basis = directions[:, order].T
    # The sign of a direction is arbitrary: it is fixed, so that the same vectors give the same basis.
    basis *= np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(axis=1)])[:, None]
    return np.ascontiguousarray(basis, dtype=np.float32), float(values[order].sum()) / total if total > 0 else 1.0


def _rounded(vectors: NDArray[np.float32], *, only_odd: bool) -> NDArray[np.float32]:
    """Rows as whole multiples of a step of their own, up to 127 of them, so that int8 codes give them back exactly.

    With `only_odd` they are odd multiples, of which there are 128: seven bits. Zero rows stay zero.
    """
    largest = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float32) / np.float32(_CODE_RANGE)
    steps = (largest.view(np.int32) & _STEP_MASK).view(np.float32)
    is_zero = ~(steps > 0)[:, None]
    steps = np.where(steps > 0, steps, np.float32(1))[:, None]
    codes = 2 * np.floor(vectors / (2 * steps)) + 1 if only_odd else np.rint(vectors / steps)
    found: NDArray[np.float32] = np.where(is_zero, 0, np.clip(codes, -_CODE_RANGE, _CODE_RANGE) * steps)
    return found.astype(np.float32)
