"""Chunks of actions: their rows, and policies that decide about several steps at once."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import toy_bandit
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms.bfn import BFN
from off2on.algorithms.fql import FQL
from off2on.algorithms.qc import QC
from off2on.algorithms.qc_fql import QCFQL
from off2on.errors import HyperparameterError
from off2on.recipe.batch import Batch
from off2on.recipe.objectives import apply_objectives
from off2on.replay.transforms import Transforms
from off2on.replay.windows import Chunks

Build = Callable[..., Any]
PAIRS = [(QC, BFN, {"samples": 3, "flow_steps": 2}), (QCFQL, FQL, {"flow_steps": 2})]


def test_a_chunk_of_three_by_hand():
    # An episode of four steps that ends by itself, and one of two that a time limit cuts off.
    columns = {
        "obs": np.zeros((6, 1), np.float32),
        "action": np.array([[1, -1], [2, -2], [3, -3], [4, -4], [5, -5], [6, -6]], np.float32),
        "reward": np.array([1, 2, 4, 8, 16, 32], np.float32),
        "next_obs": np.array([[1.0], [2.0], [3.0], [4.0], [11.0], [12.0]], np.float32),
        "mask": np.array([1, 1, 1, 0, 1, 1], np.float32),
    }
    found = Chunks(3).change(columns, np.array([False, False, False, True, False, True]), 0.5)
    assert found["action"].tolist() == [
        [1, -1, 2, -2, 3, -3],
        [2, -2, 3, -3, 4, -4],
        [3, -3, 4, -4, 0, 0],
        [4, -4, 0, 0, 0, 0],
        [5, -5, 6, -6, 0, 0],
        [6, -6, 0, 0, 0, 0],
    ]
    assert found["inside"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]]
    assert found["reward"].tolist() == [3, 6, 8, 8, 32, 32]
    assert found["next_obs"][:, 0].tolist() == [3, 4, 4, 4, 12, 12]
    assert found["mask"][:2].tolist() == [0.25, 0]  # the second window ends exactly where the episode does


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=5),
    st.integers(2, 7),
    st.integers(0, 99),
)
def test_chunks_are_those_of_a_loop_over_episodes(episodes: list[tuple[int, bool]], length: int, seed: int):
    rng = np.random.default_rng(seed)
    count = sum(size for size, _ in episodes)
    action, reward = rng.normal(size=(count, 2)).astype(np.float32), rng.normal(size=count).astype(np.float32)
    last = np.concatenate([np.arange(size) == size - 1 for size, _ in episodes])
    mask = np.concatenate([[1.0] * (size - 1) + [0.0 if ends else 1.0] for size, ends in episodes])
    columns = {"action": action, "reward": reward, "next_obs": action[:, :1], "mask": mask}
    found = Chunks(length).change(columns, last, 0.9)
    start = 0
    for size, ends in episodes:
        for row in range(start, start + size):
            steps = list(range(row, min(row + length, start + size)))
            missing = length - len(steps)
            np.testing.assert_array_equal(
                found["action"][row], np.concatenate([*(action[step] for step in steps), [0.0] * 2 * missing])
            )
            assert found["inside"][row].tolist() == [1.0] * len(steps) + [0.0] * missing
            total = sum(0.9**place * float(reward[step]) for place, step in enumerate(steps))
            assert found["reward"][row] == pytest.approx(total, rel=1e-4, abs=1e-5)
            is_over = steps[-1] == start + size - 1 and ends
            assert found["mask"][row] == pytest.approx(0.0 if is_over else 0.9 ** (len(steps) - 1))
        start += size


def test_rows_of_a_learner_are_windows_with_all_their_actions(build_learner: Build, wide: Shards):
    learner = build_learner(QC, "wide", chunk=4, samples=2, flow_steps=2)
    raw = wide.read_all(["obs", "actions", "last"])
    plain = Transforms.of(wide, learner.hp).apply(raw)["action"]
    rows = learner.rows.layout.split(learner.rows.data)
    assert rows.action.shape == (wide.rows, 12)
    whole = rows.inside[:, -1].numpy() > 0
    assert whole.sum() == wide.rows - 3 * wide.episodes
    for row in np.flatnonzero(whole):
        np.testing.assert_array_equal(rows.action[row].numpy(), plain[row : row + 4].ravel())
        assert not raw["last"][row : row + 3].any()
    logged = learner.advance(3)
    assert all(np.isfinite(value) for value in logged.values())


@pytest.mark.parametrize(("kind", "plain", "given"), PAIRS, ids=["qc", "qc_fql"])
def test_a_chunk_of_one_learns_what_single_actions_do(
    build_learner: Build, kind: Any, plain: Any, given: dict[str, Any]
):
    one, other = build_learner(kind, chunk=1, **given), build_learner(plain, **given)
    assert one.advance(7) == other.advance(7)
    theirs = other.nets.state_dict()
    assert one.nets.state_dict().keys() == theirs.keys()
    for name, value in one.nets.state_dict().items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize(("kind", "plain", "given"), PAIRS, ids=["qc", "qc_fql"])
def test_what_is_after_the_end_of_an_episode_teaches_nothing(
    build_learner: Build, kind: Any, plain: Any, given: dict[str, Any]
):
    learner = build_learner(kind, "wide", chunk=3, **given)
    rows = learner.rows.layout.split(learner.rows.data)
    cut_short = rows.inside[:, -1] == 0

    def batch(change: float) -> Any:
        chosen = learner.rows.layout.split(learner.rows.data[cut_short.nonzero()[:20, 0]].clone())
        chosen.reward += change
        chosen.mask += change
        torch.manual_seed(0)
        return kind.prepare(learner.nets, chosen, learner.hp)

    def critic_loss(prepared: Any) -> float:
        return float(kind.compute_critic_loss(learner.nets, prepared, learner.hp)[0].detach())

    for change in (0.0, 5.0):  # no window is whole: the critics learn nothing from any of them
        assert critic_loss(batch(change)) == 0.0
    cut_short = ~cut_short
    assert critic_loss(batch(0.0)) != critic_loss(batch(5.0))
    cut_short = ~cut_short
    prepared = batch(0.0)
    loss = kind.compute_flow_loss(learner.nets, prepared, learner.hp)[0]
    by_hand = torch.tensor(0.0)
    point = torch.lerp(prepared.start, prepared.action, prepared.time)
    velocity = learner.nets.flow(prepared.obs, point, prepared.time)
    for row in range(20):
        for step in range(3):
            if prepared.inside[row, step]:
                part = slice(3 * step, 3 * step + 3)
                wanted = prepared.action[row, part] - prepared.start[row, part]
                by_hand = by_hand + (velocity[row, part] - wanted).square().sum()
    torch.testing.assert_close(loss, by_hand / (20 * 9))


@pytest.mark.usefixtures("data_root")
@pytest.mark.parametrize(
    ("given", "online", "says"),
    [
        ({"augment": "steps:3"}, {}, "chunk=5"),
        ({"augment": "mixup"}, {}, "rows of one step"),
        ({}, {"discount": 0.9}, "both phases"),
        ({}, {"chunk": 3}, "chunk must be the same"),
        ({"chunk": 0}, {}, "[1, 100]"),
    ],
)
def test_what_does_not_go_with_chunks_is_refused(given: dict[str, Any], online: dict[str, Any], says: str):
    with pytest.raises(HyperparameterError) as refusal:
        QC.configure("toy-pendulum").training(**given).online(10, **online).validate()
    assert says in f"{refusal.value} {refusal.value.expected}"


def learned_chunks(kind: Any, seed: int, **given: Any) -> torch.Tensor:
    """Train on chunks of two steps that both go to -0.7 or both to 0.7; return exploring chunks [512, 2].

    Of a quarter of the rows the second step is after the end of the episode.
    """
    torch.manual_seed(seed)
    settings = {"hidden": (64, 64), "critic_lr": 1e-3, "flow_lr": 2e-3, "flow_steps": 5, "chunk": 2} | given
    hp = kind.Hyperparameters.parse(settings, kind.__name__)
    box = gym.spaces.Box(-1, 1, (1,))
    nets = kind.build_nets(box, box, hp)
    optimizers = {
        one.name: torch.optim.Adam(getattr(nets, one.name).parameters(), kind.lr(one.name, hp, 0.0))
        for one in kind.objectives_in_order()
    }

    def step(name: str, loss: torch.Tensor, progress: float) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    for update in range(1, 801):
        action = 1.4 * torch.randint(2, (128, 1)).float() - 0.7 + 0.03 * torch.randn(128, 2)
        inside = torch.ones(128, 2)
        inside[:32, 1] = action[:32, 1] = 0.0
        obs = torch.zeros(128, 1)
        reward = torch.where(inside[:, 1] > 0, 1.0, 50.0)  # which no value may learn
        batch = Batch(
            obs=obs, action=action, inside=inside, reward=reward, next_obs=obs, mask=torch.zeros(128)
        )
        apply_objectives(kind, nets, batch, hp, update, step)
    with torch.no_grad():
        assert abs(float(nets.critic(obs[32:], action[32:]).mean()) - 1) < 0.3
        return kind.act(nets, torch.zeros(512, 1), hp, True)


@pytest.mark.slow
@toy_bandit.seeds(3)
@pytest.mark.parametrize(
    ("kind", "given"),
    [(QC, {"samples": 1}), (QCFQL, {"alpha": 10.0, "actor_lr": 1e-3})],
    ids=["qc", "qc_fql"],
)
def test_the_steps_of_a_chunk_belong_together(kind: Any, given: dict[str, Any], seed: int):
    first, second = learned_chunks(kind, seed, **given).T
    for step in (first, second):  # both ways are gone, and not the mean of them
        assert min((step < -0.35).float().mean(), (step > 0.35).float().mean()) > 0.2
    assert ((first > 0) == (second > 0)).float().mean() > 0.95  # of steps drawn one by one, a half
