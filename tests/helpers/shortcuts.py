"""Shorter ways to what tests ask for thousands of times: same answers, in less time."""

import inspect
import sys
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from types import SimpleNamespace

import pytest

from off2on import algorithms


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    return entry_points(group=group)


def take() -> None:
    """Let this process ask for entry points once, and for the stack without lines of source code."""
    # To find an algorithm is to read the entry points of all packages: 8 ms, some ten thousand times.
    algorithms.entry_points = lambda *, group: _entry_points(group, tuple(sys.path))
    # RLlib asks for the stack in every connector of a learner, to find its caller. To look for source lines
    # of forty frames of pytest took more than half of the time in which a learner is built.
    inspect.stack.__defaults__ = (0,)


def keep_no_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch keep no stack for every tensor of a trace, which took half of the time of tracing."""
    monkeypatch.setattr("torch._subclasses.fake_tensor.traceback", SimpleNamespace(extract_stack=list))
