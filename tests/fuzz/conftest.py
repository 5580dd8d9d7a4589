import resource
from collections.abc import Iterator

import pytest

ALLOWANCE = 2**30
"""Bytes of memory that reading a small file may cost, at most."""


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Check that no example of a test needed more than `ALLOWANCE`."""
    before = peak_memory()
    yield
    assert peak_memory() - before <= ALLOWANCE


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
