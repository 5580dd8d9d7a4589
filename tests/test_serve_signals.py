"""Signals that end `off2on serve`."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from off2on.commands.serve import _wait_for


class Signals(list[int]):
    """Receives a signal between the look at the list and the wait that follows."""

    def __bool__(self) -> bool:
        before = len(self) > 0
        if not before:
            os.kill(os.getpid(), signal.SIGUSR1)
        return before


@pytest.fixture
def signals() -> Iterator[Signals]:
    found = Signals()
    before = signal.signal(signal.SIGUSR1, lambda number, _: found.append(number))
    yield found
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_just_before_the_wait_is_not_lost(signals: Signals):
    late = threading.Timer(5, os.kill, (os.getpid(), signal.SIGUSR1))  # ends a wait that goes on forever
    late.start()
    _wait_for(signals)
    late.cancel()
    late.join()
    assert len(signals) == 1
