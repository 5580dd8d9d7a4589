"""What the fuzz tests share: the number of examples, damaged bytes and changed JSON values.

@fuzz
@given(content=damaged(VALID))
def test_…(content, tmp_path): read_or_refused(lambda: read(file))
"""

import os
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import strategies as st

from off2on.errors import UserError

QUICK = 25
EXAMPLES = int(os.environ.get("OFF2ON_FUZZ", QUICK))

fuzz = hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == QUICK,  # the quick suite tries the same examples in every run
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
"""Settings of a fuzz test: `QUICK` examples, or `OFF2ON_FUZZ` of them (make fuzz)."""


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draw `valid` with one to four changes: a byte changed, a piece cut out, doubled, zeroed or replaced."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        stop = min(start + draw(st.integers(1, 64)), len(content))
        kind = draw(st.sampled_from(["byte", "cut", "end", "double", "zero", "replace"]))
        if kind == "byte":
            content[start : start + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del content[start:stop]
        elif kind == "end":
            del content[start:]
        elif kind == "double":
            content[start:start] = content[start:stop]
        elif kind == "zero":
            content[start:stop] = bytes(stop - start)
        else:
            content[start:stop] = draw(st.binary(max_size=64))
    return bytes(content)


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")]),
    st.sampled_from(["", "x", "nan", "../x", "/etc/passwd", "a\0b", "\x1b[2J", "x" * 1000, "<script>"]),
    st.sampled_from([[], {}, [[]], [None], {"a": 1}, [1, "x"], {"": {}}]),
)
"""Values that are rarely right."""


@st.composite
def changed(draw: st.DrawFn, valid: Any) -> Any:
    """Draw a copy of plain JSON values with one value, at any depth, removed or replaced by an odd one."""
    if not isinstance(valid, dict | list) or not valid or draw(st.integers(0, 5)) == 0:
        return draw(ODD_VALUES)
    keys = list(valid) if isinstance(valid, dict) else range(len(valid))
    key = draw(st.sampled_from(keys))
    copy = dict(valid) if isinstance(valid, dict) else list(valid)
    if draw(st.integers(0, 5)) == 0:
        del copy[key]
    else:
        copy[key] = draw(changed(valid[key]))
    return copy


def read_or_refused(read: Callable[[], Any]) -> Any:
    """Call `read` and return its result, or the error if it is one that the user can correct."""
    try:
        return read()
    except UserError as refused:
        return refused
