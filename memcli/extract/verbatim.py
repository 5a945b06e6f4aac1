"""The verbatim tier: what was said, word for word, in pieces that an embedding model can hold."""

from __future__ import annotations

from memcli.model import Candidate, Extraction, Provenance, Window
from memcli.text import pieces

IMPORTANCE = 0.3


class VerbatimExtractor:
    """Makes every part of a window an episodic memory, long ones several."""

    tier = "verbatim"

    def version_for(self, agent: str) -> str:  # noqa: ARG002 - the same for all agents
        """See Extractor."""
        return "1"

    def extract(self, window: Window) -> Extraction:
        """See Extractor."""
        return Extraction(
            tuple(
                Candidate(
                    content=part.text[start:end],
                    type="episodic",
                    importance=IMPORTANCE,
                    method="verbatim",
                    sources=(Provenance(part.message_id, part.start + start, part.start + end),),
                )
                for part in window.parts
                for start, end in pieces(part.text)
            )
        )
