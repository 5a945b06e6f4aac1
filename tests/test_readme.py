"""README.md says what the program does: its tables, help texts and tour are compared with the real thing."""

import re
import sqlite3

import support_readme
from support_readme import README, TABLES, rendered

from memcli.store.db import Store


def timeless(text):
    """Without what differs from run to run: times, the order of lines they wrap into, days of memories and merges."""
    text = re.sub(r"(?m)^time .*\n( {10,}.*\n)*", "", text)
    text = re.sub(r"· \d{4}-\d\d-\d\d ·( merge \d+$| threshold)", r"·\1", text, flags=re.MULTILINE)
    return re.sub(r"[ \t]+", " ", text)


def test_the_generated_parts_of_the_readme_are_up_to_date():
    text = README.read_text(encoding="utf-8")
    assert timeless(rendered(text)) == timeless(text), "run: make readme"


def test_every_table_of_the_database_is_documented(tmp_path):
    with Store.create(tmp_path / "memory.db"):
        pass
    conn = sqlite3.connect(tmp_path / "memory.db")
    names = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    own = {name for name in names if not name.startswith(("memories_fts_", "_sqlite_", "sqlite_"))}
    conn.close()
    assert own == set(TABLES)


def test_every_command_is_documented():
    from memcli.cli.app import COMMANDS, GROUPS, build

    app = build([*COMMANDS, *GROUPS])
    named = {command.name or command.callback.__name__ for command in app.registered_commands}
    for group in app.registered_groups:
        named |= {f"{group.name} {each.name}" for each in group.typer_instance.registered_commands}
        # A group that does something by itself.
        named |= {group.name} if group.typer_instance.registered_callback else set()
    assert named == set(support_readme.COMMANDS)
