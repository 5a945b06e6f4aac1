"""The model tiers: a question per window to an OpenAI-compatible server, and what of the answer has evidence."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from memcli.config import Tier
from memcli.errors import ProviderError
from memcli.extract.answer import Statement, UnreadableAnswerError, schema, statements
from memcli.extract.prompt import Prompt, message_ids, render, worst_case
from memcli.extract.quotes import find_quote
from memcli.model import Candidate, Part, PlannedCall, Provenance, Reading, Window
from memcli.protocols import Call
from memcli.provider import (
    GO_ON,
    KEY_VARIABLE,
    NEVER_SENT,
    OPENAI_URL,
    BusyModelError,
    Pace,
    check_client,
    checked_url,
    endpoint,
    metered,
    open_client,
    unusable,
)
from memcli.text import clean, digest, normalise

if TYPE_CHECKING:
    import openai

UNKNOWN_MESSAGE = "unknown_message"
INVENTED_QUOTE = "invented_quote"
INSTRUCTION = "instruction"
PROMPT = "prompt"
SYSTEM_PROMPT = "system_prompt"

# Changes whenever the same answer would give other memories than before.
_CODE_VERSION = "1"
_LINKED_TIER = "premium"
_BYTES_PER_TOKEN = 3  # a low guess, for comparing with the tokens that a provider says are left
_UNUSABLE = frozenset({401, 403, 404})
_TOO_MANY, _NO_QUOTA = 429, "insufficient_quota"
_REFUSED = frozenset({400, 415, 422, 501})
_LONGEST_REPEATED = 8_000
_SHORTEST_RESTATEMENT = 20
_REPAIR = 'That cannot be read: {problem}. Answer the same again, as one JSON object {{"memories": [...]}}, no more.'
# Someone speaks to the model that reads along. What a message claims beside that is no memory, quoted or not.
_TO_THE_MODEL = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b[^.\n]{0,40}\b(?:above|previous|prior|earlier|preceding|your|system)\b"
    r"[^.\n]{0,30}\b(?:instructions?|prompts?|rules|directions)\b"
    r"|\b(?:ignore|disregard|forget)\s+(?:all|any)\s+(?:of\s+)?(?:the\s+|these\s+)?instructions\b"
    r"|\b(?:ignore|disregard|forget)\b[^.\n]{0,30}\babove\b[^\n]{0,20}"
    r"\b(?:output|print|return|respond|reply|answer|say|write|remember|note|store|add)\b"
    r"|</?message-[0-9a-f]{12}|\"memories\"\s*:\s*\[\s*\{",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class LlmOptions:
    """How a model is called: every call is retried `retries` times; `told` hears of pauses, see Pace."""

    retries: int = 4
    told: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What an endpoint understands; found out by being refused."""

    format: str = "json_schema"
    limit: str = "max_tokens"
    temperature: bool = True


class LlmTier:
    """One model tier. The client is made at the first question: importing it takes half a second."""

    def __init__(
        self, settings: Tier, prompt: Prompt, environ: Mapping[str, str], options: LlmOptions | None = None
    ) -> None:
        self.tier = settings.name
        self.model = settings.model or ""
        self.min_messages = settings.min_messages
        self._name = f"the {self.tier} tier"
        self._settings = settings
        self._prompt = prompt
        self._prompt_words = normalise(prompt.text).casefold()
        self._options = options or LlmOptions()
        # The key of OpenAI is nothing that another server should see.
        key_variable = settings.api_key_env or ("" if settings.base_url else KEY_VARIABLE)
        self._endpoint = endpoint(checked_url(settings.base_url or OPENAI_URL), key_variable, environ)
        self._schema = schema(linked=self.tier == _LINKED_TIER)
        self._version = digest(
            _CODE_VERSION, self.tier, self.model, prompt.version, str(settings.max_tokens), str(settings.temperature)
        ).hex()
        self._pace = Pace(self._options.told)
        self._dialect = _Dialect()
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None

    def check(self) -> None:
        """Find out, without asking anyone, whether the tier can be asked at all.

        Raises:
            UsageError: the extra is not installed, or OpenAI itself is to be asked without a key.
        """
        check_client(self._endpoint, self._name)

    def version_for(self, agent: str) -> str:  # noqa: ARG002 - the same for all agents
        """See Tier: a hash of prompt, model and parameters."""
        return self._version

    def key(self, window: Window) -> bytes:
        """See ModelTier."""
        return digest(self._version, render(window.parts))

    def plan(self, window: Window) -> PlannedCall:
        """See ModelTier."""
        times = [part.timestamp for part in window.parts if part.timestamp is not None]
        return PlannedCall(
            self.tier,
            self.model,
            window.agent,
            len(window.parts),
            max(times, default=None),
            self._prompt.text,
            render(window.parts),
            self._settings.max_tokens,
        )

    def ask(self, window: Window, call: Call) -> str:
        """See ModelTier."""
        question = [
            {"role": "system", "content": self._prompt.text},
            {"role": "user", "content": render(window.parts)},
        ]
        answer, problem = self._asked(question, call)
        if problem is not None:
            question += [
                {"role": "assistant", "content": answer[:_LONGEST_REPEATED] or "{}"},
                {"role": "user", "content": _REPAIR.format(problem=problem)},
            ]
            answer, problem = self._asked(question, call)
        if problem is not None:
            raise self._failure(f"gives no readable answer: {problem}")
        return answer

    def read(self, window: Window, answer: str) -> Reading:
        """See ModelTier. A statement is taken only where its quote stands in a message that it names."""
        parts = message_ids(window.parts)
        candidates: list[Candidate] = []
        places: dict[int, int] = {}
        related: list[tuple[int, int]] = []
        rejected: Counter[str] = Counter()
        for said in statements(answer):
            taken = said if isinstance(said, str) else self._checked(said, parts)
            if isinstance(taken, str):
                rejected[taken] += 1
            elif isinstance(said, Statement):
                places.setdefault(said.number, len(candidates))
                related += [(len(candidates), other) for other in said.relates_to]
                candidates.append(taken)
        links = {(one, places[other]): None for one, other in related if places.get(other, one) != one}
        return Reading(tuple(candidates), tuple(links), dict(rejected))

    def _checked(self, said: Statement, parts: Mapping[str, Part]) -> Candidate | str:
        """The candidate, or the reason why there is none."""
        named = [parts[name] for name in said.messages if name in parts]
        if not named:
            return UNKNOWN_MESSAGE
        found = [(part, *span) for part in named if (span := find_quote(part.text, said.quote)) is not None]
        if not found:
            return INVENTED_QUOTE
        found = [each for each in found if not _TO_THE_MODEL.search(each[0].text)]
        if not found:
            return INSTRUCTION
        if all(part.role == "system" for part, _, _ in found):
            return SYSTEM_PROMPT
        if len(said.content) >= _SHORTEST_RESTATEMENT and said.content.casefold().rstrip(".") in self._prompt_words:
            return PROMPT
        sources = (Provenance(part.message_id, part.start + start, part.start + end) for part, start, end in found)
        return Candidate(
            content=said.content,
            type=said.type,
            importance=said.importance,
            method=f"{self.tier}:{self.model}",
            sources=tuple(dict.fromkeys(sources)),
            keywords=said.keywords,
        )

    def _asked(self, question: list[dict[str, str]], call: Call) -> tuple[str, str | None]:
        """An answer, and what is wrong with it where it cannot be read."""
        texts = [each["content"] for each in question]
        call.expect(worst_case(*texts, json.dumps(self._schema)), self._settings.max_tokens)
        self._pace.wait(worst_case(*texts) // _BYTES_PER_TOKEN)
        response = self._answered(question, call)
        try:
            choice = response.choices[0]
            answer = clean(str(choice.message.content or ""))
            refusal = getattr(choice.message, "refusal", None)
        except (AttributeError, IndexError, TypeError):
            answer, refusal = "", "the answer is none of a chat completion"
        problem = None
        try:
            statements(answer)
        except UnreadableAnswerError as error:
            problem = str(refusal)[:100] if refusal else str(error)
        call.answered(*_used(response), None if problem else answer)
        return answer, problem

    def _answered(self, question: list[dict[str, str]], call: Call) -> Any:  # noqa: ANN401 - the client checks little of it
        """The response of the endpoint, in whatever dialect it understands."""
        import openai  # noqa: PLC0415 - takes half a second, and is an extra

        client = self._opened()
        dialect: _Dialect | None = self._dialect
        while dialect is not None:
            try:
                with metered(call):
                    response = client.chat.completions.create(**self._request(question, dialect))
                self._dialect = dialect
            except openai.APIStatusError as error:
                said = self._endpoint.said(error)
                dialect = _simpler(dialect, said) if error.status_code in _REFUSED else None
                if dialect is None:
                    raise self._status_error(error, said) from None
            except openai.APITimeoutError:
                raise self._failure(f"does not answer within {self._settings.timeout:g} s") from None
            except openai.APIError as error:
                reason = type(error.__cause__ or error).__name__
                if reason in NEVER_SENT:
                    # No window is to blame: those of a computer that is offline for a day must not be given up.
                    hint = f"see that it runs, and that tiers.{self.tier}.base_url is right"
                    raise unusable(self._failure(f"cannot be reached ({reason})", hint)) from None
                raise self._failure(f"breaks off, or answers with something else ({reason})") from None
            except (ValueError, TypeError, AttributeError, RecursionError):
                call.lost("no JSON")
                raise self._failure("answers with something else than JSON") from None
            else:
                return response
        raise AssertionError  # the loop ends by a return or by an error

    def _opened(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                retries, timeout = self._options.retries, self._settings.timeout
                self._client = open_client(self._endpoint, self._name, retries, timeout, self._pace)
            return self._client

    def _request(self, question: list[dict[str, str]], dialect: _Dialect) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model, "messages": question}
        request[dialect.limit] = self._settings.max_tokens
        if dialect.temperature:
            request["temperature"] = self._settings.temperature
        if dialect.format == "json_schema":
            wanted = {"name": "memories", "strict": True, "schema": self._schema}
            request["response_format"] = {"type": "json_schema", "json_schema": wanted}
        elif dialect.format == "json_object":
            request["response_format"] = {"type": "json_object"}
        return request

    def _status_error(self, refusal: openai.APIStatusError, said: str) -> ProviderError:
        status = refusal.status_code
        error = self._failure(f"answers {status}: {said}", self._endpoint.advice(status, f"tiers.{self.tier}."))
        if status in _UNUSABLE or refusal.code == _NO_QUOTA:
            return unusable(error)
        # No window is to blame for how many are asked about.
        return BusyModelError(error.message, error.hint) if status == _TOO_MANY else error

    def _failure(self, what: str, hint: str = GO_ON) -> ProviderError:
        return ProviderError(f"the {self.tier} model {self.model} at {self._endpoint.base_url} {what}", hint)


def _simpler(dialect: _Dialect, said: str) -> _Dialect | None:
    """A dialect without what an endpoint complains of; None where there is none left to try."""
    words = said.casefold()
    if dialect.limit == "max_tokens" and "max_completion_tokens" in words:
        return replace(dialect, limit="max_completion_tokens")
    if dialect.temperature and "temperature" in words:
        return replace(dialect, temperature=False)
    weaker = {"json_schema": "json_object", "json_object": ""}
    # Many servers complain of a schema in words of their own, so any refusal is met by asking for less.
    return replace(dialect, format=weaker[dialect.format]) if dialect.format in weaker else None


def _used(response: object) -> tuple[int | None, int | None]:
    """Tokens read and written, as the server counted them; None where it does not say."""
    usage = getattr(response, "usage", None)
    read, written, whole = (
        _tokens(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if read is None or written is None or whole is None:
        return read, written
    # Gemini's thoughts are in the total only, and are charged like what is written.
    return read, max(written, whole - read)


def _tokens(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
