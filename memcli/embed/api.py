"""Embedding by an OpenAI-compatible provider: few calls, a few of them at a time, paced by its headers."""

from __future__ import annotations

import base64
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from memcli.errors import ProviderError
from memcli.protocols import Spending
from memcli.provider import GO_ON, KEY_VARIABLE, OPENAI_URL, Pace, endpoint, in_order, open_client
from memcli.text import clean, digest

if TYPE_CHECKING:
    import openai
    from numpy.typing import NDArray

PREFIX = "openai:"
NEAR_THRESHOLD = 0.9

# OpenAI's limits per call. A token of a byte-level vocabulary is at least one byte, so bytes bound tokens from above.
_MOST_ITEMS = 2048
_MOST_BYTES = 300_000
_LONGEST_TEXT = 8191
_BYTES_PER_TOKEN = 3  # a low guess, for comparing with the tokens that a provider says are left
_AT_ONCE = 4
_RETRIES = 5
_TIMEOUT = 120.0
_TOO_MUCH = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class ApiModel:
    """An embedding model of a provider, and where it is asked; `dim` is the length of its vectors."""

    model: str
    dim: int
    base_url: str = OPENAI_URL

    @property
    def name(self) -> str:
        """What the user calls it."""
        return PREFIX + self.model

    @property
    def near_threshold(self) -> float:
        """The cosine from which texts may be near duplicates: the same for all, since none was calibrated here."""
        return NEAR_THRESHOLD

    @property
    def model_id(self) -> str:
        """The hash that its vectors are stored under: of name and dimensions, wherever the same model is hosted."""
        return digest("openai", self.model, str(self.dim)).hex()


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """How a provider is called: at most `at_once` calls at a time, each retried `retries` times.

    `timeout` is in seconds; `price` in US dollars per million tokens, None where the user gave none; `told` hears of
    pauses, see Pace.
    """

    price: float | None = None
    at_once: int = _AT_ONCE
    retries: int = _RETRIES
    timeout: float = _TIMEOUT
    told: Callable[[str], None] | None = None


def probe(model: str, base_url: str, environ: Mapping[str, str], options: ApiOptions, spending: Spending) -> ApiModel:
    """Ask the provider once, for the length of the model's vectors.

    Raises:
        UsageError: the extra is not installed, or there is no key.
        ProviderError: the provider does not answer with a vector.
    """
    embedder = ApiEmbedder(ApiModel(model, 0, base_url), environ, options, spending)
    return ApiModel(model, embedder.embed(["dimensions"]).shape[1], base_url)


class ApiEmbedder:
    """Embeds by a provider. What it spends is added up in `spending`.

    `dim` 0 in the model takes whatever length comes first. The client is made at the first text: importing it takes
    half a second.
    """

    def __init__(
        self,
        model: ApiModel,
        environ: Mapping[str, str],
        options: ApiOptions | None = None,
        spending: Spending | None = None,
    ) -> None:
        self.model_id = model.model_id
        self.dim = model.dim
        self._model = model
        self._options = options or ApiOptions()
        self._spending = spending or Spending()
        self._pace = Pace(self._options.told)
        self._endpoint = endpoint(model.base_url, KEY_VARIABLE, environ)
        self._most_items = _MOST_ITEMS
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit-length row per text, in order, shape (len(texts), dim), float32.

        A text of nothing but white space has the zero row and is not sent; one that is too long is cut off.

        Raises:
            UsageError: the extra is not installed, or OpenAI itself is to be asked without a key.
            ProviderError: the provider fails for longer than the retries last, or gives no usable vector for a text.
        """
        cut = {place: _cut(text) for place, text in enumerate(texts) if text.strip()}
        batches = list(_batches(cut, self._most_items))
        rows: dict[int, NDArray[np.float32]] = {}
        if batches:
            self._client = self._client or self._opened()
            answers = in_order(partial(self._rows, self._client), batches, self._options.at_once)
            rows = dict(zip(cut, chain.from_iterable(answers), strict=True))
        result = np.zeros((len(texts), self.dim), dtype=np.float32)
        for place, row in rows.items():
            result[place] = row
        return result

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder: a provider makes no difference between questions and what they search."""
        return self.embed(texts)

    def _opened(self) -> openai.OpenAI:
        what, options = "an embedding model of a provider", self._options
        return open_client(self._endpoint, what, options.retries, options.timeout, self._pace)

    def _rows(self, client: openai.OpenAI, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Unit rows of one batch. What is refused as a whole is asked for by halves, what is missing singly."""
        if len(texts) > self._most_items:
            return self._halves(client, texts)
        answer = self._ask(client, texts)
        if isinstance(answer, str):
            if len(texts) == 1:
                raise self._failure(f"refuses a text of {len(texts[0]):,} characters: {answer}")
            rows = self._halves(client, texts)
            # Both halves are through: the batch was too large. (A text that is refused by itself has failed by now.)
            self._most_items = min(self._most_items, (len(texts) + 1) // 2)
            return rows
        missing = [place for place in range(len(texts)) if place not in answer]
        if missing and len(texts) == 1:
            raise self._failure(f"gives no usable vector for a text of {len(texts[0]):,} characters")
        if len(missing) == len(texts):
            return self._halves(client, texts)
        answer |= {place: self._rows(client, [texts[place]])[0] for place in missing}
        return [answer[place] for place in range(len(texts))]

    def _halves(self, client: openai.OpenAI, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        middle = (len(texts) + 1) // 2
        return self._rows(client, texts[:middle]) + self._rows(client, texts[middle:])

    def _ask(self, client: openai.OpenAI, texts: Sequence[str]) -> dict[int, NDArray[np.float32]] | str:
        """Usable rows by place, or why the provider refuses these texts."""
        import openai  # noqa: PLC0415 - takes half a second, and is an extra

        self._pace.wait(sum(len(text.encode()) for text in texts) // _BYTES_PER_TOKEN)
        try:
            response = client.embeddings.create(model=self._model.model, input=list(texts), encoding_format="base64")
        except openai.APIStatusError as error:
            said = self._endpoint.said(error)
            if error.status_code in _TOO_MUCH:
                return said
            advice = self._endpoint.advice(error.status_code, "")
            raise self._failure(f"answers {error.status_code}: {said}", advice) from None
        except openai.APITimeoutError:
            raise self._failure(f"does not answer within {self._options.timeout:g} s") from None
        except openai.APIError as error:
            reason = type(error.__cause__ or error).__name__
            raise self._failure(f"cannot be reached, or answers with something else ({reason})") from None
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {}  # an answer that is no answer: the client checks little of it
        self._spend(getattr(response, "usage", None))
        rows, lengths = _usable(getattr(response, "data", None), len(texts))
        with self._lock:
            if not self.dim and rows:
                self.dim = len(next(iter(rows.values())))
        fitting = {place: row for place, row in rows.items() if len(row) == self.dim}
        if lengths and not fitting:
            raise self._failure(f"gives vectors of {min(lengths)} numbers, where {self._model.name} has {self.dim}")
        return fitting

    def _spend(self, usage: object) -> None:
        tokens = getattr(usage, "total_tokens", None) or getattr(usage, "prompt_tokens", None)
        counted = tokens if isinstance(tokens, int) and tokens > 0 else 0
        with self._lock:
            self._spending.calls += 1
            self._spending.tokens += counted
            if self._options.price is not None:
                self._spending.cost_usd += counted * self._options.price / 1e6

    def _failure(self, what: str, hint: str = GO_ON) -> ProviderError:
        return ProviderError(f"the embedding provider {self._model.base_url} ({self._model.model}) {what}", hint)


class SilentEmbedder:
    """Stands in for a provider in a dry run: nobody is called, and no text is near another."""

    def __init__(self, model: ApiModel) -> None:
        self.model_id = model.model_id
        self.dim = model.dim

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return rows of zeros, shape (len(texts), dim)."""
        return np.zeros((len(texts), self.dim), dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return rows of zeros as well."""
        return self.embed(texts)


def _cut(text: str) -> str:
    raw = clean(text).encode()
    return raw[:_LONGEST_TEXT].decode(errors="ignore")


def _batches(texts: Mapping[int, str], most_items: int) -> Iterator[list[str]]:
    """The texts in order, as many together as one call may hold."""
    batch: list[str] = []
    size = 0
    for text in texts.values():
        length = len(text.encode())
        if batch and (len(batch) == most_items or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


def _usable(data: object, count: int) -> tuple[dict[int, NDArray[np.float32]], set[int]]:
    """Unit rows by the place of their text, and their lengths; none where it cannot be told whose rows they are."""
    items: list[Any] = data if isinstance(data, list) else []
    places: list[Any] = [getattr(item, "index", None) for item in items]
    if items and all(place is None for place in places) and len(items) == count:
        places = list(range(count))
    if not all(isinstance(place, int) and 0 <= place < count for place in places) or len(set(places)) < len(places):
        return {}, set()
    rows = {place: _unit(getattr(item, "embedding", None)) for place, item in zip(places, items, strict=True)}
    usable = {place: row for place, row in rows.items() if row is not None}
    return usable, {len(row) for row in usable.values()}


def _unit(value: object) -> NDArray[np.float32] | None:
    """A vector as it was sent, base64 or numbers, at unit length; None where it has none."""
    try:
        raw = np.frombuffer(base64.b64decode(value), "<f4") if isinstance(value, str) else np.asarray(value)
        row = raw.astype(np.float64)
    except (TypeError, ValueError):
        return None
    length = float(np.linalg.norm(row)) if row.ndim == 1 else math.nan
    return (row / length).astype(np.float32) if math.isfinite(length) and length > 0 else None
