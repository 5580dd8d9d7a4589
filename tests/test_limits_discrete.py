"""The laws of limits of the algorithms for discrete actions: exactly, not nearly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from off2on.algorithms.discrete_bc import DiscreteBC
from off2on.algorithms.discrete_bcq import DiscreteBCQ
from off2on.algorithms.discrete_cql import DiscreteCQL
from off2on.algorithms.discrete_sac import DiscreteSAC
from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import DQN
from off2on.algorithms.nfq import NFQ
from off2on.recipe.discrete import greedy, value_of_action
from off2on.recipe.distributions import Categorical

Build = Callable[..., Any]


def gradient(loss: Tensor, network: torch.nn.Module) -> dict[str, Tensor]:
    named = dict(network.named_parameters())
    parts = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {name: part for (name, _), part in zip(named.items(), parts, strict=True) if part is not None}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("critics", [1, 3])
def test_discrete_cql_without_its_term_is_double_dqn(problem: Build, critics: int):
    ddqn, cql = problem(DoubleDQN, critics=critics), problem(DiscreteCQL, critics=critics, alpha=0.0)
    ours, theirs = cql.loss("critic"), ddqn.loss("critic")
    assert torch.equal(ours, theirs)
    assert equal(gradient(ours, cql.nets.critic), gradient(theirs, ddqn.nets.critic))
    assert not torch.isclose(problem(DiscreteCQL, critics=critics, alpha=0.1).loss("critic"), theirs)


def test_discrete_cql_without_its_term_learns_what_double_dqn_learns(build_learner: Build):
    ddqn, cql = build_learner(DoubleDQN), build_learner(DiscreteCQL, alpha=0.0)
    assert ddqn.advance(30) == cql.advance(30)
    assert torch.equal(ddqn.flat["critic"].vector, cql.flat["critic"].vector)


@pytest.mark.parametrize("critics", [1, 3])
def test_double_dqn_is_dqn_where_the_target_is_the_network(problem: Build, critics: int):
    dqn, ddqn = problem(DQN, critics=critics), problem(DoubleDQN, critics=critics)
    assert not torch.equal(dqn.loss("critic"), ddqn.loss("critic"))
    for case in (dqn, ddqn):
        case.nets.target.critic.load_state_dict(case.nets.critic.state_dict())
    ours, theirs = ddqn.loss("critic"), dqn.loss("critic")
    assert torch.equal(ours, theirs)
    assert equal(gradient(ours, ddqn.nets.critic), gradient(theirs, dqn.nets.critic))


def test_double_dqn_whose_target_is_renewed_at_every_update_learns_what_dqn_learns(build_learner: Build):
    dqn, ddqn = (build_learner(kind, target_every=1) for kind in (DQN, DoubleDQN))
    assert dqn.advance(30) == ddqn.advance(30)
    assert torch.equal(dqn.flat["critic"].vector, ddqn.flat["critic"].vector)


@pytest.mark.parametrize("every", [1, 7])
def test_nfq_learns_what_dqn_with_its_error_and_copies_learns(build_learner: Build, every: int):
    dqn, nfq = (build_learner(kind, target_every=every, td_error="squared") for kind in (DQN, NFQ))
    assert dqn.advance(30) == nfq.advance(30)
    assert torch.equal(dqn.flat["critic"].vector, nfq.flat["critic"].vector)


@pytest.mark.parametrize(("given", "every"), [({}, 1), ({"target_every": 5}, 5)])
def test_nfqs_targets_are_of_the_current_values_or_of_the_last_iteration(
    build_learner: Build, given: Any, every: int
):
    learner = build_learner(NFQ, **given)
    for number in range(1, 11):
        learner.advance(1)
        same = torch.equal(learner.nets.target.critic.layers[0].weight, learner.nets.critic.layers[0].weight)
        assert same is (number % every == 0)


def bcq_and_double_dqn(problem: Build, **given: Any) -> tuple[Any, Any]:
    """Both with the same values, and the same targets."""
    bcq, ddqn = problem(DiscreteBCQ, **given), problem(DoubleDQN)
    for mine, other in (
        (bcq.nets.critic, ddqn.nets.critic),
        (bcq.nets.target.critic, ddqn.nets.target.critic),
    ):
        values = {name: value for name, value in mine.state_dict().items() if name.startswith("layers")}
        other.load_state_dict(values)
    ddqn.batch = bcq.batch
    return bcq, ddqn


@pytest.mark.parametrize("share_encoder", [False, True])
def test_discrete_bcq_at_tau_zero_has_double_dqns_target_and_policy(problem: Build, share_encoder: bool):
    bcq, ddqn = bcq_and_double_dqn(problem, tau=0.0, beta=0.0, share_encoder=share_encoder)
    # Even actions that the imitation holds to be impossible are allowed.
    bcq.nets.critic.imitator[-1].weight.data *= 1e4
    batch = bcq.prepared()
    clone = -Categorical(batch.logits).log_prob(batch.action).mean()
    assert torch.equal(bcq.loss("critic", batch), ddqn.loss("critic") + clone)
    actions = [case.recipe.act(case.nets, batch.obs, case.hp, False) for case in (bcq, ddqn)]
    assert torch.equal(*actions)
    if not share_encoder:  # then the values' gradient is Double DQN's alone
        mine = gradient(bcq.loss("critic", batch), bcq.nets.critic)
        values = {name: part for name, part in mine.items() if name.startswith("layers")}
        assert equal(values, gradient(ddqn.loss("critic"), ddqn.nets.critic))


def test_discrete_bcq_at_tau_one_acts_as_discrete_bc(problem: Build):
    bcq, clone = problem(DiscreteBCQ, tau=1.0, share_encoder=False), problem(DiscreteBC)
    clone.nets.actor.mlp.load_state_dict(bcq.nets.critic.imitator.state_dict())
    obs = bcq.batch.obs
    actions = [case.recipe.act(case.nets, obs, case.hp, False) for case in (bcq, clone)]
    assert torch.equal(*actions)
    assert len(actions[0].unique()) > 1


def test_discrete_bcqs_imitation_is_discrete_bc(problem: Build):
    """With a network of its own, and where the values are not to learn."""
    bcq, clone = problem(DiscreteBCQ, share_encoder=False), problem(DiscreteBC)
    clone.nets.actor.mlp.load_state_dict(bcq.nets.critic.imitator.state_dict())
    clone.batch = bcq.batch
    bcq.batch.weight = torch.zeros(64)
    ours, theirs = bcq.loss("critic"), clone.loss("actor")
    assert torch.equal(ours, theirs)
    mine = gradient(ours, bcq.nets.critic.imitator)
    assert equal(mine, gradient(theirs, clone.nets.actor.mlp))


@pytest.mark.parametrize("td_error", ["huber", "squared"])
def test_discrete_sac_without_temperature_and_with_the_targets_own_choice_is_dqn(
    problem: Build, td_error: str
):
    sac, dqn = problem(DiscreteSAC, critics=1, td_error=td_error), problem(DQN, td_error=td_error)
    dqn.nets.critic.load_state_dict(sac.nets.critic.state_dict())
    dqn.nets.target.critic.load_state_dict(sac.nets.target.critic.state_dict())
    dqn.batch = sac.batch
    sac.nets.temperature.value.data.fill_(-torch.inf)
    choice = greedy(sac.nets.target.critic(sac.batch.next_obs))

    class Certain(torch.nn.Module):
        """All probability on the action that the target values most."""

        def forward(self, obs: Tensor) -> Any:
            return Categorical(1e4 * torch.nn.functional.one_hot(choice, 4).float())

    sac.nets.actor = Certain()
    ours, theirs = sac.loss("critic"), dqn.loss("critic")
    assert torch.equal(ours, theirs)
    assert equal(gradient(ours, sac.nets.critic), gradient(theirs, dqn.nets.critic))


def test_discrete_sac_without_temperature_and_with_a_certain_policy_minimises_minus_q(problem: Build):
    case = problem(DiscreteSAC)
    case.nets.temperature.value.data.fill_(-torch.inf)
    with torch.no_grad():
        case.nets.actor.mlp[-1].weight *= 1e5
    batch = case.prepared()
    q = case.nets.critic(batch.obs).amin(0)
    chosen = value_of_action(q.unsqueeze(0), batch.policy.mode)[0]
    torch.testing.assert_close(case.loss("actor", batch), -chosen.mean(), rtol=1e-3, atol=0)
