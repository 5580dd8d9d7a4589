"""Make updates by repeated traces where that is possible, and by the recipe's own code elsewhere."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.rllib.traced.captured import CapturedUpdates
from off2on.rllib.traced.compilation import Compilation, check_difference
from off2on.rllib.traced.trace import PROGRESS, Trace, columns_of, device_of, takes_tensor_lr, trace_update
from off2on.rllib.traced.watched import Numbers
from off2on.rllib.update_step import UpdateStep

logger = logging.getLogger(__name__)

CHECK_EVERY = 1_000
"""Number of updates from one comparison with the recipe's own code to the next."""
MOST_TRACES = 16
"""Largest number of traces of one kind of update; more would mean that the update changes all the time."""


@dataclass
class _Kind:
    """Updates that train the same objectives with the same hyperparameters on batches of the same shapes.

    Attributes:
        eager: Number of updates made by the recipe's own code.
        traces: Traces that are used.
        unchecked: Trace that must still be compared with the recipe's own code.
    """

    eager: int = 0
    traces: list[Trace] = field(default_factory=list)
    unchecked: Trace | None = None


class TracedUpdates:
    """Makes updates; the first ones by the recipe's own code, the others by repeating a trace of it.

    A trace is used only after it has computed, on copies, bit for bit what the recipe's own code computed in
    another update, and is compared again in every thousandth update. If they differ, or the code cannot be
    recorded, all updates are made by the recipe's code.

    Args:
        step: The update.
        compilation: Whether traces are compiled.
        after: Number of updates of a kind that are made before one is traced. Tracing takes as long as some
            dozens of updates.
    """

    def __init__(self, step: UpdateStep, compilation: Compilation, after: int = 100) -> None:
        self.step, self.compilation, self.after = step, compilation, after
        self.reason: str | None = None if step.average is None else "several learners share each batch"
        """Why the updates are not traced; None as long as they are."""
        self.repeated = 0
        """Number of updates made by repeating a trace."""
        self.captured = CapturedUpdates() if compilation.device.type == "cuda" else None
        """Captures of the traces on a GPU."""
        self._kinds: dict[Any, _Kind] = defaultdict(_Kind)
        self._bound: dict[Trace, list[Tensor]] = {}

    def finish(self) -> None:
        """Make the updates that wait, and look the tensors up again before the next one.

        Called before anything else reads, changes or replaces the networks or the optimisers' states.
        """
        if self.captured is not None:
            self.captured.flush()
        self._bound.clear()

    def make(self, batch: Batch, hp: Any, unscaled_hp: Any, update: int) -> dict[str, Tensor]:
        """Make an update, counted from 1.

        Args:
            batch: The batch.
            hp: The hyperparameters.
            unscaled_hp: The hyperparameters before some of them were scaled; `hp` if none is.
            update: Number of the update.

        Returns:
            The losses and the recipe's metrics; on a GPU they have their values after `finish`.
        """
        numbers = self._numbers(batch, hp, unscaled_hp)
        if self.reason is not None:
            return self._eager(batch, hp, update, numbers)
        kind = self._kinds[self._key(batch, hp, unscaled_hp, update, numbers)]
        trace = next((one for one in kind.traces if one.is_valid(numbers)), None)
        if trace is not None and update % CHECK_EVERY:
            return self._repeat(trace, batch, hp, update, numbers)
        self.finish()
        if trace is not None:
            return self._check_again(trace, batch, hp, update, numbers)
        if len(kind.traces) == MOST_TRACES:
            return self._eager(batch, hp, update, numbers)
        if self.compilation.applies_to(update):
            return self._compile(kind, batch, hp, update, numbers)
        kind.eager += 1
        if kind.eager <= self.after:
            return self._eager(batch, hp, update, numbers)
        if kind.unchecked is None or not kind.unchecked.is_valid(numbers):
            return self._trace(kind, batch, hp, update, numbers)
        return self._check_first(kind, kind.unchecked, batch, hp, update, numbers)

    def _numbers(self, batch: Batch, hp: Any, unscaled_hp: Any) -> dict[str, float]:
        recipe, progress = self.step.recipe, batch.progress
        numbers = {f"lr.{name}": recipe.lr(name, hp, progress) for name in self.step.optimizers}
        numbers[PROGRESS] = progress
        if hp is not unscaled_hp:
            scaled = [
                one.name for one in fields(hp) if getattr(hp, one.name) != getattr(unscaled_hp, one.name)
            ]
            numbers |= {f"hp.{name}": getattr(hp, name) for name in scaled}
        return numbers

    def _key(self, batch: Batch, hp: Any, unscaled_hp: Any, update: int, numbers: Numbers) -> Any:
        shapes = tuple((name, one.shape, one.stride()) for name, one in columns_of(batch).items())
        due, real = self.step.due(hp, update, batch.progress), getattr(batch, "real", None)
        return due, unscaled_hp, real, shapes, tuple(numbers)

    def _repeat(
        self, trace: Trace, batch: Batch, hp: Any, update: int, numbers: Numbers
    ) -> dict[str, Tensor]:
        state = self._bound.get(trace) or self._bind(trace)
        if state is None:
            return self._eager(batch, hp, update, numbers)
        self.repeated += 1
        return trace.repeat(state, batch, numbers)

    def _eager(self, batch: Batch, hp: Any, update: int, numbers: Numbers) -> dict[str, Tensor]:
        self.finish()  # an optimiser may create its state
        device = device_of(batch)

        def lr(name: str) -> float | Tensor:
            value = numbers[f"lr.{name}"]
            if device.type == "cpu" or not takes_tensor_lr(self.step.optimizers[name]):
                return value
            return torch.tensor(value, device=device)  # rounded as in a trace

        return self.step.run(batch, hp, update, lr)

    def _bind(self, trace: Trace) -> list[Tensor] | None:
        """Look up the tensors of a trace; None if one does not exist, such as the state after a reset."""
        tensors = self.step.tensors()
        if not all(name in tensors for name in trace.state):
            return None
        self._bound[trace] = [tensors[name] for name in trace.state]
        return self._bound[trace]

    def _trace(self, kind: _Kind, batch: Batch, hp: Any, update: int, numbers: Numbers) -> dict[str, Tensor]:
        """Make an update and trace it; if that fails, make it again by the recipe's own code."""
        kind.unchecked = None
        before, random = self.step.copied_tensors(), _random_state(batch)
        try:
            logged, kind.unchecked = trace_update(self.step, batch, hp, update, numbers)
        except Exception as error:
            self._undo(before, random, batch)
            self._give_up(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
            return self._eager(batch, hp, update, numbers)
        if self.step.tensors().keys() != before.keys():
            kind.unchecked = None  # an optimiser made its first step, in which it creates its state
        return {name: value.detach() for name, value in logged.items()}

    def _undo(self, before: Mapping[str, Tensor], random: Tensor, batch: Batch) -> None:
        """Restore the tensors and the state of the random generator."""
        self.step.restore(before)
        _set_random_state(batch, random)
        self._bound.clear()

    def _compile(
        self, kind: _Kind, batch: Batch, hp: Any, update: int, numbers: Numbers
    ) -> dict[str, Tensor]:
        """Make an update by a compiled program, for which it is first made and traced, and undone."""
        before, random = self.step.copied_tensors(), _random_state(batch)
        logged = self._trace(kind, batch, hp, update, numbers)
        trace = kind.unchecked
        if trace is None:
            return logged
        expected = self.step.copied_tensors()
        self._undo(before, random, batch)
        kind.traces.append(trace)
        trace.run = self.compilation.compile(trace) or trace.plain
        try:
            logged = self._repeat(trace, batch, hp, update, numbers)
            check_difference(before, expected, self.step.tensors(), self.step.precision)
            return logged
        except Exception as error:
            self.compilation.refuse(error)
            self._undo(before, random, batch)
            trace.run = trace.plain
            return self._repeat(trace, batch, hp, update, numbers)

    def _check_first(
        self, kind: _Kind, trace: Trace, batch: Batch, hp: Any, update: int, numbers: Numbers
    ) -> dict[str, Tensor]:
        """Make an update by the recipe's own code, and use the trace from now on if it computes the same."""
        if not set(trace.state) <= self.step.tensors().keys():  # after a reset: in the next update
            return self._eager(batch, hp, update, numbers)
        if self.captured is not None:
            trace = self.captured.prepare(trace)
        logged = self._compare(trace, batch, hp, update, numbers)
        if self.reason is None:
            kind.unchecked = None
            kind.traces.append(trace)
            if self.captured is None and self.compilation.is_open(update):
                self.compilation.decide(
                    trace, self.step.copied_tensors, batch, numbers, update, self.step.precision
                )
                if self.compilation.since is not None:  # from here on all kinds are compiled
                    for other in self._kinds.values():
                        if other is not kind:
                            other.traces.clear()
        return logged

    def _check_again(
        self, trace: Trace, batch: Batch, hp: Any, update: int, numbers: Numbers
    ) -> dict[str, Tensor]:
        """Make an update by a trace, and compare the trace with the recipe's own code."""
        before, random = self.step.copied_tensors(), _random_state(batch)
        logged = self._compare(trace, batch, hp, update, numbers)
        if self.reason is not None or not self.compilation.applies_to(update):
            return logged
        self._undo(before, random, batch)  # a compiled program differs by rounding
        return self._repeat(trace, batch, hp, update, numbers)

    def _compare(
        self, trace: Trace, batch: Batch, hp: Any, update: int, numbers: Numbers
    ) -> dict[str, Tensor]:
        """Make an update by the recipe's own code, and by the trace on copies; give up if they differ."""
        copies, random = self.step.copied_tensors(), _random_state(batch)
        if not all(name in copies for name in trace.state):
            return self._eager(batch, hp, update, numbers)
        repeated = trace.repeat([copies[name] for name in trace.state], batch, numbers, trace.plain)
        after = _random_state(batch)
        _set_random_state(batch, random)
        logged = self._eager(batch, hp, update, numbers)
        differing = [
            name
            for names, found in ((self.step.tensors(), copies), (logged, repeated))
            for name, value in names.items()
            if name not in found or not _same_bits(value, found[name])
        ]
        if differing or not torch.equal(after, _random_state(batch)):
            what = differing[0] if differing else "its random numbers"
            self._give_up(f"a repeated update differs in {what}")
        return logged

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        self._kinds.clear()
        logger.warning(
            "The updates of %s are not traced, so they take more time: %s", self.step.recipe.__name__, reason
        )


def _random_state(batch: Batch) -> Tensor:
    """Return the state of torch's generator on the device of a batch."""
    device = device_of(batch)
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(batch: Batch, state: Tensor) -> None:
    device = device_of(batch)
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Return True if two tensors are equal bit for bit; a NaN equals itself."""
    one, other = one.detach().reshape(-1), other.detach().reshape(-1)
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))
