"""Credentials that only their surroundings give away: `DB_PASSWORD=...`, `"api_key": "..."`, `Bearer ...`.

A name of a credential stands before a value that looks like one. What people write in place of one (`your-key-here`,
`$TOKEN`, `get_token()`) stays, as do words, paths, UUIDs, and hashes that no such name stands before. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from math import log2
from operator import itemgetter

# The name, what may close it (`config["password"]`), an operator, and the quote before the value. Lower case. Every
# repeat is bounded: a text takes linear time.
_CLOSED = r"(?:_base|_prod|_live|_value|s)?\d{0,2}(?P<closed>\\{0,3}[\"'`]?)[\])*]{0,2}"
_TYPED = r":\s?(?:&'static |&)?(?:secret)?str(?:ing)?(?:\s?\|\s?none)?\s{0,3}="
_OPERATOR = rf"\s{{0,5}}(?P<operator>{_TYPED}|=>|:=|={{1,3}}|:|(?<=[\"'`]),|>)\s{{0,5}}|\s{{1,3}}"
_QUOTE = r"(?:[rbf]{1,2}(?=[\"']))?(?P<quote>\\{0,3}[\"'`]?)"
_REST = rf"{_CLOSED}(?:{_OPERATOR}){_QUOTE}"

_PASSWORD, _SECRET, _TOKEN, _KEY = "password", "secret", "token", "api-key"
# What every hit begins with, the kind of what follows, and the rest of the name.
_NAMES = (
    ("passw", _PASSWORD, "(?:or)?d"),
    ("passphrase", _PASSWORD, ""),
    ("pwd", _PASSWORD, ""),
    ("_pass", _PASSWORD, ""),
    ("identified by", _PASSWORD, ""),
    ("secret", _SECRET, r"(?:[_-]?(?:access)?[_-]?key|[_-]?token)?"),
    ("credential", _SECRET, ""),
    ("token", _TOKEN, ""),
    ("key", _KEY, ""),
)
_PATTERNS = tuple((stem, kind, re.compile(re.escape(stem) + rest + _REST)) for stem, kind, rest in _NAMES)
# In lower case a key is one of these, or it is the key of a cache, a map, a table.
_KEYS = tuple(
    f"{name}{joint}"
    for name in (
        *("api", "access", "auth", "private", "encryption", "signing", "account", "master", "app", "application"),
        *("client", "service", "subscription", "storage", "shared", "license", "licence", "admin", "deploy", "session"),
        *("hmac", "jwt", "aes", "webhook", "integration", "ingest", "write", "read", "project", "server"),
    )
    for joint in ("", "_", "-", " ")
)
# So environment variables are named, whoever's key it is.
_SHOUTED = re.compile(r"[A-Z][A-Z0-9_]*_KEY")
# No secrets, whatever they look like.
_HARMLESS = re.compile(
    r"hash|sha\d|md5|digest|checksum|commit|etag|fingerprint|public|page|cursor|continu|sync|cache|_id$"
)
_HARMLESS_BEFORE = 32

_SCHEMES = (
    ("bearer ", "bearer-token", re.compile(r"bearer\s{1,3}")),
    ("basic ", "basic-auth", re.compile(r"basic\s{1,3}")),
    ('auth"', "basic-auth", re.compile(r"(?<=[\"_])auth\\{0,3}\"\s{0,5}:\s{0,5}\\{0,3}\"")),
    ("_auth", "basic-auth", re.compile(r"_auth\s{0,3}=\s{0,3}\"?")),
    ("curl ", _PASSWORD, re.compile(r"\s(?:-u|--user)[\s=]{0,3}[\"']?[^\s:\"'$<{]{1,80}:")),
)
_LOGIN = re.compile(r"login\s{1,3}\S{1,80}\s{1,3}$")
_LOGIN_CHARACTERS = 120

_SIGNS = (":", "=", "</", "'", '"', "--", "ogin ", "earer ", "curl ")

_LONGEST = 1000
_QUOTED = re.compile(r"[^\s\"'`\\<>]*+")
_BARE = re.compile(r"[^\s\"'`\\<>,;&|(){}\[\]#]*+")
_AFTER_BARE = re.compile(r"[\s,;&|#\"'`\\<>)}\]]|\Z")
_AFTER_QUOTED = re.compile(r"[\"'`\\<]")

_MARKS = r"\[redacted|\$\{|\{\{|%\(|\*\*\*|\.\.\.|…|process\.env|environ|getenv"
_STAND_IN = (
    r"your|example|sample|dummy|fake|placeholder|change[_-]?(?:me|it|this)|replace|insert|todo|redact|xxxx|1234567"
    rf"|abcdefg|{_MARKS}"
)
_NO_SECRET = re.compile(_STAND_IN)
_NO_PASSWORD = re.compile(
    rf"{_STAND_IN}|passw|passphrase|pwd|secret|api[_-]?key|token|null|none|undefined|true|false|test|demo|string"
    r"|abc123|qwerty|foo|user|admin|://|^[/.~$%{<@]|^[a-z]:"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128}", re.IGNORECASE)
_TOKEN_CHARACTERS = re.compile(r"[A-Za-z0-9_.~+/:%-]+={0,2}")
_JOINTS = re.compile(r"[-_./:+=~%]+")
_WORDY = re.compile(r"[A-Za-z]?[a-z]*\d{0,4}|[A-Z]+\d{0,4}|\d{1,8}|v\d+")
_CALL = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_DIGIT, _LETTER = re.compile(r"\d"), re.compile(r"[A-Za-z]")
_STRONG = re.compile(r"[!@#$%^&*+?~=]")
_HUMP = re.compile(r"[A-Z]*[a-z]{3,}")
_CHANGES = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[a-z0-9]|(?<=[0-9])[A-Za-z]")

_LEAST_PASSWORD, _LEAST_SECRET, _LEAST_TOKEN = 6, 12, 16
_LEAST_RANDOM, _LEAST_DIGITS, _LONG = 12, 2, 24
_LEAST_ENTROPY, _LEAST_CHANGES = 3.0, 0.2

Span = tuple[int, int, str]


def assigned(text: str) -> list[Span]:
    """The credentials (start, end, kind) of a text that their surroundings tell, in order, none within another."""
    # Most texts have nothing that may stand between a name and its value.
    if not any(each in text for each in _SIGNS):
        return []
    low = text.lower()
    if len(low) != len(text):  # one letter that two stand for in lower case; it is in no name
        low = text.replace("İ", "I").lower()
    found = [span for span in _candidates(text, low) if span[1] > span[0]]
    found.sort(key=itemgetter(0))
    spans: list[Span] = []
    for span in found:
        if not spans or span[0] >= spans[-1][1]:
            spans.append(span)
    return spans


class _Run:
    """Where runs of the characters of a value end, for places that only go up: none is gone through twice."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._start = self._end = -1

    def value(self, text: str, start: int) -> str:
        """The run from `start` on; empty where it is longer than any credential."""
        if not self._start <= start <= self._end:
            match = self._pattern.match(text, start)
            self._start, self._end = start, match.end() if match else start
        return text[start : self._end] if self._end - start <= _LONGEST else ""


def _candidates(text: str, low: str) -> Iterator[Span]:
    for stem, kind, pattern in _PATTERNS:
        if stem in low:
            runs = _Run(_BARE), _Run(_QUOTED)
            for match in pattern.finditer(low):
                end = _value_end(text, low, kind, match, runs)
                if end is not None:
                    yield match.end(), end, kind
    for stem, kind, pattern in _SCHEMES:
        if stem in low:
            accepts = _is_login if kind == "basic-auth" else _is_password if kind == _PASSWORD else _is_token
            run = _Run(_BARE)
            for match in pattern.finditer(low):
                value = run.value(text, match.end())
                if value and accepts(value):
                    yield match.end(), match.end() + len(value), kind


def _value_end(text: str, low: str, kind: str, match: re.Match[str], runs: tuple[_Run, _Run]) -> int | None:
    """Where the value behind a name ends, None where there is none that is a credential."""
    start = match.start()
    first = start
    while first > 0 and start - first < _HARMLESS_BEFORE and (low[first - 1].isalnum() or low[first - 1] in "_-"):
        first -= 1
    if (
        kind == _KEY
        and not low.endswith(_KEYS, first, start)
        and not _SHOUTED.fullmatch(text, first, start + len("key"))
    ):
        return None
    if kind != _PASSWORD and _HARMLESS.search(low, first, match.start("closed")):
        return None
    quote, operator = match["quote"], match["operator"]
    if not _may_follow(low, first, start, kind, operator, quote):
        return None
    value = runs[bool(quote)].value(text, match.end())
    end = match.end() + len(value)
    if not value or not (_AFTER_QUOTED if quote or operator == ">" else _AFTER_BARE).match(text, end):
        return None
    if not quote and _CALL.fullmatch(value):
        return None  # an attribute, as in settings.password2
    accepts: Callable[[str], bool] = _is_password if kind == _PASSWORD else _is_secret if kind == _SECRET else _is_token
    bare = value if quote else value.rstrip(".:!?" if kind != _PASSWORD else ".:")
    return match.end() + len(bare) if accepts(bare) else None


def _may_follow(low: str, first: int, start: int, kind: str, operator: str | None, quote: str) -> bool:
    """Whether a value may follow a name by this operator; `first` is where the whole identifier begins."""
    if operator == ">":
        return low[first - 1 : first] == "<"
    if operator == ",":
        return bool(quote)
    if operator is not None:
        return True
    # Only white space: a flag, a line of netrc, a password in SQL.
    if low.startswith("--", first) or (kind == _PASSWORD and quote):
        return True
    return kind == _PASSWORD and bool(_LOGIN.search(low, max(0, start - _LOGIN_CHARACTERS), start))


def _is_password(value: str) -> bool:
    if len(value) < _LEAST_PASSWORD or _HASH.fullmatch(value) or _NO_PASSWORD.search(value.lower()):
        return False
    digit, letter, strong = _DIGIT.search(value), _LETTER.search(value), _STRONG.search(value)
    return bool(letter and (digit or strong)) and not _UUID.fullmatch(value)


def _is_secret(value: str) -> bool:
    return len(value) >= _LEAST_SECRET and _is_random(value)


def _is_token(value: str) -> bool:
    return len(value) >= _LEAST_TOKEN and _is_random(value)


def _is_random(value: str) -> bool:
    """Whether a value is what a generator of keys makes, and not what people name things."""
    if not _TOKEN_CHARACTERS.fullmatch(value) or _UUID.fullmatch(value) or _NO_SECRET.search(value.lower()):
        return False
    parts = [part for part in _JOINTS.split(value) if not _WORDY.fullmatch(part)]
    rest = "".join(parts)
    digits = sum(map(str.isdigit, rest))
    if len(rest) < _LEAST_RANDOM:
        return False
    # Without digits it may be a long name in camel case.
    if digits < _LEAST_DIGITS and (len(rest) < _LONG or 2 * len(_HUMP.sub("", rest)) < len(rest)):
        return False
    changes = sum(1 for part in parts for _ in _CHANGES.finditer(part))
    return changes >= _LEAST_CHANGES * len(rest) and _entropy(rest) >= _LEAST_ENTROPY


def _entropy(text: str) -> float:
    """Bits per character, by how often each occurs (Shannon, 1948)."""
    shares = [text.count(each) / len(text) for each in set(text)]
    return -sum(share * log2(share) for share in shares)


def _is_login(value: str) -> bool:
    """Whether a value is the base64 of a name and a password."""
    try:
        name, colon, password = base64.b64decode(value.rstrip(".,"), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return False
    return bool(colon and password) and (name + password).isprintable() and not _NO_SECRET.search(password.lower())
