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
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from datasets_io import open_shards
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import apply_objectives
from off2on.replay.augmentation.compose import batch_augmentations, episode_weights
from off2on.replay.buffer import ReplayBuffer
from off2on.replay.offline_rows import OfflineRows
from off2on.replay.sampler import BatchSampler
from off2on.replay.transforms import Array
from off2on.rllib.flat_parameters import FlatParameters
from off2on.rllib.rllib_internals import ManualLearner, set_gradient_timeout
from off2on.rllib.seeding import MASKS, POSITIONS, RESETS, UPDATES, seed_of
from off2on.rllib.threads import fastest_threads, ready_memory

GRADIENT_TIMEOUT = timedelta(minutes=3)
"""Longest wait for another learner's gradient."""


class RecipeLearner(ManualLearner):
    """Updates the networks of the configured algorithm on rows it holds itself."""

    def build(self) -> None:
        """Build the networks and optimisers, and read this learner's share of the data."""
        ready_memory()
        super().build()
        resolved = self.config.resolved
        self.recipe, self.hp, self.online_hp = resolved.recipe, resolved.hp, resolved.online_hp
        self.online_settings = resolved.online
        self.rank = torch.distributed.get_rank() if self.distributed else 0
        self.world = max(1, self.config.num_learners)
        self.updates = 0
        self.threads: int | None = None
        self.use(self.config.threads)
        self.replay = self._replay()

    def _replay(self) -> BatchSampler:
        shards, share = open_shards(self.config.dataset), (self.rank, self.world)
        transforms = self.module[DEFAULT_MODULE_ID].model_config["transforms"]
        capacity = -(-min(self.config.replay_capacity, self.config.online_steps) // self.world)
        source = OfflineRows(
            shards,
            self.recipe.columns,
            transforms,
            relabelled=self.recipe.relabelled_columns,
            discount=self.hp.discount,
            budget=self.config.memory_budget,
            capacity=int(capacity),
            share=share,
            device=self.device,
            seed=self.config.seed,
            weights=episode_weights(self.hp.augment, shards),
        )
        members = getattr(getattr(self.nets, "critic", None), "members", 1)
        seed = seed_of(MASKS, self.config.seed, self.rank)
        changes = batch_augmentations(
            self.hp.augment, shards, transforms, members=members, seed=seed, device=self.device
        )
        return BatchSampler(source, self.recipe, self.hp, share, changes)

    @property
    def rows(self) -> ReplayBuffer:
        """The recorded and the online rows."""
        return self.replay.rows

    @property
    def nets(self) -> Any:
        """The recipe's networks."""
        return self.module[DEFAULT_MODULE_ID].policy.nets

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One optimiser per objective, registered so that RLlib checkpoints it."""
        recipe, hp = self.config.resolved.recipe, self.config.resolved.hp
        nets = self.module[module_id].policy.nets
        self.flat = {name: FlatParameters(getattr(nets, name)) for name in nets.names()}
        self.following = [
            (FlatParameters(getattr(nets.target, name)), self.flat[name]) for name in nets.targets
        ]
        for objective in recipe.objectives_in_order():
            vector = self.flat[objective.name].vector
            optimizer = recipe.optimizer(objective.name, hp, vector)
            self.register_optimizer(
                module_id=module_id, optimizer_name=objective.name, optimizer=optimizer, params=[vector]
            )

    def optimizer_state(self, name: str) -> dict[str, Any]:
        """What an objective's optimiser remembers; empty before its first step."""
        state: dict[str, Any] = self.get_optimizer(DEFAULT_MODULE_ID, name).state[self.flat[name].vector]
        return state

    def fit(self) -> dict[str, float]:
        """The recipe's first stage, on the first learner's rows; every learner gets its networks."""
        with self._randomness() as generator:
            recorded = self.rows.layout.split(self.rows.data[: self.rows.offline])
            found = self.recipe.fit(self.nets, recorded, self.hp, generator) if self.rank == 0 else {}
        if self.world > 1:
            for name in self.recipe.fitted_networks:
                for held in (self.flat[name].vector, *getattr(self.nets, name).buffers()):
                    torch.distributed.broadcast(held, 0)
        return dict(found)

    def advance(self, updates: int) -> dict[str, float]:
        """Make a number of updates.

        Returns:
            The losses and the recipe's metrics, averaged over the updates, and ``offline_share``.
        """
        self.use(self.threads or self._measured_threads())
        logged: dict[str, list[Tensor]] = defaultdict(list)
        replay, last = self.replay, self.updates + updates
        if self.world > 1:  # not before: a first stage takes as long as it takes
            set_gradient_timeout(GRADIENT_TIMEOUT)
        self._scale_regularisation()
        with self._randomness() as generator:
            replay.strategy.replaced(replay.source.slide(updates * replay.size))
            while self.updates < last:
                replay.refresh(self.nets, self.updates + 1, generator)
                count = replay.block(self.updates + 1, last - self.updates)
                position, blocks = replay.draw(count, generator)
                logged["offline_share"].append((position < self.rows.offline).float().mean())
                for block, drawn in zip(blocks, position, strict=True):
                    self.updates += 1
                    if self._starts_afresh():
                        self._reset_values()
                    batch = replay.batch(block, drawn, self.progress_at(self.updates), generator)
                    for name, value in self._update_once(batch).items():
                        logged[name].append(value)
                    for name, value in replay.used(block, drawn, generator).items():
                        logged[name].append(value)
        self.mark_weights_changed()
        return {name: float(torch.stack(values).mean()) for name, values in logged.items()}

    def _update_once(self, batch: Batch) -> dict[str, Tensor]:
        """One update: every objective that is due, then the targets."""
        hp, progress = self.hp, batch.progress
        logged = apply_objectives(self.recipe, self.nets, batch, hp, self.updates, self._step)
        if self.recipe.is_target_update_due(hp, self.updates, progress):
            for target, network in self.following:
                target.follow(network, hp.polyak)
        return logged

    def _step(self, name: str, loss: Tensor, progress: float) -> None:
        """Move an objective's network along the gradient of its loss, averaged over the learners."""
        flat = self.flat[name]
        gradient = flat.set_gradient(torch.autograd.grad(loss, flat.parameters))
        if self.world > 1:
            torch.distributed.all_reduce(gradient)
            gradient /= self.world
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID, name)
        optimizer.param_groups[0]["lr"] = self.recipe.lr(name, self.hp, progress)
        optimizer.step()
        flat.stepped()

    def use(self, threads: int | None) -> None:
        """From now on so many threads, for scores too: another number takes sums in another order."""
        self.threads = threads
        if threads is not None:
            torch.set_num_threads(threads)

    def _measured_threads(self) -> int:
        """The number of threads with which this recipe's gradients take least time."""
        if self.device.type != "cpu":
            return 1
        with self._randomness() as generator:
            (position,), (block,) = self.replay.draw(1, generator)

            def gradients() -> None:
                batch = self.replay.batch(block, position, self.progress_at(self.updates), generator)
                batch = self.recipe.prepare(self.nets, batch, self.hp)
                for objective in self.recipe.objectives_in_order():
                    loss, _ = self.recipe.loss(objective.name, self.nets, batch, self.hp)
                    torch.autograd.grad(loss, self.flat[objective.name].parameters)

            return fastest_threads(gradients, processes=self.world)

    def progress_at(self, update: int) -> float:
        """Of an update, counted from 1: 0 … 1 over the offline ones, then 1 … 2 over the online ones."""
        offline = self.config.offline_updates
        done = max(0, update - 1)
        if done < offline:
            return float(done / offline)
        online = self.online_settings.updates_due(self.config.online_steps)
        return float(1 + min(1.0, (done - offline) / max(online, 1)))

    @contextmanager
    def _randomness(self) -> Iterator[torch.Generator]:
        """Random numbers for the updates that come next, whatever was drawn before."""
        where = self.config.seed, self.rank, self.updates
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(UPDATES, *where))
            yield torch.Generator(self.device).manual_seed(seed_of(POSITIONS, *where))

    def machine(self) -> tuple[str, int | None]:
        """Device and number of threads, None before the first update."""
        return str(self.device), self.threads

    # The online side.

    def go_online(self, restored: bool = False) -> None:
        """Go online: from now on the configured strategy makes the batches, with the online settings.

        Args:
            restored: The networks have been handed over before, and are restored.
        """
        resolved = self.config.resolved
        self.replay.strategy = resolved.strategy(self.rows, resolved.strategy_options)
        self.hp = self.replay.hp = self.online_hp
        if not restored:
            with torch.no_grad():
                self.recipe.on_handover(self.nets, self.hp)

    def _scale_regularisation(self) -> None:
        """Keep as much of the pull towards the data as the strategy now wants."""
        scale = self.replay.strategy.regularisation_scale
        if scale is not None:
            self.hp = self.replay.hp = self.recipe.scale_regularisation(self.online_hp, scale)

    def _starts_afresh(self) -> bool:
        """Whether the values begin anew before the update that comes next."""
        every, online = self.online_settings.resets, self.updates - 1 - self.config.offline_updates
        return bool(every > 0 and online > 0 and online % every == 0)

    def _reset_values(self) -> None:
        """Values, their following copies and optimisers begin again, from other random weights."""
        space = self.module[DEFAULT_MODULE_ID]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(RESETS, self.config.seed, self.updates))
            fresh = self.recipe.build_nets(space.observation_space, space.action_space, self.hp)
        for name in set(self.recipe.value_networks) & set(self.nets.names()):
            self.flat[name].take(getattr(fresh, name))
            self.get_optimizer(DEFAULT_MODULE_ID, name).state.clear()
        for target, network in self.following:
            if network in [self.flat.get(name) for name in self.recipe.value_networks]:
                target.follow(network, 1.0)

    def add(self, columns: dict[str, Array], first: int) -> None:
        """Take this learner's share of online transitions; see `BatchSampler.add`."""
        self.replay.add(columns, first)

    # Checkpoints.

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's state, and the counters."""
        return super().get_state(*args, **kwargs) | {"updates": self.updates, "threads": self.threads}

    def set_state(self, state: Any) -> None:
        """Take back what `get_state` gave."""
        super().set_state(state)
        self.updates = state.get("updates", self.updates)
        self.use(state.get("threads") or self.threads)

    def save_rows(self, folder: str) -> None:
        """Write what only this learner knows: its online rows, the strategy, the window, what it made up."""
        target = self._rows_file(folder)
        torch.save(self.replay.state(), target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)

    def load_rows(self, folder: str) -> None:
        """Take back what `save_rows` wrote."""
        self.replay.load(torch.load(self._rows_file(folder), map_location="cpu", weights_only=True))

    def _rows_file(self, folder: str) -> Path:
        return Path(folder) / f"rows-{self.rank}-of-{self.world}.pt"
