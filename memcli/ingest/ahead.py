"""Reading one batch ahead: while a batch is embedded, compared and written, the next one is read and parsed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


class Ahead(Generic[T]):
    """Iterates over `items` in a thread, at most one item ahead; an exception in there is raised here.

    The thread is a daemon: an interrupted run does not wait for standard input. `close` stops it after its item.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._queue: Queue[tuple[T | None, BaseException | None]] = Queue(maxsize=1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="read-ahead", daemon=True)
        self._thread.start()

    def next(self) -> T | None:
        """The next item, None at the end."""
        item, error = self._queue.get()
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """Stop reading; what was read ahead is dropped, and read again by the next run."""
        self._closed.set()

    def _fill(self) -> None:
        try:
            for item in self._items:
                if not self._put((item, None)):
                    return
            self._put((None, None))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asks for the next item
            self._put((None, error))

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False
