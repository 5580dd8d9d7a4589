"""Check learners' rows in a checkpoint, with and without access to its folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from off2on.algorithms.iql import IQL
from off2on.rllib import checkpoint_rows


@pytest.mark.usefixtures("data_root")
@pytest.mark.parametrize("sees", [True, False])
def test_rows_come_back_as_they_were_wherever_a_learner_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sees: bool
):
    """The learners are here: what they see of the folder is all that is made up."""
    monkeypatch.setattr(checkpoint_rows, "_has_folder", lambda *_, **__: sees)

    def pair() -> list[Any]:
        config = IQL.configure("toy-pendulum").offline(10).online(100, strategy="append")
        config.training(hidden=(16, 16), batch_size=16, threads=1)
        learners = []
        for rank in range(2):
            learner = config.get_default_learner_class()(
                config=config, module_spec=config.get_rl_module_spec()
            )
            learner.build()
            learner.rank, learner.world_size, learner.sampler.partition = rank, 2, (rank, 2)
            learners.append(learner)
        return learners

    rng = np.random.default_rng(0)
    columns = {
        "obs": rng.normal(size=(11, 3)), "new_obs": rng.normal(size=(11, 3)),
        "actions": rng.uniform(-2, 2, (11, 1)), "rewards": rng.normal(size=11),
        "terminateds": np.zeros(11, bool), "truncateds": np.zeros(11, bool), "env": np.zeros(11, int),
    }  # fmt: skip
    before, after = pair(), pair()
    for learner in before:
        learner.add(columns, 0)

    def ask(learners: list[Any]) -> Any:
        return lambda function, **kwargs: [function(learner, **kwargs) for learner in learners]

    checkpoint_rows.save_rows(ask(before), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows-0-of-2.pt", "rows-1-of-2.pt"]
    checkpoint_rows.load_rows(ask(after), tmp_path)
    assert [learner.rows.added for learner in after] == [6, 5]
    for one, other in zip(before, after, strict=True):
        held = one.rows.offline + one.rows.online
        assert torch.equal(one.rows.data[:held], other.rows.data[:held])
