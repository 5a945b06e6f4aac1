"""What a model is asked about a window: a versioned prompt, and the messages as data that cannot pose as another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memcli.errors import UsageError
from memcli.model import Part
from memcli.text import digest

FOCUS = "{focus}"
# The tokens that a prompt is made of stay below this many bytes beside the texts themselves (see `worst_case`).
_OVERHEAD = 64
# Of a longer message a model sees the beginning and the end: what was pasted into it is hardly worth remembering.
LONGEST_PART = 4_000
_HEAD = 3_000
_LONGEST_NAME = 60
_MOST_PROMPT_BYTES = 100_000
_FOLDER = Path(__file__).with_name("prompts")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The system message of a tier; `version` is a hash of it, so that another text is another version of the tier."""

    text: str

    @property
    def version(self) -> str:
        """See the class."""
        return digest("prompt", self.text).hex()


def load_prompt(tier: str, own: Path | None, focus: str) -> Prompt:
    """The prompt of a tier, the package's or the user's `own`, with the profile's focus in the place of {focus}.

    Raises:
        UsageError: the user's file cannot be read, or is empty or no text.
    """
    path = own or _FOLDER / f"{tier}.md"
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig").strip()
    except OSError as error:
        raise UsageError(f"cannot read the prompt {path}: {error.strerror}", f"see tiers.{tier}.prompt") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt {path} is not UTF-8", f"see tiers.{tier}.prompt") from error
    if not text or len(raw) > _MOST_PROMPT_BYTES:
        why = "empty" if not text else f"larger than {_MOST_PROMPT_BYTES:,} bytes"
        raise UsageError(f"the prompt {path} is {why}", f"see tiers.{tier}.prompt")
    wanted = f"Focus: {focus}." if focus else ""
    return Prompt(text.replace(f"{FOCUS}\n", f"{wanted}\n" if wanted else "").replace(FOCUS, wanted))


def message_ids(parts: tuple[Part, ...]) -> dict[str, Part]:
    """The parts of a window by the ids that a model knows them by."""
    return {f"m{number}": part for number, part in enumerate(parts, 1)}


def render(parts: tuple[Part, ...]) -> str:
    """The messages as a model is given them, each between tags that no message can contain.

    The tags carry a hash of all the texts: whoever wants to close one early would have to know it while writing.
    """
    mark = digest("window", *(part.text for part in parts)).hex()[:12]
    shown = [
        f'<message-{mark} id="{name}" from="{_sender(part)}"{_time(part)}>\n{_shortened(part.text)}\n</message-{mark}>'
        for name, part in message_ids(parts).items()
    ]
    return "\n".join([f"The conversation, in tags <message-{mark}>:", *shown])


def worst_case(*texts: str) -> int:
    """No more tokens than this make up the texts: a token of a byte-level vocabulary is at least one byte."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) + _OVERHEAD


def _sender(part: Part) -> str:
    name = "".join(mark for mark in part.speaker or "" if mark.isprintable() and mark not in '"<>')
    return f"{part.role} {name[:_LONGEST_NAME]}".strip()


def _time(part: Part) -> str:
    return f' at="{part.timestamp[:16]}"' if part.timestamp else ""


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_PART:
        return text
    tail = LONGEST_PART - _HEAD
    return f"{text[:_HEAD]}\n[... {len(text) - LONGEST_PART:,} characters left out ...]\n{text[-tail:]}"
