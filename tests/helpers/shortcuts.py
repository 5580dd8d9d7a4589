"""Shorter ways to what tests ask for thousands of times: same answers, in less time."""

import inspect
from types import SimpleNamespace

import pytest


def take() -> None:
    """Let this process ask for the stack without lines of source code."""
    # RLlib asks for the stack in every connector of a learner, to find its caller. To look for source lines
    # of forty frames of pytest took more than half of the time in which a learner is built.
    inspect.stack.__defaults__ = (0,)


def keep_no_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch keep no stack for every tensor of a trace, which took half of the time of tracing."""
    monkeypatch.setattr("torch._subclasses.fake_tensor.traceback", SimpleNamespace(extract_stack=list))
