"""Reading one batch ahead: while a batch is embedded, compared and written, the next one is read and parsed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


class InTurn(Generic[T]):
    """Iterates over `items` as Ahead does, but each is read when it is asked for: one worker has no thread for it."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items

    def next(self) -> T | None:
        """The next item, None at the end."""
        return next(self._items, None)

    def close(self) -> None:
        """There is nothing to stop."""


class Ahead(Generic[T]):
    """Iterates over `items` in a thread, at most one item ahead; an exception in there is raised here.

    The thread is a daemon: an interrupted run does not wait for standard input. `close` stops it after its item.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._queue: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        # Held while an item is being read or waits: without it a second one would be read while the first one waits.
        self._slot = threading.Semaphore(1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="read-ahead", daemon=True)
        self._thread.start()

    def next(self) -> T | None:
        """The next item, None at the end."""
        item, error = self._queue.get()
        self._slot.release()
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """Stop reading; what was read ahead is dropped, and read again by the next run."""
        self._closed.set()

    def _fill(self) -> None:
        try:
            while self._take_slot():
                item = next(self._items, None)
                self._queue.put((item, None))
                if item is None:
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asks for the next item
            self._queue.put((None, error))

    def _take_slot(self) -> bool:
        while not self._closed.is_set():
            if self._slot.acquire(timeout=_POLL_SECONDS):
                return not self._closed.is_set()
        return False
