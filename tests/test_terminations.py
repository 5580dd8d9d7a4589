"""The termination functions of model rollouts, compared with the environments."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from off2on.errors import UnknownName
from off2on.recipe import terminations
from off2on.recipe.terminations import TERMINATIONS, find_termination, termination_of

gym = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco", reason="MuJoCo is not installed here: pip install off2on[mujoco]")

ENDING = ["Hopper", "Walker2d", "Ant", "Humanoid", "InvertedPendulum", "InvertedDoublePendulum"]
ENDLESS = ["HalfCheetah", "Swimmer", "Reacher", "Pusher", "HumanoidStandup"]
IDS = [f"{name}-{version}" for name in ENDING + ENDLESS for version in ("v4", "v5")]
IDS.remove("Pusher-v4")  # needs a MuJoCo before 3


def make(env_id: str) -> Any:
    """The environment, without the word that a newer version is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gym.make(env_id)


def rule_for(env: Any) -> Any:
    name = termination_of(env.spec.id, env.observation_space.shape[0])
    assert name is not None
    return find_termination(name)


def play(env: Any, steps: int) -> tuple[Tensor, Tensor]:
    """Return observations [n, D] after random actions, and the environment's terminated flags [n]."""
    rng = np.random.default_rng(0)
    box, seen, over = env.action_space, [], []
    env.reset(seed=0)
    for _ in range(steps):
        obs, _, terminated, truncated, _ = env.step(rng.uniform(box.low, box.high).astype(box.dtype))
        seen.append(obs)
        over.append(terminated)
        if terminated or truncated:
            env.reset()
    return torch.from_numpy(np.stack(seen)), torch.tensor(over)


@pytest.mark.parametrize("env_id", [*IDS, "Pendulum-v1", "MountainCarContinuous-v0"])
def test_a_rule_says_what_the_environment_says_on_random_rollouts(env_id: str):
    env = make(env_id)
    obs, over = play(env, 1500 if env_id[:-3] in ENDING else 300)
    env.close()
    found = rule_for(env)(obs)
    assert torch.equal(found, over)
    if env_id[:-3] in ENDING:
        assert over.any()
        assert not over.all()


SPREAD = {
    "Hopper": (0.1, 1.5, 0.3),
    "Walker2d": (0.5, 2.5, 1.5),
    "Ant": (0.0, 1.3, 0),
    "Humanoid": (0.7, 2.4, 0),
}
"""Heights to set a body to, and the largest angle of those that have one."""


@pytest.mark.parametrize("version", ["v4", "v5"])
@pytest.mark.parametrize("name", SPREAD)
def test_a_rule_has_the_environments_range_of_health(name: str, version: str):
    """Set bodies to states that rollouts seldom reach: on both sides of every bound."""
    env, rng = make(f"{name}-{version}"), np.random.default_rng(0)
    env.reset(seed=0)
    inner = env.unwrapped
    low, high, angle = SPREAD[name]
    seen, healthy = [], []
    for _ in range(300):
        place, speed = inner.init_qpos.copy(), 0.1 * rng.normal(size=inner.init_qvel.shape)
        place[1 if angle else 2] = rng.uniform(low, high)
        if angle:
            place[2] = rng.uniform(-angle, angle)
        inner.set_state(place, speed)
        seen.append(inner._get_obs())
        healthy.append(bool(inner.is_healthy))
    found = rule_for(env)(torch.from_numpy(np.stack(seen)))
    env.close()
    assert torch.equal(~found, torch.tensor(healthy))
    assert 30 < found.sum() < 270


@pytest.mark.parametrize(("joint", "healthy"), [(99.0, True), (-99.0, True), (101.0, False), (-101.0, False)])
def test_the_hoppers_joints_are_bounded_on_both_sides(joint: float, healthy: bool):
    """The rule handed down from library to library bounds nothing: its parenthesis is misplaced."""
    env = make("Hopper-v5")
    env.reset(seed=0)
    inner = env.unwrapped
    place = inner.init_qpos.copy()
    place[4] = joint
    inner.set_state(place, inner.init_qvel)
    obs = torch.from_numpy(inner._get_obs())
    env.close()
    assert bool(inner.is_healthy) is healthy
    assert bool(terminations.hopper(obs)) is not healthy
    assert np.abs(obs[1:].numpy() < 100).all() == (joint < 100)  # that rule, on one state: -101 passes


def test_the_double_pendulums_tip_is_where_the_simulator_has_it():
    env, rng = make("InvertedDoublePendulum-v5"), np.random.default_rng(0)
    env.reset(seed=0)
    inner = env.unwrapped
    seen, tips = [], []
    for _ in range(300):
        inner.set_state(rng.uniform(-1, 1, 3), rng.normal(size=3))
        seen.append(inner._get_obs())
        tips.append(float(inner.data.site_xpos[0][2]))
    env.close()
    found = terminations.inverted_double_pendulum(torch.from_numpy(np.stack(seen)))
    assert torch.equal(found, torch.tensor(tips) <= 1)
    assert 30 < found.sum() < 270


def test_what_is_not_a_number_has_ended():
    for name, (rule, widths) in TERMINATIONS.items():
        obs = torch.full((2, widths[0]), torch.nan)
        assert rule(obs).tolist() == [rule is not terminations.never] * 2, name


def test_rules_take_any_number_of_leading_dimensions():
    for rule, widths in TERMINATIONS.values():
        obs = torch.randn(4, 3, widths[0])
        assert torch.equal(rule(obs), torch.stack([rule(part) for part in obs]))


def test_an_environment_is_known_by_its_id_and_its_width():
    assert termination_of("Hopper-v5", 11) == "hopper"
    assert termination_of("mujoco/Walker2d-v2", 17) == "walker2d"
    assert termination_of("Hopper-v5", 12) is None  # made with arguments: the columns are others
    assert termination_of("AntMaze_UMaze-v5", 105) is None
    assert termination_of(None, 11) is None


def test_a_rule_is_found_by_its_name_or_by_module_and_function():
    assert find_termination("hopper") is terminations.hopper
    assert find_termination("off2on.recipe.terminations:ant") is terminations.ant
    assert not find_termination("never")(torch.randn(5, 2)).any()


@pytest.mark.parametrize("wrong", ["hoper", "no.such.module:rule", "off2on.recipe.terminations:no_such_rule"])
def test_an_unknown_rule_is_refused(wrong: str):
    with pytest.raises(UnknownName) as refusal:
        find_termination(wrong)
    assert "hopper" in refusal.value.expected or "module:function" in refusal.value.expected
