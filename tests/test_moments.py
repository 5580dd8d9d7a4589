"""Statistics of columns: merged ones equal those of all rows, and the fast ones those of plain NumPy."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datasets_io.shards.moments import Moments


@given(
    rows=hnp.arrays(np.float64, (23, 2), elements=st.floats(-1e3, 1e3)),
    cuts=st.lists(st.integers(1, 22), unique=True, max_size=5),
)
def test_merged_statistics_equal_those_of_all_rows(rows, cuts):
    pieces = np.split(rows, sorted(cuts))
    merged = Moments.of(pieces[0])
    for piece in pieces[1:]:
        merged = merged.merge(Moments.of(piece))
    summary = Moments.from_json(json.loads(json.dumps(merged.to_json()))).summary()
    for name, wanted in {
        "mean": rows.mean(0),
        "std": rows.std(0),
        "min": rows.min(0),
        "max": rows.max(0),
    }.items():
        np.testing.assert_allclose(summary[name], wanted, rtol=1e-7, atol=1e-6, err_msg=name)


def test_statistics_keep_a_small_deviation_around_a_large_mean():
    rows = 1e9 + np.random.default_rng(0).normal(size=(1000, 1))
    merged = Moments.of(rows[:400]).merge(Moments.of(rows[400:]))
    np.testing.assert_allclose(merged.summary()["std"], rows.std(0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (6,), (17,), (376,), (1500,), (3, 4)])
@pytest.mark.parametrize("rows", [1, 2, 60, 61, 1024, 3001])
@pytest.mark.parametrize("kind", ["normal", "zeros of both signs", "NaN"])
def test_fast_sums_and_extremes_are_bit_equal_to_those_of_numpy(shape, rows, kind):
    rng = np.random.default_rng(rows)
    values = (rng.normal(size=(rows, *shape)) * 10.0 ** rng.integers(-3, 4, shape)).astype(np.float32)
    if kind == "zeros of both signs":
        values = np.where(values > 0, np.float32(0), np.float32(-0.0))
    elif kind == "NaN":
        values.reshape(-1)[rng.integers(values.size)] = np.nan
    found, wide = Moments.of(values), values.astype(np.float64)
    mean = wide.mean(0)
    wanted = {
        "mean": mean,
        "m2": np.square(wide - mean).sum(0),
        "low": values.min(0).astype(np.float64),
        "high": values.max(0).astype(np.float64),
    }
    for name, value in wanted.items():
        assert np.asarray(getattr(found, name)).tobytes() == np.asarray(value).tobytes(), name
