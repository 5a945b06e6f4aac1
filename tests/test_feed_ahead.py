"""Reading ahead: one item, in order, faults included, and it stops when it is told to."""

import threading

import pytest

from memcli.ingest.ahead import Ahead

PATIENCE = 20


class FaultError(Exception):
    pass


class Steps:
    """An iterator that counts what was asked of it and says which thread asked."""

    def __init__(self, count, fault=None):
        self.taken = 0
        self.threads = set()
        self.asked = threading.Condition()
        self._count = count
        self._fault = fault

    def __iter__(self):
        return self

    def __next__(self):
        with self.asked:
            self.threads.add(threading.current_thread())
            self.taken += 1
            self.asked.notify_all()
        if self.taken > self._count:
            if self._fault is not None:
                raise self._fault
            raise StopIteration
        return self.taken

    def wait_until_taken(self, count):
        with self.asked:
            assert self.asked.wait_for(lambda: self.taken >= count, PATIENCE)


def _thread(ahead):
    return ahead._thread


def _ended(ahead):
    _thread(ahead).join(PATIENCE)
    return not _thread(ahead).is_alive()


def test_items_come_in_their_order_and_then_none():
    ahead = Ahead(iter(range(1, 500)))
    assert list(iter(ahead.next, None)) == list(range(1, 500))
    assert _ended(ahead)


def test_no_items_are_none():
    ahead = Ahead(iter(()))
    assert ahead.next() is None
    assert _ended(ahead)


def test_the_first_item_is_read_before_it_is_asked_for_and_by_another_thread():
    steps = Steps(3)
    ahead = Ahead(steps)
    steps.wait_until_taken(1)
    assert threading.current_thread() not in steps.threads
    ahead.close()


def test_it_is_never_more_than_one_item_ahead():
    steps = Steps(100)
    ahead = Ahead(steps)
    for given in range(1, 10):
        assert ahead.next() == given
        steps.wait_until_taken(given + 1)
        _thread(ahead).join(0.02)  # time for one too many
        assert steps.taken == given + 1
    ahead.close()
    assert _ended(ahead)
    assert steps.taken == 10


def test_an_exception_is_raised_where_the_next_item_is_asked_for_after_the_items_before_it():
    fault = FaultError("broken")
    ahead = Ahead(Steps(2, fault))
    assert [ahead.next(), ahead.next()] == [1, 2]
    with pytest.raises(FaultError) as raised:
        ahead.next()
    assert raised.value is fault
    assert _ended(ahead)


def test_even_an_interruption_in_the_thread_is_passed_on():
    ahead = Ahead(Steps(0, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        ahead.next()
    assert _ended(ahead)


@pytest.mark.parametrize("asked", [0, 1, 5])
def test_close_stops_the_thread_although_nobody_takes_what_it_read(asked):
    steps = Steps(1_000_000)
    ahead = Ahead(steps)
    for _ in range(asked):
        ahead.next()
    ahead.close()
    assert _ended(ahead)
    assert steps.taken <= asked + 1


def test_close_stops_a_thread_that_holds_an_exception():
    steps = Steps(1, FaultError())
    ahead = Ahead(steps)
    assert ahead.next() == 1
    steps.wait_until_taken(2)
    ahead.close()
    assert _ended(ahead)


def test_close_does_not_wait_for_an_item_that_never_comes():
    released = threading.Event()

    def idle():
        released.wait(PATIENCE)
        yield 1

    ahead = Ahead(idle())
    ahead.close()
    assert _thread(ahead).is_alive()
    assert _thread(ahead).daemon
    released.set()
    assert _ended(ahead)


def test_a_generator_is_closed_where_it_was_read_so_that_its_file_is():
    closed = []

    def items():
        try:
            yield from range(1, 1_000)
        finally:
            closed.append(threading.current_thread())

    ahead = Ahead(items())
    assert ahead.next() == 1
    ahead.close()
    assert _ended(ahead)
    del ahead
    assert len(closed) == 1
