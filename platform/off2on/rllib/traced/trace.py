"""Record one update as a graph of tensor operations, and repeat it."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from off2on.recipe.batch import Batch
from off2on.rllib.traced.watched import Condition, Numbers, WatchedNumber
from off2on.rllib.update_step import UpdateStep

Program = Callable[..., Sequence[Tensor]]
PROGRESS = "progress"


def device_of(batch: Batch) -> torch.device:
    """Return the device of a batch."""
    return next(iter(columns_of(batch).values())).device


def takes_tensor_lr(optimizer: torch.optim.Optimizer) -> bool:
    """Return True if an optimiser takes the learning rate as a tensor, with the same result as a number.

    On a GPU such a tensor is float32.
    """
    return type(optimizer) in (torch.optim.Adam, torch.optim.AdamW) and bool(optimizer.defaults.get("fused"))


def columns_of(batch: Batch) -> dict[str, Tensor]:
    """Return the columns of a batch by name."""
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}


class Trace:
    """An update as a graph, valid as long as its conditions hold.

    Args:
        graph: The graph. Its inputs are the tensors of `UpdateStep.tensors`, the columns of the batch, and
            the numbers as tensors []; its outputs are the losses and metrics.
        state: Names of the tensors among the inputs.
        columns: Names of the columns among the inputs.
        numbers: Names of the numbers among the inputs.
        logged: Names of the outputs.
        conditions: Comparisons that must have the same result.
        device: Device of the numbers.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        state: Sequence[str],
        columns: Sequence[str],
        numbers: Sequence[str],
        logged: Sequence[str],
        conditions: Sequence[Condition],
        device: torch.device,
    ) -> None:
        self.graph, self.state, self.columns = graph, tuple(state), tuple(columns)
        self.numbers, self.logged = tuple(numbers), tuple(logged)
        self.conditions, self.device = tuple(dict.fromkeys(conditions)), device
        self.plain: Program = graph.forward
        """The graph."""
        self.run = self.plain
        """The graph, or a compiled program with its inputs and outputs."""

    def is_valid(self, numbers: Numbers) -> bool:
        """Return True if the trace can be repeated with other numbers."""
        return all(condition.holds(numbers) for condition in self.conditions)

    @torch.no_grad()
    def repeat(
        self, state: Sequence[Tensor], batch: Batch, numbers: Numbers, run: Program | None = None
    ) -> dict[str, Tensor]:
        """Make the update again.

        Args:
            state: The tensors named in the attribute `state`, which are changed in place.
            batch: Another batch of the same shapes.
            numbers: Current values of the numbers.
            run: Program to use instead of the attribute `run`.
        """
        columns = vars(batch)
        values = torch.tensor([numbers[name] for name in self.numbers], dtype=torch.float64)
        if self.device.type != "cpu":
            values = values.to(self.device, non_blocking=True)
        outputs = (run or self.run)(*state, *[columns[name] for name in self.columns], *values.unbind())
        return dict(zip(self.logged, outputs, strict=True))


def trace_update(
    step: UpdateStep, batch: Batch, hp: Any, update: int, numbers: Mapping[str, float]
) -> tuple[dict[str, Tensor], Trace]:
    """Make an update and record it.

    Args:
        step: The update.
        batch: Its batch.
        hp: Hyperparameters; those that are named in `numbers` as ``hp.NAME`` may have other values later.
        update: Number of the update, counted from 1.
        numbers: The numbers that may have other values later: `PROGRESS`, ``lr.OBJECTIVE``, ``hp.NAME``.

    Returns:
        The losses and metrics of the update, and its trace.

    Raises:
        Exception: The recipe's code cannot be recorded, for example because it reads the value of a tensor.
            The update may then have been made in part.
    """
    state, columns = step.tensors(), columns_of(batch)
    logged: dict[str, Tensor] = {}
    conditions: list[Condition] = []
    device = device_of(batch)
    tensors = {name: torch.tensor(one, dtype=torch.float64, device=device) for name, one in numbers.items()}
    watched = {
        name: WatchedNumber(value, tensors[name], _reader(name), conditions)
        for name, value in numbers.items()
    }

    def lr(name: str) -> float | Tensor:
        optimizer, number = step.optimizers[name], watched[f"lr.{name}"]
        if takes_tensor_lr(optimizer):
            return number.tensor if device.type == "cpu" else number.tensor.float()
        return number.fixed()

    def run(*_: Tensor) -> list[Tensor]:
        # The inputs are the tensors that the update uses anyway; `make_fx` knows them by identity.
        seen = copy.copy(batch)
        seen.progress = watched[PROGRESS]  # type: ignore[assignment]
        logged.update(step.run(seen, _watch(hp, watched), update, lr))
        return list(logged.values())

    try:
        graph = make_fx(run, _error_on_data_dependent_ops=True)(
            *state.values(), *columns.values(), *tensors.values()
        )
    finally:
        for name, optimizer in step.optimizers.items():
            optimizer.param_groups[0]["lr"] = numbers[f"lr.{name}"]
    _simplify(graph)
    return logged, Trace(graph, [*state], [*columns], [*tensors], [*logged], conditions, device)


def _reader(name: str) -> Callable[[Numbers], float]:
    return lambda numbers: numbers[name]


def _watch(hp: Any, watched: Mapping[str, WatchedNumber]) -> Any:
    """Return hyperparameters in which the watched ones are replaced."""
    names = [field.name for field in dataclasses.fields(hp) if f"hp.{field.name}" in watched]
    seen = copy.copy(hp)
    for name in names:
        object.__setattr__(seen, name, watched[f"hp.{name}"])  # frozen, and not checked again
    return seen


def _simplify(graph: fx.GraphModule) -> None:
    """Remove operations without effect: detached aliases, and marks for torch's profiler."""
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
    for node in reversed(graph.graph.nodes):
        is_mark = node.op == "call_function" and str(node.target).startswith("profiler.")
        if not node.users and (is_mark or node.target is torch.ops.aten.detach.default):
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
