"""The second opinion: another embedding model looks at merges on the border before they are made."""

from __future__ import annotations

import numpy as np

from memcli.model import Judgement
from memcli.protocols import Embedder

# A merge is on the border when its cosine is in the lower half between the threshold and 1, or its words overlap less.
LEAST_OVERLAP = 0.8


class SecondOpinion:
    """Asks `embedder`, under which `own_threshold` is the least cosine of near duplicates, about texts on the border.

    Only texts that it is asked about are embedded, each once.
    """

    def __init__(self, embedder: Embedder, own_threshold: float, threshold: float) -> None:
        self._embedder = embedder
        self._own_threshold = own_threshold
        self._sure = (threshold + 1) / 2
        self._vectors: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        self.asked = 0

    def against(self, one: str, other: str, cosine: float, judgement: Judgement) -> str:
        """Say what this model has against a merge that the gates let pass; nothing where it agrees or is not asked."""
        if cosine >= self._sure and judgement.overlap >= LEAST_OVERLAP:
            return ""
        self.asked += 1
        missing = [text for text in dict.fromkeys((one, other)) if text not in self._vectors]
        if missing:
            rows = self._embedder.embed(missing).astype(np.float64)
            self._vectors.update(zip(missing, rows, strict=True))
        own = float(self._vectors[one] @ self._vectors[other])
        return "" if own >= self._own_threshold else f"cosine {own:.3f}, below {self._own_threshold:g}"
