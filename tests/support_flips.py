"""How many flipped bytes `memcli check` finds, and in which columns stand those that it does not.

    python tests/support_flips.py DATABASE COUNT SEED

Each time one byte anywhere in a copy of the file is changed. Where all tables say what they said, nothing was lost: the
byte was in a free page, in the unused part of a page, or in an index that check had to look at all the same.
"""

import random
import sqlite3
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from support_ingest import Quiet, environ

from memcli.commands.check import check
from memcli.config import Config
from memcli.errors import MismatchError


def content(path):
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
        conn.text_factory = bytes
        found = {}
        for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall():
            cursor = conn.execute(f"SELECT * FROM {name.decode()}")
            found[name.decode()] = [each[0] for each in cursor.description], cursor.fetchall()
        return found


def changed_columns(before, after):
    for table, (names, rows) in before.items():
        if after.get(table) == (names, rows):
            continue
        others = after.get(table, ((), ()))[1]
        pairs = [pair for pair in zip(rows, others, strict=False) if pair[0] != pair[1]]
        for one, other in pairs:
            yield from (f"{table}.{name}" for name, a, b in zip(names, one, other, strict=False) if a != b)
        if not pairs:
            yield f"rows of {table}"


def is_found(path):
    try:
        return check(Config(db=path), Quiet(), environ()).faults > 0
    except MismatchError:
        return True


def measure(database, count, seed):
    chance, raw, before = random.Random(seed), database.read_bytes(), content(database)  # noqa: S311
    seen, missed = Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            damaged = bytearray(raw)
            damaged[chance.randrange(len(raw))] ^= chance.randrange(1, 256)
            path = Path(folder) / f"{number}.db"
            path.write_bytes(damaged)
            found = is_found(path)
            try:
                changed = list(changed_columns(before, content(path)))
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                changed = ["unreadable"]
            seen["changed" if changed else "same", "found" if found else "not found"] += 1
            if changed and not found:
                missed.update(set(changed))
            for each in Path(folder).glob(f"{number}.db*"):
                each.unlink()
    return seen, missed


if __name__ == "__main__":
    seen, missed = measure(Path(sys.argv[1]).absolute(), int(sys.argv[2]), int(sys.argv[3]))
    for (content_is, check_has), number in sorted(seen.items()):
        sys.stdout.write(f"{number:7,} content {content_is}, {check_has}\n")
    for column, number in missed.most_common():
        sys.stdout.write(f"{number:7,} not found in {column}\n")
