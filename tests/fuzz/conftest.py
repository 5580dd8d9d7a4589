import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ALLOWANCE = 2**30
"""Bytes of memory that reading a small file may cost, at most."""


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Check that no example of a test needed more than `ALLOWANCE`."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: one of an earlier test hides ours
    before = peak_memory()
    yield
    assert peak_memory() - before <= ALLOWANCE


def peak_memory() -> int:
    (found,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found) * 1024
