"""The first contact: what `memcli` alone says, and what it says to a command that there is not."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperGroup

from memcli.errors import UsageError

GREETING = """\
memcli turns chat transcripts into a searchable memory in one SQLite file.

  memcli ingest                     find the transcripts that are here, and ask
  memcli search "the login error"   find what was said, by words and by meaning
  memcli stats                      see what is in the memory

All commands: memcli --help. One of them: memcli ingest --help.
"""
_SUGGESTED = 3


class Group(TyperGroup):
    """A group of commands that names what was probably meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's own
        """Take the words of the command line; UsageError for a command's flag that stands before the command."""
        flag = args[0].partition("=")[0] if args else ""
        if flag.startswith("--") and not ctx.resilient_parsing:
            places = [place for each, place in self._flags() if each == flag]
            if places and "" not in places:
                command = next((each for each in args if each in self.commands), "COMMAND")
                behind = f"put it behind: {ctx.command_path} {command} ... {flag}"
                raise UsageError(f"{flag} stands before the command", behind)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - as above
        """Find the command of `args`; UsageError where there is none."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            path = ctx.command_path
            meant = ", or: ".join(f"{path} {each}" for each in self._meant(args[0]))
            hint = f"did you mean: {meant}" if meant else f"all commands: {path} --help"
            raise UsageError(f"no such command: {path} {args[0]}", hint)
        return super().resolve_command(ctx, args)

    def _meant(self, word: str) -> list[str]:
        """What a word may stand for: a command, one of a group below, a flag; written wrongly, or in a wrong place."""
        below: dict[str, list[str]] = {}
        for group, each in self.commands.items():
            for name in getattr(each, "commands", {}):
                below.setdefault(name, []).append(f"{group} {name}")
        flags: dict[str, list[str]] = {}
        for flag, command in self._flags():
            flags.setdefault(flag.lstrip("-"), []).append(f"{command} {flag}".strip())
        of_one = flags[word] if len(flags.get(word, ())) == 1 else []
        found = [*below.get(word, ()), *of_one] or get_close_matches(word, self.commands)
        nearest = get_close_matches(word, below, n=1)
        return (found or [place for name in nearest for place in below[name]])[:_SUGGESTED]

    def _flags(self) -> Iterator[tuple[str, str]]:
        """The long options of the group and of the commands directly below it, each with its command."""
        for name, command in [("", self), *self.commands.items()]:
            yield from ((flag, name) for param in command.params for flag in param.opts if flag.startswith("--"))
        yield "--help", ""


class Root(Group):
    """`memcli` itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - as above
        """Greet whoever gives no command, on stderr and with the code of a wrong usage: a script should notice."""
        if not args and not ctx.resilient_parsing:
            typer.echo(GREETING, err=True, nl=False)
            ctx.exit(UsageError.exit_code)
        return super().parse_args(ctx, args)
