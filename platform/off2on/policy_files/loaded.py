"""The policy of a file: its exported program behind a check of the observations that it is given."""

import math
from collections.abc import Callable
from itertools import chain
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from datasets_io.episode import Array
from off2on.errors import UserError

Rows = TypeVar("Rows", Tensor, Array)


class LoadedPolicy(nn.Module):
    """Map raw observations to actions in the units of the environment, after checking the observations.

    Args:
        program: Module of `off2on.policy_files.program.load_program`. It stays the attribute ``program``, for
            programs such as `torch.compile` and `torch.export` that cannot follow the check.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        graph: torch.fx.Graph = program.graph  # type: ignore[assignment]
        (obs,) = (node.meta["val"] for node in graph.nodes if node.op == "placeholder")
        self.row_shape: tuple[int, ...] = tuple(obs.shape[1:])
        """Shape of what one action is decided by: (D,), or (K, D + A + 2) of a policy with a history."""

    def train(self, mode: bool = True) -> Self:
        """Return the policy as it is: an exported program has no modes, and refuses to be asked."""
        return self

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        """Move the program, as `to` and `cuda` do, together with the devices that its graph names."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for part in self.program.modules():
            if isinstance(part, torch.fx.GraphModule):
                for node in part.graph.nodes:
                    if "device" in node.kwargs:
                        node.kwargs = node.kwargs | {"device": self.device}
                part.recompile()
        return self

    @property
    def device(self) -> torch.device:
        """Device of the program."""
        tensors = chain(self.program.parameters(), self.program.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @property
    def history(self) -> tuple[int, int] | None:
        """Shape (K, D + A + 2) of the histories that it takes; None: it takes observations."""
        return (self.row_shape[0], self.row_shape[1]) if len(self.row_shape) == 2 else None

    def forward(self, obs: Rows) -> Rows | tuple[Rows, Rows]:
        """Return the actions at raw observations.

        Args:
            obs: Observations [B, D], or histories [B, K, D + A + 2]: a tensor on the device of the policy, or
                a NumPy array. Real numbers of any type; they are converted to float32.

        Returns:
            Actions, see `off2on.policy.load_policy`, and of an exploring policy their log probabilities [B],
            too. A tensor gives tensors, a NumPy array gives NumPy arrays without a gradient.

        Raises:
            UserError: `obs` is of another type or shape, or has a number that is NaN or infinite.
        """
        if isinstance(obs, Tensor):
            self._check_form(tuple(obs.shape), not obs.is_complex())
            return self._act(obs.to(torch.float32))
        if not isinstance(obs, np.ndarray):
            raise UserError(
                f"the observations are of the type {type(obs).__name__}.",
                f"Expected a torch tensor or a NumPy array {self._expected}.",
            )
        self._check_form(obs.shape, obs.dtype.kind in "fiub")
        with np.errstate(over="ignore"), torch.no_grad():  # what overflows is infinite, and refused below
            output = self._act(torch.from_numpy(np.array(obs, np.float32, order="C")).to(self.device))
        if isinstance(output, tuple):
            return output[0].cpu().numpy(), output[1].cpu().numpy()
        return output.cpu().numpy()

    @property
    def _expected(self) -> str:
        return f"[{', '.join(['B', *map(str, self.row_shape)])}]"

    def _check_form(self, shape: tuple[int, ...], real: bool) -> None:
        """Check the shape of the observations, and that they are real numbers.

        Raises:
            UserError: They are not.
        """
        if not real:
            raise UserError("the observations are not real numbers.", f"Expected float32 {self._expected}.")
        if len(shape) != len(self.row_shape) + 1 or shape[1:] != self.row_shape:
            hint = "; for a single one: policy(obs[None])" if shape == self.row_shape else ""
            raise UserError(
                f"the observations have the shape {list(shape)}.",
                f"Expected {self._expected}, B of them{hint}.",
            )

    def _act(self, obs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        # The sum is finite only if all numbers are; it may overflow without them, so they have the last word.
        if not math.isfinite(obs.sum().item()) and not obs.isfinite().all():
            row, *place = (~obs.isfinite()).nonzero()[0].tolist()
            where = f"dimension {place[-1]}" if len(place) == 1 else f"step {place[0]}, dimension {place[1]}"
            raise UserError(
                f"the observation in row {row} has {obs[(row, *place)].item()} in {where}, counted from 0.",
                "Expected finite numbers of float32: an action at any other is undefined.",
            )
        output: Tensor | tuple[Tensor, Tensor] = self.program(obs)
        return output
