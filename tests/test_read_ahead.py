"""Blocks read in another thread come in order, one ahead; an error comes with its block."""

import threading
import time

import pytest

from datasets_io.sources.read_ahead import read_ahead


def test_blocks_come_in_order_and_the_next_one_is_read_while_one_is_used():
    begun = [threading.Event() for _ in range(4)]

    def read(number: int) -> tuple[int, int]:
        begun[number].set()
        return number * 10, threading.get_ident()

    for number, (value, thread) in read_ahead(read, range(4)):
        assert value == number * 10
        assert thread != threading.get_ident()
        assert number == 3 or begun[number + 1].wait(10)
        assert not any(event.is_set() for event in begun[number + 2 :])


def test_an_error_comes_after_the_blocks_before_it():
    def read(number: int) -> int:
        return 10 // (2 - number)

    found = read_ahead(read, range(4))
    assert [next(found), next(found)] == [(0, 5), (1, 10)]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_reading_has_ended_when_the_caller_stops():
    begun, ended = threading.Event(), []

    def read(number: int) -> None:
        if number:
            begun.set()
            time.sleep(0.2)
        ended.append(number)

    found = read_ahead(read, range(9))
    next(found)
    assert begun.wait(10)
    found.close()
    assert ended == [0, 1]
