"""Make one update of a recipe's networks: the objectives in order, then the target networks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Objective
from off2on.recipe.objectives import apply_objectives
from off2on.rllib.flat_parameters import FlatParameters
from off2on.rllib.gradient_steps import GradientSteps
from off2on.rllib.precision import FLOAT32, products_in

Lr = Callable[[str], float | Tensor]
"""Learning rate of an objective, by its name."""

LOOKAHEAD = 10_000
"""Number of updates; an objective that is due in none of them counts as not trained."""


class UpdateStep:
    """Makes updates of a recipe's networks; holds no counters.

    Args:
        recipe: The algorithm.
        nets: Its networks.
        flat: The parameters of each network, by name.
        target_pairs: The parameters of each target network, and of the network that it follows.
        optimizers: Optimiser of each objective, by name.
        average: Function that averages a gradient over the learners, in place; None with one learner.
        clip: Largest gradient and kind of clipping, see `FlatParameters.clip_gradient`; None: no clipping.
        precision: Number format of matrix products, see `products_in`.
    """

    def __init__(
        self,
        recipe: Any,
        nets: Any,
        flat: Mapping[str, FlatParameters],
        target_pairs: list[tuple[FlatParameters, FlatParameters]],
        optimizers: Mapping[str, torch.optim.Optimizer],
        average: Callable[[Tensor], None] | None = None,
        clip: tuple[float, str] | None = None,
        precision: str = FLOAT32,
    ) -> None:
        self.recipe, self.nets, self.flat, self.target_pairs = recipe, nets, flat, target_pairs
        self.optimizers, self.average, self.clip = optimizers, average, clip
        self.precision = precision

    def due(self, hp: Any, update: int, progress: float) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Return the objectives that an update trains, and the rate of each target network."""
        recipe = self.recipe
        objectives = recipe.objectives_in_order()
        names = tuple(one.name for one in objectives if recipe.is_due(one, hp, update, progress))
        return names, self._rates(hp, update, progress)

    def _rates(self, hp: Any, update: int, progress: float) -> tuple[float, ...]:
        """Return the rate of each target network at the end of an update."""
        return tuple(self.recipe.target_rate(name, hp, update, progress) for name in self.nets.targets)

    def run(self, batch: Batch, hp: Any, update: int, lr: Lr) -> dict[str, Tensor]:
        """Make an update, counted from 1; return the losses and the recipe's metrics."""

        def differentiate(name: str, loss: Tensor, _: float) -> None:
            flat = self.flat[name]
            gradient = flat.set_gradient(torch.autograd.grad(loss, flat.parameters))
            if self.average is not None:
                self.average(gradient)
            steps.add(name)

        def step(name: str) -> None:
            flat = self.flat[name]
            if self.clip is not None and name not in self.recipe.unclipped:
                flat.clip_gradient(*self.clip)
            self.optimizers[name].param_groups[0]["lr"] = lr(name)
            self.optimizers[name].step()
            flat.mark_changed()

        steps = GradientSteps(self.recipe, hp, self.flat, step)
        with products_in(self.precision):
            logged = apply_objectives(self.recipe, self.nets, batch, hp, update, differentiate)
        steps.finish()
        rates = self._rates(hp, update, batch.progress)
        for (target, network), rate in zip(self.target_pairs, rates, strict=True):
            if rate:
                target.move_towards(network, rate)
        return logged

    def optimizer_state(self, name: str) -> dict[str, Any]:
        """Return the state of an objective's optimiser; empty before its first step."""
        # Not by an index: the state is a defaultdict, and would keep an empty entry.
        state: dict[str, Any] = self.optimizers[name].state.get(self.flat[name].vector, {})
        return state

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that an update reads or changes, by a name that stays the same."""
        found = {f"vector/{name}": flat.vector for name, flat in self._vectors()}
        for name, flat in self._vectors():
            found |= {f"parameter/{name}/{number}": part for number, part in enumerate(flat.parameters)}
        return found | self._others()

    def copied_tensors(self) -> dict[str, Tensor]:
        """Return copies of `tensors`, in which parameters are views of their network's vector, too."""
        found: dict[str, Tensor] = {}
        for name, flat in self._vectors():
            found[f"vector/{name}"] = vector = flat.vector.clone()
            parts = vector.split([part.numel() for part in flat.parameters])  # type: ignore[no-untyped-call]
            for number, (part, like) in enumerate(zip(parts, flat.parameters, strict=True)):
                found[f"parameter/{name}/{number}"] = part.view_as(like)
        return found | {name: tensor.clone() for name, tensor in self._others().items()}

    @torch.no_grad()
    def restore(self, copies: Mapping[str, Tensor]) -> None:
        """Restore what `copied_tensors` returned; an optimiser without a state in it loses its state."""
        for name, optimizer in self.optimizers.items():
            if not any(key.startswith(f"optimizer/{name}/") for key in copies):
                optimizer.state.pop(self.flat[name].vector, None)
        for name, tensor in self.tensors().items():
            tensor.copy_(copies[name])

    def _vectors(self) -> Iterator[tuple[str, FlatParameters]]:
        yield from self.flat.items()
        for number, (target, _) in enumerate(self.target_pairs):
            yield f"target/{number}", target

    def _others(self) -> dict[str, Tensor]:
        """Return buffers of the networks and the tensors of the optimisers' states."""
        found = {f"buffer/{name}": tensor for name, tensor in self.nets.named_buffers()}
        for name in self.optimizers:
            for key, value in self.optimizer_state(name).items():
                if isinstance(value, Tensor):
                    found[f"optimizer/{name}/{key}"] = value
        return found


def trained_objectives(recipe: Any, hp: Any, first: int, progress: float, delay: int = 1) -> list[Objective]:
    """Return the objectives, in order, that are due in an update from `first` on, anywhere in its phase.

    These are `LOOKAHEAD` updates, or more if a policy's updates are delayed by many.
    """
    updates = range(first, first + _count(delay))

    def is_trained(one: Objective) -> bool:
        return any(recipe.is_due(one, hp, update, then) for then in _phase(progress) for update in updates)

    return list(filter(is_trained, recipe.objectives_in_order()))


def policy_period(recipe: Any, hp: Any, first: int, progress: float, delay: int = 1) -> float:
    """Return the number of updates for each one that trains more than the value networks; infinite: none."""
    policies = [one for one in recipe.objectives_in_order() if one.name not in recipe.value_networks]
    updates = range(first, first + _count(delay))
    due = sum(any(recipe.is_due(one, hp, update, progress) for one in policies) for update in updates)
    return len(updates) / due if due else float("inf")


def _count(delay: int) -> int:
    return max(LOOKAHEAD, 4 * delay)


def _phase(progress: float) -> tuple[float, ...]:
    """Return moments of the phase of a moment: the first, the middle and the last."""
    return (0.0, 0.5, 1 - 1e-9) if progress < 1 else (1.0, 1.5, 2.0)
