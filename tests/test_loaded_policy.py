"""What a loaded policy accepts: tensors and arrays of numbers, and a clear error for anything else."""

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from off2on.algorithms import find_algorithm
from off2on.errors import UserError
from off2on.policy import Policy, history_of, load_policy
from off2on.policy_files.program import load_program
from off2on.replay.transforms import Transforms

OBS = np.array([[1.25, -2.5, 0.1], [0.3, 7.0, -4.0], [0.0, 0.0, 1e-3]])
UNITS = Transforms((0.5, 0.0, 1.0), (2.0, 1.0, 3.0), (-2.0, 0.0), (1.0, 4.0))


def write(folder: Path, name: str, *, explore: bool = False, **hp: Any) -> Path:
    """Write an untrained policy of an algorithm, for observations of three numbers, actions of two."""
    recipe = find_algorithm(name)
    values = recipe.Hyperparameters.parse(hp, name)
    nets = recipe.build_nets(gym.spaces.Box(-9, 9, (3,)), gym.spaces.Box(-1, 1, (2,)), values)
    path = folder / "policy.pt"
    path.write_bytes(Policy(recipe, nets, values, UNITS).export(explore))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, "bc", hidden=(8, 8))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int64, np.uint8])
def test_arrays_and_tensors_of_all_real_types_act_as_float32_ones(file: Path, kind: Any):
    obs = np.abs(OBS).astype(kind)
    expected = load_program(file)(torch.from_numpy(obs.astype(np.float32)))
    policy = load_policy(file)
    tensor, array = policy(torch.from_numpy(obs)), policy(obs)
    assert torch.equal(tensor, expected)
    assert tensor.requires_grad
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected.detach().numpy())


@pytest.mark.filterwarnings("error")
def test_arrays_that_torch_cannot_take_as_they_are(file: Path):
    policy, obs = load_policy(file), OBS.astype(np.float32)
    expected = policy(obs)
    read_only = obs.copy()
    read_only.setflags(write=False)
    same = (read_only, obs[::-1].copy()[::-1], np.asfortranarray(obs), obs.astype(">f4"))
    for given in same:
        np.testing.assert_array_equal(policy(given), expected)
    assert policy(obs[:1]).shape == (1, 2)
    assert policy(obs[:0]).shape == (0, 2)


def test_modes_change_nothing(file: Path):
    policy = load_policy(file)
    before = policy(OBS)
    assert policy.eval() is policy
    assert policy.train() is policy
    np.testing.assert_array_equal(policy(OBS), before)


def test_a_policy_moves_with_the_devices_in_its_graph(tmp_path: Path):
    policy = load_policy(write(tmp_path, "iql", explore=True, hidden=(8, 8)))  # its graph draws noise
    assert policy.device.type == "cpu"
    policy.to("meta")
    assert policy.device.type == "meta"
    action, log_prob = policy.program(torch.zeros(2, 3, device="meta"))
    assert {action.device.type, log_prob.device.type} == {"meta"}


@pytest.mark.parametrize(
    ("obs", "parts"),
    [
        (np.zeros((1, 2)), ("shape [1, 2]", "[B, 3]")),
        (np.zeros(3), ("shape [3]", "[B, 3]", "policy(obs[None])")),
        (np.zeros((2, 1, 3)), ("shape [2, 1, 3]", "[B, 3]")),
        (np.float64(1), ("type float64", "NumPy array", "[B, 3]")),
        ([[0.0, 0.0, 0.0]], ("type list", "NumPy array", "[B, 3]")),
        (np.array([["a", "b", "c"]]), ("not real numbers", "[B, 3]")),
        (np.zeros((1, 3), complex), ("not real numbers", "[B, 3]")),
        (np.array([[0, 0, 0], [0, 0, np.nan]]), ("row 1", "nan", "dimension 2", "from 0")),
        (np.array([[0, -np.inf, np.nan]]), ("row 0", "-inf", "dimension 1")),
        (np.array([[0, 1e300, 0]]), ("row 0", "inf", "dimension 1", "float32")),
    ],
)
def test_anything_else_is_one_clear_error(file: Path, obs: Any, parts: tuple[str, ...]):
    policy = load_policy(file)
    as_tensor = isinstance(obs, np.ndarray) and obs.dtype.kind in "fc"
    for given in (obs, torch.from_numpy(obs)) if as_tensor else (obs,):
        with pytest.raises(UserError) as error:
            policy(given)
        assert all(part in str(error.value) for part in parts), error.value
        assert "policy(obs[None])" not in str(error.value) or obs.shape == (3,)


def test_an_exploring_policy_returns_arrays_for_arrays(tmp_path: Path):
    policy = load_policy(write(tmp_path, "iql", explore=True, hidden=(8, 8)))
    torch.manual_seed(0)
    action, log_prob = policy(torch.from_numpy(OBS))
    torch.manual_seed(0)
    arrays = policy(OBS)
    assert all(isinstance(each, np.ndarray) for each in arrays)
    np.testing.assert_array_equal(arrays[0], action.detach().numpy())
    np.testing.assert_array_equal(arrays[1], log_prob.detach().numpy())


def test_a_policy_of_choices(tmp_path: Path):
    recipe = find_algorithm("dqn")
    values = recipe.Hyperparameters.parse({"hidden": (8, 8)}, "dqn")
    nets = recipe.build_nets(gym.spaces.Box(-9, 9, (3,)), gym.spaces.Discrete(4), values)
    units = Transforms((0.5, 0.0, 1.0), (2.0, 1.0, 3.0), (), (), discrete=True)
    made = Policy(recipe, nets, values, units)
    (tmp_path / "policy.pt").write_bytes(made.export())
    choices = load_policy(tmp_path / "policy.pt")(OBS)
    assert choices.dtype == np.int64
    np.testing.assert_array_equal(choices, made(torch.from_numpy(OBS).float()).numpy())


def test_a_policy_of_chunks(tmp_path: Path):
    policy = load_policy(write(tmp_path, "qc", hidden=(8, 8), chunk=4))
    assert history_of(policy) is None
    assert policy(OBS).shape == (3, 4, 2)


def test_a_policy_with_a_history(tmp_path: Path):
    hp: dict[str, Any] = {"width": 8, "heads": 1, "blocks": 1, "target_return": 0.0, "max_steps": 9}
    policy = load_policy(write(tmp_path, "dt", context=4, **hp))
    assert history_of(policy) == policy.history == (4, 7)
    history = np.zeros((2, 4, 7))
    assert policy(history).shape == (2, 2)
    with pytest.raises(UserError, match=r"shape \[2, 3\](.|\n)*\[B, 4, 7\]"):
        policy(np.zeros((2, 3)))
    history[1, 2, 5] = np.nan
    with pytest.raises(UserError, match="row 1 has nan in step 2, dimension 5"):
        policy(history)


@pytest.mark.parametrize("asked", [np.nan, -np.inf, 1e300])
def test_a_target_return_is_finite_in_float32(file: Path, asked: float):
    with pytest.raises(UserError, match=re.escape(f"the target return is {asked}.")):
        load_policy(file, asked)


def test_the_error_of_a_folder_names_the_policy_file_in_it(file: Path, tmp_path: Path):
    with pytest.raises(UserError, match="not a file") as error:
        load_policy(tmp_path)
    assert str(file) in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="not a file") as error:
        load_policy(tmp_path / "empty")
    assert "policy.pt in the folder of a run" in str(error.value)
