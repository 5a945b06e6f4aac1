"""The Store: opening and creating the file, the run lock, the one transaction per batch, look-ups by many keys."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from memcli.errors import DamagedError, LockedError, MemcliError, MismatchError, NoDatabaseError, UsageError
from memcli.files import make_private_file, make_private_folder
from memcli.store.foreign import RESTORE, check_application, check_regular, check_schema
from memcli.store.schema import APPLICATION_ID, applied, migrate, released

_PAGE_BYTES = 8192
_WAL_PAGES = 4000
_READ, _WRITE = "ro", "rw"
_SIGNED = re.compile(r", process (?P<pid>\d{1,18}), on (?P<host>.*), since ")
_LONGEST_HOLDER = 300
# How Python tells it, with a code of its own that says nothing, and the text itself.
_NO_UTF8 = re.compile(r"Could not decode to UTF-8 column '(.{1,64}?)'")
# How often, and with how many seconds between, to look who holds the lock.
_LOOKS, _BETWEEN_LOOKS = 10, 0.02

_Identity = tuple[int, int]

# Databases that were read without any fault. What came of their rows may still fail, once it is worked on or shown.
closed_well: set[Path] = set()

# Rows 0.. of a blob of concatenated 16-byte hashes. One statement looks up any number of them: no limit on the number
# of parameters to chunk for, no temporary table to fill.
_HASHES = """
WITH RECURSIVE positions (i) AS (SELECT 0 WHERE length(:hashes) > 0
    UNION ALL SELECT i + 1 FROM positions WHERE (i + 1) * 16 < length(:hashes)),
hashes (hash) AS (SELECT substr(:hashes, i * 16 + 1, 16) FROM positions)
"""


def quoted(name: str) -> str:
    """The name of a table or a column, whatever it is called, as SQL has names."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL has it, where there can be no parameter."""
    return "'" + text.replace("'", "''") + "'"


def now() -> str:
    """The current time as the store writes it: UTC, ISO 8601 with milliseconds and Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """An open memory database. Use `Store.create` to write, `Store.open` to read; close it or use `with`."""

    def __init__(self, path: Path, conn: sqlite3.Connection, identity: _Identity | None, *, writes: bool) -> None:
        """Wrap an open connection to the file that is `identity`; callers use `create` or `open`."""
        self.path = path
        self.conn = conn
        self._writes = writes
        self._identity = identity
        self._log: _Identity | None = None

    @classmethod
    def create(cls, path: Path) -> Store:
        """Open for writing, making and migrating the file as needed. Hold `run_lock(path)` while calling this.

        Raises:
            UsageError: the folder or file cannot be written, or it is no file.
            MismatchError: not a memcli database, or one of a newer memcli.
            DamagedError: not an SQLite file, or a damaged one.
        """
        check_regular(path)
        try:
            make_private_folder(path.parent)
            # Made here so that the file never exists with a wider mode: transcripts hold private things.
            make_private_file(path)
        except OSError as error:
            raise UsageError(f"cannot write the database {path}: {error.strerror}", "name another with --db") from error
        return cls._opened(path, _WRITE, cls._make_ready)

    @classmethod
    def open(cls, path: Path, *, any_age: bool = False) -> Store:
        """Open for reading only; `any_age` takes databases of an older schema as well.

        Raises:
            NoDatabaseError: there is no such file.
            UsageError: it is no file.
            MismatchError: not a memcli database, or one of another schema version.
            DamagedError: not an SQLite file, or a damaged one.
        """
        require_database(path)
        return cls._opened(path, _READ, cls._check_any_age if any_age else cls._check_current)

    @classmethod
    def unchecked(cls, path: Path) -> Store:
        """Open for reading whatever the file is; only for finding out what is wrong with it.

        Raises:
            sqlite3.Error: SQLite cannot open it.
        """
        return cls(path, _connect(path, _READ), _identity(path), writes=False)

    @classmethod
    def _opened(cls, path: Path, mode: str, prepare: Callable[[Store], None]) -> Store:
        identity = _identity(path)
        try:
            conn = _connect(path, mode)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _named(path, error) from error
        store = cls(path, conn, identity, writes=mode == _WRITE)
        try:
            prepare(store)
            store._log = _identity(log_of(path))
        except BaseException as error:
            if mode == _READ and _needs_no_log(path, error):
                conn.close()
                return cls._opened(path, f"{_READ}&immutable=1", prepare)
            store.__exit__(type(error), error, None)
            raise
        return store

    def _make_ready(self) -> None:
        # One that another program has marked as its own is that program's, even without any table.
        marked = self.conn.execute("PRAGMA application_id").fetchone()[0] not in {0, APPLICATION_ID}
        if marked or self.conn.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
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
        check_application(self.path, self.conn)
        check_schema(self.path, self.conn)

    def is_current(self) -> bool:
        """Whether the database has all migrations."""
        return set(released()) <= set(applied(self.conn))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            if error is None and self._writes:
                self.check_file()
        finally:
            self.close()
        if error is None:
            closed_well.add(self.path)
            return
        closed_well.discard(self.path)
        if not isinstance(error, Exception) or isinstance(error, MemcliError) or is_interruption(error):
            return
        found: BaseException | None = _named(self.path, error) if isinstance(error, sqlite3.Error) else error
        if found is error:
            found = _damage(error, self.path)
        if isinstance(found, MemcliError):
            raise found from error

    def check_file(self) -> None:
        """See that the file of this name is still the one that was opened; as it is, before and after every commit.

        SQLite writes into the file that it opened, wherever that is now: what is committed there would be lost
        unnoticed. And it finds the log by the name, so that a file that was put in its place would get pages of ours.

        Raises:
            NoDatabaseError: it was deleted or moved away.
            MismatchError: there is another one in its place.
        """
        found = _identity(self.path)
        if found == self._identity:
            log = _identity(log_of(self.path))
            self._log = self._log or log
            if log == self._log:
                return
            raise MismatchError(
                f"{log_of(self.path)} was deleted or replaced while memcli was writing to it",
                "what was committed before is kept: run the command again to go on, and let that file be",
            )
        if found is None:
            raise NoDatabaseError(
                f"{self.path} was deleted or moved away while memcli was writing to it",
                "what was committed went with it: put it back, or run the command again to begin anew",
            )
        raise MismatchError(
            f"{self.path} was replaced by another file while memcli was writing to it; nothing was written to that one",
            "what was committed is in the former file; run the command again to go on with this one",
        )

    def _is_in_place(self) -> bool:
        try:
            self.check_file()
        except MemcliError:
            return False
        return True

    def durable_connection(self) -> sqlite3.Connection:
        """Another connection to the file, whose every commit has reached the disk when it returns."""
        conn = _connect(self.path, _WRITE)
        try:
            self.check_file()
            conn.execute("PRAGMA synchronous = FULL")
        except BaseException:
            conn.close()
            raise
        return conn

    def writer(self, busy_ms: int) -> sqlite3.Connection:
        """Another connection to the file, which may write; it waits `busy_ms` for others that do.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        conn = _connect(self.path, _WRITE)
        if not self._is_in_place():
            conn.close()
            raise sqlite3.OperationalError("the file was replaced")
        conn.execute(f"PRAGMA busy_timeout = {busy_ms:d}")
        return conn

    def close(self) -> None:
        """Close the connection. Where the file or its log is not in its place any more, nothing is left in the log."""
        if self._writes and not self._is_in_place():
            with suppress(sqlite3.Error):
                self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.conn.close()

    @contextmanager
    def transaction(self, generation: int) -> Iterator[sqlite3.Connection]:
        """One write transaction on the corpus, begun IMMEDIATE, that bumps the generation.

        Args:
            generation: the corpus generation that what is about to be written was computed against.

        Raises:
            MismatchError: the corpus has changed since, or there is another file in the place; nothing is written.
            NoDatabaseError: the file was deleted or moved away.
        """
        self.conn.execute("BEGIN IMMEDIATE")
        try:
            if self.generation() != generation:
                raise MismatchError(
                    "the database was changed by another program during the run", "run the command again"
                )
            self.conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
            yield self.conn
            self.check_file()
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

    def by_hashes(self, select: str, hashes: Iterable[bytes], **values: object) -> list[tuple[Any, ...]]:
        """Run `select`, which reads from the table `hashes (hash)`, for any number of 16-byte hashes at once."""
        blob = b"".join(hashes)
        return self.conn.execute(_HASHES + select, {"hashes": blob, **values}).fetchall() if blob else []

    def by_ids(self, select: str, ids: Sequence[int], **values: object) -> list[tuple[Any, ...]]:
        """Run `select`, which holds `IN (SELECT value FROM json_each(:ids))`, for any number of ids at once."""
        return self.conn.execute(select, {"ids": json.dumps(ids), **values}).fetchall() if ids else []

    def next_id(self, table: str) -> int:
        """The first free id of `table`. Stable while the run lock is held: there is one writer."""
        return int(self.conn.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0])


def _named(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> BaseException:
    """What an error of SQLite's means to the user; `error` itself where it can only be a bug."""
    if isinstance(error, UnicodeDecodeError):  # how Python tells of a definition with bytes that are no UTF-8
        return DamagedError(f"{path} is damaged: {error}", RESTORE)
    if (text := _NO_UTF8.match(str(error))) is not None:
        return DamagedError(f"{path} is damaged: a text in it is no UTF-8 (column {text[1]})", RESTORE)
    code = code_of(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return LockedError(f"{path} is locked by another program", "close it, or try again later")
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return UsageError(f"cannot read or write {path}: {error}", "check the disk and the permissions")
    if code == sqlite3.SQLITE_NOTADB:
        return DamagedError(f"{path} is damaged, or no database at all", "restore a backup, or name another with --db")
    # A damaged page of a virtual table shows as an error of its constructor, a count that cannot be in its sum.
    damaged = code == sqlite3.SQLITE_CORRUPT or "vtable" in str(error) or "integer overflow" in str(error)
    return DamagedError(f"{path} is damaged: {error}", RESTORE) if damaged else error


def is_interruption(error: BaseException) -> bool:
    """Whether SQLite gave up a statement because it was asked to."""
    return isinstance(error, sqlite3.Error) and code_of(error) == sqlite3.SQLITE_INTERRUPT


def code_of(error: BaseException) -> int:
    """The primary result code of SQLite's; that of any error for what Python alone has found wrong, as a text."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _damage(error: Exception, path: Path) -> DamagedError | None:
    from memcli.store.check_fault import damage  # noqa: PLC0415 - it needs this module

    return damage(error, [path])


def _needs_no_log(path: Path, error: BaseException) -> bool:
    """Whether a file cannot be read only because its folder does not let SQLite put the index of the log there.

    Where there is no log, nobody is writing, and the file can be read as one that does not change. In a folder that can
    be written somebody may be about to: there a passing error must not lead to that.
    """
    if not isinstance(error, sqlite3.OperationalError) or os.access(path.parent, os.W_OK):
        return False
    log = log_of(path)
    refused = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
    return code_of(error) in refused and not (log.exists() and log.stat().st_size)


def _identity(path: Path) -> _Identity | None:
    """What tells a file from any other of the same name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def log_of(path: Path) -> Path:
    """The log of a database: SQLite has it beside the file itself, by whatever link that is named."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + "-wal")


def require_database(path: Path) -> None:
    """See that there is a file to work on, before a command that makes none of its own opens it for writing.

    Raises:
        NoDatabaseError: there is none, or only the empty one that a run leaves when it is killed at its very start.
        UsageError: it is no file.
    """
    check_regular(path)
    if not path.is_file() or not path.stat().st_size:
        raise _no_database(path)


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

    What counts is the kernel's lock on the file, not that there is a file, nor what stands in it: that is only for
    whoever has to wait. Where there is still no database at the end, no lock file stays either.

    Raises:
        LockedError: another run holds it for longer than `wait` seconds.
        UsageError: the folder cannot be written, or its file system knows no locks.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - readers need no lock, and it takes 12 ms

    check_regular(path)
    # One file has one lock, by whatever link it is named.
    real = Path(os.path.realpath(path))
    lock_path = real.with_name(real.name + ".lock")
    taken: list[int] = []

    def sign(descriptor: int) -> None:
        taken.append(descriptor)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{_holder(command)}\n".encode())

    try:
        make_private_folder(real.parent)
        # Where no file can be made, filelock would wait for the one that it takes to have made and removed it.
        os.close(os.open(lock_path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600))
        # A lock that is a mere file would outlive its holder.
        lock = FileLock(lock_path, timeout=wait, mode=0o600, fallback_to_soft=False, on_acquired=sign)
        lock.acquire()
    except Timeout as error:
        raise LockedError(
            f"{path} is in use by {_named_holder(lock_path)}", "wait for it with --wait SECONDS, or try again later"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write beside {path}: {error.strerror}", "name another with --db") from error
    try:
        yield
    finally:
        # Nobody holds it from here on, so nobody shall be named.
        with suppress(OSError):
            os.ftruncate(taken[0], 0)
            if not real.is_file():
                lock_path.unlink()
        lock.release()


def _holder(command: str) -> str:
    return f"memcli {command}, process {os.getpid()}, on {_host()}, since {now()}"


def _host() -> str:
    import socket  # noqa: PLC0415 - readers need no lock

    return socket.gethostname() or "an unnamed host"


def _named_holder(lock_path: Path) -> str:
    """Who holds the lock, as it says itself. It may have begun a moment ago, with another one's words still there."""
    for _ in range(_LOOKS):
        with suppress(OSError):
            with lock_path.open(encoding="utf-8", errors="replace") as file:
                holder = file.read(_LONGEST_HOLDER).strip()
            if holder and not _is_over(holder):
                return holder
        time.sleep(_BETWEEN_LOOKS)
    return "another run"


def _is_over(holder: str) -> bool:
    """Whether a process that signed the lock on this host is not there any more."""
    match = _SIGNED.search(holder)
    if match is None or match["host"] != _host() or os.name != "posix":
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


def copy_database(path: Path, target: Path) -> None:
    """Copy the database at `path`, if there is one, to `target` as of its last commit (SQLite's online backup)."""
    if not path.is_file():
        return
    make_private_file(target)
    with Store.open(path) as source, closing(sqlite3.connect(target)) as copy:
        source.conn.backup(copy)
