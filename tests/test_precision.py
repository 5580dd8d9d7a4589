"""What float32 cannot hold is refused or reported."""

import numpy as np
import pytest

from datasets_io.diagnosis.diagnose import diagnose_source
from datasets_io.episode import Episode
from datasets_io.errors import BadValues
from datasets_io.ingestion.ingest import ingest
from datasets_io.source import Source


class Given(Source):
    """Episodes that are given."""

    def __init__(self, *episodes):
        self._episodes = episodes

    def episodes(self, part):
        yield from self._episodes


def made(folder, obs, name="made", rewards=None, **options):
    steps = len(obs) - 1
    rewards = np.ones(steps) if rewards is None else rewards
    episode = Episode(obs, np.linspace(-1, 1, steps), rewards, terminated=False)
    return ingest(Given(episode), None, folder, name=name, **options)


STEPS = np.arange(1001.0)
WALK = 0.3 * np.random.default_rng(0).normal(size=1001).cumsum()


@pytest.mark.parametrize(
    "column",
    [
        1.7e9 + 0.1 * STEPS,  # Unix time in seconds
        1.7e12 + 100 * STEPS,  # in milliseconds
        (1.7e18 + 1e8 * STEPS).astype(np.int64),  # in nanoseconds
        1.7e9 + 0.1 * STEPS + 86_400 * (STEPS > 500),  # with a pause
        5.3e6 + WALK / 10,  # UTM, metres
    ],
)
def test_an_offset_that_float32_loses_is_refused(tmp_path, column):
    with pytest.raises(BadValues) as caught:
        made(tmp_path, np.stack([np.asarray(WALK, column.dtype), column], axis=1))
    assert "dimension 1" in str(caught.value)


@pytest.mark.parametrize(
    "column",
    [
        5e5 + 1000 * WALK,
        1000 + WALK,
        np.full(1001, 1.7e9),
        1 + 1e-16 * STEPS,
        0.6 + 1e-9 * WALK,  # noise of a simulator
        np.float32(1.7e9) + np.zeros(1001),
        100 - 1e-4 * STEPS,
        (STEPS > 500) * 1e9,
        STEPS.astype(np.int64),
    ],
)
def test_columns_without_a_lost_offset_are_kept(tmp_path, column):
    assert made(tmp_path, column).rows == 1000


def test_an_offset_is_measured_over_all_parts(tmp_path):
    class Parts(Given):
        def parts(self, path):
            return [0, 1]

        def episodes(self, part):
            yield Episode(1500.0 + 50 * part + 1e-3 * WALK, WALK[1:], WALK[1:], terminated=False)

    kept = ingest(Parts(), None, tmp_path, name="kept")
    assert "offset" not in [fault.kind for fault in kept.manifest.faults]
    with pytest.raises(BadValues, match="float32"):
        made(tmp_path, 1500.0 + 1e-3 * WALK)


def test_a_check_before_the_ingest_finds_an_offset(tmp_path):
    source = Given(Episode(1.7e9 + 0.1 * STEPS, WALK[1:], WALK[1:], terminated=False))
    found = diagnose_source(source, None, "x", "off2on data add x").findings
    assert [one.severity for one in found if one.check == "reading" and "float32" in one.what] == ["error"]


@pytest.mark.parametrize("kind", [np.float64, np.longdouble])
def test_values_too_large_for_float32_are_named(tmp_path, kind):
    with pytest.raises(BadValues, match=r"obs .* 1 rows with values too large for float32"):
        made(tmp_path, np.where(STEPS == 5, 1e300, WALK).astype(kind))
    with pytest.raises(BadValues, match=r"rewards .* too large for float32"):
        made(tmp_path, WALK, rewards=np.full(1000, -1e39))


def test_whole_numbers_that_are_rounded_are_reported(tmp_path):
    ids = np.random.default_rng(0).integers(0, 2**30, 1001)
    (fault,) = made(tmp_path, ids).manifest.faults
    assert (fault.kind, fault.column, fault.refused) == ("rounded", "obs", False)
    assert 900 < fault.count <= 1001
    assert made(tmp_path, ids % 2**24, name="small").manifest.faults == []
