"""Gradient updates per second on a window that slides over the data, against the same data held in memory."""

from pathlib import Path

import pytest
import torch
from harness import Worker, in_turns, report
from linked import linked

from datasets_io import Shards
from off2on.algorithms.iql import IQL
from off2on.replay.offline_rows import OfflineRows, layout_of
from off2on.replay.strategy import Options
from off2on.replay.transforms import Transforms
from off2on.strategies.append import Append

AIM = 0.7
COPIES, WINDOW = 20, 0.1

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def millions(halfcheetah: Shards, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Two million transitions of HalfCheetah."""
    return linked(halfcheetah, tmp_path_factory.mktemp("millions") / "halfcheetah-medium", COPIES)


def budget(shards: Shards, share: float) -> int:
    """Bytes of a window on this share of the rows."""
    return int(share * shards.rows) * 4 * layout_of(shards, IQL.columns).width


@pytest.mark.parametrize("name", ["td3_bc", "iql"])
def test_updates_per_second_against_data_in_memory(name, millions):
    window = budget(millions, WINDOW)
    with (
        Worker("worker_off2on.py", name, Path(millions.path), "train", str(window)) as ours,
        Worker("worker_off2on.py", name, Path(millions.path), "train", str(2**40)) as peer,
    ):
        ratio = in_turns(ours, peer, 400)
    report(f"updates {name}: window / resident", ratio, [AIM])
    assert ratio.middle > AIM


def drawn(shards: Shards, share: float) -> OfflineRows:
    """A window on this share of the rows: observation, reward and return to go."""
    return OfflineRows(
        shards,
        ("obs", "reward", "ret"),
        Transforms.of(shards, IQL.Hyperparameters(normalise_obs=False)),
        discount=0.99,
        budget=int(share * shards.rows) * 4 * (shards.observation_space.shape[0] + 2),
        capacity=0,
        partition=(0, 1),
        device=torch.device("cpu"),
        seed=0,
    )


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_how_far_a_batch_of_a_window_is_from_uniform(share, millions, halfcheetah):
    """Variance of a batch's mean against that of rows drawn uniformly from all data: 1 is no difference.

    The bound is that of a number which is the same in all rows of an episode.
    """
    source, size = drawn(millions, share), 256
    strategy, generator = Append(source.rows, Options()), torch.Generator().manual_seed(0)
    means = []
    for _ in range(2 * millions.rows // (50 * size)):
        source.slide(50 * size)
        means.append(source.rows.rows_at(strategy.draw(50, size, generator)).mean(1))
    uniform = drawn(halfcheetah, 1.0).rows.data.var(0) / size
    inflation = (torch.cat(means).var(0) / uniform).numpy()
    held = share * millions.episodes
    worst = 1 + (size - 1) * (1 - share) / held
    print(
        f"window {share:>4.0%} = {held:,.0f} episodes: reward {inflation[-2]:.2f}, "
        f"return to go {inflation[-1]:.2f}, observations {inflation[:-2].max():.2f}, bound {worst:.2f}"
    )
    assert inflation.max() < 1.3 * worst
