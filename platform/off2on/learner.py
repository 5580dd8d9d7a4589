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
from off2on.batches import LATE, Batch, made_of
from off2on.flat import Flat
from off2on.imagined import Imagined
from off2on.offline import OfflineRows
from off2on.recipe import Objective
from off2on.seeding import POSITIONS, UPDATES, seed_of
from off2on.speed import fastest_threads, ready_memory
from off2on.strategies import find_strategy
from off2on.strategies.append import Append
from off2on.strategies.base import Options, Strategy
from off2on.transforms import Array
from off2on.unfinished import Unfinished


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
            relabelled=self.recipe.relabelled,
            discount=self.hp.discount,
            budget=self.config.memory_budget,
            capacity=self._capacity(),
            share=(self.rank, self.world),
            device=self._device,
            seed=self.config.seed,
        )
        self.rows = self.source.rows
        self.strategy: Strategy = Append(self.rows, Options())
        plan = self.recipe.imagination(self.hp)
        self.imagined = Imagined(plan, self.rows, self.world) if plan else None
        self.unfinished = Unfinished() if set(self.recipe.columns) & set(LATE) else None
        self.episodes = 0

    def _capacity(self) -> int:
        """Most online rows this learner holds."""
        wanted = min(self.config.replay_capacity, self.config.online_steps)
        return int(-(-wanted // self.world))

    @property
    def nets(self) -> Any:
        """The recipe's networks."""
        return self.module[DEFAULT_MODULE_ID].policy.nets

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One optimiser per objective, registered so that RLlib checkpoints it."""
        recipe, hp, nets = self.config.recipe, self.config.hp, self.module[module_id].policy.nets
        self.flat = {name: Flat(getattr(nets, name)) for name in nets.names()}
        self.following = [(Flat(getattr(nets.target, name)), self.flat[name]) for name in nets.targets]
        for objective in recipe.plan():
            vector = self.flat[objective.name].vector
            optimizer = recipe.optimizer(objective.name, hp, vector)
            self.register_optimizer(
                module_id=module_id, optimizer_name=objective.name, optimizer=optimizer, params=[vector]
            )

    def fit(self) -> dict[str, float]:
        """The recipe's first stage, on the first learner's rows; every learner gets its networks."""
        with self._randomness() as generator:
            recorded = self.rows.layout.split(self.rows.data[: self.rows.offline])
            found = self.recipe.fit(self.nets, recorded, self.hp, generator) if self.rank == 0 else {}
        if self.world > 1:
            for name in self.recipe.fitted:
                for held in (self.flat[name].vector, *getattr(self.nets, name).buffers()):
                    torch.distributed.broadcast(held, 0)
        return dict(found)

    def advance(self, updates: int) -> dict[str, float]:
        """Make a number of updates.

        Returns:
            The losses and the recipe's metrics, averaged over the updates, and ``offline_share``.
        """
        if self.threads is None:
            self.threads = self._measured_threads()
        torch.set_num_threads(self.threads)
        logged: dict[str, list[Tensor]] = defaultdict(list)
        with self._randomness() as generator:
            self.strategy.replaced(self.source.slide(updates * self.size))
            last = self.updates + updates
            while self.updates < last:
                self._refresh(generator)
                position, batches = self._draw(self._block(last), generator)
                logged["offline_share"].append((position < self.rows.offline).float().mean())
                for batch, drawn in zip(batches, position, strict=True):
                    recorded = self.rows.layout.split(batch[: len(drawn)])
                    for name, value in self._update_once(batch, len(drawn)).items():
                        logged[name].append(value)
                    for name, value in self.strategy.used(recorded, drawn, generator).items():
                        logged[name].append(value)
        # EnvRunners ignore weights whose number they have already seen.
        self._weights_seq_no += 1
        return {name: float(torch.stack(values).mean()) for name, values in logged.items()}

    @property
    def size(self) -> int:
        """Rows of a batch that are this learner's to draw."""
        return int(self.hp.batch_size // self.world)

    def _block(self, last: int) -> int:
        """For how many updates rows can be drawn at once: no further than to the next `_refresh`."""
        most = min(self.strategy.block, last - self.updates)
        if not (self.imagined or self.recipe.relabelled):
            return most
        return next((count for count in range(1, most) if self._is_stale(self.updates + count + 1)), most)

    def _is_stale(self, update: int) -> bool:
        dreams = self.imagined is not None and self.imagined.due(update)
        return dreams or self.recipe.relabel_due(self.hp, update)

    def _refresh(self, generator: torch.Generator) -> None:
        """Before the next update: new imagined rows and new labels, if they are due."""
        recipe, update = self.recipe, self.updates + 1
        with torch.no_grad():
            if self.imagined is not None and self.imagined.due(update):
                position = self.strategy.draw(1, self.imagined.starts, generator)
                (starts,) = self.rows.gather(position)
                self.imagined.add(vars(recipe.imagine(self.nets, starts, self.hp)))
            if recipe.relabel_due(self.hp, update):
                for side, rows in self.rows.in_order():
                    for name, values in recipe.relabel(self.nets, rows, self.hp, update).items():
                        self.rows.write(name, side, values)

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Recorded rows' positions [count, real] and the batches [count, size, W] they begin."""
        real = self.imagined.real(self.size) if self.imagined else self.size
        position = self.strategy.draw(count, real, generator)
        batches = self.rows.take(position)
        return position, self.imagined.join(batches, self.size, generator) if self.imagined else batches

    def _batch(self, block: Tensor, real: int) -> Batch:
        """A batch [size, W] as the losses see it."""
        batch = self.rows.layout.split(block)
        batch.real, batch.progress = real, self._progress()
        return batch

    def _update_once(self, block: Tensor, real: int) -> dict[str, Tensor]:
        """One update: every objective that is due, then the targets."""
        self.updates += 1
        nets, hp, progress = self.nets, self.hp, self._progress()
        batch = self.recipe.prepare(nets, self._batch(block, real), hp)
        logged: dict[str, Tensor] = {}
        for objective in self.recipe.plan():
            if not self.recipe.due(objective, hp, self.updates, progress):
                continue
            flat = self.flat[objective.name]
            loss, metrics = self._loss(objective, batch)
            gradient = flat.set_gradient(torch.autograd.grad(loss, flat.parameters))
            if self.world > 1:
                torch.distributed.all_reduce(gradient)
                gradient /= self.world
            optimizer = self.get_optimizer(DEFAULT_MODULE_ID, objective.name)
            optimizer.param_groups[0]["lr"] = self.recipe.lr(objective.name, hp, progress)
            optimizer.step()
            flat.stepped()
            logged |= {f"{objective.name}/loss": loss.detach()} | metrics
        if self.recipe.targets_due(hp, self.updates, progress):
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
            position, blocks = self._draw(1, generator)

            def gradients() -> None:
                batch = self.recipe.prepare(self.nets, self._batch(blocks[0], position.shape[1]), self.hp)
                for objective in self.recipe.plan():
                    loss, _ = self._loss(objective, batch)
                    torch.autograd.grad(loss, self.flat[objective.name].parameters)

            return fastest_threads(gradients, processes=self.world)

    def _progress(self) -> float:
        """0 … 1 over the offline updates, then 1 … 2 over the online ones."""
        offline = self.config.offline_updates
        if self.updates <= offline:
            return float(max(0, self.updates - 1) / offline)
        online = self.config.online_steps * self.config.updates_per_env_step
        return float(1 + min(1.0, (self.updates - 1 - offline) / max(online, 1)))

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
            columns: RLlib's columns and ``env``, each [n, …].
            first: How many transitions came before them.
        """
        if self.unfinished is None:
            mine = (first + np.arange(len(columns["rewards"]))) % self.world == self.rank
            if mine.any():
                self._enter({name: column[mine] for name, column in columns.items()})
            return
        for episode in self.unfinished.add(columns):
            if self.episodes % self.world == self.rank:
                self._enter(episode)
            self.episodes += 1

    def _enter(self, columns: dict[str, Array]) -> None:
        """Write transitions into the ring."""
        source, layout = self.source, self.rows.layout
        made = made_of(columns, self.recipe.columns, source.transforms, self.hp.discount)
        blank = np.zeros(len(columns["rewards"]), np.float32)
        self.strategy.entered(self.rows.add(layout.pack(dict.fromkeys(layout.widths, blank) | made)))

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
        """Write what only this learner knows: its online rows, the strategy, the window, what it made up."""
        kept: dict[str, Any] = {
            "rows": self.rows.state(),
            "strategy": self.strategy.state(),
            "source": self.source.state(),
        }
        labels = len(self.recipe.relabelled)
        if labels:
            kept["labels"] = self.rows.data[: self.rows.offline, -labels:].cpu().clone()
        if self.imagined is not None:
            kept["imagined"] = self.imagined.rows.state()
        if self.unfinished is not None:
            kept["unfinished"] = {"episodes": self.episodes, "held": self.unfinished.state()}
        target = self._rows_file(folder)
        torch.save(kept, target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)

    def load_rows(self, folder: str) -> None:
        """Take back what `save_rows` wrote."""
        kept = torch.load(self._rows_file(folder), map_location="cpu", weights_only=True)
        self.source.load(kept["source"])
        self.rows.load(kept["rows"])
        self.strategy.load(kept["strategy"])
        if labels := len(self.recipe.relabelled):
            self.rows.data[: self.rows.offline, -labels:] = kept["labels"].to(self.rows.data)
        if self.imagined is not None:
            self.imagined.rows.load(kept["imagined"])
        if self.unfinished is not None:
            self.episodes = kept["unfinished"]["episodes"]
            self.unfinished.load(kept["unfinished"]["held"])

    def _rows_file(self, folder: str) -> Path:
        return Path(folder) / f"rows-{self.rank}-of-{self.world}.pt"

    # RLlib's own way of updating, which is not used.

    def _make_modules_ddp_if_necessary(self) -> None:
        """Gradients are averaged in `_update_once`, one vector per objective."""

    def compute_loss_for_module(self, **_: Any) -> Any:
        """Not used: losses are the recipe's, and `advance` computes them."""
        raise RuntimeError("off2on's learner is driven by advance(), not by update()")
