"""The machine: one RLlib Learner that updates any recipe.

An update takes the objectives in order, differentiates each loss with respect to its own
network and nothing else, averages that gradient over the learners, steps, and lets the targets
follow. RLlib calls `advance` for many updates at a time; between two calls nothing but counters
and a few scalars crosses a process boundary.

Random numbers are a function of (seed, learner, number of updates done): a resumed run continues
with the numbers an uninterrupted one would have drawn.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from datasets_io import open_shards
from off2on.batches import Batch
from off2on.flat import Flat
from off2on.offline import OfflineRows
from off2on.recipe import Objective
from off2on.seeding import POSITIONS, UPDATES, seed_of
from off2on.speed import fastest_threads, ready_memory
from off2on.strategies import find_strategy
from off2on.strategies.append import Append
from off2on.strategies.base import Options, Strategy
from off2on.transforms import Array


class RecipeLearner(TorchLearner):
    """Updates the networks of ``config.recipe`` on rows it holds itself."""

    def build(self) -> None:
        """Build the networks and optimisers, and read this learner's share of the data."""
        ready_memory()
        super().build()
        self.recipe, self.hp = self.config.recipe, self.config.hp
        self.rank = torch.distributed.get_rank() if self.distributed else 0
        self.world = max(1, self.config.num_learners)
        self.updates = 0
        self.threads: int | None = self.config.threads
        self.source = OfflineRows(
            open_shards(self.config.dataset),
            self.recipe.columns,
            self.module[DEFAULT_MODULE_ID].model_config["transforms"],
            discount=self.hp.discount,
            budget=self.config.memory_budget,
            capacity=self._capacity(),
            share=(self.rank, self.world),
            device=self._device,
            seed=self.config.seed,
        )
        self.rows = self.source.rows
        self.strategy: Strategy = Append(self.rows, Options())

    def _capacity(self) -> int:
        """Most online rows this learner holds."""
        wanted = min(self.config.replay_capacity, self.config.online_steps)
        return int(-(-wanted // self.world))

    @property
    def nets(self) -> Any:
        """The recipe's networks."""
        return self.module[DEFAULT_MODULE_ID].policy.nets

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam per objective, registered so that RLlib checkpoints it."""
        recipe, hp, nets = self.config.recipe, self.config.hp, self.module[module_id].policy.nets
        self.flat = {name: Flat(getattr(nets, name)) for name in nets.names()}
        self.following = [(Flat(getattr(nets.target, name)), self.flat[name]) for name in nets.targets]
        for objective in recipe.plan():
            vector = self.flat[objective.name].vector
            optimizer = torch.optim.Adam([vector], lr=recipe.lr(objective.name, hp, 0.0), fused=True)
            self.register_optimizer(
                module_id=module_id, optimizer_name=objective.name, optimizer=optimizer, params=[vector]
            )

    def advance(self, updates: int) -> dict[str, float]:
        """Make a number of updates.

        Returns:
            The losses and the recipe's metrics, averaged over the updates, and ``offline_share``.
        """
        if self.threads is None:
            self.threads = self._measured_threads()
        torch.set_num_threads(self.threads)
        logged: dict[str, list[Tensor]] = defaultdict(list)
        size = self.hp.batch_size // self.world
        with self._randomness() as generator:
            self.strategy.replaced(self.source.slide(updates * size))
            for start in range(0, updates, self.strategy.block):
                count = min(self.strategy.block, updates - start)
                position = self.strategy.draw(count, size, generator)
                logged["offline_share"].append((position < self.rows.offline).float().mean())
                for batch, drawn in zip(self.rows.gather(position), position, strict=True):
                    for name, value in self._update_once(batch).items():
                        logged[name].append(value)
                    for name, value in self.strategy.used(batch, drawn, generator).items():
                        logged[name].append(value)
        # EnvRunners ignore weights whose number they have already seen.
        self._weights_seq_no += 1
        return {name: float(torch.stack(values).mean()) for name, values in logged.items()}

    def _update_once(self, batch: Batch) -> dict[str, Tensor]:
        """One update: every objective that is due, then the targets."""
        self.updates += 1
        nets, hp = self.nets, self.hp
        batch = self.recipe.prepare(nets, batch, hp)
        logged: dict[str, Tensor] = {}
        for objective in self.recipe.plan():
            if self.updates % objective.every:
                continue
            flat = self.flat[objective.name]
            loss, metrics = self._loss(objective, batch)
            gradient = flat.set_gradient(torch.autograd.grad(loss, flat.parameters))
            if self.world > 1:
                torch.distributed.all_reduce(gradient)
                gradient /= self.world
            optimizer = self.get_optimizer(DEFAULT_MODULE_ID, objective.name)
            optimizer.param_groups[0]["lr"] = self.recipe.lr(objective.name, hp, self._progress())
            optimizer.step()
            flat.stepped()
            logged |= {f"{objective.name}/loss": loss.detach()} | metrics
        if self.updates % self.recipe.targets_every == 0:
            for target, network in self.following:
                target.follow(network, hp.polyak)
        return logged

    def _loss(self, objective: Objective, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        compute = getattr(self.recipe, f"compute_{objective.name}_loss")
        return compute(self.nets, batch, self.hp)  # type: ignore[no-any-return]

    def _measured_threads(self) -> int:
        """The number of threads with which this recipe's gradients take least time."""
        if self._device.type != "cpu":
            return 1
        with self._randomness() as generator:
            position = self.strategy.draw(1, self.hp.batch_size // self.world, generator)

            def gradients() -> None:
                (batch,) = self.rows.gather(position)
                batch = self.recipe.prepare(self.nets, batch, self.hp)
                for objective in self.recipe.plan():
                    loss, _ = self._loss(objective, batch)
                    torch.autograd.grad(loss, self.flat[objective.name].parameters)

            return fastest_threads(gradients, processes=self.world)

    def _progress(self) -> float:
        """How far the offline side has come, 0 … 1; 0 again once online."""
        total = self.config.offline_updates
        return (self.updates - 1) / total if self.updates <= total else 0.0

    @contextmanager
    def _randomness(self) -> Iterator[torch.Generator]:
        """Random numbers for the updates that come next, whatever was drawn before."""
        where = self.config.seed, self.rank, self.updates
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(UPDATES, *where))
            yield torch.Generator(self._device).manual_seed(seed_of(POSITIONS, *where))

    def machine(self) -> tuple[str, int | None]:
        """Device and number of threads, None before the first update."""
        return str(self._device), self.threads

    # The online side.

    def cross(self) -> None:
        """Go online: from now on the configured strategy makes the batches."""
        strategy = find_strategy(self.config.strategy_name)
        self.strategy = strategy(self.rows, self.config.strategy_settings)

    def add(self, columns: dict[str, Array], first: int) -> None:
        """Take this learner's share of online transitions, in the world's units.

        Args:
            columns: RLlib's columns, each [n, …].
            first: How many transitions came before them.
        """
        mine = (first + np.arange(len(columns["rewards"]))) % self.world == self.rank
        made = self.source.transforms.rows({name: column[mine] for name, column in columns.items()})
        if mine.any():
            self.strategy.entered(self.rows.add(self.rows.layout.pack(made)))

    # Checkpoints.

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's state, and the counters."""
        return super().get_state(*args, **kwargs) | {"updates": self.updates, "threads": self.threads}

    def set_state(self, state: Any) -> None:
        """Take back what `get_state` gave."""
        super().set_state(state)
        self.updates = state.get("updates", self.updates)
        # As many threads as before: sums would be taken in another order by another number.
        self.threads = state.get("threads") or self.threads

    def save_rows(self, folder: str) -> None:
        """Write what only this learner knows: its online rows, the strategy, the window."""
        kept = {"rows": self.rows.state(), "strategy": self.strategy.state(), "source": self.source.state()}
        target = self._rows_file(folder)
        torch.save(kept, target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)

    def load_rows(self, folder: str) -> None:
        """Take back what `save_rows` wrote."""
        kept = torch.load(self._rows_file(folder), map_location="cpu", weights_only=True)
        self.source.load(kept["source"])
        self.rows.load(kept["rows"])
        self.strategy.load(kept["strategy"])

    def _rows_file(self, folder: str) -> Path:
        return Path(folder) / f"rows-{self.rank}-of-{self.world}.pt"

    # RLlib's own way of updating, which is not used.

    def _make_modules_ddp_if_necessary(self) -> None:
        """Gradients are averaged in `_update_once`, one vector per objective."""

    def compute_loss_for_module(self, **_: Any) -> Any:
        """Not used: losses are the recipe's, and `advance` computes them."""
        raise RuntimeError("off2on's learner is driven by advance(), not by update()")
