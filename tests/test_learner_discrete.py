"""Check the learner with discrete actions, by a recipe of its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.toy import ToyCartPole
from off2on.algorithms.bc import BC
from off2on.recipe.batch import Batch
from off2on.recipe.networks import MLP, Nets


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
def test_discrete_actions_cross_the_handover(cartpole: str, strategy: str, tmp_path: Path):
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
