"""The Store: opening and creating the file, the run lock, the one transaction per batch, look-ups by many keys."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from memcli.errors import DamagedError, LockedError, MemcliError, MismatchError, NoDatabaseError, UsageError
from memcli.store.schema import APPLICATION_ID, applied, migrate, released

_PAGE_BYTES = 8192
_WAL_PAGES = 4000
_READ = "ro"
_RESTORE = "memcli check tells what is wrong; restore a backup"

# Rows 0.. of a blob of concatenated 16-byte hashes. One statement looks up any number of them: no limit on the number
# of parameters to chunk for, no temporary table to fill.
_HASHES = """
WITH RECURSIVE positions (i) AS (SELECT 0 WHERE length(:hashes) > 0
    UNION ALL SELECT i + 1 FROM positions WHERE (i + 1) * 16 < length(:hashes)),
hashes (hash) AS (SELECT substr(:hashes, i * 16 + 1, 16) FROM positions)
"""


def now() -> str:
    """The current time as the store writes it: UTC, ISO 8601 with milliseconds and Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """An open memory database. Use `Store.create` to write, `Store.open` to read; close it or use `with`."""

    def __init__(self, path: Path, conn: sqlite3.Connection) -> None:
        """Wrap an open connection; callers use `create` or `open`."""
        self.path = path
        self.conn = conn

    @classmethod
    def create(cls, path: Path) -> Store:
        """Open for writing, making and migrating the file as needed. Hold `run_lock(path)` while calling this.

        Raises:
            UsageError: the folder or file cannot be written.
            MismatchError: not a memcli database, or one of a newer memcli.
            DamagedError: not an SQLite file, or a damaged one.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made here so that the file never exists with a wider mode: transcripts hold private things.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise UsageError(f"cannot write the database {path}: {error.strerror}", "name another with --db") from error
        return cls._opened(path, "rwc", cls._make_ready)

    @classmethod
    def open(cls, path: Path, *, any_age: bool = False) -> Store:
        """Open for reading only; `any_age` takes databases of an older schema as well.

        Raises:
            NoDatabaseError: there is no such file.
            MismatchError: not a memcli database, or one of another schema version.
            DamagedError: not an SQLite file, or a damaged one.
        """
        # A run that was killed at its very start leaves an empty file, or one without any table.
        if not path.is_file() or not path.stat().st_size:
            raise _no_database(path)
        return cls._opened(path, _READ, cls._check_any_age if any_age else cls._check_current)

    @classmethod
    def unchecked(cls, path: Path) -> Store:
        """Open for reading whatever the file is; only for finding out what is wrong with it.

        Raises:
            sqlite3.Error: SQLite cannot open it.
        """
        return cls(path, _connect(path, _READ))

    @classmethod
    def _opened(cls, path: Path, mode: str, prepare: Callable[[Store], None]) -> Store:
        try:
            conn = _connect(path, mode)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _named(path, error) from error
        store = cls(path, conn)
        try:
            prepare(store)
        except BaseException as error:
            if mode == _READ and _needs_no_log(path, error):
                conn.close()
                return cls._opened(path, f"{_READ}&immutable=1", prepare)
            store.__exit__(type(error), error, None)
            raise
        return store

    def _make_ready(self) -> None:
        if self.conn.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._check_ours()
        else:
            # A vector within a segment is found by going through all pages of the segment before it.
            self.conn.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            self.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self.conn.execute("PRAGMA journal_mode = WAL")
        if not self.is_current():
            migrate(self.conn)

    def _check_any_age(self) -> None:
        self._check_ours()
        if not applied(self.conn):
            raise _no_database(self.path)

    def _check_current(self) -> None:
        self._check_any_age()
        if not self.is_current():
            # One that holds nothing yet is being made at this moment.
            if not self.conn.execute("SELECT EXISTS (SELECT 1 FROM runs)").fetchone()[0]:
                raise _no_database(self.path)
            raise MismatchError(
                f"{self.path} was made by an older memcli", "run memcli ingest on it once: that migrates it"
            )

    def _check_ours(self) -> None:
        if self.conn.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise MismatchError(f"{self.path} is an SQLite file, but no memcli database", "name another with --db")
        known = set(applied(self.conn))
        if newer := sorted(known - set(released())):
            if not set(released()) <= known:
                # A later memcli has all migrations of an earlier one.
                raise DamagedError(f"{self.path} is damaged: its migrations are not ours: {newer[-1]}", _RESTORE)
            raise MismatchError(
                f"{self.path} was written by a newer memcli (it has the migration {newer[-1]})", "upgrade memcli"
            )

    def is_current(self) -> bool:
        """Whether the database has all migrations."""
        return set(released()) <= set(applied(self.conn))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.close()
        if not isinstance(error, Exception) or isinstance(error, MemcliError) or is_interruption(error):
            return
        found = _named(self.path, error) if isinstance(error, sqlite3.Error) else error
        # What a damaged row makes of a program can be anything: the file is looked at before it is called a bug.
        if found is error and (fault := _first_fault(self.path)) is not None:
            found = DamagedError(f"{self.path} is damaged: {fault}", "memcli check tells what is wrong and what to do")
        if isinstance(found, MemcliError):
            raise found from error

    def durable_connection(self) -> sqlite3.Connection:
        """Another connection to the file, whose every commit has reached the disk when it returns."""
        conn = _connect(self.path, "rw")
        conn.execute("PRAGMA synchronous = FULL")
        return conn

    def writer(self, busy_ms: int) -> sqlite3.Connection:
        """Another connection to the file, which may write; it waits `busy_ms` for others that do.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        conn = _connect(self.path, "rw")
        conn.execute(f"PRAGMA busy_timeout = {busy_ms:d}")
        return conn

    def close(self) -> None:
        """Close the connection."""
        self.conn.close()

    @contextmanager
    def transaction(self, generation: int) -> Iterator[sqlite3.Connection]:
        """One write transaction on the corpus, begun IMMEDIATE, that bumps the generation.

        Args:
            generation: the corpus generation that what is about to be written was computed against.

        Raises:
            MismatchError: the corpus has changed since; nothing is written.
        """
        self.conn.execute("BEGIN IMMEDIATE")
        try:
            if self.generation() != generation:
                raise MismatchError(
                    "the database was changed by another program during the run", "run the command again"
                )
            self.conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
            yield self.conn
            self.conn.execute("COMMIT")
        except BaseException:
            if self.conn.in_transaction:
                self.conn.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One state of the database for several queries, whatever a writer commits meanwhile."""
        self.conn.execute("BEGIN")
        try:
            yield
        finally:
            self.conn.execute("ROLLBACK")

    def generation(self) -> int:
        """The number of transactions that have changed the corpus."""
        return int(self.meta("generation"))

    def meta(self, key: str) -> Any:  # noqa: ANN401 - a meta value is whatever was stored
        """A value of the `meta` table, None where it is not set."""
        row = self.conn.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_model(self, model_id: str, provider: str | None = None) -> None:
        """Bind a new database to its embedding model; `provider` is how to go on where a provider has it."""
        if provider is not None:
            # Without a model id beside it, it means nothing yet.
            self.conn.execute("INSERT OR REPLACE INTO meta VALUES ('provider', ?)", (provider,))
        self.conn.execute("INSERT INTO meta VALUES ('model_id', ?)", (model_id,))

    def by_hashes(self, select: str, hashes: Iterable[bytes]) -> list[tuple[Any, ...]]:
        """Run `select`, which reads from the table `hashes (hash)`, for any number of 16-byte hashes at once."""
        blob = b"".join(hashes)
        return self.conn.execute(_HASHES + select, {"hashes": blob}).fetchall() if blob else []

    def by_ids(self, select: str, ids: Sequence[int]) -> list[tuple[Any, ...]]:
        """Run `select`, which holds `IN (SELECT value FROM json_each(:ids))`, for any number of ids at once."""
        return self.conn.execute(select, {"ids": json.dumps(ids)}).fetchall() if ids else []

    def next_id(self, table: str) -> int:
        """The first free id of `table`. Stable while the run lock is held: there is one writer."""
        return int(self.conn.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0])


def _named(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> BaseException:
    """What an error of SQLite's means to the user; `error` itself where it can only be a bug."""
    if isinstance(error, UnicodeDecodeError):  # how Python tells of a definition with bytes that are no UTF-8
        return DamagedError(f"{path} is damaged: {error}", _RESTORE)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return LockedError(f"{path} is locked by another program", "close it, or try again later")
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return UsageError(f"cannot read or write {path}: {error}", "check the disk and the permissions")
    if code == sqlite3.SQLITE_NOTADB:
        return DamagedError(f"{path} is damaged, or no database at all", "restore a backup, or name another with --db")
    # A damaged page of a virtual table shows as an error of its constructor.
    damaged = code == sqlite3.SQLITE_CORRUPT or "vtable" in str(error)
    return DamagedError(f"{path} is damaged: {error}", _RESTORE) if damaged else error


def is_interruption(error: BaseException) -> bool:
    """Whether SQLite gave up a statement because it was asked to."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _first_fault(path: Path) -> str | None:
    from memcli.store.check_fault import first_fault  # noqa: PLC0415 - it needs this module

    return first_fault(path)


def _needs_no_log(path: Path, error: BaseException) -> bool:
    """Whether a file cannot be read only because its folder does not let SQLite put the index of the log there.

    Where there is no log, nobody is writing, and the file can be read as one that does not change.
    """
    if not isinstance(error, sqlite3.OperationalError):
        return False
    log = path.with_name(path.name + "-wal")
    refused = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
    return error.sqlite_errorcode & 0xFF in refused and not (log.exists() and log.stat().st_size)


def _no_database(path: Path) -> NoDatabaseError:
    return NoDatabaseError(f"no database at {path}", "make one with: memcli ingest PATH")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # SQLite percent-decodes the path of a URI, so everything special in it must be quoted: as_uri does that.
    conn = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    conn.execute("PRAGMA trusted_schema = OFF")
    conn.execute("PRAGMA busy_timeout = 5000")
    if not mode.startswith(_READ):
        conn.execute("PRAGMA synchronous = NORMAL")
        conn.execute("PRAGMA foreign_keys = ON")
        # A batch writes a few MB: checkpointing after each would write every page twice.
        conn.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    return conn


@contextmanager
def run_lock(path: Path, wait: float, command: str) -> Iterator[None]:
    """Hold the database's run lock: one writing command at a time. The lock ends with the process, however it ends.

    Raises:
        LockedError: another run holds it for longer than `wait` seconds.
        UsageError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - readers need no lock, and it takes 12 ms

    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(lock_path, timeout=wait, mode=0o600)
        lock.acquire()
    except Timeout as error:
        holder = lock_path.read_text(encoding="utf-8", errors="replace")[:200].strip() or "another run"
        raise LockedError(
            f"{path} is in use by {holder}", "wait for it with --wait SECONDS, or try again later"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write beside {path}: {error.strerror}", "name another with --db") from error
    try:
        lock_path.write_text(f"memcli {command}, process {os.getpid()}, since {now()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def copy_database(path: Path, target: Path) -> None:
    """Copy the database at `path`, if there is one, to `target` as of its last commit (SQLite's online backup)."""
    if not path.is_file():
        return
    with Store.open(path) as source, closing(sqlite3.connect(target)) as copy:
        source.conn.backup(copy)
