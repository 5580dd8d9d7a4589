"""RLlib Learner of every recipe.

An update goes through the objectives in order: it differentiates the loss with respect to the objective's own
network only, averages this gradient over the learners, and makes a step of the optimiser. Then it updates the
target networks. `advance` makes many updates per call; between two calls only counters and a few scalars are
sent between processes.

Random numbers are a function of (seed, rank of the learner, number of updates made): a resumed run draws the
same ones as an uninterrupted run.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from datasets_io import open_shards
from off2on.replay.augmentation.compose import batch_augmentations, episode_changes, episode_weights
from off2on.replay.buffer import ReplayBuffer
from off2on.replay.offline_rows import OfflineRows
from off2on.replay.sampler import BatchSampler, takes_episodes
from off2on.replay.transforms import Array
from off2on.rllib.divergence import checked_means
from off2on.rllib.flat_parameters import FlatParameters
from off2on.rllib.rllib_internals import ManualLearner, set_gradient_timeout
from off2on.rllib.seeding import MASKS, POSITIONS, RESETS, UPDATES, seed_of
from off2on.rllib.threads import agreed, configure_memory, fastest_threads
from off2on.rllib.traced.compilation import Compilation
from off2on.rllib.traced.updates import TracedUpdates
from off2on.rllib.update_step import UpdateStep, trained_objectives

GRADIENT_TIMEOUT = timedelta(minutes=3)
"""Longest wait for another learner's gradient."""


class RecipeLearner(ManualLearner):
    """Updates the networks of the configured algorithm with batches from its own replay buffer."""

    def build(self) -> None:
        """Build the networks and optimisers, and read this learner's part of the data."""
        configure_memory()
        super().build()
        resolved = self.config.resolved
        self.recipe, self.online_hp = resolved.recipe, resolved.online_hp
        self.hp = self.unscaled_hp = resolved.hp
        self.online_settings = resolved.online
        self.rank = torch.distributed.get_rank() if self.distributed else 0
        self.world_size = max(1, self.config.num_learners)
        self.updates = 0
        self.set_threads(self.config.threads)
        self.sampler, self.step = self._build_sampler(), self._build_step()
        planned = self.config.offline_updates + self.online_settings.updates_due(self.config.online_steps)
        self.traced = TracedUpdates(self.step, Compilation(self.config.compile, planned, self.device))

    def _build_sampler(self) -> BatchSampler:
        shards, partition = open_shards(self.config.dataset), (self.rank, self.world_size)
        transforms = self.module[DEFAULT_MODULE_ID].model_config["transforms"]
        share = 1 if takes_episodes(self.recipe, episode_changes(self.hp)) else self.world_size
        capacity = -(-min(self.config.replay_capacity, self.config.online_steps) // share)
        source = OfflineRows(
            shards,
            self.recipe.columns,
            transforms,
            relabelled=self.recipe.relabelled_columns,
            discount=self.hp.discount,
            budget=self.config.memory_budget,
            capacity=int(capacity),
            partition=partition,
            device=self.device,
            seed=self.config.seed,
            weights=episode_weights(self.hp.augment, shards),
            changes=episode_changes(self.hp),
        )
        members = getattr(getattr(self.nets, "critic", None), "members", 1)
        fixed = {"seed": seed_of(MASKS, self.config.seed, self.rank), "device": self.device}
        augmentations = batch_augmentations(self.hp.augment, shards, transforms, members=members, **fixed)
        return BatchSampler(source, self.recipe, self.hp, partition, augmentations)

    def _build_step(self) -> UpdateStep:
        config, recipe = self.config, self.recipe
        optimizers = {
            one.name: self.get_optimizer(DEFAULT_MODULE_ID, one.name) for one in recipe.objectives_in_order()
        }

        def average(gradient: Tensor) -> None:
            torch.distributed.all_reduce(gradient)
            gradient /= self.world_size

        return UpdateStep(
            recipe,
            self.nets,
            self.flat,
            self.target_pairs,
            optimizers,
            average=average if self.world_size > 1 else None,
            clip=None if config.grad_clip is None else (config.grad_clip, config.grad_clip_by),
            precision=config.precision,
        )

    @property
    def rows(self) -> ReplayBuffer:
        """Replay buffer with offline and online rows."""
        return self.sampler.rows

    @property
    def nets(self) -> Any:
        """Networks of the recipe."""
        return self.module[DEFAULT_MODULE_ID].policy.nets

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Build and register one optimiser per objective, which RLlib then checkpoints."""
        recipe, hp = self.config.resolved.recipe, self.config.resolved.hp
        nets = self.module[module_id].policy.nets
        self.flat = {name: FlatParameters(getattr(nets, name)) for name in nets.names()}
        self.target_pairs = [
            (FlatParameters(getattr(nets.target, name)), self.flat[name]) for name in nets.targets
        ]
        for objective in recipe.objectives_in_order():
            vector = self.flat[objective.name].vector
            optimizer = recipe.optimizer(objective.name, hp, vector)
            self.register_optimizer(
                module_id=module_id, optimizer_name=objective.name, optimizer=optimizer, params=[vector]
            )

    def fit(self) -> dict[str, float]:
        """Run the recipe's first stage on the first learner's rows, and send its networks to all learners."""
        with self._seeded_generator() as generator:
            recorded = self.rows.layout.split(self.rows.data[: self.rows.offline])
            found = self.recipe.fit(self.nets, recorded, self.hp, generator) if self.rank == 0 else {}
        if self.world_size > 1:
            for name in self.recipe.fitted_networks:
                for tensor in (self.flat[name].vector, *getattr(self.nets, name).buffers()):
                    torch.distributed.broadcast(tensor, 0)
        return dict(found)

    def advance(self, updates: int) -> dict[str, float]:
        """Make a number of updates.

        Returns:
            The losses and metrics, averaged over the updates, and ``offline_share`` of real rows, if any.

        Raises:
            Diverged: A loss is NaN or infinite.
        """
        self.set_threads(self.threads or self._measured_threads())
        logged: dict[str, list[Tensor]] = defaultdict(list)
        sampler, last = self.sampler, self.updates + updates
        if self.world_size > 1:  # set here, because `fit` may keep other learners waiting longer
            set_gradient_timeout(GRADIENT_TIMEOUT)
        self._scale_regularisation()
        with self._seeded_generator() as generator:
            sampler.strategy.on_replaced(sampler.source.slide(updates * sampler.size))
            while self.updates < last:
                if sampler.is_refresh_due(self.updates + 1):
                    self.traced.finish()
                    sampler.refresh(self.nets, self.updates + 1, generator)
                count = sampler.block_size(self.updates + 1, last - self.updates)
                position, blocks = sampler.draw(count, generator)
                if position.numel():
                    logged["offline_share"].append((position < self.rows.offline).float().mean())
                for block, drawn in zip(blocks, position, strict=True):
                    self.updates += 1
                    if self._is_reset_due():
                        self.traced.finish()
                        self._reset_value_networks()
                    batch = sampler.batch(block, drawn, self.progress_at(self.updates), generator)
                    made = self.traced.make(batch, self.hp, self.unscaled_hp, self.updates)
                    for name, value in (made | sampler.on_used(block, drawn, generator)).items():
                        logged[name].append(value)
            self.traced.finish()
        self.mark_weights_changed()
        return checked_means(self, logged, last - updates + 1)

    def set_threads(self, threads: int | None) -> None:
        """Set the number of torch threads; another number changes the order of summation (last digits)."""
        self.threads: int | None = threads
        if threads is not None:
            torch.set_num_threads(threads)

    def _measured_threads(self) -> int:
        """Return the number of threads that computes this recipe's gradients fastest."""
        if self.device.type != "cpu":
            return 1
        with self._seeded_generator() as generator:
            (position,), (block,) = self.sampler.draw(1, generator)
            recipe, nets, hp, now = self.recipe, self.nets, self.hp, self.progress_at(self.updates)
            trained = [one.name for one in trained_objectives(recipe, hp, self.updates + 1, now)]

            def gradients() -> None:
                batch = recipe.prepare(nets, self.sampler.batch(block, position, now, generator), hp)
                for name in trained:
                    torch.autograd.grad(recipe.loss(name, nets, batch, hp)[0], self.flat[name].parameters)

            return agreed(fastest_threads(gradients, processes=self.world_size), self.world_size)

    def progress_at(self, update: int) -> float:
        """Return the progress at an update (counted from 1): offline from 0 to 1, online from 1 to 2."""
        offline, done = self.config.offline_updates, max(0, update - 1)
        if done < offline:
            return float(done / offline)
        online = self.online_settings.updates_due(self.config.online_steps)
        return float(1 + min(1.0, (done - offline) / max(online, 1)))

    @contextmanager
    def _seeded_generator(self) -> Iterator[torch.Generator]:
        """Seed torch and yield a seeded generator; both seeds depend on the number of updates made."""
        parts = self.config.seed, self.rank, self.updates
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(UPDATES, *parts))
            yield torch.Generator(self.device).manual_seed(seed_of(POSITIONS, *parts))

    def device_and_threads(self) -> tuple[str, int | None, int | None]:
        """Return the device, the number of threads and the first compiled update; None if not yet known."""
        return str(self.device), self.threads, self.traced.compilation.since

    # The online phase.

    def go_online(self, restored: bool = False) -> None:
        """Start the online phase: draw batches with the configured strategy, and use the online settings.

        Args:
            restored: True if the networks come from a checkpoint of the online phase.
        """
        resolved = self.config.resolved
        self.sampler.strategy = resolved.strategy(self.rows, resolved.strategy_options)
        self.hp = self.unscaled_hp = self.sampler.hp = self.online_hp
        if not restored:
            with torch.no_grad():
                self.recipe.on_handover(self.nets, self.hp)

    def _scale_regularisation(self) -> None:
        """Scale the regularisation by the strategy's current factor."""
        scale = self.sampler.strategy.regularisation_scale
        if scale is not None:
            self.hp = self.sampler.hp = self.recipe.scale_regularisation(self.online_hp, scale)

    def _is_reset_due(self) -> bool:
        """Return True if the value networks are reset before the next update."""
        every, online = self.online_settings.resets, self.updates - 1 - self.config.offline_updates
        return bool(every > 0 and online > 0 and online % every == 0)

    def _reset_value_networks(self) -> None:
        """Reset the value networks, their target networks and optimisers, with new random weights."""
        module = self.module[DEFAULT_MODULE_ID]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(RESETS, self.config.seed, self.updates))
            fresh = self.recipe.build_nets(module.observation_space, module.action_space, self.hp)
            fresh = fresh.to(self.device)
        for name in set(self.recipe.value_networks) & set(self.nets.names()):
            self.flat[name].copy_from(getattr(fresh, name))
            self.get_optimizer(DEFAULT_MODULE_ID, name).state.clear()
        for target, network in self.target_pairs:
            if network in [self.flat.get(name) for name in self.recipe.value_networks]:
                target.move_towards(network, 1.0)

    def add(self, columns: dict[str, Array] | ray.ObjectRef, first: int) -> None:
        """Add this learner's part of online transitions; see `BatchSampler.add`.

        Args:
            columns: The columns of a `Rollout`, or a reference to them in Ray's object store.
            first: Number of online transitions added before, over all learners.
        """
        self.sampler.add(ray.get(columns) if isinstance(columns, ray.ObjectRef) else columns, first)

    # Checkpoints.

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        """Return RLlib's state and the counters."""
        own = {"updates": self.updates, "threads": self.threads}
        return super().get_state(*args, **kwargs) | own | {"compilation": self.traced.compilation.state()}

    def set_state(self, state: Any) -> None:
        """Restore the result of `get_state`."""
        super().set_state(state)
        self.updates = state.get("updates", self.updates)
        self.set_threads(self.config.threads or state.get("threads") or self.threads)
        if "compilation" in state:
            self.traced.compilation.load(state["compilation"])

    def save_rows(self, folder: str) -> None:
        """Write this learner's online rows, strategy, window and model rollouts."""
        target = self._rows_file(folder)
        torch.save(self.sampler.state(), target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)

    def load_rows(self, folder: str) -> None:
        """Restore what `save_rows` wrote."""
        self.sampler.load(torch.load(self._rows_file(folder), map_location="cpu", weights_only=True))

    def _rows_file(self, folder: str) -> Path:
        return Path(folder) / f"rows-{self.rank}-of-{self.world_size}.pt"
