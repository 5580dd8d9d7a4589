"""Check the learner with optional hooks of recipes: a first stage, model rollouts, progress."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import RolloutSchedule
from off2on.recipe.networks import MLP, Nets

Build = Callable[..., Any]


# A first stage, and rows made up.


class Dreamer(BC):
    """Its model says that every state is followed by its fitted mean."""

    columns = ("obs", "action", "reward", "next_obs", "mask")
    fitted_networks = ("model",)
    seen: ClassVar[list[tuple[int, Batch]]] = []

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("model", MLP((1, obs_space.shape[0])))
        return nets

    @classmethod
    def fit(cls, nets: Any, rows: Batch, hp: Any, generator: torch.Generator) -> dict[str, float]:
        with torch.no_grad():
            nets.model[0].bias.copy_(rows.obs.mean(0))
        return {"rows": float(len(rows.obs)), "noise": float(torch.rand(1, generator=generator))}

    @classmethod
    def rollout_schedule(cls, hp: Any) -> RolloutSchedule:
        return RolloutSchedule(every=10, starts=40, kept=100, real_share=0.25)

    @classmethod
    def generate_rollouts(cls, nets: Any, starts: Batch, hp: Any) -> Batch:
        count = len(starts.obs)
        following = nets.model[0].bias.expand(count, -1)
        reward = torch.full((count,), 1000.0)
        return Batch(
            obs=starts.obs, action=starts.action, reward=reward, next_obs=following, mask=torch.ones(count)
        )

    @classmethod
    def prepare(cls, nets: Any, batch: Batch, hp: Any) -> Batch:
        cls.seen.append((batch.real, batch))
        return batch


def test_batches_are_recorded_rows_then_imagined_ones(build_learner: Build, wide: Shards):
    Dreamer.seen.clear()
    learner = build_learner(Dreamer, "wide")
    found = learner.fit()
    assert found["rows"] == wide.rows
    mean = torch.from_numpy(wide.read_all(["obs"])["obs"].mean(0))
    logged = learner.advance(25)
    assert logged["offline_share"] == 1.0
    assert len(Dreamer.seen) == 25
    for real, batch in Dreamer.seen:
        assert real == 8  # a quarter of 32
        assert (batch.reward[:8] < 100).all()
        assert (batch.reward[8:] == 1000).all()
        torch.testing.assert_close(batch.next_obs[8:], mean.expand(24, -1))
    # Three rounds of forty, of which the ring keeps the newest hundred.
    assert learner.sampler.model_buffer.rows.added == 120
    assert learner.sampler.model_buffer.rows.online == 100


def test_imagined_rows_survive_a_checkpoint_and_the_run_goes_on(build_learner: Build, tmp_path: Path):
    learner, other = build_learner(Dreamer, "wide"), build_learner(Dreamer, "wide")
    learner.fit()
    learner.advance(15)
    learner.save_rows(str(tmp_path))
    other.load_rows(str(tmp_path))
    assert torch.equal(*(it.sampler.model_buffer.rows.data[:80] for it in (learner, other)))
    other.set_state(learner.get_state())
    assert learner.advance(20) == other.advance(20)


def test_the_first_stage_is_the_first_step_and_is_not_done_twice(data_root: Path, tmp_path: Path):
    config = Dreamer.configure("wide").training(hidden=(16,), batch_size=32, updates_per_call=5).offline(10)
    with config.build_algo() as algo:
        assert not algo.is_fitted
        result = algo.train()
        assert (algo.is_fitted, algo.updates, result["updates"]) == (True, 0, 0)
        assert "rows" in algo.latest_metrics
        folder = algo.save_to_path(str(tmp_path / "fitted"))
        algo.train()
        assert algo.updates == 5
        weights = torch.load(_written(tmp_path, algo.network("model")), weights_only=True)
        assert weights["0.bias"].abs().sum() > 0
    with config.copy(copy_frozen=False).build_algo() as other:
        other.restore_from_path(folder)
        assert other.is_fitted
        other.train()
        assert other.updates == 5
        assert other.latest_metrics == algo.latest_metrics


def _written(folder: Path, content: bytes) -> Path:
    (folder / "model.pt").write_bytes(content)
    return folder / "model.pt"


# Progress.


class Watched(IQL):
    """Notes how far training says it is."""

    seen: ClassVar[list[float]] = []

    @classmethod
    def prepare(cls, nets: Any, batch: Batch, hp: Any) -> Batch:
        cls.seen.append(batch.progress)
        return super().prepare(nets, batch, hp)


def test_progress_runs_to_one_offline_and_to_two_online(data_root: Path):
    Watched.seen.clear()
    config = Watched.configure("toy-pendulum").training(hidden=(16,), batch_size=32, threads=1)
    with config.offline(20).online(10, rollout=5).build_algo() as algo:
        while not algo.finished:
            algo.train()
    assert Watched.seen[:20] == [index / 20 for index in range(20)]
    assert Watched.seen[20:] == [1 + index / 10 for index in range(10)]
