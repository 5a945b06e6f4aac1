"""`memcli rules`: the rules of the database are listed, changed, tried, carried from and to files, and measured."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from memcli import __version__, wiring
from memcli.commands.database import writable_database
from memcli.config import Config
from memcli.errors import UsageError
from memcli.extract.rule_files import (
    FORMATS,
    FileFormat,
    RuleFile,
    check_ids,
    dump_rules,
    parse_rules,
    rule_of,
    table_of,
)
from memcli.extract.rules import Rule, compile_rule, starter_rules
from memcli.files import read_small, read_stdin, whole_file, write_private
from memcli.rulebook import Change, Exported, Listed
from memcli.store import rules as rule_rows
from memcli.store import runs as run_rows
from memcli.store.db import Store, require_database
from memcli.text import digest

STDIO = "-"
_ID_LENGTH = 6
_NAME_FROM_PATTERN = 60
_WHERE_LISTED = "memcli rules list shows ids and names"


def listing(config: Config, agent: str | None = None) -> list[Listed]:
    """All rules, built-in ones last; with `agent` those that apply to it."""
    with Store.open(config.db) as store:
        found = _listed(store)
    return [each for each in found if agent is None or each.table["agent"] in {None, agent}]


def show(config: Config, key: str) -> Listed:
    """The rule with that id or name."""
    with Store.open(config.db) as store:
        return _find(_listed(store), key)


def add(config: Config, values: Mapping[str, object], *, dry_run: bool) -> Change:
    """Store a new rule; without a name it is called by its pattern.

    Raises:
        UsageError: a value is not allowed, RE2 refuses the pattern, or the agent has a rule of that name.
    """
    rule = checked_rule(values)
    with _changing(config, "rules add", dry_run=dry_run, creates=True) as (store, changes):
        listed = _listed(store)
        _refuse_taken_name(rule, _by_name(listed))
        rule = replace(rule, id=_new_id(rule, {each.table["id"] for each in listed}))
        changes.write([rule])
        changes.done["added"] = [Listed(table_of(rule))]
    return changes.report()


def checked_rule(values: Mapping[str, object]) -> Rule:
    """The rule that `values` describe; without a name it is called by its pattern.

    Raises:
        UsageError: a value is not allowed, or RE2 refuses the pattern.
    """
    printable = "".join(mark if mark.isprintable() else " " for mark in str(values["pattern"]))
    name = " ".join(printable.split())[:_NAME_FROM_PATTERN].strip() or "rule"
    try:
        rule = rule_of({"name": name, **{key: value for key, value in values.items() if key != "id"}})
    except ValueError as error:
        raise UsageError(str(error), "memcli rules add --help shows what may be said") from error
    _compiled(rule)
    return replace(rule, id=str(values.get("id", "")))


def edit(config: Config, key: str, values: Mapping[str, object], *, dry_run: bool) -> Change:
    """Change what `values` names of one rule.

    Raises:
        UsageError: there is no such rule, it is built in, or what it would become is not allowed.
    """
    if not values:
        raise UsageError(
            "nothing to change", "name what the rule should be, as in: memcli rules edit ID --importance 0.9"
        )
    with _changing(config, "rules edit", dry_run=dry_run) as (store, changes):
        listed = _listed(store)
        found = _find(listed, key)
        if found.starter:
            raise UsageError(
                f"{found.table['id']} is a built-in rule, which cannot be edited",
                f"add a rule of your own and switch this one off: memcli rules disable {found.table['id']}",
            )
        rule = checked_rule({**found.table, **values})
        _refuse_taken_name(rule, _by_name(each for each in listed if each is not found))
        same = found.problem is None and table_of(rule) == dict(found.table)
        if not same:
            changes.write([rule])
        changes.done["unchanged" if same else "changed"] = [Listed(table_of(rule))]
    return changes.report()


def switch(config: Config, keys: Sequence[str], *, active: bool, dry_run: bool) -> Change:
    """Enable or disable rules, built-in ones too."""
    what = "enabled" if active else "disabled"
    are_built_in = {name for rule in starter_rules() for name in (rule.id, rule.name)}.issuperset(keys)
    with _changing(config, f"rules {what[:-1]}", dry_run=dry_run, creates=are_built_in) as (store, changes):
        found = _all_of(_listed(store), keys)
        changed = [each for each in found if each.table["active"] is not active]
        changes.switch([each.table["id"] for each in changed if not each.starter], rule_rows.set_active, active=active)
        changes.switch([each.table["id"] for each in changed if each.starter], rule_rows.set_starters, active=active)
        for each in found:
            now = replace(each, table={**each.table, "active": active})
            changes.done.setdefault(what if each in changed else "unchanged", []).append(now)
    return changes.report()


def remove(config: Config, keys: Sequence[str], *, dry_run: bool) -> Change:
    """Remove rules; the memories that they made stay."""
    with _changing(config, "rules remove", dry_run=dry_run) as (store, changes):
        found = _all_of(_listed(store), keys)
        for each in found:
            if each.starter:
                raise UsageError(
                    f"{each.table['id']} is a built-in rule, which cannot be removed",
                    f"switch it off: memcli rules disable {each.table['id']}",
                )
        ids = [str(each.table["id"]) for each in found]
        changes.writes.append(lambda conn, _: rule_rows.remove(conn, ids))
        changes.done["removed"] = found
    return changes.report()


def import_rules(config: Config, path: str, file_format: str | None, *, dry_run: bool) -> Change:
    """Bring the rules of a file into the database: all of them or, where one is refused, none.

    A rule is the same as a stored one by its id, else by agent and name; then it takes that one's place.

    Raises:
        UsageError: the file cannot be read, or a rule in it is refused.
    """
    file = _read_rules(path, file_format)
    for rule in file.rules:
        _compiled(rule, f'{path}: rule "{rule.name}": ')
    with _changing(config, "rules import", dry_run=dry_run, creates=True) as (store, changes):
        listed = _listed(store)
        stored = {str(each.table["id"]): each for each in listed if not each.starter}
        places = _places(file.rules, stored)
        taken = {*stored, *(rule.id for rule in file.rules)}
        rules = []
        for incoming, old in zip(file.rules, places, strict=True):
            rule = replace(incoming, id=str(old.table["id"]) if old else incoming.id or _new_id(incoming, taken))
            taken.add(rule.id)
            same = old is not None and old.problem is None and table_of(rule) == dict(old.table)
            changes.done.setdefault("unchanged" if same else "changed" if old else "added", []).append(
                Listed(table_of(rule))
            )
            if not same:
                rules.append(rule)
        replaced = {each.table["id"] for each in places if each is not None}
        others = _by_name(each for each in listed if each.table["id"] not in replaced)
        for rule in rules:
            _refuse_taken_name(rule, others)
        changes.write(rules)
        active = [each for each in listed if each.table["id"] in file.disabled_starters and each.table["active"]]
        changes.switch([each.table["id"] for each in active], rule_rows.set_starters, active=False)
        if active:
            changes.done["disabled"] = [replace(each, table={**each.table, "active": False}) for each in active]
    return changes.report()


def _places(rules: Sequence[Rule], stored: Mapping[str, Listed]) -> list[Listed | None]:
    """The stored rule that each of `rules` stands for, none twice."""
    free = dict(stored)
    found = [free.pop(rule.id, None) for rule in rules]
    by_name = _by_name(free.values())
    return [old or by_name.pop((rule.agent, rule.name), None) for rule, old in zip(rules, found, strict=True)]


def export_rules(config: Config, path: str | None, file_format: str | None) -> Exported:
    """The rules of the database as the text of a rule file, written to `path` where there is one.

    Raises:
        UsageError: the format is unknown, or the file cannot be written.
    """
    chosen = _format_of(path, file_format or ("json" if path in {None, STDIO} else None))
    with Store.open(config.db) as store:
        rules, problems = wiring.stored_rules(store)
        disabled = sorted(rule_rows.disabled_starters(store))
    text = dump_rules(RuleFile(tuple(rules), tuple(disabled)), chosen)
    if path not in {None, STDIO}:
        try:
            _write(Path(str(path)).expanduser(), text)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}", "name another file, or - for stdout") from error
    return Exported(text, len(rules), tuple(problems))


def _write(path: Path, text: str) -> None:
    if path.exists() and not path.is_file():  # a pipe, as the shell's >(...) makes one
        write_private(path, text)
        return
    # A file that is there may be meant for others, too.
    modes = [stat.S_IMODE(path.stat().st_mode)] if path.exists() else []
    with whole_file(path, *modes) as file:
        file.write(text.encode())


# --- one change of the database --------------------------------------------------------------------------------------


class _Changes:
    """What one command writes, in one transaction, and what it will say of it."""

    def __init__(self, db: str, *, dry_run: bool) -> None:
        self.writes: list[Callable[[Any, int], None]] = []
        self.done: dict[str, list[Listed]] = {}
        self._db = db
        self._dry_run = dry_run
        self._run_id: int | None = None

    def write(self, rules: Sequence[Rule]) -> None:
        """Have rules inserted or replaced."""
        if rules:
            tables = [table_of(rule) for rule in rules]
            self.writes.append(lambda conn, run_id: rule_rows.write(conn, tables, run_id))

    def switch(self, ids: Sequence[str], setter: Callable[..., None], *, active: bool) -> None:
        """Have rules switched on or off by `setter`."""
        if ids:
            self.writes.append(lambda conn, run_id: setter(conn, ids, run_id, active=active))

    def commit(self, store: Store, command: str) -> None:
        """Write everything, and record the run; nothing to write is no run."""
        if not self.writes:
            return
        run_id = store.next_id("runs")
        ids = {what: [each.table["id"] for each in listed] for what, listed in self.done.items()}
        with store.transaction(store.generation()) as conn:
            run_rows.record_run(conn, run_id, command, __version__, ids)
            for write in self.writes:
                write(conn, run_id)
        self._run_id = run_id

    def report(self) -> Change:
        """What has been done."""
        return Change(self._db, self.done, self._dry_run, self._run_id)


@contextmanager
def _changing(
    config: Config, command: str, *, dry_run: bool, creates: bool = False
) -> Iterator[tuple[Store, _Changes]]:
    """The database open for writing; what is collected meanwhile is committed at the end."""
    if not creates:
        require_database(config.db)
    changes = _Changes(str(config.db), dry_run=dry_run)
    with writable_database(config, command, dry_run=dry_run) as path, Store.create(path) as store:
        yield store, changes
        changes.commit(store, command)


def _listed(store: Store) -> list[Listed]:
    """The rules of the database in order of their number, then the built-in ones."""
    disabled = rule_rows.disabled_starters(store)
    stored = [Listed(table, problem=_problem(table)) for table in rule_rows.load(store)]
    built_in = (replace(rule, active=rule.id not in disabled) for rule in starter_rules())
    return [*stored, *(Listed(table_of(rule), starter=True) for rule in built_in)]


def _problem(table: Mapping[str, object]) -> str | None:
    try:
        compile_rule(rule_of(table))
    except ValueError as error:
        return str(error)
    except UsageError as error:
        return error.message
    return None


def _find(listed: Sequence[Listed], key: str) -> Listed:
    """The rule with that id, else with that name."""
    found = [each for each in listed if each.table["id"] == key] or [
        each for each in listed if each.table["name"] == key
    ]
    if not found:
        raise UsageError(f"no rule has the id or name {key}", _WHERE_LISTED)
    if len(found) > 1:
        raise UsageError(f"{len(found)} rules have the name {key}", f"say which by id; {_WHERE_LISTED}")
    return found[0]


def _all_of(listed: Sequence[Listed], keys: Sequence[str]) -> list[Listed]:
    """The rules with those ids or names, none twice."""
    return list({each.table["id"]: each for each in (_find(listed, key) for key in keys)}.values())


def _compiled(rule: Rule, where: str = "") -> None:
    try:
        compile_rule(rule)
    except UsageError as error:
        raise UsageError(where + error.message, error.hint, error.excerpt) from error


def _by_name(listed: Iterable[Listed]) -> dict[tuple[Any, Any], Listed]:
    return {(each.table["agent"], each.table["name"]): each for each in listed}


def _refuse_taken_name(rule: Rule, others: Mapping[tuple[Any, Any], Listed]) -> None:
    """Memories name the rule that made them, so each name stands for one rule of an agent."""
    each = others.get((rule.agent, rule.name))
    if each is not None:
        kind = "built-in rule" if each.starter else "rule"
        raise UsageError(
            f"there is a {kind} of the name {rule.name} ({each.table['id']})",
            "choose another with --name" + ("" if each.starter else f", or: memcli rules edit {each.table['id']}"),
        )


def _new_id(rule: Rule, taken: set[str]) -> str:
    """A short id that the same rule gets in every database; longer where another has it."""
    full = digest("rule", rule.agent or "", "" if rule.agent is None else "agent", rule.name).hex()
    return next(full[:length] for length in range(_ID_LENGTH, len(full) + 1) if full[:length] not in taken)


# --- rule files ------------------------------------------------------------------------------------------------------


def _read_rules(path: str, file_format: str | None) -> RuleFile:
    chosen = _format_of(path, file_format)
    try:
        text = read_stdin() if path == STDIO else read_small(Path(path).expanduser(), pipes=True)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"cannot read the rules in {path}: {reason}", "memcli rules export FILE writes such a file"
        ) from error
    try:
        file = parse_rules(text, chosen)
        check_ids(file.rules)
        if unknown := set(file.disabled_starters) - {rule.id for rule in starter_rules()}:
            raise ValueError(f"there is no built-in rule {min(unknown)}")
    except ValueError as error:
        raise UsageError(f"{path}: {error}", "nothing was imported") from error
    return file


def _format_of(path: str | None, file_format: str | None) -> FileFormat:
    """The format that was named, else the one of the file's name."""
    wanted = file_format or Path(path or "").suffix.removeprefix(".").lower()
    for known in FORMATS:
        if wanted == known:
            return known
    raise UsageError(
        f"unknown format of rules: {wanted or path}",
        "name the file .json or .toml, or say --format json or --format toml",
    )
