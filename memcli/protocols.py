"""The narrow protocols that the parts meet at. Implementations live in readers/, extract/, embed/ and render.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

from memcli.model import Extraction, Item, PlannedCall, Position, Reading, Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True)
class Source:
    """An open transcript, its stream standing at `position`.

    `final` says that nothing can be appended any more (standard input, archives), so that a last line without a
    newline cannot wait for the next run. `state` is what the reader must remember to go on in the middle of the
    file; it is kept with the cursor.
    """

    stream: BinaryIO
    position: Position = field(default_factory=Position)
    final: bool = False
    state: dict[str, str] = field(default_factory=dict)


class Reader(Protocol):
    """One transcript dialect.

    `name` is the format's name; `agent` is whose memory a transcript feeds when neither the user nor the record says.
    """

    name: str
    agent: str

    def sniff(self, records: Sequence[object]) -> bool:
        """Tell from the first parsed records of a file whether it is of this dialect."""

    def read(self, source: Source) -> Iterator[Item]:
        """Yield everything from `source.position` on, in file order. Bad lines are yielded, never raised."""


class Tier(Protocol):
    """One extraction tier. State is kept per (window, tier, version)."""

    tier: str

    def version_for(self, agent: str) -> str:
        """Give the version of what the tier does with windows of `agent`."""


class Extractor(Tier, Protocol):
    """A tier that costs nothing but time."""

    def extract(self, window: Window) -> Extraction:
        """Take the statements worth remembering from one window."""


class Meter(Protocol):
    """Is told of every request of a call, retries included, in the thread that makes it."""

    def sent(self) -> None:
        """A request is about to go out; what this raises keeps it back."""

    def refused(self, reason: str) -> None:
        """The last request costs nothing: it was refused, or never reached the provider."""

    def lost(self, reason: str) -> None:
        """Whether the last request was answered is not known: it may have been charged."""


class Call(Meter, Protocol):
    """The requests about one window: what they may cost is said before, what they did cost after."""

    def expect(self, tokens_in: int, tokens_out: int) -> None:
        """Requests from here on may take so many tokens at worst."""

    def answered(self, tokens_in: int | None, tokens_out: int | None, answer: str | None) -> None:
        """The last request was answered and took so many tokens (None: was not said).

        `answer` is what it said, None where that is no use.
        """


class ModelTier(Tier, Protocol):
    """A tier that asks a model once per window."""

    model: str
    min_messages: int

    def key(self, window: Window) -> bytes:
        """The hash of everything that decides the answer: prompt, model, parameters, content of the window."""

    def plan(self, window: Window) -> PlannedCall:
        """What `ask` would send."""

    def ask(self, window: Window, call: Call) -> str:
        """Ask the model, once more where the answer cannot be read; `call` is told of every request.

        Raises:
            UnusableModelError: no other window would fare better.
            ProviderError: no readable answer was to be had.
        """

    def read(self, window: Window, answer: str) -> Reading:
        """Take the statements from an answer that `ask` has given, at whatever time. Pure."""


class Embedder(Protocol):
    """An embedding model; `model_id` is a content hash, `dim` the length of its vectors."""

    model_id: str
    dim: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit-length row per text to remember, in order, shape (len(texts), dim), float32.

        A text's row does not depend on the other texts of the call. A text without any token has the zero row.
        """

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return rows as `embed` does, but for questions to what is remembered: some models tell them apart."""


class Progress(Protocol):
    """Watches a run; the core announces, only the user interface draws."""

    def start(self, total_bytes: int | None) -> None:
        """A run begins over `total_bytes` of input (None: unknown)."""

    def phase(self, name: str, messages: int) -> None:
        """All input is read; what is called `name` begins over so many stored messages."""

    def advance(self, read_bytes: int, messages: int) -> None:
        """So many bytes and messages more are done."""

    def stage(self, name: str, seconds: float) -> None:
        """A stage of the batch at hand has ended and took so long."""

    def note(self, text: str) -> None:
        """Something the user should know now."""

    def finish(self) -> None:
        """The run is over."""


@dataclass(slots=True)
class Spending:
    """What a provider was asked and what that cost so far; the one who calls adds to it, the run reads it.

    `cost_usd` stays 0 where no price is known.
    """

    calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0

    def since(self, before: Spending) -> Spending:
        """What came to it after `before`, an earlier copy of it."""
        return Spending(self.calls - before.calls, self.tokens - before.tokens, self.cost_usd - before.cost_usd)
