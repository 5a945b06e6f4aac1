"""Codes of seven bits, eight of them in seven bytes: what `reindex --compress int7` leaves in memory.

Its codes are odd (see memcli.embed.compressed), so the lowest bit need not be kept. The first seven eighths of a row
have a byte each; the bits of the last eighth are the highest ones of these bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Bytes = NDArray[np.uint8]

_BITS = 7


def can_pack(dim: int) -> bool:
    """Whether rows of that length fill whole bytes."""
    return dim % (_BITS + 1) == 0


def packed_bytes(dim: int) -> int:
    """What a row of that length takes."""
    return dim * _BITS // (_BITS + 1)


def pack(values: _Bytes) -> _Bytes:
    """Codes uint8 (n, dim), all odd, as uint8 (n, packed_bytes(dim))."""
    whole = packed_bytes(values.shape[1])
    low = np.right_shift(values, 1, dtype=np.uint8)
    found, rest = low[:, :whole].copy(), low[:, whole:]
    for bit, place in _places(rest.shape[1]):
        found[:, place] |= (rest >> bit & 1) << _BITS
    return found


def unpack(packed: _Bytes) -> _Bytes:
    """What `pack` was given."""
    whole = packed.shape[1]
    values = np.empty((len(packed), whole // _BITS + whole), dtype=np.uint8)
    np.left_shift(packed, 1, out=values[:, :whole])
    values[:, :whole] |= 1
    high, rest = packed >> _BITS, values[:, whole:]
    rest[...] = 1
    for bit, place in _places(rest.shape[1]):
        rest |= high[:, place] << (bit + 1)
    return values


def _places(width: int) -> list[tuple[int, slice]]:
    """For each bit of the last eighth of a row, `width` long, the bytes whose highest bit it is."""
    return [(bit, slice(bit * width, (bit + 1) * width)) for bit in range(_BITS)]
