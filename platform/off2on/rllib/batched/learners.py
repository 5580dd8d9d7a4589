"""Several learners that differ in their seed alone, updated as one batched program.

Their parameters lie stacked, [S, …] each, and one pass through the recipe's losses, under `torch.func.vmap`,
is an update of all of them; so are one step of the optimiser and one move of the targets. Each draws its
own rows, out of one copy of the data, and its own random numbers, those that it would draw alone. What a
learner has learnt afterwards is what it would have learnt alone, but for the order in which products of
matrices are summed: float32's last digits, which training makes larger as it goes on.

It pays where small networks leave a device idle; where one network's products fill it, little is won.
"""

import copy
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.hooks import apply_objectives
from off2on.rllib.batched.random_draws import PerNetworkRandom
from off2on.rllib.batched.stack import StackedNetworks
from off2on.rllib.batched.stackable import gradients
from off2on.rllib.learner import RecipeLearner
from off2on.rllib.seeding import POSITIONS, UPDATES, seed_of
from off2on.rllib.threads import fastest_threads

Metrics = dict[str, float]
Generators = Sequence[torch.Generator]


class BatchedLearners:
    """Updates learners in step: whoever is the first to be asked updates all, the others are told.

    Args:
        learners: In this process, before the handover. From now on they share the first one's rows, if
            they write nothing into them.
    """

    def __init__(self, learners: Sequence[RecipeLearner]) -> None:
        self.learners, self.first = list(learners), learners[0]
        self.recipe, self.hp = self.first.recipe, self.first.hp
        self.device = self.first.rows.data.device
        self.one_copy = not self.recipe.relabelled_columns
        """Whether they share their rows; labels are each one's own."""
        if self.one_copy:
            for other in self.learners[1:]:
                other.replay.share_rows(self.first.replay)
        self.stack: StackedNetworks | None = None
        """Their networks, once they all stand at the same update."""
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.updates = 0
        """How many the stacked networks have made."""
        self.is_whole = True
        """Whether no update is under way, or was when it was interrupted."""
        self.told: list[deque[tuple[int, Metrics, float]]] = [deque() for _ in learners]
        """What every learner has yet to be told: numbers of updates, their metrics, the seconds they took."""
        self.seconds = [0.0 for _ in learners]
        """What the updates took that each learner knows of."""

    def advance(self, learner: RecipeLearner, updates: int) -> Metrics:
        """What `RecipeLearner.advance` does, for this learner and, in passing, for the others.

        As long as they stand at different updates, as after an interruption, each goes alone.
        """
        number = self.learners.index(learner)
        if not self.told[number]:
            if self.stack is None and len({one.updates for one in self.learners}) > 1:
                started, metrics = time.perf_counter(), learner.advance(updates)
                self.seconds[number] += time.perf_counter() - started
                return metrics
            started, self.is_whole = time.perf_counter(), False
            found = self._advance(updates)
            self.is_whole, took = True, time.perf_counter() - started
            for waiting, metrics in zip(self.told, found, strict=True):
                waiting.append((updates, metrics, took))
        made, metrics, took = self.told[number].popleft()
        assert made == updates, "learners that go together make the same steps"
        learner.updates += made
        self.seconds[number] += took
        if not self.told[number]:
            self._give(number)
        return metrics

    # All of them at once.

    def _advance(self, updates: int) -> list[Metrics]:
        stack = self.stack = self.stack or self._stacked()
        threads = self.first.threads or self._measured_threads(stack)
        for one in self.learners:
            one.use(threads)
        noise, positions = self._generators(UPDATES), self._generators(POSITIONS)
        logged: dict[str, list[Tensor]] = defaultdict(list)
        last = self.updates + updates
        while self.updates < last:
            self._refresh(noise, positions)
            count = self.first.replay.block(self.updates + 1, last - self.updates)
            columns, real = self._columns(count, positions)

            def program(
                nets: Any, draws: PerNetworkRandom, columns: dict[str, Tensor], real: int = real
            ) -> Any:
                return self._block(stack, nets, draws, columns, real)

            for name, values in stack.run(program, noise, columns).items():
                logged[name].append(values)
            self.updates += count
        means = {name: torch.cat(values, 1).mean(1).tolist() for name, values in logged.items()}
        every = range(len(self.learners))
        return [{"offline_share": 1.0} | {name: means[name][number] for name in means} for number in every]

    def _block(
        self,
        stack: StackedNetworks,
        nets: Any,
        draws: PerNetworkRandom,
        columns: dict[str, Tensor],
        real: int,
    ) -> dict[str, Tensor]:
        """Some updates, as if of one learner: its losses and metrics [n], by name."""
        logged: dict[str, list[Tensor]] = defaultdict(list)
        for index in range(len(columns["obs"])):
            update = self.updates + 1 + index
            batch = Batch(**{name: column[index] for name, column in columns.items()})
            batch.real, batch.progress = real, self.first.progress_at(update)

            def step(name: str, loss: Tensor, progress: float) -> None:
                draws.whole(lambda losses: self._step(stack, name, losses, progress), loss)

            for name, value in apply_objectives(self.recipe, nets, batch, self.hp, update, step).items():
                logged[name].append(value)
            if self.recipe.is_target_update_due(self.hp, update, batch.progress):
                draws.whole(lambda: self._follow(stack))
        return {name: torch.stack(values) for name, values in logged.items()}

    def _follow(self, stack: StackedNetworks) -> None:
        for target, network in stack.following:
            target.follow(network, self.hp.polyak)

    def _step(self, stack: StackedNetworks, name: str, losses: Tensor, progress: float) -> None:
        """Move an objective's networks, each along the gradient of its own loss of [S]."""
        flat, optimizer = stack.flat[name], self.optimizers[name]
        flat.set_gradient(torch.autograd.grad(losses.sum(), flat.parameters))
        optimizer.param_groups[0]["lr"] = self.recipe.lr(name, self.hp, progress)
        optimizer.step()
        flat.stepped()

    def _columns(self, count: int, positions: Generators) -> tuple[dict[str, Tensor], int]:
        """What every learner draws for so many updates, [S, count, B, …]; how many rows are recorded."""
        drawn, blocks = self._rows(count, positions)
        real = drawn.shape[-1]
        if not self.first.replay.changes:
            return vars(self.first.rows.layout.split(blocks)), real
        changed = []
        for one, position, block, generator in zip(self.learners, drawn, blocks, positions, strict=True):
            updates = range(self.updates + 1, self.updates + 1 + count)
            batches = [
                one.replay.batch(block[index], position[index], one.progress_at(update), generator)
                for index, update in enumerate(updates)
            ]
            changed.append([vars(batch) for batch in batches])
        names = [name for name, value in changed[0][0].items() if isinstance(value, Tensor)]
        stacked = {
            name: torch.stack([torch.stack([batch[name] for batch in batches]) for batches in changed])
            for name in names
        }
        return stacked, real

    def _rows(self, count: int, positions: Generators) -> tuple[Tensor, Tensor]:
        """Positions [S, count, real] of recorded rows, and the rows [S, count, B, W] that they begin."""
        pairs = list(zip([one.replay for one in self.learners], positions, strict=True))
        if self.one_copy and self.first.replay.imagined is None:
            drawn = torch.stack([one.strategy.draw(count, one.size, random) for one, random in pairs])
            return drawn, self.first.rows.take(drawn.flatten(0, 1)).view(*drawn.shape, -1)
        found, blocks = zip(*(one.draw(count, random) for one, random in pairs), strict=True)
        return torch.stack(found), torch.stack(blocks)

    def _refresh(self, noise: Generators, positions: Generators) -> None:
        """Imagined rows and labels, which every learner makes by itself, if they are due."""
        update = self.updates + 1
        if not self.first.replay.is_stale(update):
            return
        cuda = self.device.type == "cuda"
        state: Any = torch.cuda if cuda else torch
        for number, one in enumerate(self.learners):
            self._give(number)
            with torch.random.fork_rng(devices=[self.device] if cuda else []):
                state.set_rng_state(noise[number].get_state())
                one.replay.refresh(one.nets, update, positions[number])
                noise[number].set_state(state.get_rng_state())

    def _generators(self, use: int) -> list[torch.Generator]:
        """Random numbers for the updates that come next, as each learner alone would have them."""
        seeds = [seed_of(use, one.config.seed, one.rank, self.updates) for one in self.learners]
        return [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    def _measured_threads(self, stack: StackedNetworks) -> int:
        """The number of threads with which all gradients together take least time."""
        if self.device.type != "cpu":
            return 1
        columns, real = self._columns(1, self._generators(POSITIONS))
        one = {name: column[:, 0] for name, column in columns.items()}
        noise, progress = self._generators(UPDATES), self.first.progress_at(self.updates)
        return fastest_threads(lambda: gradients(stack, self.recipe, self.hp, one, noise, (progress, real)))

    # Between the learners' own networks and the stacked ones.

    def _stacked(self) -> StackedNetworks:
        """The learners' networks and optimisers, as they are."""
        self.updates = self.first.updates
        stack = StackedNetworks([one.nets for one in self.learners])
        for objective in self.recipe.objectives_in_order():
            name = objective.name
            flat = stack.flat[name]
            optimizer = self.recipe.optimizer(name, self.hp, flat.vector)
            states = [one.optimizer_state(name) for one in self.learners]
            for key, value in states[0].items():
                every = [state[key] for state in states]
                optimizer.state[flat.vector][key] = stack.join(flat, every) if is_vector(value) else value
            self.optimizers[name] = optimizer
        return stack

    def _give(self, number: int) -> None:
        """A learner's own networks and optimisers, as the stacked ones are."""
        learner, stack = self.learners[number], self.stack
        assert stack is not None
        pairs = [(flat, stack.flat[name]) for name, flat in learner.flat.items()]
        pairs += [(own, ours) for (own, _), (ours, _) in zip(learner.following, stack.following, strict=True)]
        for own, ours in pairs:
            own.vector.copy_(stack.part(ours, ours.vector, number))
            own.stepped()
        for name, optimizer in self.optimizers.items():
            flat, state = stack.flat[name], learner.optimizer_state(name)
            for key, value in optimizer.state[flat.vector].items():
                state[key] = stack.part(flat, value, number) if is_vector(value) else copy.copy(value)
        learner.mark_weights_changed()


def is_vector(value: Any) -> bool:
    """Whether an optimiser keeps it for every parameter, and not one for all."""
    return isinstance(value, Tensor) and value.dim() > 0
