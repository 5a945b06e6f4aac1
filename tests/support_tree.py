"""All commands of memcli as Typer has built them."""

from typer.main import get_command

from memcli.cli.app import COMMANDS, GROUPS, build
from memcli.cli.wording import polish

ROOT = get_command(build([*COMMANDS, *GROUPS]))
polish(ROOT)


def tree(command=ROOT, path=()):
    """All commands with the words that they are called by."""
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from tree(each, (*path, name))


TREE = dict(tree())


def command_of(words):
    """The command that `memcli` and further words call, and what is left for it."""
    path = ()
    while len(words) > len(path) and (*path, words[len(path)]) in TREE:
        path = (*path, words[len(path)])
    return path, words[len(path) :]
