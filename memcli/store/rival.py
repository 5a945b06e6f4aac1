"""sqlite-vec, asked the way its manual says, for `memcli bench search` to compare with."""

from __future__ import annotations

import sqlite3
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OWN_SQLITE = "apsw"


def can_load_extensions() -> bool:
    """Whether there is an SQLite that can: that of some Pythons is built without, apsw brings one along."""
    return hasattr(sqlite3.Connection, "enable_load_extension") or find_spec(_OWN_SQLITE) is not None


def _connected(path: Path) -> Any:  # noqa: ANN401 - a connection of sqlite3 or of apsw: what is called here is the same
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        return sqlite3.connect(path)
    return import_module(_OWN_SQLITE).Connection(str(path))


class SqliteVec:
    """A vec0 table in a database of its own. sqlite-vec must be installed, and an SQLite able to load extensions."""

    def __init__(self, path: Path, vectors: NDArray[np.float32]) -> None:
        """Store `vectors`, float32 (n, dim); their numbers are the row ids."""
        self._conn = _connected(path)
        self._conn.enable_load_extension(True)  # noqa: FBT003 - SQLite's own signature
        import_module("sqlite_vec").load(self._conn)
        self._conn.enable_load_extension(False)  # noqa: FBT003 - as above
        dim = vectors.shape[1]
        self._conn.execute(f"CREATE VIRTUAL TABLE rows USING vec0 (vector float[{dim}] distance_metric=cosine)")
        with self._conn:
            self._conn.executemany(
                "INSERT INTO rows (rowid, vector) VALUES (?, ?)",
                ((number, row.tobytes()) for number, row in enumerate(vectors)),
            )

    def nearest(self, query: NDArray[np.float32], k: int) -> list[int]:
        """The numbers of the `k` nearest rows, the nearest first."""
        rows = self._conn.execute(
            "SELECT rowid FROM rows WHERE vector MATCH ? AND k = ? ORDER BY distance", (query.tobytes(), k)
        )
        return [row[0] for row in rows]
