"""Policy files, changed at random: read, or refused; nothing runs, and no size of the file is believed."""

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import given
from hypothesis import strategies as st

from off2on.algorithms import find_algorithm
from off2on.errors import UserError
from off2on.policy import Policy, load_policy


class Units:
    discrete = False
    obs_mean, obs_std = np.zeros(2, np.float32), np.ones(2, np.float32)
    action_low, action_high = -np.ones(1, np.float32), np.ones(1, np.float32)


@cache
def exported() -> bytes:
    recipe = find_algorithm("bc")
    hp = recipe.Hyperparameters.parse({"hidden": (4, 4)}, "bc")
    nets = recipe.build_nets(gym.spaces.Box(-9, 9, (2,)), gym.spaces.Box(-1, 1, (1,)), hp)
    units: Any = Units()
    return Policy(recipe, nets, hp, units).export()


@cache
def members() -> dict[str, bytes]:
    """Return the content of each file in the archive."""
    with zipfile.ZipFile(io.BytesIO(exported())) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def descriptions() -> list[str]:
    return sorted(name for name in members() if name.endswith(".json"))


def packed(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def check(content: bytes, folder: Path) -> None:
    (folder / "policy.pt").write_bytes(content)
    policy = read_or_refused(lambda: load_policy(folder / "policy.pt"))
    assert isinstance(policy, UserError) or len(policy(torch.zeros(2, 2))) == 2


@fuzz
@given(content=st.deferred(lambda: damaged(exported())))
def test_a_damaged_archive(content: bytes, tmp_path: Path):
    check(content, tmp_path)


@fuzz
@given(data=st.data(), name=st.deferred(lambda: st.sampled_from(sorted(members()))))
def test_a_damaged_member(data: st.DataObject, name: str, tmp_path: Path):
    check(packed(members() | {name: data.draw(damaged(members()[name]))}), tmp_path)


@fuzz
@given(data=st.data(), name=st.deferred(lambda: st.sampled_from(descriptions())))
def test_a_changed_description(data: st.DataObject, name: str, tmp_path: Path):
    content = json.dumps(data.draw(changed(json.loads(members()[name])))).encode()
    check(packed(members() | {name: content}), tmp_path)
