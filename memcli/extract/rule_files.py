"""Rules as tables: what a rule file (JSON or TOML) and the database hold, checked on the way in. Pure."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from memcli.extract.rules import Keep, RoleScope, Rule
from memcli.files import toml_of
from memcli.model import MemoryType

FileFormat = Literal["json", "toml"]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
STARTER_PREFIX = "starter-"
_NAME_LIMIT = 80
_KEYWORD_LIMIT = 100
_PATTERN_LIMIT = 20_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_OFF = "disabled_starter_rules"


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What a rule file holds: rules, and the ids of built-in ones that are switched off.

    A rule of a file that names no id has the empty one.
    """

    rules: tuple[Rule, ...]
    disabled_starters: tuple[str, ...] = ()


def rule_of(table: Mapping[str, object]) -> Rule:
    """Make a rule of a table, with defaults for what it does not say.

    Raises:
        ValueError: a key is unknown, or a value is not allowed; says which, and what is.
    """
    for key in table:
        if key not in _CHECKS:
            near = difflib.get_close_matches(key, _CHECKS, n=1, cutoff=0.0)
            raise ValueError(f'unknown key {key}: did you mean "{near[0]}"?')
    for key in ("name", "pattern"):
        if key not in table:
            raise ValueError(f"{key} is missing")
    values: dict[str, Any] = dict(_DEFAULTS)
    for key, value in table.items():
        try:
            values[key] = _CHECKS[key](value)
        except ValueError as error:
            raise ValueError(f"{key} must be {error}, not {value!r:.80}") from None
    return Rule(**values)


def table_of(rule: Rule) -> dict[str, Any]:
    """A rule as a table with every key, as the database and `--json` have it."""
    table = {item.name: getattr(rule, item.name) for item in fields(rule)}
    return {**table, "keywords": list(rule.keywords)}


def parse_rules(text: str, file_format: FileFormat) -> RuleFile:
    """Read a rule file.

    Raises:
        ValueError: it is not of that format, or a rule in it is not as it must be; says which.
    """
    try:
        document = json.loads(text) if file_format == "json" else toml_of(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid {file_format.upper()}: {error}") from error
    if isinstance(document, list):
        document = {"rules": document}
    if not isinstance(document, dict) or not isinstance(document.get("rules", []), list):
        raise ValueError('a rule file holds a list "rules"')  # noqa: TRY004 - the file's content, not an argument
    if unknown := document.keys() - {"rules", _OFF}:
        raise ValueError(f"unknown key {min(unknown)}: a rule file holds rules and {_OFF}")
    rules = []
    for number, table in enumerate(document.get("rules", []), 1):
        try:
            rules.append(rule_of(_checked_table(table)))
        except ValueError as error:
            raise ValueError(f"rule {number}{_named(table)}: {error}") from error
    try:
        return RuleFile(tuple(rules), _texts(document.get(_OFF, [])))
    except ValueError as error:
        raise ValueError(f"{_OFF} must be {error}") from error


def dump_rules(file: RuleFile, file_format: FileFormat) -> str:
    """Write a rule file; keys with their default value are left out."""
    tables = [_short(rule) for rule in file.rules]
    if file_format == "json":
        document = {"rules": tables, **({_OFF: list(file.disabled_starters)} if file.disabled_starters else {})}
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    head = f"{_OFF} = {_toml(list(file.disabled_starters))}\n" if file.disabled_starters else ""
    blocks = ["[[rules]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items()) for table in tables]
    return "\n".join([head, *blocks] if head else blocks)


def _short(rule: Rule) -> dict[str, Any]:
    return {key: value for key, value in table_of(rule).items() if key not in _DEFAULTS or value != _plain_default(key)}


def _plain_default(key: str) -> object:
    default = _DEFAULTS[key]
    return list(default) if isinstance(default, tuple) else default


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if not isinstance(value, str):
        return repr(value)
    # Backslashes of patterns stay readable in a literal string.
    if "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _checked_table(table: object) -> Mapping[str, object]:
    if not isinstance(table, dict):
        raise ValueError("it is no table of keys and values")  # noqa: TRY004 - as above
    return table


def _named(table: object) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return f" ({name})" if isinstance(name, str) and name else ""


# --- what the values must be -----------------------------------------------------------------------------------------


def _text(limit: int, what: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not 0 < len(value.strip()) <= limit or not value.strip().isprintable():
            raise ValueError(f"{what} of 1 to {limit} characters without line ends")
        return value.strip()

    return check


def _pattern(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _PATTERN_LIMIT or "\x00" in value:
        raise ValueError(f"a text of 1 to {_PATTERN_LIMIT:,} characters")
    return value


def _id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value) or value.startswith(STARTER_PREFIX):
        raise ValueError(f'1 to 40 letters, digits, "-", "_" and "." that do not begin with "{STARTER_PREFIX}"')
    return value


def _agent(value: object) -> str | None:
    return None if value is None else _text(_NAME_LIMIT, "an agent's name")(value)


def _importance(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - as above
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("a list of texts")  # noqa: TRY004 - as above
    return tuple(dict.fromkeys(_text(_KEYWORD_LIMIT, "a list of texts")(each) for each in value))


def _one_of(allowed: Sequence[str]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return str(value)

    return check


_DEFAULTS: Mapping[str, object] = {
    "id": "",
    "agent": None,
    "kind": "regex",
    "keep": "sentence",
    "type": "semantic",
    "importance": 0.5,
    "keywords": (),
    "roles": "both",
    "case_sensitive": False,
    "active": True,
}
_CHECKS: Mapping[str, Callable[[object], object]] = {
    "id": _id,
    "name": _text(_NAME_LIMIT, "a name"),
    "agent": _agent,
    "pattern": _pattern,
    "kind": _one_of(("regex", "simple")),
    "keep": _one_of(get_args(Keep)),
    "type": _one_of(get_args(MemoryType)),
    "importance": _importance,
    "keywords": _texts,
    "roles": _one_of(get_args(RoleScope)),
    "case_sensitive": _flag,
    "active": _flag,
}


def check_ids(rules: Iterable[Rule]) -> None:
    """Refuse rules of which two have the same id, or the same name for the same agent.

    Raises:
        ValueError: says which.
    """
    seen: set[tuple[object, ...]] = set()
    for rule in rules:
        for key in ((rule.id,), (rule.agent, rule.name)):
            if key in seen and key != ("",):
                raise ValueError(f'two rules are "{key[-1]}"')
            seen.add(key)
