"""Check that the learner and its losses see augmented data, for every algorithm and strategy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets_io import Shards
from off2on.algorithms import CATALOGUE as ALGORITHMS
from off2on.algorithms import find_algorithm
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.recipe.batch import Batch
from off2on.replay.augmentation.base import BatchAugmentation
from off2on.replay.augmentation.bootstrap import Bootstrap
from off2on.replay.augmentation.catalogue import CATALOGUE, incompatibility, parse_entry
from off2on.replay.strategy import Options
from off2on.strategies import CATALOGUE as STRATEGIES
from off2on.strategies import find_strategy
from off2on.strategies.append import Append
from off2on.strategies.online_only import OnlineOnly

Build = Callable[..., Any]


NUMBERED = {
    "top": "top:0.7",
    "returns": "returns:0.5",
    "noise": "noise:0.01",
    "amplitude": "amplitude:0.1",
    "bootstrap": "bootstrap:0.8",
}


def test_every_algorithm_learns_from_expanded_data(build_learner: Build, recipe_slow: Any):
    recipe = recipe_slow
    kinds = {name: parse_entry(name)[0] for name in CATALOGUE}
    fit = [name for name, kind in kinds.items() if incompatibility(kind, recipe) is None]
    assert len(fit) >= len(CATALOGUE) - 3  # all but bootstrap, mix-up and steps fit every algorithm
    if "context" in recipe.Hyperparameters.rules():  # a batch of histories is not one of transitions
        fit = [name for name in fit if not issubclass(kinds[name], BatchAugmentation)]
    words = [NUMBERED.get(name, name) for name in fit]
    learner = build_learner(recipe, augment=",".join(words))
    assert [type(augmentation) for augmentation in learner.sampler.augmentations] == [
        kind for kind, _ in map(parse_entry, words) if issubclass(kind, BatchAugmentation)
    ]
    assert learner.rows.offline < learner.sampler.source.reader.shards.rows
    assert learner.rows.weights is not None
    if recipe.fitted_networks:
        learner.fit()
    before = {name: flat.vector.clone() for name, flat in learner.flat.items()}
    logged = learner.advance(2)
    assert all(np.isfinite(value) for value in logged.values())
    assert any(not torch.equal(flat.vector, before[name]) for name, flat in learner.flat.items())


NO_CRITIC = ("bc", "filtered_bc", "dt", "awr", "discrete_bc")


@pytest.mark.parametrize("name", NO_CRITIC)
def test_an_algorithm_without_critics_takes_no_bootstrap(name: str):
    assert incompatibility(Bootstrap, find_algorithm(name)) is not None


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in NO_CRITIC])
def test_a_mask_reaches_the_critics_of_every_algorithm_that_has_some(problem: Build, name: str):
    case = problem(find_algorithm(name))
    members = getattr(case.nets.critic, "members", 1)
    losses = []
    for weight in (None, torch.ones(members, 64), torch.zeros(members, 64)):
        case.batch.weight = weight
        losses.append(case.loss("critic"))
    assert torch.isclose(losses[0], losses[1])
    assert not torch.isclose(losses[1], losses[2])


def test_each_critic_learns_from_its_own_rows(problem: Build):
    case = problem(IQL)
    case.batch.weight = torch.zeros(2, 64)
    case.batch.weight[1, 7] = 1.0
    loss = case.loss("critic")
    case.batch.reward[torch.arange(64) != 7] += 1.0
    assert torch.equal(case.loss("critic"), loss)
    case.batch.reward[7] += 1.0
    assert not torch.isclose(case.loss("critic"), loss)
    gradients = torch.autograd.grad(case.loss("critic"), list(case.nets.critic.parameters()))
    assert all(gradient[0].abs().max() == 0 for gradient in gradients)
    assert any(gradient[1].abs().max() > 0 for gradient in gradients)


def test_the_same_seed_gives_the_same_expansions(build_learner: Build):
    words = "noise:0.1,mixup,bootstrap,returns"
    one, two, other = (build_learner(IQL, "wide", augment=words, seed=seed) for seed in (3, 3, 4))
    torch.manual_seed(99)
    assert one.advance(8) == two.advance(8) != other.advance(8)
    assert (
        one.sampler.augmentations[2].context.seed
        == two.sampler.augmentations[2].context.seed
        != other.sampler.augmentations[2].context.seed
    )


class Watching(IQL):
    """Keeps the batches that its losses see."""

    seen: list[Batch] = []  # noqa: RUF012

    @classmethod
    def prepare(cls, nets: Any, batch: Batch, hp: Any) -> Batch:
        cls.seen.append(Batch(**vars(batch)))
        return super().prepare(nets, batch, hp)


def test_losses_see_the_changed_batch_and_strategies_the_recorded_one(build_learner: Build):
    used: list[Batch] = []

    class Spy(Append):
        def on_used(self, batch: Batch, position: Any, generator: Any) -> dict[str, torch.Tensor]:
            used.append(batch)
            return {}

    Watching.seen.clear()
    learner = build_learner(Watching, "wide", augment="amplitude:1,bootstrap", normalise_obs=False)
    learner.sampler.strategy = Spy(learner.rows, Options())
    before = learner.rows.data.clone()
    learner.advance(2)
    for seen, recorded in zip(Watching.seen, used, strict=True):
        assert not torch.equal(seen.obs, recorded.obs)
        assert torch.equal(seen.reward, recorded.reward)
        assert seen.weight.shape == (2, 32)
    assert torch.equal(learner.rows.data, before)


@pytest.mark.parametrize("words", ["returns:0.3,noise:0.01,bootstrap", "top:0.4"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_draws_from_augmented_data(data_root: Path, wide: Shards, name: str, words: str):
    config = CQL.configure("wide").offline(10).online(600, strategy=name)
    config.training(threads=1, hidden=(16, 16), batch_size=32, samples=2, augment=words)
    learner = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
    learner.build()
    learner.advance(10)
    learner.go_online()
    columns = wide.read_all(["obs", "new_obs", "actions", "rewards", "terminateds", "truncateds"])
    first = {name: values[:40] for name, values in columns.items()} | {"env": np.zeros(40, int)}
    learner.add(first, 0)
    logged = learner.advance(10)
    assert all(np.isfinite(value) for value in logged.values())
    share = logged["offline_share"]
    assert share == 0 if issubclass(find_strategy(name), OnlineOnly) else 0 < share < 1
    assert learner.rows.online == 40
