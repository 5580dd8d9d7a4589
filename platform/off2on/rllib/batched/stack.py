"""S networks of equal shapes as one, with parameters [S, …]; and their optimisers' states likewise."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from off2on.recipe.networks import Nets
from off2on.rllib.batched.random_draws import PerNetworkRandom
from off2on.rllib.flat_parameters import FlatParameters


class StackedNetworks:
    """Copies of the networks of S learners.

    Args:
        nets: Networks of each learner.
    """

    def __init__(self, nets: Sequence[Nets]) -> None:
        self.size = len(nets)
        self.nets = copy.deepcopy(nets[0])
        for ours, theirs in (
            (self.nets.parameters(), [one.parameters() for one in nets]),
            (self.nets.buffers(), [one.buffers() for one in nets]),
        ):
            for own, *parts in zip(ours, *theirs, strict=True):
                own.data = torch.stack([part.detach() for part in parts])
        self.flat = {name: FlatParameters(getattr(self.nets, name)) for name in self.nets.names()}
        self.target_pairs = [
            (FlatParameters(getattr(self.nets.target, name)), self.flat[name]) for name in self.nets.targets
        ]
        self.holder = _Holder(self.nets)

    def run(
        self, program: Callable[..., Any], draws: Sequence[torch.Generator], columns: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run a program for one network on all of them at once.

        Args:
            program: Function of the networks, the random numbers, and one network's part of every column.
            draws: Generator of each network.
            columns: [S, …] each, by name.

        Returns:
            The program's results of all networks: [S, …] each, by name.
        """
        state = {
            f"nets.{name}": value
            for name, value in (*self.nets.named_parameters(), *self.nets.named_buffers())
        }

        def one(state: dict[str, Tensor], columns: dict[str, Tensor]) -> Any:
            with PerNetworkRandom(draws) as mode:
                return functional_call(self.holder, state, (program, mode, columns))

        return vmap(one)(state, columns)  # type: ignore[no-any-return]

    def unstack(self, flat: FlatParameters, vector: Tensor, number: int) -> Tensor:
        """Return one network's part [P] of a vector with the order of a flat vector."""
        blocks = vector.split([parameter.numel() for parameter in flat.parameters])  # type: ignore[no-untyped-call]
        return torch.cat([block.view(self.size, -1)[number] for block in blocks])

    def concatenate(self, flat: FlatParameters, vectors: Sequence[Tensor]) -> Tensor:
        """Return the vector with the order of a flat vector, of all networks' parts [P]."""
        whole = torch.stack(list(vectors))
        sizes = [parameter.numel() // self.size for parameter in flat.parameters]
        return torch.cat([block.flatten() for block in whole.split(sizes, 1)])  # type: ignore[no-untyped-call]


class _Holder(nn.Module):
    """Lets `functional_call` replace the parameters of networks whose methods a program calls."""

    def __init__(self, nets: Nets) -> None:
        super().__init__()
        self.nets = nets

    def forward(self, program: Callable[..., Any], *arguments: Any) -> Any:
        return program(self.nets, *arguments)
