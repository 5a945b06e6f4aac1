"""The settings of a run: defaults < memcli.toml < MEMCLI_* environment < flags, each with its origin; and the profiles.

What the settings do is elsewhere; here they are only found, checked and named.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import platformdirs

from memcli import settings
from memcli.errors import UsageError
from memcli.files import read_small, toml_of
from memcli.settings import Setting

FilterLevel = Literal["strict", "emotions", "everything", "none"]
RateScope = Literal["paid", "all"]

TIERS = ("rules", "verbatim", "small", "premium")
MODEL_TIERS = ("small", "premium")
FILTER_LEVELS: tuple[FilterLevel, ...] = ("strict", "emotions", "everything", "none")
FILE_NAME = "memcli.toml"
# What the environment may hold beside the settings themselves.
_OTHER_VARIABLES = frozenset({"MEMCLI_CONFIG", "MEMCLI_DATA_DIR"})


@dataclass(frozen=True, slots=True)
class Profile:
    """How windows are cut and which tiers see them.

    `rate` is the share of the windows that is processed, `min_chars` the length below which a message is noise;
    `expected_memories` (per window) and `expected_tokens` (per memory) are what reports compare with, None: unknown.
    """

    name: str
    max_messages: int = 20
    timeout_minutes: float = 60
    min_messages: int = 5
    rate: float = 0.2
    min_chars: int = 30
    tiers: tuple[str, ...] = ("rules", "small")
    filters: FilterLevel = "strict"
    expected_memories: int | None = None
    expected_tokens: int | None = None
    focus: str = ""


_ALL_TIERS = ("rules", "small", "premium")
_PROFILES = (
    Profile("local", 20, 0, 1, 1.0, 10, ("rules", "verbatim")),
    Profile(
        "conservative",
        min_chars=50,
        expected_memories=4,
        expected_tokens=25,
        focus="facts, preferences, goals",
    ),
    Profile(
        "balanced",
        rate=0.4,
        filters="emotions",
        expected_memories=8,
        expected_tokens=100,
        focus="facts, emotions, patterns, context",
    ),
    Profile(
        "comprehensive", 15, 30, 3, 0.6, 20, _ALL_TIERS, "everything", 12, 160, "everything, relationships, nuance"
    ),
    Profile("maximum", 10, 15, 2, 0.8, 10, _ALL_TIERS, "none", 16, 200, "complete record, verbatim"),
    Profile("customer-support", rate=0.3, focus="issues first"),
    Profile("therapy", 8, 30, 3, 0.6, 20, _ALL_TIERS, "emotions", focus="emotional patterns"),
    Profile("education", rate=0.5),
    Profile("research", rate=0.8),
    Profile("casual-chat", rate=0.2),
    Profile("business-intelligence", rate=0.4),
)
PROFILES: Mapping[str, Profile] = MappingProxyType({profile.name: profile for profile in _PROFILES})
FALLBACK_PROFILE = "casual-chat"


def profile(name: str, known: Mapping[str, Profile] = PROFILES) -> tuple[Profile, str | None]:
    """Return the profile of that name and None, or for an unknown name the fallback's values and a warning."""
    found = known.get(name)
    if found is not None:
        return found, None
    fallback = replace(PROFILES[FALLBACK_PROFILE], name=name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return fallback, f'unknown profile "{name}"{hint}: the rate is {fallback.rate}, as for {FALLBACK_PROFILE}'


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier of extraction that asks a model; without `model` it is not configured, and asks nobody.

    `base_url` None is OpenAI, whose key is in OPENAI_API_KEY where `api_key_env` names no other variable; any other
    server gets a key only from there. `prompt` None is the prompt of the package, `tokenizer` None an estimate. Windows
    of fewer than `min_messages` are not worth a call. `max_tokens` bounds an answer, `timeout` is in seconds; the
    prices are US dollars per million tokens, None where the user gave none.
    """

    name: str
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    max_tokens: int = 300
    temperature: float = 0.3
    timeout: float = 120
    min_messages: int = 4
    price_in: float | None = None
    price_out: float | None = None
    prompt: Path | None = None
    tokenizer: Path | None = None


_PREMIUM = Tier("premium", max_tokens=800, temperature=0.2, min_messages=6)
DEFAULT_TIERS: Mapping[str, Tier] = MappingProxyType({"small": Tier("small"), "premium": _PREMIUM})


def _default_db() -> Path:
    return Path(platformdirs.user_data_dir("memcli", appauthor=False)) / "memory.db"


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of a run. `max_memory` is in bytes, `wait` in seconds; None leaves the choice to the default.

    `model` is the embedding model of new databases, None the one of `memcli model use`. `extract` None means the tiers
    of the profile, `near_threshold` None the embedding model's own, `embed_batch_size` None what measuring says.
    `profiles` are the built-in ones with the [profiles.NAME] tables of memcli.toml on top, `tiers` the model tiers,
    always both of them. `max_usd` and the like are the [budget] of the model tiers, of a run and of a month (UTC),
    None: no limit; `max_tokens` counts those read and those written. At most `concurrency` calls of models are made at
    a time. `embed_price` is what a provider takes for a million tokens of text to embed, in US dollars.
    `search_cache_size` is the number of answers, and of embedded queries, that are kept (0: none); answers hold for
    `search_cache_ttl` seconds. `redact` says that credentials are replaced before a text is stored. `workers` is the
    number of threads of every pool, None one for each processor that the process may use.
    """

    db: Path = field(default_factory=_default_db)
    agent: str | None = None
    profile: str = "local"
    extract: tuple[str, ...] | None = None
    roles: tuple[str, ...] = ("user", "assistant")
    model: str | None = None
    batch_size: int = 1024
    embed_batch_size: int | None = 64
    base_url: str | None = None
    embed_price: float | None = None
    max_memory: int = 1_000_000_000
    near_threshold: float | None = None
    rate_applies_to: RateScope = "paid"
    starter_rules: bool = True
    redact: bool = True
    concurrency: int = 4
    max_usd: float | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    max_usd_per_month: float | None = None
    max_calls_per_month: int | None = None
    max_tokens_per_month: int | None = None
    search_cache_size: int = 1000
    search_cache_ttl: float = 3600.0
    workers: int | None = None
    wait: float = 0.0
    profiles: Mapping[str, Profile] = field(default_factory=lambda: PROFILES)
    tiers: Mapping[str, Tier] = field(default_factory=lambda: DEFAULT_TIERS)

    def active_profile(self) -> tuple[Profile, str | None]:
        """The profile that `profile` names, as `profile()` finds it among `profiles`."""
        return profile(self.profile, self.profiles)


def data_dir(environ: Mapping[str, str]) -> Path:
    """The folder for model copies and other data: MEMCLI_DATA_DIR, else the user's data folder."""
    chosen = environ.get("MEMCLI_DATA_DIR")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("memcli", appauthor=False))


def load(
    flags: Mapping[str, object],
    config_file: Path | None,
    environ: Mapping[str, str],
    cwd: Path,
) -> tuple[Config, dict[str, str]]:
    """Put the settings together and say for each where it came from.

    `flags` are by field name, None where the user gave none. Relative paths of the file are relative to its folder,
    all others to `cwd`. The second value has an origin for every field ("default", "file /x/memcli.toml",
    "environment MEMCLI_DB", "flag --db") and for every profile value that the file changes ("profiles.NAME.rate").

    Raises:
        UsageError: an unknown key or variable, a value that is not allowed, or a file that cannot be read.
    """
    origins = dict.fromkeys((item.name for item in fields(Config)), "default")
    values: dict[str, Any] = {}
    path = _find_file(config_file, environ, cwd)
    if path is not None:
        _apply_file(path, values, origins)
    for variable in sorted(name for name in environ if name.startswith("MEMCLI_") and name not in _OTHER_VARIABLES):
        name = variable.removeprefix("MEMCLI_").lower()
        if name not in _SETTINGS or variable != _variable(name):
            known = [_variable(each) for each in _SETTINGS]
            raise UsageError(f"unknown environment variable {variable}", _nearest(variable, known))
        if environ[variable]:  # An empty variable is how shells and service files leave a setting unset.
            values[name] = _checked(_SETTINGS[name], environ[variable], f"environment variable {variable}", cwd)
            origins[name] = f"environment {variable}"
    for name, value in flags.items():
        if value is not None:
            flag = "--" + ("no-" if value is False else "") + name.replace("_", "-")
            values[name] = _checked(_SETTINGS[name], value, flag, cwd)
            origins[name] = f"flag {flag}"
    return Config(**values), origins


def _variable(name: str) -> str:
    return f"MEMCLI_{name.upper()}"


def _find_file(config_file: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    if config_file is not None:
        return cwd / config_file.expanduser()
    chosen = environ.get("MEMCLI_CONFIG")
    if chosen:
        return cwd / Path(chosen).expanduser()
    usual = (cwd / FILE_NAME, Path(platformdirs.user_config_dir("memcli", appauthor=False)) / FILE_NAME)
    return next((path for path in usual if path.is_file()), None)


def _apply_file(path: Path, values: dict[str, Any], origins: dict[str, str]) -> None:
    try:
        text = read_small(path)
        table = toml_of(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read the configuration file {path}: {reason}", "name another: --config") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}", 'texts stand in quotes: name = "text"') from error
    for key, value in table.items():
        if key in _TABLES:
            values[key] = _TABLES[key](path, text, value, origins)
            origins[key] = f"file {path}"
    if "budget" in table:
        _apply_settings(path, text, "budget", table["budget"], values, origins)
    rest = {key: value for key, value in table.items() if key not in _TABLES and key != "budget"}
    _apply_settings(path, text, "", rest, values, origins)


def _apply_settings(
    path: Path, text: str, name: str, table: object, values: dict[str, Any], origins: dict[str, str]
) -> None:
    """Take over the settings of the table [name], or of none: those of the budget stand in theirs, and no others."""
    if not isinstance(table, dict):
        raise UsageError(f"{path}{_line_of(text, '', name)}: {name} must be a table, as in [{name}]")
    known = [each for each in _SETTINGS if (each in _BUDGET) == (name == "budget")]
    for key, value in table.items():
        where = f"{path}{_line_of(text, name, key)}: {f'{name}.' if name else ''}{key}"
        if key in _BUDGET and not name:
            raise UsageError(f"{where}: unknown key", f"put it into the table [budget]: {key} = ...")
        if key not in known:
            raise UsageError(f"{where}: unknown key", _nearest(key, known if name else [*known, *_TABLES, "budget"]))
        values[key] = _checked(_SETTINGS[key], value, where, path.parent)
        origins[key] = f"file {path}"


def _changes(
    path: Path, text: str, kind: str, tables: object, settings: Mapping[str, Setting], origins: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table [kind.NAME] with its checked values."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(f"{path}{_line_of(text, '', kind)}: {kind} must be tables, as in [{kind}.NAME]")
    for name, table in tables.items():
        changes: dict[str, Any] = {}
        for key, value in table.items():
            where = f"{path}{_line_of(text, f'{kind}.{name}', key)}: {kind}.{name}.{key}"
            if key not in settings:
                raise UsageError(f"{where}: unknown key", _nearest(key, settings))
            changes[key] = _checked(settings[key], value, where, path.parent)
            origins[f"{kind}.{name}.{key}"] = f"file {path}"
        yield name, changes


def _profile_tables(path: Path, text: str, tables: object, origins: dict[str, str]) -> Mapping[str, Profile]:
    result = dict(PROFILES)
    for name, changes in _changes(path, text, "profiles", tables, _PROFILE_SETTINGS, origins):
        changed = replace(PROFILES.get(name, PROFILES[FALLBACK_PROFILE]), name=name, **changes)
        if changed.min_messages > changed.max_messages:
            raise UsageError(
                f"{path}: profiles.{name}: min_messages ({changed.min_messages}) must not be above "
                f"max_messages ({changed.max_messages})"
            )
        result[name] = changed
    return MappingProxyType(result)


def _tier_tables(path: Path, text: str, tables: object, origins: dict[str, str]) -> Mapping[str, Tier]:
    result = dict(DEFAULT_TIERS)
    for name, changes in _changes(path, text, "tiers", tables, _TIER_SETTINGS, origins):
        if name not in result:
            raise UsageError(f"{path}: tiers.{name}: no such tier", _nearest(name, MODEL_TIERS))
        changed = replace(result[name], **changes)
        if (changed.price_in is None) != (changed.price_out is None):
            raise UsageError(f"{path}: tiers.{name}: give both price_in and price_out, or neither")
        result[name] = changed
    return MappingProxyType(result)


def _line_of(text: str, table: str, key: str) -> str:
    """The line of `key` in the TOML `text` as ":7", or nothing where it is written in an unusual way."""
    here = ""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            here = stripped.strip("[] \t").replace('"', "").replace("'", "")
        elif here == table and stripped.partition("=")[0].strip(" \t\"'") == key:
            return f":{number}"
    return ""


def _nearest(name: str, known: Iterable[str]) -> str:
    """Name the known name that is nearest, and all of them where none is near."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    best = near or difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    hint = f'did you mean "{best[0]}"?'
    return hint if near else f"{hint} (known: {', '.join(names)})"


def _checked(setting: Setting, value: object, where: str, base: Path) -> object:
    """Convert `value`; a setting raises ValueError with what is allowed, which becomes the user's message."""
    try:
        return setting(value, base)
    except ValueError as error:
        raise UsageError(f"{where} must be {error}, not {value!r}") from error


def _roles(value: object, base: Path) -> object:
    from memcli.model import ROLES  # noqa: PLC0415 - 11 ms that a search need not wait

    return settings.some_of(ROLES)(value, base)


_FOREVER = 10**9
_COUNT = settings.number(1, 1_000_000, whole=True)


def _count_or_auto(value: object, base: Path) -> object:
    if value == "auto":
        return None
    try:
        return _COUNT(value, base)
    except ValueError as error:
        raise ValueError(f'"auto" or {error}') from error


_SETTINGS: Mapping[str, Setting] = {
    "db": settings.path,
    "agent": settings.text,
    "profile": settings.text,
    "extract": settings.some_of(TIERS),
    "roles": _roles,
    "model": settings.text,
    "batch_size": _COUNT,
    "embed_batch_size": _count_or_auto,
    "base_url": settings.text,
    "embed_price": settings.number(0, 1_000_000),
    "max_memory": settings.size,
    "near_threshold": settings.number(0, 1),
    "rate_applies_to": settings.one_of(("paid", "all")),
    "starter_rules": settings.flag,
    "redact": settings.flag,
    "concurrency": settings.number(1, 100, whole=True),
    "max_usd": settings.number(0, _FOREVER),
    "max_calls": settings.number(0, _FOREVER, whole=True),
    "max_tokens": settings.number(0, _FOREVER, whole=True),
    "max_usd_per_month": settings.number(0, _FOREVER),
    "max_calls_per_month": settings.number(0, _FOREVER, whole=True),
    "max_tokens_per_month": settings.number(0, _FOREVER, whole=True),
    "search_cache_size": settings.number(0, 1_000_000, whole=True),
    "search_cache_ttl": settings.number(0, _FOREVER),
    "workers": settings.number(1, 1024, whole=True),
    "wait": settings.number(0, _FOREVER),
}
# In a file these stand in the table [budget].
_BUDGET = frozenset(name for name in _SETTINGS if re.match(r"max_(?:usd|calls|tokens)", name))
_PROFILE_SETTINGS: Mapping[str, Setting] = {
    "max_messages": _COUNT,
    "timeout_minutes": settings.number(0, _FOREVER),
    "min_messages": _COUNT,
    "rate": settings.number(0, 1),
    "min_chars": settings.number(0, 1_000_000, whole=True),
    "tiers": settings.some_of(TIERS),
    "filters": settings.one_of(FILTER_LEVELS),
    "focus": settings.text,
    "expected_memories": _COUNT,
    "expected_tokens": _COUNT,
}
_TIER_SETTINGS: Mapping[str, Setting] = {
    "model": settings.text,
    "base_url": settings.text,
    "api_key_env": settings.text,
    "max_tokens": _COUNT,
    "temperature": settings.number(0, 2),
    "timeout": settings.number(1, 3600),
    "min_messages": _COUNT,
    "price_in": settings.number(0, 1_000_000),
    "price_out": settings.number(0, 1_000_000),
    "prompt": settings.path,
    "tokenizer": settings.path,
}
_TABLES = {"profiles": _profile_tables, "tiers": _tier_tables}
