"""Vectors that are there already, used in place of embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memcli.protocols import Embedder
from memcli.text import content_hash

# Content hashes -> the vectors, float32 (dim,), of those of them that are known.
Find = Callable[[Sequence[bytes]], Mapping[bytes, NDArray[np.float32]]]


class CarriedEmbedder:
    """An embedder that takes the vectors of texts from where `find` has them; only the others are embedded."""

    def __init__(self, embedder: Embedder, find: Find) -> None:
        self.model_id = embedder.model_id
        self.dim = embedder.dim
        self.carried = 0
        self._embedder = embedder
        self._find = find

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        hashes = [content_hash(text) for text in texts]
        found = self._find(list(dict.fromkeys(hashes)))
        missing = [text for text, each in zip(texts, hashes, strict=True) if each not in found]
        self.carried += len(texts) - len(missing)
        if not found:
            return self._embedder.embed(texts)
        made = iter(self._embedder.embed(missing)) if missing else iter(())
        return np.stack([found[each] if each in found else next(made) for each in hashes])

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        return self._embedder.embed_queries(texts)
