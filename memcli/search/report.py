"""What a search is asked for and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from memcli.store.search import Details, Filters
from memcli.tags import relevance

Mode = Literal["hybrid", "vector", "keyword"]
MODES: tuple[Mode, ...] = ("hybrid", "vector", "keyword")
# Around the words of a hit that a query has found: code points that Unicode keeps free for uses like this.
MARKS = ("\ufdd0", "\ufdd1")


@dataclass(frozen=True, slots=True)
class Request:
    """How queries are answered, the same for all of them.

    `environment` are tags whose memories come first; `context` is how many messages around a source are shown.
    """

    mode: Mode = "hybrid"
    filters: Filters = field(default_factory=Filters)
    k: int = 10
    environment: tuple[str, ...] = ()
    context: int = 0
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """A star and its score; `parts` add up to it."""

    star: int
    score: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked star with what is shown of it; `context` are the messages around its first source."""

    ranked: Ranked
    details: Details
    context: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query, best first, how long they took, and whether they come from the query cache."""

    query: str
    request: Request
    seconds: float
    hits: tuple[Hit, ...]
    cached: bool = False

    def to_json(self) -> dict[str, object]:
        """The answer as part of the JSON document."""
        return {
            "query": self.query,
            "seconds": round(self.seconds, 4),
            "cached": self.cached,
            "hits": [self._hit(hit) for hit in self.hits],
        }

    def _hit(self, hit: Hit) -> dict[str, object]:
        star = hit.details
        found: dict[str, object] = {
            "memory_id": star.memory_id,
            "content": star.content,
            "type": star.type,
            "importance": star.importance,
            "keywords": list(star.keywords),
            "score": round(hit.ranked.score, 4),
            "agent_id": star.agent_id,
            "session_id": star.session_id,
            "timestamp": star.timestamp,
            "tags": relevance(star.sessions, star.tags),
            "sources": star.sources,
        }
        if self.request.explain:
            found["parts"] = {name: round(part, 4) for name, part in hit.ranked.parts.items()}
        if self.request.context:
            found["context"] = list(hit.context)
        return found
