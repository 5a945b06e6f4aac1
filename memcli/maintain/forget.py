"""Forgetting for good: what was chosen goes out of every table, the file is written anew, and it does not come back.

Two steps: one transaction that takes everything out and writes tombstones, then the wiping of the file and its log.
A run that was killed before the first has ended has done nothing; after it, the next call of `forget` wipes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memcli import __version__
from memcli.dedup.judge import VERBATIM
from memcli.errors import LockedError, UsageError
from memcli.store import forget as rows
from memcli.store import memories as memory_rows
from memcli.store import runs as run_rows
from memcli.store import segments as segment_rows
from memcli.store import undo as undo_rows
from memcli.store.db import Store
from memcli.store.forget import Selection, Widowed
from memcli.store.secrets import texts_with
from memcli.store.tombstones import Tombstones
from memcli.store.vectors import Coding, Vectors
from memcli.text import digest

if TYPE_CHECKING:
    from sqlite3 import Connection

COMMAND = "forget"


@dataclass(slots=True)
class ForgetReport:
    """What went, rows by table, and what became of the memories that stay.

    `relinked` duplicates have another winner now; `released` memories stand alone, until the next `dedup` compares
    them. `left` says where a forgotten text still stands: (table, column, rows). `finished` says that only the wiping
    of an earlier run was left to be done.
    """

    db: str
    run_id: int | None = None
    rows: dict[str, int] = field(default_factory=dict)
    relinked: int = 0
    released: int = 0
    tombstones: int = 0
    sessions: list[tuple[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    memories: list[tuple[int, str]] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    left: list[tuple[str, str, int]] = field(default_factory=list)
    finished: bool = False
    dry_run: bool = False
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "db": self.db,
            "dry_run": self.dry_run,
            **self.lasting(),
            "sessions": [{"agent_id": agent, "session_id": key} for agent, key in self.sessions],
            "files": self.files,
            "memories": [{"memory_id": memory_id, "content": content} for memory_id, content in self.memories],
            "message_ids": self.messages,
            "left": [{"table": table, "column": column, "rows": count} for table, column, count in self.left],
            "finished": self.finished,
            "seconds": round(self.seconds, 3),
        }

    def lasting(self) -> dict[str, object]:
        """What the database keeps of it: nothing that was forgotten."""
        return {
            "run_id": self.run_id,
            "rows": self.rows,
            "relinked": self.relinked,
            "released": self.released,
            "tombstones": self.tombstones,
        }


def forget(store: Store, vectors: Vectors, selection: Selection) -> ForgetReport:
    """Forget what is selected, with the run lock held; where an earlier run was killed, finish its work.

    Raises:
        UsageError: there is nothing of that kind.
        LockedError: all is out of the tables, but another program kept the file from being wiped.
    """
    began = time.perf_counter()
    report = ForgetReport(str(store.path))
    is_open = store.meta(rows.UNFINISHED) is not None
    is_named = selection.is_named
    if not is_named and not is_open:
        raise UsageError("nothing is named", "name what to forget: --session, --agent, --source, --text or a memory id")
    if is_named and not _take_out(store, vectors, selection, report) and not is_open:
        raise UsageError("there is nothing like that to forget", "memcli stats shows agents, memcli search memory ids")
    report.finished = report.run_id is None
    if selection.text is not None:
        report.left = texts_with(store, selection.text)
    _wipe(store)
    report.seconds = time.perf_counter() - began
    return report


def _take_out(store: Store, vectors: Vectors, selection: Selection, report: ForgetReport) -> bool:
    """The transaction; whether there was anything to take out."""
    run_id = store.next_id("runs")
    try:
        with rows.one_transaction(store) as conn:
            rows.choose(conn, selection)
            if rows.is_empty(conn, selection):
                raise _NothingError
            found = rows.details(conn)
            report.sessions, report.files = found.sessions, found.files
            report.memories, report.messages = found.memories, found.messages
            report.tombstones = rows.bury(conn, Tombstones(conn), selection, run_id)
            occurrences = _occurrences(conn)
            released = _inherit(store, vectors, conn, report)
            report.rows = rows.remove(conn, selection)
            if gone := rows.remove_occurrences(conn, occurrences):
                report.rows["message_occurrences"] = report.rows.get("message_occurrences", 0) + gone
            rows.lower_marks(conn, released)
            if vectors_gone := _drop_vectors(store, conn, vectors.coding):
                report.rows["vectors"] = vectors_gone
            segment_rows.write_words_anew(conn)
            segment_rows.merge_words(conn)
            report.run_id = run_id
            run_rows.record_run(conn, run_id, COMMAND, __version__, report.lasting())
            rows.begin_wiping(conn, run_id)
    except _NothingError:
        return False
    return True


class _NothingError(Exception):
    pass


def _occurrences(conn: Connection) -> list[tuple[bytes, int]]:
    """What counts messages without an id that go: their identities are made of it and a number."""
    gone = rows.gone_identities(conn)
    return [
        (found, file_id)
        for found, file_id, count in rows.occurrences(conn)
        if any(digest(found.hex(), str(number)) in gone for number in range(1, count + 1))
    ]


def _inherit(store: Store, vectors: Vectors, conn: Connection, report: ForgetReport) -> list[int]:
    """Give stars that lose their winner another one; the memories that are active now.

    Where a duplicate with the winner's own text stays, the evidence holds for it, and it takes the winner's place. Else
    only memories of one text stay together: near duplicates were compared with the winner, not with each other.
    """
    stars: dict[int, list[Widowed]] = defaultdict(list)
    for link in rows.widowed(conn):
        stars[link.winner].append(link)
    active: list[int] = []
    for links in stars.values():
        same = [link for link in links if link.same_text]
        if same:
            heirs = [(_first(same), links)]
        else:
            texts: dict[tuple[str, str, bytes], list[Widowed]] = defaultdict(list)
            for link in links:
                texts[link.agent, link.type, link.hash].append(link)
            heirs = [(_first(group), group) for group in texts.values()]
        for heir, followers in heirs:
            rows.inherit(conn, heir, followers, same_evidence=bool(same))
            report.relinked += len(followers) - 1
            active.append(heir)
    report.released = len(active)
    _index(store, vectors, conn, active)
    return sorted(active)


def _first(links: Sequence[Widowed]) -> int:
    """The earliest of some memories of one text; a verbatim one only where there is no other."""
    return min(links, key=lambda link: (link.method == VERBATIM, link.loser)).loser


def _index(store: Store, vectors: Vectors, conn: Connection, active: Sequence[int]) -> None:
    """Give vectors and words of their own to exact duplicates that are active now: their text's are known."""
    bare = memory_rows.by_id(store, undo_rows.without_index(store, active))
    mates = memory_rows.by_content(store, {each.content_hash for each in bare})
    embedded = {each.content_hash: each.id for each in mates if each.embedded}
    found = vectors.rows(sorted(embedded.values())) if embedded else {}
    by_agent: dict[str, list[int]] = defaultdict(list)
    hashes = {each.id: each.content_hash for each in bare}
    for each in bare:
        if embedded.get(each.content_hash) in found:
            by_agent[each.agent].append(each.id)
    for agent, ids in by_agent.items():
        vectors.insert(conn, agent, ids, [found[embedded[hashes[memory_id]]] for memory_id in ids])
        undo_rows.write_words(conn, ids)


def _drop_vectors(store: Store, conn: Connection, coding: Coding) -> int:
    """Write the segments anew that hold vectors of memories that are gone; how many vectors went."""
    alive = segment_rows.embedded_ids(store)
    gone = 0
    for model_id in rows.models(conn):
        for each in segment_rows.stored(store, model_id, coding.version):
            if dead := segment_rows.dead(each, alive):
                segment_rows.join(conn, [each], alive, coding)
                gone += dead
    return gone


def _wipe(store: Store) -> None:
    if (reason := rows.wipe(store)) is not None:
        raise LockedError(
            f"it is out of all tables, but {store.path} could not be written anew: {reason}",
            "the old text may still be in the file and its log; to finish: memcli forget --yes",
        )
