"""Units: the same offline and online, and again in the file that needs torch alone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from histories import random_histories
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.policy import Policy, load_policy
from off2on.recipe.hyperparameters import Hyperparameters
from off2on.replay.transforms import Transforms

REWARDS = ("raw", "return_range", "minus_one", "standardise")
RLLIB = ("obs", "actions", "rewards", "terminateds", "truncateds", "new_obs")


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("normalise", [False, True])
def test_a_transition_makes_the_same_row_offline_and_online(
    build_learner: Callable[..., Any], wide: Shards, normalise: bool, reward: str
):
    learner = build_learner(IQL, "wide", normalise_obs=normalise, reward=reward)
    rows = learner.rows
    rows.capacity, rows.data = wide.rows, torch.cat((rows.data, torch.zeros_like(rows.data)))
    learner.add(wide.read_all(RLLIB), first=0)
    assert rows.online == rows.offline == wide.rows
    assert torch.equal(rows.data[: wide.rows], rows.data[wide.rows :])


@pytest.mark.parametrize("world", [2, 3])
def test_learners_share_online_transitions_without_loss(
    build_learner: Callable[..., Any], wide: Shards, world: int
):
    columns = wide.read_all(RLLIB)
    everything = build_learner(IQL, "wide")
    seen = []
    for rank in range(world):
        learner = build_learner(IQL, "wide")
        learner.sampler.partition = rank, world
        learner.rows.capacity = wide.rows
        learner.rows.data = torch.cat((learner.rows.data, torch.zeros_like(learner.rows.data)))
        first = 0
        for stop in (1, 7, 50, wide.rows):  # rollouts of any length
            learner.add({name: column[first:stop] for name, column in columns.items()}, first)
            first = stop
        seen.append(learner.rows.data[learner.rows.offline :][: learner.rows.online])
        assert abs(learner.rows.online - wide.rows / world) < 1
    together = torch.empty_like(everything.rows.data)
    for rank, part in enumerate(seen):
        together[rank::world] = part
    assert torch.equal(together, everything.rows.data)


def test_observations_are_standardised_by_the_data(wide: Shards):
    columns = wide.read_all(["obs", "new_obs"])
    made = Transforms.of(wide, Hyperparameters(normalise_obs=True)).apply(columns)
    std = columns["obs"].std(0)
    np.testing.assert_allclose(
        made["obs"], (columns["obs"] - columns["obs"].mean(0)) / (std + 1e-3), atol=1e-4
    )
    np.testing.assert_allclose(
        made["next_obs"], (columns["new_obs"] - columns["obs"].mean(0)) / (std + 1e-3), atol=1e-4
    )
    raw = Transforms.of(wide, Hyperparameters()).apply(columns)
    np.testing.assert_array_equal(raw["obs"], columns["obs"])


def test_rewards_are_transformed_as_named(wide: Shards):
    rewards = wide.read_all(["rewards"])["rewards"]

    def made(name: str) -> Any:
        return Transforms.of(wide, Hyperparameters(reward=name)).apply({"rewards": rewards})["reward"]

    spread = wide.returns.max() - wide.returns.min()
    np.testing.assert_array_equal(made("raw"), rewards)
    np.testing.assert_allclose(made("return_range"), rewards * 1000 / spread, rtol=1e-5)
    np.testing.assert_allclose(made("minus_one"), rewards - 1, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        made("standardise"), (rewards - rewards.mean()) / (rewards.std() + 1e-3), atol=1e-4
    )


def test_the_mask_ends_at_terminations_and_not_at_time_limits(wide: Shards):
    columns = wide.read_all(["terminateds", "truncateds", "last"])
    mask = Transforms.of(wide, Hyperparameters()).apply(columns)["mask"]
    assert columns["truncateds"].sum() == columns["terminateds"].sum() == 6
    assert (mask[columns["terminateds"]] == 0).all()
    assert (mask[columns["truncateds"]] == 1).all()
    assert mask.sum() == len(mask) - 6


def test_columns_that_are_not_given_are_not_made(wide: Shards):
    made = Transforms.of(wide, Hyperparameters()).apply(wide.read_all(["obs"]))
    assert list(made) == ["obs"]


def as_it_is(low: float, high: float) -> Transforms:
    return Transforms(obs_mean=(0.0,), obs_std=(1.0,), action_low=(low,), action_high=(high,))


class Says:
    """A recipe whose policy does as the observation says."""

    @staticmethod
    def act(nets: Any, obs: torch.Tensor, hp: Any, explore: bool) -> torch.Tensor:
        return obs


edges = st.floats(-100, 100, width=32)


@given(
    low=edges, width=st.floats(0.125, 100, width=32), shares=st.lists(st.floats(-1, 1, width=32), min_size=1)
)
def test_actions_make_the_round_trip_between_units(low: float, width: float, shares: list[float]):
    low, high = float(np.float32(low)), float(np.float32(low + width))
    transforms, inside = as_it_is(low, high), np.array(shares, np.float32)[:, None]
    policy = Policy(Says(), torch.nn.Module(), None, transforms)  # type: ignore[arg-type]
    outside = policy(torch.from_numpy(inside)).numpy()
    assert (outside >= np.float32(low)).all()
    assert (outside <= np.float32(high)).all()
    # Exact but for rounding, which counts more where the box is narrow and far from zero.
    rounding = 4e-7 * (2 + 4 * max(abs(low), abs(high)) / (high - low))
    np.testing.assert_allclose(transforms.apply({"actions": outside})["action"], inside, atol=rounding)


def test_rounding_takes_no_action_out_of_its_box():
    low = torch.rand(10_000) * 200 - 100
    high = low + torch.rand(10_000) * 100 + 0.01
    box = Transforms((0.0,) * 10_000, (1.0,) * 10_000, tuple(low.tolist()), tuple(high.tolist()))
    policy = Policy(Says(), torch.nn.Module(), None, box)  # type: ignore[arg-type]
    assert torch.equal(policy(torch.ones(1, 10_000))[0], high)
    assert torch.equal(policy(-torch.ones(1, 10_000))[0], low)


def test_actions_beyond_the_box_count_as_its_edge():
    transforms = as_it_is(-2.0, 4.0)
    made = transforms.apply({"actions": np.array([[-9.0], [-2.0], [1.0], [4.0], [9.0]])})["action"]
    assert made.flatten().tolist() == [-1, -1, 0, 1, 1]
    policy = Policy(Says(), torch.nn.Module(), None, transforms)  # type: ignore[arg-type]
    assert policy(torch.tensor([[-9.0], [0.0], [9.0]])).flatten().tolist() == [-2, 1, 4]


def test_transforms_compare_by_value(wide: Shards):
    hp = Hyperparameters(normalise_obs=True, reward="standardise")
    assert Transforms.of(wide, hp) == Transforms.of(wide, hp) != Transforms.of(wide, Hyperparameters())


# The policy's file.

WITHOUT_RAY = """
import sys

class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("ray", "off2on", "datasets_io", "gymnasium"):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Refuse())
import numpy as np, torch

with open(sys.argv[1], "rb") as file:
    policy = torch.export.load(file).module()
obs = torch.from_numpy(np.load(sys.argv[2]))
np.save(sys.argv[3], policy(obs).detach().numpy())
assert policy(obs[:1]).shape == (1, 3)
"""


def test_an_exported_policy_acts_as_the_live_one(
    build_learner: Callable[..., Any], wide: Shards, cartpole: Shards, tmp_path: Path, recipe_slow: Any
):
    recipe = recipe_slow
    data = cartpole if recipe.actions == "discrete" else wide
    learner = build_learner(recipe, data.name, normalise_obs=True)
    learner.advance(4)
    policy = learner.module["default_policy"].policy
    (tmp_path / "policy.pt").write_bytes(policy.export())
    obs = torch.from_numpy(data.read_all(["obs"])["obs"])
    if policy.history is not None:
        obs = random_histories(50, policy.history[0], obs.shape[1], data.action_space.shape[0])
        obs = obs.view(50, *policy.history)
    with torch.no_grad():
        live = policy(obs).numpy()
    loaded = load_policy(tmp_path / "policy.pt")(obs).detach().numpy()
    np.testing.assert_allclose(loaded, live, atol=1e-6)


def test_an_exported_policy_needs_torch_alone(
    build_learner: Callable[..., Any], wide: Shards, tmp_path: Path
):
    learner = build_learner(BC, wide.name, normalise_obs=True)
    policy = learner.module["default_policy"].policy
    (tmp_path / "policy.pt").write_bytes(policy.export())
    obs = wide.read_all(["obs"])["obs"]
    with torch.no_grad():
        live = policy(torch.from_numpy(obs)).numpy()
    np.save(tmp_path / "obs.npy", obs)
    command = [
        sys.executable,
        "-c",
        WITHOUT_RAY,
        *(str(tmp_path / name) for name in ("policy.pt", "obs.npy", "out.npy")),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), live, atol=1e-6)


def test_exporting_leaves_the_live_policy_as_it_was(build_learner: Callable[..., Any]):
    one, two = build_learner(BC), build_learner(BC)
    one.module["default_policy"].policy.export()
    assert one.advance(5) == two.advance(5)
