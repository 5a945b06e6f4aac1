"""Vectors that travel with their texts: written to and taken from .npz files, and used in place of embedding.

An .npz holds `model_id`, `hashes` uint8 (n, 16), which are content hashes, ascending, and `vectors` float32 (n, dim),
row i for hash i. numpy.load reads it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from memcli.embed.carried import Find
from memcli.errors import DamagedError, MismatchError, UsageError
from memcli.store.db import Store
from memcli.store.exchange import embedded_with
from memcli.store.vectors import Coding, Vectors

HASH_BYTES = 16
CACHE_BYTES = 64 << 20
# Vectors that were compressed to int8 are off by a few thousandths.
_LENGTH_TOLERANCE = 0.02


def write_npz(stream: BinaryIO, model_id: str, found: Iterable[tuple[bytes, NDArray[np.float32]]]) -> int:
    """Write vectors by content hash, each hash once; how many. They are held in memory as a whole."""
    by_hash = dict(found)
    hashes = sorted(by_hash)
    rows = np.stack([by_hash.pop(each) for each in hashes]) if hashes else np.empty((0, 0), np.float32)
    np.savez(
        stream,
        model_id=np.array(model_id),
        hashes=np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, HASH_BYTES),
        vectors=rows,
    )
    return len(hashes)


def read_npz(path: Path, model_id: str) -> Find:
    """How to find the vectors of an .npz, which must be of the model `model_id`.

    Raises:
        UsageError: the file cannot be read.
        DamagedError: it is no .npz of an export.
        MismatchError: its vectors are of another model.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            theirs, hashes, vectors = str(arrays["model_id"]), arrays["hashes"], arrays["vectors"]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", "name the file that export wrote") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path) from error
    if theirs != model_id:
        raise MismatchError(
            f"the vectors in {path} are of the embedding model {theirs}, not {model_id}",
            "leave out --with-vectors: the texts are embedded anew",
        )
    if hashes.dtype != np.uint8 or hashes.shape != (len(vectors), HASH_BYTES) or vectors.dtype != np.float32:
        raise _damaged(path)
    keys = np.ascontiguousarray(hashes).view(f"V{HASH_BYTES}")[:, 0] if len(hashes) else np.empty(0, "V16")
    places = {key.tobytes(): place for place, key in enumerate(keys)}

    def find(wanted: Sequence[bytes]) -> Mapping[bytes, NDArray[np.float32]]:
        found = {each: vectors[places[each]] for each in wanted if each in places}
        if found and not is_unit(np.stack(list(found.values()))):
            raise _damaged(path)
        return found

    return find


def stored_in(other: Store, model_id: str, coding: Coding) -> Find:
    """How to find the vectors of another database, whose model is `model_id`."""
    vectors = Vectors(other, model_id, CACHE_BYTES, coding)

    def find(hashes: Sequence[bytes]) -> Mapping[bytes, NDArray[np.float32]]:
        ids = embedded_with(other, hashes)
        rows = vectors.rows(list(ids.values()))
        if rows and not is_unit(np.stack(list(rows.values()))):
            raise DamagedError(f"{other.path} holds vectors that no model gives", "restore a backup of it")
        return {each: rows[memory_id] for each, memory_id in ids.items() if memory_id in rows}

    return find


def any_of(finders: Sequence[Find]) -> Find:
    """The first of several ways that finds a vector."""

    def find(hashes: Sequence[bytes]) -> Mapping[bytes, NDArray[np.float32]]:
        found: dict[bytes, NDArray[np.float32]] = {}
        for each in finders:
            found |= each([wanted for wanted in hashes if wanted not in found])
        return found

    return find


def is_unit(rows: NDArray[np.float32]) -> bool:
    """Whether all rows (n, dim) are of about unit length or zero, as an embedder gives them, compressed or not."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    return bool(np.all((np.abs(lengths - 1) < _LENGTH_TOLERANCE) | (lengths == 0)))


def _damaged(path: Path) -> DamagedError:
    return DamagedError(f"{path} does not hold the vectors of an export", "write it anew with memcli export")
