"""Credentials become typed placeholders, `[redacted:openai-key]`, before a text is stored or shown. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import NamedTuple

# What gives a text back without credentials, and how many there were by kind.
Redactor = Callable[[str], tuple[str, dict[str, int]]]

# How much of a rejected line is looked at.
_HEAD_BYTES = 16_384
_KEY_CHARACTERS = string.ascii_letters + string.digits + "_.+/=-"

_KEY_BLOCK = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
_BREAK = r"(?:\s|\\[nr])*+"
# The block up to its END line, or, where it was cut off, its header lines and base64 lines. Only the possessive repeats
# keep many unterminated blocks linear.
_PRIVATE_KEY = (
    rf"-----BEGIN {_KEY_BLOCK}"
    rf"(?:(?:[^\[-]++|(?!-----|\[redacted:)[\[-])*+-----END {_KEY_BLOCK}"
    rf"|(?:{_BREAK}[A-Za-z-]{{4,20}}: [^\n\\]{{0,100}})*+(?:{_BREAK}[A-Za-z0-9+/=]{{16,}}+)++"
    rf"(?:{_BREAK}[A-Za-z0-9+/=]++(?=\s*\Z))?"
    r"|(?:\r?\n|\\[nr])*+[A-Za-z0-9+/=]++(?=\s*\Z))"
)
# In "://host:8080?to=a@b" the number is a port, "://image:1.2@sha256:" is no login; the rest is what people write in
# place of a password.
_PLACEHOLDER = (
    r"\[[^\]@\s]{0,100}\]|<[^>@\s]{0,100}>|\$?\{[^}@\s]{0,100}\}{1,2}|\$[A-Z_]{1,100}|\$\([^)@\s]{0,100}\)"
    r"|%s|%\(\w{1,100}\)s|\*+|[xX]+|\.+|…"
)
_CONNECTION = (
    r"""(?P<keep>:(?://|\\/\\/)[^\s:/?#@"'<>`]{0,100}:)"""
    rf"(?!\d{{1,5}}[?#])(?!(?:{_PLACEHOLDER})@)"
    r"""[^\s/"'`]{1,200}(?=@(?!sha\d))"""
)


class _Detector(NamedTuple):
    """`literal` is what every hit contains: a text without it costs one substring test."""

    literal: str
    kind: str
    pattern: re.Pattern[str]


def _detector(literal: str, kind: str, pattern: str) -> _Detector:
    return _Detector(literal, kind, re.compile(pattern))


def _key(prefix: str, kind: str, rest: str, no_before: str = "A-Za-z0-9") -> _Detector:
    """A key that starts with `prefix` where no word runs into it; raw JSON may put an escape before it.

    The look-behind stands behind the prefix because a search for a literal is several times faster.
    """
    literal = re.escape(prefix)
    start = rf"(?:(?<![{no_before}]{literal})|(?<=\\[nrt]{literal})|(?<=\\u[0-9A-Fa-f]{{4}}{literal}))"
    return _detector(prefix, kind, literal + start + rest)


_TOKENS = (
    _key("sk_", "stripe-key", r"(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("rk_", "stripe-key", r"(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("hf_", "huggingface-token", r"[A-Za-z0-9]{30,}+"),
    _key("npm_", "npm-token", r"[A-Za-z0-9]{30,}+"),
    _key("do", "digitalocean-token", r"[opr]_v1_[a-f0-9]{40,}+(?![A-Za-z0-9])"),
    _key("github_pat_", "github-token", r"[A-Za-z0-9_]{20,}+"),
    _key("gh", "github-token", r"[opsur]_[A-Za-z0-9]{20,}+"),
)
_DASHED = (
    _detector("-----BEGIN", "private-key", _PRIVATE_KEY),
    # A specific prefix comes before the general one.
    _key("sk-ant-", "anthropic-key", r"[A-Za-z0-9_-]{20,}+"),
    _key(
        "sk-",
        "openai-key",
        r"(?:(?:proj|svcacct|admin|None|or-v1)-(?=[A-Za-z_-]{0,80}[0-9])[A-Za-z0-9_-]{20}"
        r"|[A-Za-z0-9]{20})[A-Za-z0-9_-]*+",
    ),
    _key("glpat-", "gitlab-token", r"[A-Za-z0-9_-]{20,}+"),
    _key("xox", "slack-token", r"[abprs]-(?=[A-Za-z-]{0,80}[0-9])[A-Za-z0-9-]{10,}+"),
    _key("pypi-A", "pypi-token", r"[A-Za-z0-9_-]{30,}+"),
)
_AWS_VALUE = r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
_AWS_ASSIGNED = r"""_?(?i:access_?)?(?i:key)["'\\]{0,3}\s{0,5}(?:=>|[:=])\s{0,5}["'\\]{0,3})""" + _AWS_VALUE
# The secret is looked for first: beside a key id that is still there.
_AWS = tuple(
    (
        prefix,
        (
            _detector(prefix, "aws-secret", rf"(?P<keep>{prefix}[A-Z0-9]{{16}}[\s\"',:;|/\\]{{1,6}}){_AWS_VALUE}"),
            _key(prefix, "aws-key-id", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ),
    )
    for prefix in ("AKIA", "ASIA")
)
_WEBHOOK = r"(?P<keep>hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9_/-]{20,}+"
_JWT = r"[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"
# A text is tested for the few gates only; behind each stand the detectors whose hits all contain it. Key ids, which end
# where no letter follows, come behind the tokens that may be glued to them; passwords come last, when a token in the
# place of one has its own kind.
_GATES = (
    ("-", _DASHED),
    ("_", _TOKENS),
    (":AA", (_detector(":AA", "telegram-token", r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{32,}+"),)),
    *_AWS,
    *((word, (_detector(word, "aws-secret", f"(?P<keep>{word}{_AWS_ASSIGNED}"),)) for word in ("ecret", "ECRET")),
    ("AIza", (_key("AIza", "google-key", r"[A-Za-z0-9_-]{30,}+"),)),
    ("eyJ", (_key("eyJ", "jwt", _JWT, no_before="A-Za-z0-9_-"),)),
    ("SG.", (_key("SG.", "sendgrid-key", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,}+"),)),
    ("hooks.slack.com", (_detector("hooks.slack.com", "slack-webhook", _WEBHOOK),)),
    ("@", (_detector("://", "password", _CONNECTION), _detector(r":\/\/", "password", _CONNECTION))),
)

# What a terminal would obey, and the invisible marks that reorder or hide text.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def redact(text: str) -> tuple[str, dict[str, int]]:
    """Replace credentials by `[redacted:KIND]`; return the text and the number of replacements by kind.

    Of connection strings, webhook addresses and assignments only the secret itself is replaced. Redacting a redacted
    text changes nothing. Time is linear in the length of the text.
    """
    counts: dict[str, int] = {}
    for gate, detectors in _GATES:
        if gate in text:
            text = _apply(detectors, text, counts)
    return text, counts


def untouched(text: str) -> tuple[str, dict[str, int]]:
    """The redactor that redacts nothing."""
    return text, {}


def _apply(detectors: tuple[_Detector, ...], text: str, counts: dict[str, int]) -> str:
    for literal, kind, pattern in detectors:
        if literal in text:
            keep = r"\g<keep>" if pattern.groups else ""
            text, count = pattern.subn(f"{keep}[redacted:{kind}]", text)
            if count:
                counts[kind] = counts.get(kind, 0) + count
    return text


def redact_bytes_head(raw: bytes, limit: int = 200) -> str:
    """Return at most `limit` characters of the start of `raw`, redacted, in a form that a terminal can show.

    The redaction comes before the cut, so that no half of a key is left at the end. NULs are left out: they fill the
    holes of damaged files and stand between the letters of UTF-16.
    """
    text, _ = redact(raw[:_HEAD_BYTES].replace(b"\0", b"").decode("utf-8", "replace"))
    if len(raw) > _HEAD_BYTES and len(text) <= limit:
        text = text.rstrip(_KEY_CHARACTERS)  # What was looked at may end inside a key.
    return _UNSHOWABLE.sub("�", text[:limit])
