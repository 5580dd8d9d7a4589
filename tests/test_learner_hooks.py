"""Check the learner with optional hooks of recipes: a first stage, model rollouts, labels, columns that need
whole episodes, discrete actions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets_io import Shards
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.returns import returns_to_go
from datasets_io.sources.toy import ToyCartPole
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import RolloutSchedule
from off2on.recipe.networks import MLP, Nets
from off2on.replay.episode_assembler import EpisodeAssembler

Build = Callable[..., Any]


# Columns that wait.


def rollout(envs: list[int], obs: list[float], ends: list[bool]) -> dict[str, Any]:
    """Transitions from obs to obs + 1, reward obs."""
    value = np.array(obs, np.float32)
    return {
        "env": np.array(envs),
        "obs": value[:, None],
        "new_obs": value[:, None] + 1,
        "actions": value[:, None],
        "rewards": value,
        "terminateds": np.array(ends),
        "truncateds": np.zeros(len(envs), bool),
    }


def test_transitions_come_out_as_whole_episodes():
    held = EpisodeAssembler()
    assert list(held.add(rollout([0, 1, 0, 1], [0, 10, 1, 11], [False] * 4))) == []
    (first,) = held.add(rollout([0, 1, 0, 1], [2, 12, 20, 13], [True, False, False, False]))
    assert first["rewards"].tolist() == [0, 1, 2]
    assert first["last"].tolist() == [False, False, True]
    assert "env" not in first
    (second,) = held.add(rollout([1], [14], [True]))
    assert second["rewards"].tolist() == [10, 11, 12, 13, 14]


def test_an_environment_that_starts_anew_has_cut_its_episode_off():
    held = EpisodeAssembler()
    list(held.add(rollout([0, 0], [0, 1], [False, False])))
    (cut,) = held.add(rollout([0], [7], [False]))
    assert cut["rewards"].tolist() == [0, 1]
    assert cut["last"].tolist() == [False, True]
    assert not cut["terminateds"].any()


def test_unfinished_transitions_survive_a_checkpoint(tmp_path: Path):
    held, other = EpisodeAssembler(), EpisodeAssembler()
    list(held.add(rollout([0, 3, 0], [0, 5, 1], [False] * 3)))
    torch.save(held.state(), tmp_path / "held.pt")
    other.load(torch.load(tmp_path / "held.pt", weights_only=True))
    for one in (held, other):
        (whole,) = one.add(rollout([0], [2], [True]))
        assert whole["rewards"].tolist() == [0, 1, 2]


class Waits(BC):
    """Reads everything that is only known at an episode's end."""

    columns = ("obs", "action", "reward", "mask", "ret", "last", "next_action")


@pytest.mark.parametrize("world", [1, 2])
def test_online_episodes_enter_whole_with_what_they_wait_for(build_learner: Build, wide: Shards, world: int):
    columns = wide.read_all(["obs", "new_obs", "actions", "rewards", "terminateds", "truncateds", "last"])
    ends = columns.pop("last")
    expected = build_learner(Waits, "wide").rows.data  # the same rows, read as offline data
    taken = []
    for rank in range(world):
        learner = build_learner(Waits, "wide")
        learner.sampler.partition = rank, world
        learner.rows.capacity = wide.rows
        learner.rows.data = torch.cat((learner.rows.data, torch.zeros_like(learner.rows.data)))
        first = 0
        for stop in (1, 30, 200, wide.rows):
            part = {name: column[first:stop] for name, column in columns.items()}
            learner.add(part | {"env": np.zeros(stop - first, int)}, first)
            first = stop
        taken.append(learner.rows.data[learner.rows.offline :][: learner.rows.online])
    number = np.cumsum(np.concatenate([[0], ends[:-1]]))
    for rank, rows in enumerate(taken):
        torch.testing.assert_close(rows, expected[torch.from_numpy(number % world == rank)])


def test_a_learners_part_of_an_episode_ends_where_its_rows_do(build_learner: Build, wide: Shards):
    rows = build_learner(Waits, "wide").sampler.source.reader
    whole = [rows.layout.split(rows.read_piece(0))]
    parts = []
    for rank in range(2):
        part = type(rows)(**(vars(rows) | {"partition": (rank, 2)}))
        parts.append(part.layout.split(part.read_piece(0)))
    assert torch.equal(torch.cat([part.obs for part in parts]), whole[0].obs)
    assert torch.equal(torch.cat([part.ret for part in parts]), whole[0].ret)  # of the whole episode
    assert [float(part.last[-1]) for part in parts] == [1.0, 1.0]
    assert whole[0].last.sum() <= parts[0].last.sum() + parts[1].last.sum() <= whole[0].last.sum() + 1


# Labels.


class Labels(BC):
    """Labels every row with how far its episode has still to go, and what update it is."""

    columns = ("obs", "action", "reward", "last")
    relabelled_columns = ("left", "when")
    seen: ClassVar[list[tuple[int, Tensor]]] = []

    @classmethod
    def is_relabel_due(cls, hp: Any, update: int) -> bool:
        return update % 10 == 5

    @classmethod
    def relabel(cls, nets: Any, rows: Batch, hp: Any, update: int) -> dict[str, Tensor]:
        ones = np.ones(len(rows.last))
        left = returns_to_go(ones, rows.last.numpy() > 0, 1.0)
        return {"left": torch.from_numpy(left), "when": torch.full_like(rows.last, update)}

    @classmethod
    def prepare(cls, nets: Any, batch: Batch, hp: Any) -> Batch:
        cls.seen.append((int(batch.when[0]), batch.left.clone()))
        return batch


def test_labels_are_made_on_time_from_whole_episodes(build_learner: Build, wide: Shards):
    Labels.seen.clear()
    learner = build_learner(Labels, "wide")
    learner.advance(33)
    when = [0] * 4 + [5] * 10 + [15] * 10 + [25] * 9
    assert [update for update, _ in Labels.seen] == when
    ends = wide.read_all(["last"])["last"]
    expected = torch.from_numpy(returns_to_go(np.ones(len(ends)), ends, 1.0))
    assert torch.equal(learner.rows.layout.split(learner.rows.data).left, expected)
    assert all((left > 0).all() for update, left in Labels.seen if update)


def test_labels_survive_a_checkpoint(build_learner: Build, tmp_path: Path):
    learner, other = build_learner(Labels, "wide"), build_learner(Labels, "wide")
    learner.advance(8)
    learner.save_rows(str(tmp_path))
    other.load_rows(str(tmp_path))
    assert torch.equal(learner.rows.data, other.rows.data)


def test_labels_of_online_rows_follow_the_age_of_the_ring(build_learner: Build):
    rows = build_learner(Labels, "wide").rows
    rows.capacity = 5
    rows.data = torch.cat((rows.data, torch.zeros(5, rows.layout.width)))
    for value in range(7):
        row = torch.zeros(1, rows.layout.width)
        row[0, 0] = value
        rows.add(row)
    position, held = rows.rows_in_order()
    assert torch.equal(held.obs[: rows.offline], rows.layout.split(rows.data[: rows.offline]).obs)
    assert held.obs[rows.offline :, 0].tolist() == [2, 3, 4, 5, 6]
    rows.write("left", position, torch.arange(rows.offline + 5.0) - rows.offline)
    assert rows.layout.split(rows.data[rows.offline :]).left.tolist() == [3, 4, 0, 1, 2]


def test_whole_episodes_do_not_stream(data_root: Path):
    config = Labels.configure("wide").data(memory_budget=1000).offline(10)
    with pytest.raises(Exception, match="whole episodes"):
        config.validate()


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


def test_the_first_stage_is_the_first_step_and_is_not_done_twice(ray_session: None, tmp_path: Path):
    config = Dreamer.configure("wide").training(hidden=(16,), batch_size=32, updates_per_step=5).offline(10)
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


def test_progress_runs_to_one_offline_and_to_two_online(ray_session: None, data_root: Path):
    Watched.seen.clear()
    config = Watched.configure("toy-pendulum").training(hidden=(16,), batch_size=32, threads=1)
    with config.offline(20).online(10, rollout=5).build_algo() as algo:
        while not algo.finished:
            algo.train()
    assert Watched.seen[:20] == [index / 20 for index in range(20)]
    assert Watched.seen[20:] == [1 + index / 10 for index in range(10)]


# Discrete actions.


class Pushes(BC):
    """Learns to classify pushes; a test's own, so that the machine is tested apart from any algorithm."""

    actions = "discrete"

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        return Nets(actor=MLP((obs_space.shape[0], *hp.hidden, int(action_space.n))))

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Any:
        return torch.nn.functional.cross_entropy(nets.actor(batch.obs), batch.action.long()), {}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        return nets.actor(obs).argmax(-1)


@pytest.fixture
def cartpole(data_root: Path) -> str:
    if not (data_root / "toy-cartpole").exists():
        ingest(ToyCartPole(episodes=2), None, data_root, name="toy-cartpole")
    return "toy-cartpole"


@pytest.mark.parametrize("strategy", ["append", "symmetric", "balanced"])
def test_discrete_actions_cross_the_handover(cartpole: str, strategy: str, ray_session: None, tmp_path: Path):
    config = Pushes.configure(cartpole).training(hidden=(16,), batch_size=32, actor_lr=1e-2)
    with config.offline(100).online(40, strategy=strategy, rollout=20).build_algo() as algo:
        while not algo.finished:
            algo.train()
        policy = algo.policy()
        (tmp_path / "policy.pt").write_bytes(policy.export())
        obs = torch.randn(7, 4)
        action = policy(obs)
        assert action.dtype == torch.int64
        assert set(action.tolist()) <= {0, 1}
        from off2on.policy import load_policy

        assert torch.equal(load_policy(tmp_path / "policy.pt")(obs), action)
        learner = algo.learner_group._learner
        online = learner.rows.layout.split(learner.rows.data[learner.rows.offline :])
        assert set(online.action.tolist()) <= {0.0, 1.0}


def test_algorithms_for_one_kind_of_action_refuse_the_other(cartpole: str):
    with pytest.raises(Exception, match="discrete"):
        Pushes.configure("toy-pendulum").offline(1).validate()
    with pytest.raises(Exception, match="continuous"):
        BC.configure(cartpole).offline(1).validate()
