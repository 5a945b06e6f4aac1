"""Whether the write-ahead log beside a database can be read to its end.

SQLite takes a log up to the first frame that is not as its checksum says, and silently drops what stands behind it
(https://sqlite.org/fileformat2.html#the_write_ahead_log). So a flipped bit there costs the last commits, with the
cursors of what they had read: nothing is wrong with what is left, and the next ingest reads it again. It is told all
the same.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from memcli.store.check import Finding
from memcli.store.db import log_of

_HEADER, _FRAME = 32, 24
_MAGIC = {0x377F0682: "<u4", 0x377F0683: ">u4"}  # and how the checksum reads words
_SALTS, _OWN_SALTS = slice(8, 16), slice(16, 24)  # in a frame, in the header
_LOW = 0xFFFFFFFF
_PATIENCE = 0.2  # seconds between two looks at a log that somebody may be writing
_LOOKS = 3
_ADVICE = "memcli ingest reads anew what is lost; memcli check --repair takes over what is whole"


def log(path: Path) -> Iterator[Finding]:
    """What is wrong with the log of the database at `path`.

    A run that was killed may leave a last transaction without its end, or a part of a frame: that is a warning only.
    """
    place = log_of(path)
    seen: list[tuple[str, bool] | None] = []
    for look in range(_LOOKS):
        # What changes from one look to the next is being written.
        time.sleep(_PATIENCE if look else 0)
        try:
            with place.open("rb") as file:
                seen.append(_wrong(file))
        except FileNotFoundError:
            return
        except OSError as error:
            seen.append((f"it cannot be read: {error.strerror}", False))
        if seen[-1] is None or seen[-1] != seen[0]:
            return
    wrong, is_warning = seen[0] or ("", False)
    yield Finding("", place.name, wrong, _ADVICE, derived=True, warning=is_warning)


def _wrong(file: BinaryIO) -> tuple[str, bool] | None:
    """What is wrong, and whether it may be what a killed run leaves."""
    header = file.read(_HEADER)
    if not header:
        return None
    magic, _, page = struct.unpack(">III", header[:12].ljust(12, b"\0"))
    kind = _MAGIC.get(magic)
    if len(header) < _HEADER or kind is None or _added((0, 0), header[:24], kind) != struct.unpack(">II", header[24:]):
        return "its header is damaged: none of the commits in it can be read", False
    sums = struct.unpack(">II", header[24:])
    number = damaged = ended = 0
    while len(frame := file.read(_FRAME + page)) == _FRAME + page:
        number += 1
        if frame[_SALTS] != header[_OWN_SALTS]:
            # It is of an earlier round, or these bytes are the damaged ones: a later frame of this round decides.
            damaged = damaged or number
        elif damaged:
            return f"it is damaged in frame {damaged}: the commits from there on are lost", False
        else:
            sums = _added(_added(sums, frame[:8], kind), frame[_FRAME:], kind)
            if sums != struct.unpack(">II", frame[16:24]):
                return _broken(file, number, header[_OWN_SALTS], page)
            ended = number if frame[4:8] != bytes(4) else ended
    whole = damaged - 1 if damaged else number
    if ended < whole or (frame and not damaged):
        return f"its last transaction has no end (frame {whole}): a run was killed, or the log was cut off", True
    return None


def _broken(file: BinaryIO, number: int, salts: bytes, page: int) -> tuple[str, bool]:
    while len(frame := file.read(_FRAME + page)) == _FRAME + page:
        if frame[_SALTS] == salts:
            return f"it is damaged in frame {number}: the commits from there on are lost", False
    return f"its last frame ({number}) is not whole: a run was killed in the middle of a write, or it is damaged", True


def _added(sums: tuple[int, int], raw: bytes, kind: str) -> tuple[int, int]:
    """The checksum of SQLite's log over more bytes: for each word, (p, q) becomes (q, p + q + word) modulo 2^32.

    So p and q are sums of the words with Fibonacci numbers as factors.
    """
    words = np.frombuffer(raw, dtype=kind).astype(np.uint64)
    count = len(words)
    factors = _factors(count)
    # Products of 32 bits fit; so does the sum of the 16,384 words of the largest page, once each is brought below 2^32.
    one = int(((words * factors[count - 1 :: -1]) & _LOW).sum())
    two = int(((words * factors[count:0:-1]) & _LOW).sum())
    before, here, behind = (int(each) for each in factors[count - 1 : count + 2])
    return (sums[0] * before + sums[1] * here + one) & _LOW, (sums[0] * here + sums[1] * behind + two) & _LOW


@cache
def _factors(count: int) -> NDArray[np.uint64]:
    """The Fibonacci numbers 0 to `count` + 1 modulo 2^32."""
    found = [0, 1]
    while len(found) < count + 2:
        found.append((found[-1] + found[-2]) & _LOW)
    return np.array(found, dtype=np.uint64)
