"""From queries to answers: what the cache has, what the engine ranks, and what is shown of each hit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from memcli import __version__
from memcli.search.names import names_in
from memcli.search.report import MARKS, Answer, Hit, Ranked, Request
from memcli.search.words import any_of
from memcli.store import cache as cache_rows
from memcli.store import search as search_rows
from memcli.store.cache import Kind, Limits, Uses
from memcli.store.db import Store
from memcli.text import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memcli.protocols import Embedder
    from memcli.search.engine import Engine
    from memcli.search.pool import Pool


class Searcher:
    """Answers queries from one database; the vectors that it has read stay in memory for the next query.

    With `limits` the answers, and the vectors of queries, are looked up in the database's cache and added to it.
    """

    def __init__(
        self, store: Store, open_embedder: Callable[[], Embedder], max_memory: int, limits: Limits | None
    ) -> None:
        """Wrap an open store; `open_embedder` gives the embedder of the model that the database has at that moment."""
        self.store = store
        self._open_embedder = open_embedder
        self._limits = limits
        self._max_memory = max_memory
        search_rows.prepare(store)
        with store.snapshot():
            self._embedder = open_embedder()

    @cached_property
    def _engine(self) -> Engine:
        from memcli.search.engine import Engine  # noqa: PLC0415 - numpy and onnxruntime: a cached answer needs neither

        return Engine(self.store, self._embedder.model_id, self._max_memory)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """One state of the database, and the embedder of its model: a reindex may have switched since the last one."""
        with self.store.snapshot():
            if self.store.meta("model_id") not in {None, self._embedder.model_id}:
                self._embedder = self._open_embedder()
                self.forget()
            yield

    def forget(self) -> None:
        """Drop what was read of vectors and words, as a new process would begin."""
        self.__dict__.pop("_engine", None)

    def answer(self, queries: Sequence[str], request: Request) -> list[Answer]:
        """Find the `request.k` best memories for each query, in one state of the database."""
        began = time.perf_counter()
        uses: dict[Kind, Uses] = {"answer": Uses(), "embedding": Uses()}
        with self._snapshot():
            generation = self.store.generation()
            keys = [_answer_key(query, request, self._embedder.model_id, generation) for query in queries]
            known = self._known("answer", keys, uses)
            ranked = {key: _loaded(value) for key, value in known.items()}
            missing = {key: query for key, query in zip(keys, queries, strict=True) if key not in ranked}
            if missing:
                ranked |= self._ranked(missing, request, uses)
            shared = (time.perf_counter() - began) / max(len(queries), 1)
            answers = [
                self._answer(query, request, ranked[key], shared, cached=key in known)
                for key, query in zip(keys, queries, strict=True)
            ]
        if self._limits is not None:
            cache_rows.remember(self.store, uses, self._limits)
        return answers

    def _known(self, kind: Kind, keys: Sequence[bytes], uses: Mapping[Kind, Uses]) -> dict[bytes, bytes]:
        """What the cache has of `keys`; each is counted as a hit or a miss."""
        if self._limits is None:
            return {}
        found = cache_rows.look_up(self.store, kind, keys, self._limits)
        use = uses[kind]
        use.hits.update(dict.fromkeys(found))
        use.hit_count += sum(key in found for key in keys)
        use.miss_count += sum(key not in found for key in keys)
        return found

    def _ranked(
        self, missing: Mapping[bytes, str], request: Request, uses: Mapping[Kind, Uses]
    ) -> dict[bytes, list[Ranked]]:
        queries = list(missing.values())
        embedded = None if request.mode == "keyword" else self._embedded(queries, uses)
        ranked = dict(zip(missing, self._engine.rank(queries, embedded, request), strict=True))
        uses["answer"].new.update({key: _dumped(hits) for key, hits in ranked.items()})
        return ranked

    def _embedded(self, queries: Sequence[str], uses: Mapping[Kind, Uses]) -> NDArray[np.float32]:
        """The vectors of queries, float32 (n, dim); one that was embedded before is taken from the cache."""
        import numpy as np  # noqa: PLC0415 - a cached answer needs none

        keys = [digest(self._embedder.model_id, query) for query in queries]
        known = self._known("embedding", keys, uses)
        missing = {key: query for key, query in zip(keys, queries, strict=True) if key not in known}
        rows = {key: np.frombuffer(value, dtype="<f4") for key, value in known.items()}
        if missing:
            made = self._embedder.embed_queries(list(missing.values()))
            rows |= dict(zip(missing, made, strict=True))
            uses["embedding"].new.update({key: rows[key].astype("<f4").tobytes() for key in missing})
        return np.stack([rows[key] for key in keys]).astype(np.float32)

    def _answer(self, query: str, request: Request, ranked: list[Ranked], shared: float, *, cached: bool) -> Answer:
        began = time.perf_counter()
        stars = search_rows.details(self.store, [each.star for each in ranked])
        hits = [
            Hit(each, stars[each.star], context=self._around(stars[each.star].sources, request.context))
            for each in ranked
        ]
        return Answer(query, request, shared + time.perf_counter() - began, tuple(hits), cached)

    def _around(self, sources: Sequence[Mapping[str, object]], reach: int) -> tuple[Mapping[str, object], ...]:
        if not reach or not sources:
            return ()
        return tuple(search_rows.messages_around(self.store, int(str(sources[0]["message_id"])), reach))

    def pools(self, queries: Sequence[str], request: Request) -> list[Pool]:
        """The contenders of each query in hybrid search, for whoever wants to weigh them in other ways."""
        with self._snapshot():
            return list(self._engine.pools(queries, self._embedder.embed_queries(queries), request))

    def marked(self, answer: Answer) -> list[str]:
        """The texts of an answer's hits with MARKS around the words of the query."""
        _, words = names_in(self.store, answer.query)
        found = search_rows.marked(self.store, any_of(words), [hit.ranked.star for hit in answer.hits], MARKS)
        return [found.get(hit.ranked.star, hit.details.content) for hit in answer.hits]


def _answer_key(query: str, request: Request, model_id: str, generation: int) -> bytes:
    """What an answer depends on; recency enters scores by day."""
    asked = [request.mode, asdict(request.filters), request.k, request.environment, __version__]
    day = datetime.now(UTC).date().isoformat()
    return digest(query, json.dumps(asked), model_id, str(generation), day)


def _dumped(ranked: Sequence[Ranked]) -> bytes:
    return json.dumps([[each.star, each.score, dict(each.parts)] for each in ranked]).encode()


def _loaded(value: bytes) -> list[Ranked]:
    return [Ranked(star, score, parts) for star, score, parts in json.loads(value)]
