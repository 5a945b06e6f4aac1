"""Rules put into a database without the command line."""

from memcli.commands.rules import add, edit, switch
from memcli.config import Config


def add_rule(db, pattern, **values):
    """Add a rule; its id."""
    change = add(Config(db=db), {"pattern": pattern, **values}, dry_run=False)
    return change.done["added"][0].table["id"]


def edit_rule(db, key, **values):
    edit(Config(db=db), key, values, dry_run=False)


def disable(db, *keys):
    switch(Config(db=db), keys, active=False, dry_run=False)
