"""What all calls of an OpenAI-compatible provider share: the client, its pace, its errors, a few calls at a time.

Retries with backoff, jitter and Retry-After are the official client's own. The key is read from the environment, is
never stored, and is cut out of everything that a provider says.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from memcli.errors import ProviderError, UsageError
from memcli.protocols import Meter
from memcli.text import clean

if TYPE_CHECKING:
    import httpx2
    import openai

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
GO_ON = "what was committed is kept; run it again to go on"

_LONGEST_WAIT = 120.0
_NOTICED = 2.0
_LONGEST_SAID = 300
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# What the client raises where no request can have reached the provider.
NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})

T = TypeVar("T")
R = TypeVar("R")


class UnusableModelError(ProviderError):
    """A provider that will answer no other call either: nobody is there, or the key or the model's name is wrong."""


class BusyModelError(ProviderError):
    """A provider that would not answer so many calls: what it was asked is no worse for that, and is asked later."""


def unusable(error: ProviderError) -> UnusableModelError:
    """The error as one that no other call would fare better with."""
    return UnusableModelError(error.message, error.hint)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider is asked, with the key of the environment variable `key_variable`, "" where there is none."""

    base_url: str
    key_variable: str = KEY_VARIABLE
    key: str = field(default="", repr=False)

    def said(self, error: openai.APIStatusError) -> str:
        """What the provider says of an error, short, on one line and without the key."""
        body = error.body
        said = body.get("message") if isinstance(body, dict) else body
        text = clean(" ".join(str(said or error.response.reason_phrase or "no reason given").split()))
        return (text.replace(self.key, "***") if self.key else text)[:_LONGEST_SAID]

    def advice(self, status: int, settings: str) -> str:
        """What to do about an answer with the HTTP status; `settings` is how the user's settings of it begin."""
        if status in {401, 403} and not self.key_variable:
            return f"name the environment variable of its key: {settings}api_key_env"
        if status in {401, 403}:
            return f"check the key in the environment variable {self.key_variable}"
        if status == 404:  # noqa: PLR2004 - not found
            return f"check the name of the model and {settings}base_url"
        return GO_ON


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """Tell `meter` of the requests of this thread."""
    token = _meter.set(meter)
    try:
        yield
    finally:
        _meter.reset(token)


@dataclass(slots=True)
class Pace:
    """When the next call may start, as the headers of all answers so far tell. Shared by the threads of a caller.

    `told` hears of each pause that a server asks for and that the user would notice, when it begins.
    """

    told: Callable[[str], None] | None = None
    _requests: float = math.inf
    _tokens: float = math.inf
    _requests_until: float = 0.0
    _tokens_until: float = 0.0
    _blocked_until: float = 0.0
    _told_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def learn(self, response: httpx2.Response) -> None:
        """Take up what an answer says of the limits."""
        headers, now = response.headers, time.monotonic()
        with self._lock:
            self._requests = _count(headers.get("x-ratelimit-remaining-requests"))
            self._tokens = _count(headers.get("x-ratelimit-remaining-tokens"))
            self._requests_until = now + _duration(headers.get("x-ratelimit-reset-requests"))
            self._tokens_until = now + _duration(headers.get("x-ratelimit-reset-tokens"))
            asked = _duration(headers.get("retry-after"))
            if response.status_code == 429:  # noqa: PLR2004 - too many requests
                self._blocked_until = max(self._blocked_until, now + asked)
        # The client itself waits before it tries again; where it would be for longer, the next call does.
        if response.is_error:
            self._tell(min(asked, _LONGEST_WAIT))

    def wait(self, tokens: int) -> None:
        """Sleep until a call of about so many tokens is within the limits; never longer than two minutes."""
        with self._lock:
            until = self._blocked_until
            if self._requests < 1:
                until = max(until, self._requests_until)
            if self._tokens < tokens:
                until = max(until, self._tokens_until)
            self._requests -= 1
            self._tokens -= tokens
        pause = min(until - time.monotonic(), _LONGEST_WAIT)
        if pause > 0:
            self._tell(pause)
            time.sleep(pause)

    def _tell(self, pause: float) -> None:
        """Say once, not for each thread, that so many seconds are waited from now on."""
        until = time.monotonic() + pause
        with self._lock:
            is_news = pause >= _NOTICED and until > self._told_until + _NOTICED
            if is_news:
                self._told_until = until
        if is_news and self.told is not None:
            self.told(f"waiting {pause:.0f} s as the server asked")


def _count(value: str | None) -> float:
    return float(value) if value is not None and value.isdecimal() else math.inf


def _duration(value: str | None) -> float:
    """Seconds of "6m0s", "20ms" or "7"; 0 of anything else."""
    if value is None:
        return 0.0
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(value))


def checked_url(url: str) -> str:
    """A base URL without the slash at its end.

    Raises:
        UsageError: no URL of http or https, or one that carries credentials, which would be stored with it.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or not url.isprintable() or " " in url:
        raise UsageError("the base URL is not one of http or https", "as in: http://localhost:11434/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "the base URL carries credentials or a query, which would be stored in the database",
            "give it without them, and the key in an environment variable",
        )
    return url.rstrip("/")


def endpoint(base_url: str, key_variable: str, environ: Mapping[str, str]) -> Endpoint:
    """The endpoint with its key; it has none where `key_variable` is empty."""
    return Endpoint(base_url, key_variable, environ.get(key_variable, "").strip())


def check_client(where: Endpoint, what: str) -> None:
    """Find out without importing it whether there is a client for `what` (names it in errors), and a key.

    Raises:
        UsageError: the extra is not installed, OpenAI itself is to be asked without a key, or the key cannot be sent.
    """
    if find_spec("openai") is None:
        raise UsageError(
            f"{what} needs the client that comes with an extra", 'install it with: pip install "memcli[llm]"'
        )
    if not where.key and where.base_url == OPENAI_URL:
        raise UsageError(f"there is no key for {where.base_url}", f"set the environment variable {where.key_variable}")
    # The client would fail at it in every call, when the call is written down already.
    if any(not "!" <= mark <= "~" for mark in where.key):
        raise UsageError(
            f"the key in the environment variable {where.key_variable} holds a character that no key can have",
            "set it to the key alone: without spaces, line ends and letters beyond ASCII",
        )


def open_client(where: Endpoint, what: str, retries: int, timeout: float, pace: Pace) -> openai.OpenAI:
    """A client for `what`, see `check_client`; `timeout` in seconds. The calling thread's meter sees its requests.

    Raises:
        UsageError: the extra is not installed, or OpenAI itself is to be asked without a key.
    """
    check_client(where, what)
    import openai  # noqa: PLC0415 - takes half a second, and is an extra

    class MeteredClient(openai.DefaultHttpxClient):
        def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401 - passed on
            meter = _meter.get()
            if meter is None:
                return super().send(request, **options)
            meter.sent()
            try:
                response = super().send(request, **options)
            except BaseException as error:
                name = type(error).__name__
                (meter.refused if name in NEVER_SENT else meter.lost)(name)
                raise
            if response.is_error:
                meter.refused(f"HTTP {response.status_code}")
            return response

    client = openai.OpenAI(
        # A server of the user's own may want none, but the client insists on one.
        api_key=where.key or "none",
        base_url=where.base_url,
        timeout=timeout,
        max_retries=retries,
        http_client=MeteredClient(event_hooks={"response": [pace.learn]}),
    )
    if where.base_url != OPENAI_URL:
        # The client takes them from OPENAI_ORG_ID and OPENAI_PROJECT_ID: an account that no other server should see.
        client.organization = client.project = None
    return client


def in_order(work: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
    """`work` of every item, at most `at_once` at a time, in order; the first failure ends it.

    The threads are daemons: an interrupted run waits neither for an answer nor for a pause before a retry.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[tuple[int, R | None, BaseException | None]] = SimpleQueue()
    failed = threading.Event()
    for place in range(len(items)):
        waiting.put(place)

    def serve() -> None:
        while not failed.is_set():
            try:
                place = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((place, work(items[place]), None))
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits for the results
                done.put((place, None, error))

    for _ in range(min(at_once, len(items))):
        threading.Thread(target=serve, name="provider-call", daemon=True).start()
    results: dict[int, Any] = {}
    try:
        while len(results) < len(items):
            place, result, error = done.get()
            if error is not None:
                raise error
            results[place] = result
    finally:
        failed.set()
    return [results[place] for place in range(len(items))]
