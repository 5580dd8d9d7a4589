"""Update several learners that differ only in their seeds as one batched program.

Their parameters are stacked, [S, …] each. One pass through the recipe's losses under `torch.func.vmap`, one
step of the optimiser and one update of the target networks serve all of them. Each learner draws its own
rows, from one copy of the data, and the same random numbers as in a run of its own. The results differ from
those of separate runs only by the order of summation in matrix products: first in the last digits of float32,
a difference that grows with training.

This is faster if the networks are too small to use the whole device; otherwise the gain is small.
"""

import copy
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from off2on.errors import Diverged
from off2on.recipe.batch import Batch
from off2on.recipe.objectives import apply_objectives
from off2on.rllib.batched.random_draws import PerNetworkRandom
from off2on.rllib.batched.stack import StackedNetworks
from off2on.rllib.batched.stackable import gradients
from off2on.rllib.divergence import find_divergence
from off2on.rllib.gradient_steps import GradientSteps, clip_stacked
from off2on.rllib.learner import RecipeLearner
from off2on.rllib.precision import products_in
from off2on.rllib.seeding import POSITIONS, UPDATES, seed_of
from off2on.rllib.threads import fastest_threads

Metrics = dict[str, float]
Result = tuple[int, Metrics | Diverged, float]  # updates, their metrics or the error to raise, seconds
Generators = Sequence[torch.Generator]


class BatchedLearners:
    """Updates all learners when `advance` is called for the first of them, and keeps the others' results.

    Args:
        learners: Learners in this process, in the offline phase. They share the first one's rows, unless the
            recipe writes labels into the rows.
    """

    def __init__(self, learners: Sequence[RecipeLearner]) -> None:
        self.learners = list(learners)
        self.recipe, self.hp = self.first.recipe, self.first.hp
        self.device = self.first.rows.data.device
        self.shares_rows = share_rows(self.learners)
        """True if the learners share one copy of the rows; False if each writes its own labels into them."""
        self.stack: StackedNetworks | None = None
        """The stacked networks, once all learners are at the same update."""
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.updates = 0
        """Number of updates of the stacked networks."""
        self.is_consistent = True
        """False during an update, and after an interrupted one."""
        self.pending: Mapping[RecipeLearner, deque[Result]] = {one: deque() for one in learners}
        """Results of each learner that `advance` has not returned."""
        self.seconds = dict.fromkeys(learners, 0.0)
        """Seconds of the updates whose results were returned, for each learner."""

    @property
    def first(self) -> RecipeLearner:
        """The learner of which everything is taken that is the same for all."""
        return self.learners[0]

    def leave_out(self, learner: RecipeLearner) -> None:
        """Let the others go on without a learner that ended; in the stack, its networks stay."""
        if self.stack is None:
            self.learners.remove(learner)

    def advance(self, learner: RecipeLearner, updates: int) -> Metrics:
        """Make updates like `RecipeLearner.advance`, of this learner and of the others at the same time.

        While the learners are at different updates, as after an interruption, each is updated alone.

        Raises:
            Diverged: A loss of this learner is NaN or infinite; the others can go on.
        """
        if not self.pending[learner]:
            if self.stack is None and len({one.updates for one in self.learners}) > 1:
                started, metrics = time.perf_counter(), learner.advance(updates)
                self.seconds[learner] += time.perf_counter() - started
                return metrics
            started, self.is_consistent = time.perf_counter(), False
            results = self._advance(updates)
            self.is_consistent, duration = True, time.perf_counter() - started
            for one, result in zip(self.learners, results, strict=True):
                self.pending[one].append((updates, result, duration))
        made, result, duration = self.pending[learner].popleft()
        assert made == updates, "batched learners make the same numbers of updates"
        learner.updates += made
        self.seconds[learner] += duration
        if not self.pending[learner]:
            self._write_back(self.learners.index(learner))
        if isinstance(result, Diverged):
            raise result
        return result

    # Updates of all learners at once.

    def _advance(self, updates: int) -> list[Metrics | Diverged]:
        stack = self.stack = self.stack or self._build_stack()
        threads = self.first.threads or self._measured_threads(stack)
        for one in self.learners:
            one.set_threads(threads)
        noise, positions = self._generators(UPDATES), self._generators(POSITIONS)
        logged: dict[str, list[Tensor]] = defaultdict(list)
        last = self.updates + updates
        while self.updates < last:
            self._refresh(noise, positions)
            count = self.first.sampler.block_size(self.updates + 1, last - self.updates)
            columns, real = self._draw_columns(count, positions)

            def program(
                nets: Any, draws: PerNetworkRandom, columns: dict[str, Tensor], real: int = real
            ) -> Any:
                return self._block(stack, nets, draws, columns, real)

            with products_in(self.first.config.precision):
                made = stack.run(program, noise, columns)
            for name, values in made.items():
                logged[name].append(values)
            self.updates += count
        means = {name: torch.cat(values, 1).mean(1).tolist() for name, values in logged.items()}
        results: list[Metrics | Diverged] = []
        for number, one in enumerate(self.learners):
            own = {"offline_share": 1.0} | {name: means[name][number] for name in means}

            def losses(name: str, number: int = number) -> Tensor:
                return torch.cat(logged[name], 1)[number]

            results.append(find_divergence(one, own, losses, last - updates + 1, last) or own)
        return results

    def _block(
        self,
        stack: StackedNetworks,
        nets: Any,
        draws: PerNetworkRandom,
        columns: dict[str, Tensor],
        real: int,
    ) -> dict[str, Tensor]:
        """Make n updates, written for one learner under vmap; return its losses and metrics [n], by name."""
        logged: dict[str, list[Tensor]] = defaultdict(list)
        for index in range(len(columns["obs"])):
            update = self.updates + 1 + index
            batch = Batch(**{name: column[index] for name, column in columns.items()})
            batch.real, batch.progress = real, self.first.progress_at(update)

            steps = self._steps(stack, batch.progress)

            def differentiate(name: str, loss: Tensor, _: float, steps: GradientSteps = steps) -> None:
                draws.run_unbatched(lambda losses: self._differentiate(steps, name, losses), loss)

            made = apply_objectives(self.recipe, nets, batch, self.hp, update, differentiate)
            for name, value in made.items():
                logged[name].append(value)
            draws.run_unbatched(lambda: self._finish(stack, steps, update, batch.progress))  # noqa: B023
        return {name: torch.stack(values) for name, values in logged.items()}

    def _steps(self, stack: StackedNetworks, progress: float) -> GradientSteps:
        """Return the steps of an update, each of all learners' networks."""

        def step(name: str) -> None:
            flat, optimizer = stack.flat[name], self.optimizers[name]
            if self.first.step.clip is not None and name not in self.recipe.unclipped:
                clip_stacked(flat, *self.first.step.clip, stack.size)
            optimizer.param_groups[0]["lr"] = self.recipe.lr(name, self.hp, progress)
            optimizer.step()
            flat.mark_changed()

        return GradientSteps(self.recipe, self.hp, stack.flat, step, stack.size)

    def _differentiate(self, steps: GradientSteps, name: str, losses: Tensor) -> None:
        """Compute the gradient of each network's loss of losses [S], and use it."""
        flat = steps.flat[name]
        flat.set_gradient(torch.autograd.grad(losses.sum(), flat.parameters))
        steps.add(name)

    def _finish(self, stack: StackedNetworks, steps: GradientSteps, update: int, progress: float) -> None:
        """Make the steps that wait, and update the target networks."""
        steps.finish()
        for name, (target, network) in zip(stack.nets.targets, stack.target_pairs, strict=True):
            if rate := self.recipe.target_rate(name, self.hp, update, progress):
                target.move_towards(network, rate)

    def _draw_columns(self, count: int, positions: Generators) -> tuple[dict[str, Tensor], int]:
        """Draw every learner's batches; return them [S, count, B, …] and the number of real rows of each."""
        drawn, blocks = self._draw_rows(count, positions)
        real = drawn.shape[-1]
        if not self.first.sampler.augmentations:
            return vars(self.first.rows.layout.split(blocks)), real
        augmented = []
        for one, position, block, generator in zip(self.learners, drawn, blocks, positions, strict=True):
            updates = range(self.updates + 1, self.updates + 1 + count)
            batches = [
                one.sampler.batch(block[index], position[index], one.progress_at(update), generator)
                for index, update in enumerate(updates)
            ]
            augmented.append([vars(batch) for batch in batches])
        names = [name for name, value in augmented[0][0].items() if isinstance(value, Tensor)]
        stacked = {
            name: torch.stack([torch.stack([batch[name] for batch in batches]) for batches in augmented])
            for name in names
        }
        return stacked, real

    def _draw_rows(self, count: int, positions: Generators) -> tuple[Tensor, Tensor]:
        """Draw batches; return the positions [S, count, real] of real rows, and all rows [S, count, B, W]."""
        pairs = list(zip([one.sampler for one in self.learners], positions, strict=True))
        if self.shares_rows and self.first.sampler.model_buffer is None:
            drawn = torch.stack([one.strategy.draw(count, one.size, random) for one, random in pairs])
            return drawn, self.first.rows.rows_at(drawn.flatten(0, 1)).view(*drawn.shape, -1)
        found, blocks = zip(*(one.draw(count, random) for one, random in pairs), strict=True)
        return torch.stack(found), torch.stack(blocks)

    def _refresh(self, noise: Generators, positions: Generators) -> None:
        """Generate model rollouts and labels of each learner, if they are due."""
        update = self.updates + 1
        if not self.first.sampler.is_refresh_due(update):
            return
        cuda = self.device.type == "cuda"
        state: Any = torch.cuda if cuda else torch
        for number, one in enumerate(self.learners):
            self._write_back(number)
            with torch.random.fork_rng(devices=[self.device] if cuda else []):
                state.set_rng_state(noise[number].get_state())
                one.sampler.refresh(one.nets, update, positions[number])
                noise[number].set_state(state.get_rng_state())

    def _generators(self, use: int) -> list[torch.Generator]:
        """Return the generators for the next updates, seeded as in separate runs."""
        seeds = [seed_of(use, one.config.seed, one.rank, self.updates) for one in self.learners]
        return [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    def _measured_threads(self, stack: StackedNetworks) -> int:
        """Return the number of threads that computes all gradients fastest."""
        if self.device.type != "cpu":
            return 1
        columns, real = self._draw_columns(1, self._generators(POSITIONS))
        one = {name: column[:, 0] for name, column in columns.items()}
        noise, progress = self._generators(UPDATES), self.first.progress_at(self.updates)
        return fastest_threads(lambda: gradients(stack, self.recipe, self.hp, one, noise, progress, real))

    # Copies between the learners' own networks and the stacked ones.

    def _build_stack(self) -> StackedNetworks:
        """Stack the learners' networks and optimisers."""
        self.updates = self.first.updates
        stack = StackedNetworks([one.nets for one in self.learners])
        for objective in self.recipe.objectives_in_order():
            name = objective.name
            flat = stack.flat[name]
            optimizer = self.recipe.optimizer(name, self.hp, flat.vector)
            states = [one.step.optimizer_state(name) for one in self.learners]
            for key, value in states[0].items():
                every = [state[key] for state in states]
                optimizer.state[flat.vector][key] = (
                    stack.concatenate(flat, every) if is_vector(value) else value
                )
            self.optimizers[name] = optimizer
        return stack

    def _write_back(self, number: int) -> None:
        """Copy the stacked networks and optimisers to a learner's own ones."""
        learner, stack = self.learners[number], self.stack
        assert stack is not None
        pairs = [(flat, stack.flat[name]) for name, flat in learner.flat.items()]
        pairs += [
            (own, stacked)
            for (own, _), (stacked, _) in zip(learner.target_pairs, stack.target_pairs, strict=True)
        ]
        for own, stacked in pairs:
            own.vector.copy_(stack.unstack(stacked, stacked.vector, number))
            own.mark_changed()
        for name, optimizer in self.optimizers.items():
            flat = stack.flat[name]
            state = learner.step.optimizers[name].state[learner.flat[name].vector]
            for key, value in optimizer.state[flat.vector].items():
                state[key] = stack.unstack(flat, value, number) if is_vector(value) else copy.copy(value)
        learner.mark_weights_changed()


def share_rows(learners: Sequence[RecipeLearner]) -> bool:
    """Let learners use the first one's rows; return False if each writes its own labels into them."""
    first, *others = learners
    if first.recipe.relabelled_columns:
        return False
    for other in others:
        other.sampler.share_rows(first.sampler)
    return True


def is_vector(value: Any) -> bool:
    """Return True if a value of an optimiser's state has an element per parameter, as Adam's moments."""
    return isinstance(value, Tensor) and value.dim() > 0
