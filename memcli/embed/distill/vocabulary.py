"""The student's tokenizer: a lower-casing WordPiece over bytes that knows no unknown character."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

PREFIX = "##"
PADDING = "[PAD]"
_UNKNOWN = "[UNK]"  # WordPiece asks for it; no text leads to it
# A longer run of letters is cut: WordPiece gives up on long words and takes quadratic time in them.
_LONGEST_WORD = 24
# Two bytes that begin most characters of a script (of India and its neighbours, of Japan) or of the emoji.
_SHARED_STARTS = [
    *(bytes([0xE0, second]) for second in range(0xA0, 0xC0)),
    *(bytes([0xE1, second]) for second in range(0x80, 0xC0)),
    *(bytes([0xE3, second]) for second in range(0x80, 0x84)),
    b"\xf0\x9f",
]
_START = 0.15
_FIRST_BYTES_FROM = 0xC0
_WORDS = re.compile(r"\w+|[^\w\s]+")
# What the teacher knows and the student keeps of it: other scripts it knows by single characters only.
_LATIN = re.compile(r"[a-z0-9ß-öø-ÿ]+|[!-/:-@\[-`{-~¡-¿–—‘’“”•…€™]+")


def build_tokenizer(teacher: Iterable[str], texts: Mapping[str, float], rows: int) -> Tokenizer:
    """Make a tokenizer of at most `rows` tokens; id 0 pads.

    Every byte is a token, so that no character is unknown; then come the teacher's Latin words and word ends, then
    the most frequent words of `texts` that these do not hold, counted with the texts' weights. Words, numbers and runs
    of punctuation are cut into the longest known pieces from the left.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) + [_as_characters(start) for start in _SHARED_STARTS]
    tokens = dict.fromkeys([PADDING, _UNKNOWN, *alphabet, *(PREFIX + characters for characters in alphabet)])
    for token in teacher:
        stem = token.removeprefix(PREFIX)
        if _LATIN.fullmatch(stem):
            tokens[token[: len(token) - len(stem)] + _as_characters(stem.encode())] = None
    counts: defaultdict[str, float] = defaultdict(float)
    for text, weight in texts.items():
        for word in _WORDS.findall(text.lower()):
            counts[word] += weight
    for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(tokens) >= rows:
            break
        if len(word) <= _LONGEST_WORD and (_LATIN.fullmatch(word) or word.isascii()):
            tokens[_as_characters(word.encode())] = None
    return _tokenizer({token: at for at, token in enumerate(list(tokens)[:rows])})


def byte_scale(token: str) -> float:
    """The length of a token's vector where it is not learned, NaN where it is.

    Padding has none. The bytes of characters outside ASCII mean nothing to the teacher: they get random vectors, so
    that texts of other scripts and emoji differ by the characters that they are made of. The start of a character is
    shared by many others and counts little.
    """
    if token in {PADDING, _UNKNOWN}:
        return 0.0
    raw = _as_bytes(token)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _START if raw[0] >= _FIRST_BYTES_FROM else 1.0
    return math.nan


def as_text(token: str) -> str:
    """The characters that a token stands for."""
    if token in {PADDING, _UNKNOWN}:
        return token
    return _as_bytes(token).decode("utf-8", "replace")


def _as_bytes(token: str) -> bytes:
    stem = token.removeprefix(PREFIX) if token != PREFIX else token
    return bytes(_CHARACTERS[character] for character in stem)


def _byte_characters() -> dict[int, str]:
    """The characters that the byte-level pre-tokenizer writes for bytes: printable ones as they are, others above."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + at) for at, byte in enumerate(others)}


_BYTES = _byte_characters()
_CHARACTERS = {character: byte for byte, character in _BYTES.items()}


def _as_characters(raw: bytes) -> str:
    return "".join(_BYTES[byte] for byte in raw)


def _tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    model = models.WordPiece(vocabulary, unk_token=_UNKNOWN, max_input_chars_per_word=4 * _LONGEST_WORD)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.FixedLength(_LONGEST_WORD),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def serialise(tokenizer: Tokenizer) -> str:
    """The tokenizer as a file, without white space."""
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
