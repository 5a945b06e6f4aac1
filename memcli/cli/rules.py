"""`memcli rules` as flags."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from memcli.cli.options import (
    ConfigOption,
    DbOption,
    DryRunOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    WaitOption,
)
from memcli.cli.options import settings as load_settings
from memcli.errors import UsageError

rules_app = typer.Typer(
    help="Patterns that say what is worth remembering.\n\nExample: memcli rules list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="A rule's id or name.")]
KeysArgument = Annotated[list[str], typer.Argument(metavar="ID", help="Ids or names of rules.")]
PatternArgument = Annotated[
    str, typer.Argument(metavar="PATTERN", help="A regular expression (RE2), or words with --simple.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="What the rule is called [its pattern].")]
SimpleOption = Annotated[
    bool | None, typer.Option("--simple/--regex", help="PATTERN is plain words: deploy*, account * problem.")
]
KeepOption = Annotated[
    str | None, typer.Option("--keep", metavar="match|sentence|message", help="What is remembered [sentence].")
]
TypeOption = Annotated[
    str | None, typer.Option("--type", metavar="TYPE", help="semantic, episodic or procedural [semantic].")
]
ImportanceOption = Annotated[float | None, typer.Option("--importance", help="From 0 to 1 [0.5].")]
KeywordsOption = Annotated[str | None, typer.Option("--keywords", metavar="A,B", help="Keywords of the memories.")]
RolesOption = Annotated[
    str | None, typer.Option("--roles", metavar="user|assistant|both", help="Whose messages it reads [both].")
]
OwnerOption = Annotated[str | None, typer.Option("--agent", metavar="NAME", help="The agent it is for [all].")]
CaseOption = Annotated[bool | None, typer.Option("--case-sensitive/--any-case", help="Tell capitals apart.")]
FormatOption = Annotated[str | None, typer.Option("--format", help="json or toml, instead of the file's name.")]


def _values(**given: object) -> dict[str, object]:
    """What the user said of a rule, under the names that rules have."""
    values = {name: value for name, value in given.items() if value is not None}
    if "simple" in values:
        values["kind"] = "simple" if values.pop("simple") else "regex"
    if "keywords" in values:
        values["keywords"] = [word.strip() for word in str(values["keywords"]).split(",") if word.strip()]
    return values


def _show_change(change: Any, *, as_json: bool) -> None:  # noqa: ANN401 - commands.rules.Change, imported lazily
    from memcli import render  # noqa: PLC0415 - keeps --help fast

    if as_json:
        render.print_json(change.to_json())
    else:
        render.show_change(change)


@rules_app.command("add")
def rules_add(
    pattern: PatternArgument,
    name: NameOption = None,
    simple: SimpleOption = None,
    keep: KeepOption = None,
    type_name: TypeOption = None,
    importance: ImportanceOption = None,
    keywords: KeywordsOption = None,
    roles: RolesOption = None,
    agent: OwnerOption = None,
    case_sensitive: CaseOption = None,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Add a rule; try it before with memcli rules test.

    Example: memcli rules add "allerg(y|ic) to" --importance 0.9 --roles user
    """
    values = _values(
        pattern=pattern,
        name=name,
        simple=simple,
        keep=keep,
        type=type_name,
        importance=importance,
        keywords=keywords,
        roles=roles,
        agent=agent,
        case_sensitive=case_sensitive,
    )
    settings, _ = load_settings(config, {"db": db, "wait": wait})
    from memcli.commands import rules as command  # noqa: PLC0415 - keeps --help fast: re2

    _show_change(command.add(settings, values, dry_run=dry_run), as_json=as_json)


@rules_app.command("list")
def rules_list(
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Only rules that apply to this agent.")
    ] = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """List the rules, built-in ones too.

    Example: memcli rules list
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import rules as command  # noqa: PLC0415 - as above: re2

    listed = command.listing(settings, agent)
    if as_json:
        render.print_json([each.to_json() for each in listed])
    else:
        render.show_rules(listed)


@rules_app.command("show")
def rules_show(
    key: KeyArgument,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Show everything about one rule.

    Example: memcli rules show starter-decision
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import rules as command  # noqa: PLC0415 - as above: re2

    found = command.show(settings, key)
    if as_json:
        render.print_json(found.to_json())
    else:
        render.show_rule(found)


@rules_app.command("edit")
def rules_edit(
    key: KeyArgument,
    pattern: Annotated[str | None, typer.Option("--pattern", help="Another pattern.")] = None,
    name: NameOption = None,
    simple: SimpleOption = None,
    keep: KeepOption = None,
    type_name: TypeOption = None,
    importance: ImportanceOption = None,
    keywords: KeywordsOption = None,
    roles: RolesOption = None,
    agent: OwnerOption = None,
    all_agents: Annotated[bool, typer.Option("--all-agents", help="For all agents.")] = False,
    case_sensitive: CaseOption = None,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Change a rule; memories that it made stay as they are.

    Example: memcli rules edit 3f9a1c --importance 0.9 --keywords allergy,health
    """
    if agent is not None and all_agents:
        raise UsageError("--agent does not go with --all-agents", "drop one of them")
    values = _values(
        pattern=pattern,
        name=name,
        simple=simple,
        keep=keep,
        type=type_name,
        importance=importance,
        keywords=keywords,
        roles=roles,
        agent=agent,
        case_sensitive=case_sensitive,
    )
    settings, _ = load_settings(config, {"db": db, "wait": wait})
    from memcli.commands import rules as command  # noqa: PLC0415 - keeps --help fast: re2

    changes = values | ({"agent": None} if all_agents else {})
    _show_change(command.edit(settings, key, changes, dry_run=dry_run), as_json=as_json)


@rules_app.command("test")
def rules_test(
    pattern: PatternArgument,
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="A transcript or folder to try it on [stored messages].")
    ] = None,
    simple: SimpleOption = None,
    keep: KeepOption = None,
    roles: RolesOption = None,
    agent: OwnerOption = None,
    case_sensitive: CaseOption = None,
    first: Annotated[int, typer.Option("--first", min=0, help="Matches to show.")] = 10,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Try a pattern: what it hits, in context, and what it costs.

    Example: memcli rules test "deploy* * friday" --simple ~/.claude/projects
    """
    values = _values(pattern=pattern, simple=simple, keep=keep, roles=roles, agent=agent, case_sensitive=case_sensitive)
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import rule_trials as command  # noqa: PLC0415 - as above: numpy

    progress = render.ConsoleProgress(quiet=quiet, verbose=False)
    try:
        found = command.trial(settings, values, path, first, progress, os.environ)
    finally:
        progress.finish()
    if as_json:
        render.print_json(found.to_json())
    else:
        render.show_trial(found)


@rules_app.command("coverage")
def rules_coverage(
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only messages of this agent.")] = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Run the rules over stored messages: hits, overlap, cost.

    Rules that never fire are named.

    Example: memcli rules coverage
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import rule_trials as command  # noqa: PLC0415 - as above: numpy

    progress = render.ConsoleProgress(quiet=quiet, verbose=False)
    try:
        found = command.coverage(settings, agent, progress)
    finally:
        progress.finish()
    if as_json:
        render.print_json(found.to_json())
    else:
        render.show_coverage(found)


@rules_app.command("enable")
def rules_enable(
    keys: KeysArgument,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Switch rules on, built-in ones too.

    Example: memcli rules enable starter-coping
    """
    settings, _ = load_settings(config, {"db": db, "wait": wait})
    from memcli.commands import rules as command  # noqa: PLC0415 - keeps --help fast: re2

    _show_change(command.switch(settings, keys, active=True, dry_run=dry_run), as_json=as_json)


@rules_app.command("disable")
def rules_disable(
    keys: KeysArgument,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Switch rules off, built-in ones too; the database remembers it.

    Example: memcli rules disable starter-emotion starter-coping
    """
    settings, _ = load_settings(config, {"db": db, "wait": wait})
    from memcli.commands import rules as command  # noqa: PLC0415 - keeps --help fast: re2

    _show_change(command.switch(settings, keys, active=False, dry_run=dry_run), as_json=as_json)


@rules_app.command("remove")
def rules_remove(
    keys: KeysArgument,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Remove rules; memories that they made stay.

    Example: memcli rules remove 3f9a1c
    """
    settings, _ = load_settings(config, {"db": db, "wait": wait})
    from memcli.commands import rules as command  # noqa: PLC0415 - keeps --help fast: re2

    _show_change(command.remove(settings, keys, dry_run=dry_run), as_json=as_json)


@rules_app.command("import")
def rules_import(
    path: Annotated[str, typer.Argument(metavar="FILE", help="Rules as .json or .toml, or - for stdin.")],
    format_name: FormatOption = None,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Bring in the rules of a file: all of them, or none.

    Where one is refused, nothing is imported.

    Example: memcli rules import team-rules.toml
    """
    settings, _ = load_settings(config, {"db": db, "wait": wait})
    from memcli.commands import rules as command  # noqa: PLC0415 - keeps --help fast: re2

    _show_change(command.import_rules(settings, path, format_name, dry_run=dry_run), as_json=as_json)


@rules_app.command("export")
def rules_export(
    path: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Where to, .json or .toml [stdout, as JSON].")
    ] = None,
    format_name: FormatOption = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Write your rules to a file.

    The names of built-in rules that are off are in it too.

    Example: memcli rules export team-rules.toml
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import rules as command  # noqa: PLC0415 - as above: re2

    exported = command.export_rules(settings, path, format_name)
    if path in {None, command.STDIO}:
        render.write(exported.text)
    elif as_json:
        render.print_json({"file": path, "rules": exported.rules})
    else:
        render.show_exported(str(path), exported.rules)
    render.warn(exported.problems)
