"""The contract of the learner, for one algorithm of each shape (helpers/representatives.py)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from representatives import REPRESENTATIVES
from torch import Tensor

from off2on.algorithms.iql import IQL
from off2on.recipe.hooks import Objective

Build = Callable[..., Any]


def names(recipe: Any) -> list[str]:
    return [objective.name for objective in recipe.objectives_in_order()]


def data(recipe: Any) -> str:
    """Recorded actions that the recipe can learn from."""
    return "toy-cartpole" if recipe.actions == "discrete" else "wide"


def parameters(nets: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in nets.state_dict().items()}


def hurried(recipe: Any) -> dict[str, int]:
    """What makes rare things happen often enough to be seen."""
    return {"target_every": 2} if "target_every" in recipe.Hyperparameters.rules() else {}


def is_due(learner: Any, objective: Objective, update: int) -> bool:
    """As the machine asks, in a run of 100 offline updates."""
    return bool(learner.recipe.is_due(objective, learner.hp, update, (update - 1) / 100))


def vector(network: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_each_objective_changes_its_own_network_and_nothing_else(build_learner: Build, representative: Any):
    """The real machine, with an algorithm whose other objectives are taken away."""

    class Alone(representative):
        """Always due, and followed by nothing."""

        @classmethod
        def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
            return True

        @classmethod
        def is_target_update_due(cls, hp: Any, update: int, progress: float) -> bool:
            return False

    for name in names(representative):
        learner = build_learner(type("Only", (Alone,), {"objectives": (name,)}), data(representative))
        before = parameters(learner.nets)
        learner.advance(3)
        after = parameters(learner.nets)
        changed = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
        assert changed == {name}


@pytest.mark.parametrize(
    "representative", [name for name in REPRESENTATIVES if name not in ("bc", "awr")], indirect=True
)
def test_targets_move_by_polyak_exactly_at_every_update_that_is_due(
    build_learner: Build, representative: Any
):
    learner = build_learner(representative, data(representative), polyak=0.1, **hurried(representative))
    nets = learner.nets
    assert nets.targets
    first = {name: vector(getattr(nets, name)) for name in nets.targets}
    for update in range(1, 7):
        before = {name: vector(getattr(nets.target, name)) for name in nets.targets}
        learner.advance(1)
        due = representative.is_target_update_due(learner.hp, update, (update - 1) / 100)
        for name in nets.targets:
            now, network = vector(getattr(nets.target, name)), vector(getattr(nets, name))
            assert torch.equal(now, torch.lerp(before[name], network, 0.1) if due else before[name])
    for name in nets.targets:
        network = vector(getattr(nets, name))
        still = torch.equal(network, first[name])
        assert torch.equal(vector(getattr(nets.target, name)), network) is still


def test_delayed_objectives_wait_for_their_turn(build_learner: Build, representative: Any):
    learner = build_learner(representative, data(representative))
    for update in range(1, 5):
        before = {name: learner.flat[name].vector.clone() for name in names(representative)}
        logged = learner.advance(1)
        for objective in representative.objectives_in_order():
            due = is_due(learner, objective, update)
            assert torch.equal(before[objective.name], learner.flat[objective.name].vector) is not due
            assert (f"{objective.name}/loss" in logged) is due


def test_the_same_seed_gives_the_same_numbers_and_another_seed_does_not(
    build_learner: Build, representative: Any
):
    one, two, other = (build_learner(representative, data(representative), seed=seed) for seed in (3, 3, 4))
    torch.manual_seed(99)  # whatever else draws random numbers in this process
    assert one.advance(8) == two.advance(8)
    other.advance(8)
    first = parameters(one.nets)
    assert all(torch.equal(value, first[name]) for name, value in parameters(two.nets).items())
    for name in representative.acting_networks:
        assert not torch.equal(one.flat[name].vector, other.flat[name].vector), name


def drawn(learner: Any) -> tuple[list[int], float]:
    """Return the rows of the next batch, and the first random number that a loss would draw."""
    with learner._seeded_generator() as generator:
        position, _ = learner.sampler.draw(1, generator)
        return position[0].tolist(), float(torch.rand(()))


def test_draws_depend_on_the_seed_the_learner_and_the_number_of_updates(build_learner: Build):
    learner, same, other = (build_learner(IQL, seed=seed) for seed in (3, 3, 4))
    found = [drawn(learner), drawn(other)]
    assert drawn(same) == drawn(learner)
    same.rank = 1
    found.append(drawn(same))
    learner.advance(1)
    found.append(drawn(learner))
    rows, numbers = zip(*found, strict=True)
    assert len({tuple(each) for each in rows}) == len(set(numbers)) == 4


def test_a_user_changes_one_loss_by_overriding_it(build_learner: Build, representative: Any):
    """Here the user's own: one network's weights are drawn towards 0."""
    plain = build_learner(representative, data(representative))
    soon = [
        it
        for it in representative.objectives_in_order()
        if any(is_due(plain, it, update) for update in range(1, 21))
    ]
    name = next((it.name for it in soon if it.name in representative.acting_networks), soon[0].name)

    def drawn(cls: Any, nets: Any, batch: Any, hp: Any) -> Any:
        loss, metrics = getattr(super(Drawn, cls), f"compute_{name}_loss")(nets, batch, hp)
        size = sum(parameter.square().sum() for parameter in getattr(nets, name).parameters())
        return loss + 10 * size, metrics | {f"{name}/size": size.detach()}

    Drawn: Any = type("Drawn", (representative,), {f"compute_{name}_loss": classmethod(drawn)})  # noqa: N806
    own = build_learner(Drawn, data(representative))
    assert f"{name}/size" not in plain.advance(40)
    assert f"{name}/size" in own.advance(40)
    assert vector(getattr(own.nets, name)).norm() < vector(getattr(plain.nets, name)).norm()


def test_the_rewards_transform_reaches_the_rows_and_nothing_else(build_learner: Build, representative: Any):
    raw, shifted = (
        build_learner(representative, data(representative), reward=kind) for kind in ("raw", "minus_one")
    )
    one, other = (it.rows.layout.split(it.rows.data) for it in (raw, shifted))
    for name in set(representative.columns) - {"ret"}:  # which is made of the rewards
        difference = getattr(one, name) - getattr(other, name)
        assert torch.allclose(difference, torch.full_like(difference, float(name == "reward")), atol=1e-5), (
            name
        )
