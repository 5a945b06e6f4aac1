"""What is found in the least time of the evidence of memories, kept from batch to batch."""

from __future__ import annotations

from array import array

from memcli.dedup.gates.reading import designated

_PAGE_BITS = 10
_EMPTY = bytes(array("q").itemsize << _PAGE_BITS)
_PLACE = (1 << _PAGE_BITS) - 1


class Marks:
    """Numbers that say when two texts cannot have one signature: those of equal designations are equal.

    A memory that is like many later ones is asked for in most batches, and would be read for its designations each
    time. Here it takes 16 bytes instead: its number, and the hash of the text that this was made of, so that it does
    not matter whose an id was before.
    """

    def __init__(self) -> None:
        self._pages: dict[int, tuple[array[int], array[int]]] = {}

    def of(self, memory_id: int, text: str) -> int:
        """The number of a memory with this text; it holds for this process only."""
        page = self._pages.get(memory_id >> _PAGE_BITS)
        if page is None:
            page = self._pages[memory_id >> _PAGE_BITS] = array("q", _EMPTY), array("q", _EMPTY)
        hashes, marks = page
        place, own = memory_id & _PLACE, hash(text) or 1
        if hashes[place] != own:
            hashes[place], marks[place] = own, hash(designated(text))
        return marks[place]
