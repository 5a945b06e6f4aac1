"""The commands that write, as a table for the crash tests, and all that a database says, to the last row."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from support_chat import Chat, configure, talk
from support_cli import FIXTURES, Home, Nursery, some_chat, write_jsonl
from support_ingest import assert_sound
from support_models import installed, static_model


@dataclass(frozen=True)
class Command:
    """A command that writes: its words, the database that it begins with, and how it may end when it is run again.

    A word in braces is one of `Inputs`. Code 2 is for what cannot be done twice, as to decide a pair: then the killed
    run had done it. `stages` are those that it must pass beside `ALWAYS`: a stage that is not there any more is told.
    `settles` says that no run counts as running then, `makes` is the file or the folder that is compared in place of
    the database, and `wipes` says that no text of the transcript `chat` that has this in it is in any byte then.
    `once` says that it is one transaction, `keeps` that it copies a model into the data folder, `models` that it asks.
    """

    words: str
    begins: str = "filled"
    stages: str = ""
    ends: tuple[int, ...] = (0,)
    once: bool = False
    keeps: bool = False
    models: bool = False
    wipes: str | None = None
    settles: bool = True
    makes: str = ""


# A line for each; the harness does the rest.
COMMANDS = {
    "ingest": Command("ingest {fixtures} {chat}", "nothing", "migrate,keep model,stage embed", keeps=True),
    "ingest more": Command("ingest {chat} {more} --flush", stages="stage dedup,write pending_messages"),
    "ingest migrate first": Command("ingest {chat} --flush", "m001", "migrate"),
    "ingest migrate last": Command("ingest {chat} --flush", "m008", "migrate"),
    "ingest reextract": Command("ingest --reextract", "ruled", "write window_tiers"),
    "ingest models": Command("ingest {talk}", "nothing", "write model_calls,write model_answers", models=True),
    "dedup": Command("dedup", stages="write merges,write dedup_watermarks"),
    "dedup rethreshold": Command("dedup --rethreshold 0.8", "merged", "write merges,write review_pairs"),
    "dedup calibrate": Command("dedup --calibrate {pairs}", keeps=True, makes="data"),
    "dedup undo": Command("dedup --undo 2", "merged", "write merges", (0, 2), once=True),
    "dedup undo merge": Command("dedup --undo-merge 1", "merged", "write merges", (0, 2), once=True),
    "dedup accept": Command(
        "dedup --accept 1", "merged", stages="write merges,write review_pairs", ends=(0, 2), once=True
    ),
    "dedup reject": Command("dedup --reject 1", "merged", stages="write review_pairs", ends=(0, 2), once=True),
    "reindex": Command("reindex", "split", "write segments,write memories_fts"),
    "reindex model": Command("reindex --model {model}", stages="write segments,keep model", keeps=True),
    "reindex compress": Command("reindex --compress float16", stages="write compressions,vacuum"),
    "rules add": Command("rules add tea --name tea", stages="write rules", ends=(0, 2), once=True),
    "rules import": Command("rules import {rules}", stages="write rules", once=True),
    "rules edit": Command("rules edit early --importance 0.9", "ruled", "write rules", once=True),
    "rules enable": Command("rules enable starter-coping", "ruled", "write disabled_starter_rules", once=True),
    "rules export": Command("rules export rules.toml", "ruled", "file written", once=True, makes="rules.toml"),
    "rules disable": Command("rules disable starter-coping", stages="write disabled_starter_rules", once=True),
    "rules remove": Command("rules remove early", "ruled", "write rules", (0, 2), once=True),
    "import": Command("import {export}", "nothing", "migrate,write memories,write segments"),
    "import into": Command("import {export}", "other", "write memories,write merges"),
    "forget": Command("forget --source {chat} --yes", "filled", "vacuum", (0, 2), once=True, wipes=""),
    "forget agent": Command("forget --agent default --yes", "filled", "vacuum", (0, 2), once=True, wipes=""),
    "forget text": Command("forget --text nightly --yes", "filled", "vacuum", (0, 2), once=True, wipes="nightly"),
    "forget memory": Command("forget 3 --yes", "filled", "vacuum", (0, 2), once=True),
    # After a repair that was killed at its very end, the next finds nothing to do and writes nothing.
    "check repair": Command("check --repair", "damaged", "write segments,write memories_fts", settles=False),
    "check repair pages": Command("check --repair", "wrecked", "pages,pages copied", settles=False),
    "backup": Command("backup --force copy.db", stages="report,pages,pages copied", once=True, makes="copy.db"),
    "import database": Command("import {database}", "other", "write memories"),
    "export": Command("export --out lines.jsonl", stages="file written", once=True, makes="lines.jsonl"),
    "model import": Command("model import {model}", "nothing", "keep model", keeps=True, makes="data"),
    "model use": Command("model use {model}", "nothing", "keep model", keeps=True, makes="data"),
}
ALWAYS = {"locked", "unlock", "begin", "commit", "committed", "write runs", "write meta", "report"}
BATCH = 24
TELLING = 40  # characters from which on a text is hardly said twice
RULES = {
    "rules": [
        {"name": f"rule {number}", "pattern": word, "type": "semantic"}
        for number, word in enumerate(("kettle", "harbour", "deploy.*friday", "invoice"))
    ]
}


@dataclass(frozen=True)
class Inputs:
    """What the words in braces stand for, and prepared databases by name; all made once."""

    folder: Path
    nursery: Nursery
    chat_server: Chat
    names: dict[str, Path]

    @property
    def told(self) -> list[bytes]:
        """Texts of the transcript `chat` that no other transcript has."""
        other = self.names["more"].read_text() + "".join(path.read_text(errors="replace") for path in _files(FIXTURES))
        texts = [json.loads(line)["content"] for line in self.names["chat"].read_text().splitlines()]
        return [text.encode() for text in texts if len(text) > TELLING and text not in other]

    def words(self, command: Command) -> list[str]:
        """The command line."""
        return [word.format_map(self.names) for word in command.words.split()]

    def home(self, name: str, command: Command) -> Home:
        """A user with the database that the command begins with."""
        home = Home(self.folder / name, None if command.keeps else self.folder / "data", self.nursery)
        home.env |= {"MEMCLI_BATCH_SIZE": str(BATCH)}
        if command.begins != "nothing":
            shutil.copy(self.folder / "begins" / command.begins / "memory.db", home.db)
        if command.models:
            configure(home, self.chat_server.url, "small", "premium")
        return home


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def make_inputs(folder: Path, nursery: Nursery, server: Chat) -> Inputs:
    """Make transcripts, rule files, a model, exports and databases to begin with."""
    names = {
        "fixtures": FIXTURES,
        "chat": write_jsonl(folder / "in" / "chat.jsonl", some_chat(60)),
        "more": write_jsonl(folder / "in" / "more.jsonl", some_chat(60, seed=5)),
        "talk": write_jsonl(folder / "in" / "talk.jsonl", talk(60)),
        "rules": folder / "in" / "rules.json",
        "pairs": folder / "in" / "pairs.jsonl",
        "export": folder / "in" / "export.jsonl",
        "database": folder / "begins" / "filled" / "memory.db",
        "model": installed(
            folder / "in" / "model", static_model(), dim=16, pooling="in-graph", normalise="in-graph",
            special_tokens=False,
        ).folder,
    }  # fmt: skip
    names["rules"].write_text(json.dumps(RULES))
    names["pairs"].write_text(
        "".join((FIXTURES.parent / "dedup_pairs.jsonl").read_text().splitlines(keepends=True)[::40])
    )
    begins = {
        "filled": ["ingest {fixtures} {chat}"],
        "other": ["ingest {more}"],
    }
    begins["merged"] = [*begins["filled"], "dedup"]
    begins["ruled"] = [*begins["filled"], "rules add kettle --name early", "rules import {rules}"]
    begins["ruled"].append("rules disable starter-coping starter-preference")
    begins["damaged"] = begins["wrecked"] = begins["filled"]
    begins["split"] = ["ingest {chat} --agent ada", "ingest {more} --agent ada"]
    made = Inputs(folder, nursery, server, names)
    for name in ("m001", "m008"):
        (folder / "begins" / name).mkdir(parents=True)
        raw = (FIXTURES.parent / "databases" / f"{name}.db.gz").read_bytes()
        (folder / "begins" / name / "memory.db").write_bytes(gzip.decompress(raw))
    for name, commands in begins.items():
        home = Home(folder / "begins" / name, folder / "data", nursery)
        # As nothing near is merged, there is something to be found later.
        home.env |= {"MEMCLI_BATCH_SIZE": "8", "MEMCLI_NEAR_THRESHOLD": "1"}
        for words in commands:
            home.env |= {"MEMCLI_NEAR_THRESHOLD": "0.9"} if words == "dedup" else {}
            run_well(home, made.words(Command(words)))
        with closing(sqlite3.connect(home.db)) as conn:
            if name in {"split", "damaged"}:
                conn.execute("DELETE FROM segments WHERE id = (SELECT max(id) FROM segments)")
            if name == "damaged":
                conn.execute("DELETE FROM memories_fts_docsize WHERE id % 3 = 0")
            conn.commit()
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (size,), (root,) = (
                conn.execute(sql).fetchone()
                for sql in ("PRAGMA page_size", "SELECT rootpage FROM sqlite_master WHERE name = 'memories_fts_data'")
            )
        if name == "wrecked":
            with home.db.open("r+b") as file:
                file.seek((root - 1) * size)
                file.write(b"\xee" * 12)
        if name == "filled":
            run_well(home, ["export", "--out", str(names["export"])])
    return made


def run_well(home: Home, words: list[str], **options: object) -> None:
    """Run it in the nursery; it must go well."""
    done = home.nursery.run(home, *words, **options)
    assert done.code == 0, (words, done.err)


# --- all that a database says ----------------------------------------------------------------------------------------

# What tells of the way and not of where it led: who did it in how many steps, and what may be forgotten at any time.
_OF_THE_WAY = {"runs", "batches", "model_calls", "search_cache", "search_cache_use", "_sqlite_migrations", "segments"}
_COUNTS_STEPS = {"generation", "reindexed_generation", "forget_key"}
_VOLATILE = re.compile(r"(run_id|_at|batch_id|call_id|timings|mtime_ns|row_hash)$")
# Of a call whose answer was lost the worst is assumed: the window is charged with it. The other has a key of its own.
_CHARGED = {("windows", "tokens"), ("windows", "cost_usd"), ("forgotten", "digest")}
_OF_THE_MESSAGES = {("windows", "started_at"), ("windows", "ended_at")}


def content_of(path: Path) -> object:
    """All that a database says, all files of a folder, or the bytes of a file; drafts of killed runs go later."""
    if path.is_dir():
        files = {each.relative_to(path): each.read_bytes() for each in _files(path)}
        return {name: raw for name, raw in files.items() if not any(part.startswith(".") for part in name.parts)}
    return everything(path) if path.suffix == ".db" else path.read_bytes()


def everything(db: Path) -> dict[str, list[tuple]]:
    """The rows of all tables and views, the vectors and the keyword index; of what is volatile, whether it is there."""
    with closing(sqlite3.connect(db)) as conn:
        listed = conn.execute("SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        virtual = tuple(name for name, _, sql in listed if str(sql).startswith("CREATE VIRTUAL"))
        names = [
            name for name, _, _ in listed if not name.startswith((*virtual, "sqlite_")) and name not in _OF_THE_WAY
        ]
        found = {name: sorted(_rows(conn, name), key=repr) for name in names}
        found["vectors"] = sorted(_vectors(conn))
        found["migrations"] = conn.execute("SELECT name FROM _sqlite_migrations ORDER BY id").fetchall()
        conn.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'memories_fts', 'instance')")
        found["words"] = sorted(conn.execute('SELECT term, doc, "offset" FROM temp.words').fetchall())
    return found


def _rows(conn: sqlite3.Connection, name: str) -> list[tuple]:
    cursor = conn.execute(f"SELECT * FROM {name}")
    columns = [column for column, *_ in cursor.description]
    hidden = [
        (bool(_VOLATILE.search(each)) and (name, each) not in _OF_THE_MESSAGES) or (name, each) in _CHARGED
        for each in columns
    ]
    rows = [
        tuple(value is not None if hide else value for value, hide in zip(row, hidden, strict=True)) for row in cursor
    ]
    return [row for row in rows if name != "meta" or row[0] not in _COUNTS_STEPS]


def _vectors(conn: sqlite3.Connection) -> list[tuple[int, str, str, bytes]]:
    """Every vector with the memory, agent and model that it is of, as it is stored: whole or compressed."""
    found = []
    for agent, model, count, ids, *parts in conn.execute(
        "SELECT agent_id, model_id, count, memory_ids, vectors, codes, scales FROM segments"
    ):
        rows = zip(*(_cut(part, count) for part in (ids, *parts)), strict=True)
        found += [(int.from_bytes(row[0], "little"), agent, model, b"".join(row[1:])) for row in rows]
    return found


def _cut(blob: bytes | None, count: int) -> list[bytes]:
    size, rest = divmod(len(blob or b""), count)
    assert not rest
    return [(blob or b"")[row * size : (row + 1) * size] for row in range(count)]


def assert_as_whole(home: Home, whole: dict[str, list[tuple]], what: object, *, settled: bool = True) -> None:
    """The database says what that of the undisturbed run says, and is sound."""
    found = everything(home.db)
    assert found.keys() == whole.keys(), what
    for name, rows in whole.items():
        only = [row for row in found[name] if row not in rows][:3]
        missing = [row for row in rows if row not in found[name]][:3]
        assert found[name] == rows, f"{name} differ: {what}\nonly after the kill: {only}\nonly undisturbed: {missing}"
    if settled:
        assert home.rows("SELECT count(*) FROM runs WHERE status = 'running'") == [(0,)], what
    assert_sound(home.db)
