"""What is known of stored memories that resemble later ones: which of them may matter, without reading them again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from memcli.dedup.gates.reading import designated
from memcli.model import Known

Ids = NDArray[np.int64]

_LOSER = -1


def mark_of(text: str) -> int:
    """A number that two texts of one signature have in common; it holds for this process only."""
    return hash(designated(text))


class Standing:
    """Marks and kinds of stored memories, 9 bytes for each id up to the highest one asked for.

    A memory that is like many later ones is asked for in most batches; here it is read once a run. A memory's kind is
    its type, while it is active. Who makes one a loser has to `forget` it.
    """

    def __init__(self) -> None:
        self._marks = np.zeros(0, np.int64)
        self._kinds = np.zeros(0, np.int8)
        self._types: dict[str, int] = {}

    def unknown(self, memory_ids: Ids) -> list[int]:
        """Those of some memories, ascending, that are not known yet."""
        self._reach(int(memory_ids.max(initial=0)))
        found: list[int] = np.unique(memory_ids[self._kinds[memory_ids] == 0]).tolist()
        return found

    def learn(self, memories: Iterable[Known]) -> None:
        """Take memories as they are stored."""
        for each in memories:
            self._reach(each.id)
            self._marks[each.id] = mark_of(each.content)
            self._kinds[each.id] = self.kind(each.type) if each.link is None else _LOSER

    def forget(self, memory_ids: Iterable[int]) -> None:
        """Know nothing of some memories any more."""
        for memory_id in memory_ids:
            if memory_id < len(self._kinds):
                self._kinds[memory_id] = 0

    def kind(self, memory_type: str) -> int:
        """What stands for a type."""
        return self._types.setdefault(memory_type, len(self._types) + 1)

    def compared(self, memory_ids: Ids, marks: Ids, kinds: Ids) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of known memories (n,), with a mark and a kind for each: which are of that kind, which have that mark."""
        return self._kinds[memory_ids] == kinds, self._marks[memory_ids] == marks

    def _reach(self, memory_id: int) -> None:
        size = len(self._kinds)
        if memory_id >= size:
            more = max(memory_id + 1, 2 * size) - size
            self._marks = np.concatenate([self._marks, np.zeros(more, np.int64)])
            self._kinds = np.concatenate([self._kinds, np.zeros(more, np.int8)])
