"""A chat-completions server on the loopback, which answers as it is told to; and a user who has configured it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace

from support_api import Provider
from support_cli import Home

from memcli.config import DEFAULT_TIERS, Tier

KEY = "sk-very-secret-0123456789"
PRICE_IN, PRICE_OUT = 3.0, 15.0
_MESSAGE = re.compile(r'<message-(\w+) id="(m\d+)"[^>]*>\n(.*?)\n</message-\1>', re.DOTALL)

PROFILE = """
[profiles.test]
max_messages = 20
timeout_minutes = 0
min_messages = 1
rate = {rate}
min_chars = 10
filters = "{filters}"
focus = "{focus}"
tiers = [{tiers}]
"""
TIER = """
[tiers.{name}]
model = "{name}-model"
base_url = "{url}"
api_key_env = "CHAT_KEY"
"""


def asked_about(body):
    """The messages of a question, as {id: text}."""
    return {name: text for _, name, text in _MESSAGE.findall(body["messages"][1]["content"])}


def statement(quote, *messages, says=None, **fields):
    """One statement of an answer."""
    return {
        "quote": quote,
        "messages": list(messages),
        "statement": says or f"It was said: {quote}",
        "type": "semantic",
        "importance": 0.6,
        "keywords": ["test"],
        **fields,
    }


def completion(content, tokens=None):
    """A chat completion; `content` is a text, or what is to be written as JSON. `tokens` are (in, out)."""
    text = content if isinstance(content, str) else json.dumps(content)
    tokens_in, tokens_out = tokens or (100, 10 + len(text) // 8)
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        },
    }


def honest(body, most=2):
    """What a model answers that quotes the beginnings of the first messages, word for word."""
    memories = [statement(text[:60], name) for name, text in list(asked_about(body).items())[:most]]
    return completion({"memories": memories})


class Chat(Provider):
    """Use it as a context. `behave(number, body)` gives (status, headers, document or raw bytes) of each request.

    `usage` are the (tokens in, tokens out) of all completions that were sent, `accounts` the headers by which OpenAI
    knows whose a request is.
    """

    def __init__(self, behave: Callable | None = None) -> None:
        super().__init__(behave or (lambda _number, body: (200, {}, honest(body))))
        self.usage = []
        self.accounts = set()

    def _take(self, path, headers, body):
        assert path == "/v1/chat/completions"
        with self._lock:
            self.requests.append(asked_about(body))
            self.bodies.append(body)
            self.keys.append(headers.get("authorization"))
            self.accounts |= {headers.get("openai-organization"), headers.get("openai-project")}
            number = len(self.requests)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            status, more, document = self.behave(number, body)
        finally:
            with self._lock:
                self._now -= 1
        if isinstance(document, dict) and "usage" in document:
            with self._lock:
                used = document["usage"]
                self.usage.append((used["prompt_tokens"], used["completion_tokens"]))
        return status, more, document

    @property
    def dollars(self):
        return sum(tokens_in * PRICE_IN + tokens_out * PRICE_OUT for tokens_in, tokens_out in self.usage) / 1e6

    def asked_of(self, tier):
        """The number of requests to a tier's model."""
        return sum(body["model"] == f"{tier}-model" for body in self.bodies)


def tiers_at(url: str, *names: str) -> dict[str, Tier]:
    """The tiers of a Config whose models are at `url`."""
    prices = {"price_in": PRICE_IN, "price_out": PRICE_OUT}
    return {
        name: replace(tier, model=f"{name}-model", base_url=url, **prices) if name in names else tier
        for name, tier in DEFAULT_TIERS.items()
    }


def configure(
    home: Home,
    url: str,
    *tiers: str,
    free: str = "'rules', 'verbatim'",
    rate: float = 1.0,
    filters: str = "strict",
    focus: str = "all of it",
    settings: str = "",
    **fields: object,
) -> Home:
    """Let a user's memcli.toml name the tiers' models at `url`; `fields` are further settings of every tier."""
    wanted = ", ".join(filter(None, [free, *(f"'{tier}'" for tier in tiers)]))
    lines = ["profile = 'test'", settings, PROFILE.format(tiers=wanted, rate=rate, filters=filters, focus=focus)]
    prices = {"price_in": PRICE_IN, "price_out": PRICE_OUT}
    more = "".join(f"{name} = {json.dumps(value)}\n" for name, value in (prices | fields).items() if value is not None)
    lines += [TIER.format(name=tier, url=url) + more for tier in tiers]
    (home.folder / "memcli.toml").write_text("\n".join(lines))
    home.env |= {"CHAT_KEY": KEY}
    return home


def _about(session, number):
    """Some words that hardly any other message has: what is alike costs time in dedup, and is not the matter here."""
    chosen = random.Random(f"{session} {number}")  # noqa: S311 - no secret
    return " ".join("".join(chosen.choices("abcdefghiklmnoprstuvw", k=chosen.randint(4, 9))) for _ in range(9))


def talk(count, session="s1", start=0):
    """Messages of one session, each with a text of its own."""
    return [
        {
            "id": f"{session}-{number}",
            "session_id": session,
            "role": ("user", "assistant")[number % 2],
            "content": f"Station {number} of line {session} was painted {_about(session, number)}.",
            "timestamp": f"2026-03-{1 + number // 1000:02}T{number // 60 % 24:02}:{number % 60:02}:00.000Z",
        }
        for number in range(start, start + count)
    ]
