"""The served policy: its file is replaced while it serves, also by one that cannot be read."""

import logging
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from off2on.algorithms import find_algorithm
from off2on.policy import Policy
from off2on.replay.transforms import Transforms
from off2on.serving import policies
from off2on.serving.policies import ServedPolicy

OBS = np.ones((1, 3), np.float32)


def content(seed: int) -> bytes:
    torch.manual_seed(seed)
    recipe = find_algorithm("bc")
    values = recipe.Hyperparameters.parse({"hidden": (8,)}, "bc")
    nets = recipe.build_nets(gym.spaces.Box(-9, 9, (3,)), gym.spaces.Box(-1, 1, (1,)), values)
    return Policy(recipe, nets, values, Transforms((0.0,) * 3, (1.0,) * 3, (-1.0,), (1.0,))).export()


def test_a_replaced_file_is_served_once_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(policies, "RETRY_S", 0.0)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # it would hold for the tests after this
    file, (first, second) = tmp_path / "policy.pt", (content(0), content(1))

    def replace(by: bytes, seconds: int) -> None:
        file.write_bytes(by)
        os.utime(file, (seconds, seconds))

    replace(first, 1)
    served = ServedPolicy(file)
    before = served.act(OBS)
    replace(second[:1000], 2)  # a copy that is still being written
    with caplog.at_level(logging.WARNING, "off2on.serving"):
        for _ in range(2):
            between = served.act(OBS)
            assert between.version == before.version
            assert np.array_equal(between.actions, before.actions)
        file.unlink()
        assert served.act(OBS).version == before.version
    assert [record.name for record in caplog.records].count(policies.__name__) == 1
    replace(second, 2)
    after = served.act(OBS)
    assert after.version != before.version
    assert not np.array_equal(after.actions, before.actions)
