"""A corpus of chat messages generated from a seed, with a share of duplicates and noise as chats have them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

EXACT_SHARE = 0.10
REFORMATTED_SHARE = 0.05
TRAP_SHARE = 0.05
NOISE_SHARE = 0.10
SESSION_LENGTH = 40
# So many earlier texts can be repeated: however many messages are generated, they take no more memory.
REMEMBERED = 100_000

_NOISE = ("ok", "thanks!", "yes please", "sounds good", "hello", "great, go ahead", "hm", "👍")
_NUMBER = re.compile(r"\d+")
_SUBJECTS = (
    "the billing service|our staging cluster|the payments team|Maria from support|the nightly import|my laptop|the API"
    " gateway|the mobile app|the search index|our biggest customer|the onboarding guide|the release branch|the cache"
    " layer|the office in Lisbon|my manager|the data warehouse|the login page|the design review|the invoice parser|the"
    " message queue|the vendor contract|the test suite|my sister|the garden project|the reading group"
).split("|")
_VERBS = (
    "needs|lost|rejected|approved|doubled|delayed|replaced|documented|broke|fixed|measured|renamed|moved|shipped|paused"
    "|prefers|avoids|depends on|asked for|complained about|forgot|planned|cancelled|tested|reviewed|explained"
).split("|")
_OBJECTS = (
    "the retry policy|a second replica|the old password flow|an oat milk latte|the quarterly budget|two flaky tests|a"
    " database migration|the trip to Porto|a smaller batch size|the feature flag|the error budget|a longer timeout|the"
    " logging format|the vegetarian menu|its rate limit|the backup window|a dark theme|the pull request|the weekly"
    " report|an index on users|the piano lessons|the memory leak|the export button|a new keyboard|the service level"
).split("|")
_REASONS = (
    "because the numbers looked wrong|after the call on Thursday|so that nobody is paged at night|until the audit is"
    " over|since the traffic went up|although nobody had asked|before the deadline in March|to keep the costs down"
    "|while the others were on holiday|when the second region came up|as agreed in the planning meeting|which surprised"
    " everyone|and that made the week easier|but the documentation still says otherwise|without telling the other team"
).split("|")
_OPENINGS = (
    "I think|As far as I know|For the record|It turned out that|We noticed|Last week|To be clear|In the end"
    "|This morning|According to the log|My impression is that|Just so you know|From what I saw|Honestly"
    "|During the standup"
).split("|")


def generate(count: int, seed: int) -> Iterator[dict[str, object]]:
    """Yield `count` messages in flat form, the same ones for the same seed.

    About EXACT_SHARE of them repeat an earlier text, REFORMATTED_SHARE repeat one in other formatting, TRAP_SHARE
    repeat one but for a number (near duplicates that must not be merged), and NOISE_SHARE are greetings and
    confirmations. What is repeated is one of the last REMEMBERED texts.
    """
    draw = random.Random(seed)  # noqa: S311 - a benchmark's corpus, not a secret
    said: list[str] = []
    for number in range(count):
        text = _text(draw, said)
        if len(said) > REMEMBERED:
            said[number % REMEMBERED] = said.pop()
        yield {
            "id": f"m{number}",
            "session_id": f"s{number // SESSION_LENGTH}",
            "role": "user" if number % 2 == 0 else "assistant",
            "content": text,
            "timestamp": 1_700_000_000 + 37 * number,
        }


def texts_to_embed(count: int, seed: int) -> list[str]:
    """`count` statements to remember of mixed lengths, as verbatim memories have them; the same for the same seed.

    Most are a sentence, some a paragraph: 1, 2, 4 or 8 sentences, each about half as often as the one before.
    """
    draw = random.Random(seed)  # noqa: S311 - as above
    lengths = draw.choices((1, 2, 4, 8), weights=(8, 4, 2, 1), k=count)
    return [" ".join(_statement(draw) for _ in range(length)) for length in lengths]


def _text(draw: random.Random, said: list[str]) -> str:
    kind = draw.random()
    if kind < NOISE_SHARE:
        return draw.choice(_NOISE)
    kind -= NOISE_SHARE
    if said and kind < EXACT_SHARE:
        return draw.choice(said)
    if said and kind < EXACT_SHARE + REFORMATTED_SHARE:
        return f"- **{draw.choice(said)}**"
    if said and kind < EXACT_SHARE + REFORMATTED_SHARE + TRAP_SHARE:
        return _NUMBER.sub(lambda match: str(int(match[0]) + 1 + draw.randrange(500)), draw.choice(said), count=1)
    text = _statement(draw)
    if draw.random() < 0.5:  # noqa: PLR2004 - every other message says two things
        text = f"{text} {_statement(draw)}"
    said.append(text)
    return text


def _statement(draw: random.Random) -> str:
    name = "".join(draw.choices("bcdfghjklmnprstvwz", k=2)) + "".join(draw.choices("aeiou", k=2))
    words = [draw.choice(_OPENINGS), draw.choice(_SUBJECTS), draw.choice(_VERBS), draw.choice(_OBJECTS)]
    words += ["for", name.capitalize() + str(draw.randrange(1000)), draw.choice(_REASONS)]
    return " ".join(words) + "."
