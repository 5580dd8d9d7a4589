"""Stack the parameters of S networks of equal shapes, [S, …] each, and the states of their optimisers."""

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
    """Stacked copies of the networks of S learners.

    Args:
        nets: Networks of each learner.
    """

    def __init__(self, nets: Sequence[Nets]) -> None:
        self.size = len(nets)
        self.nets = copy.deepcopy(nets[0])
        for stacked, separate in (
            (self.nets.parameters(), [one.parameters() for one in nets]),
            (self.nets.buffers(), [one.buffers() for one in nets]),
        ):
            for whole, *parts in zip(stacked, *separate, strict=True):
                whole.data = torch.stack([part.detach() for part in parts])
        self.flat = {name: FlatParameters(getattr(self.nets, name)) for name in self.nets.names()}
        self.target_pairs = [
            (FlatParameters(getattr(self.nets.target, name)), self.flat[name]) for name in self.nets.targets
        ]
        self.wrapper = _Wrapper(self.nets)

    def run(
        self, program: Callable[..., Any], generators: Sequence[torch.Generator], columns: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run a function written for one network on all networks at once.

        Args:
            program: Function of the networks of one learner, the source of random numbers, and the learner's
                columns.
            generators: One generator for each learner.
            columns: [S, …] each, by name.

        Returns:
            Results of all learners: [S, …] each, by name.
        """
        state = {
            f"nets.{name}": value
            for name, value in (*self.nets.named_parameters(), *self.nets.named_buffers())
        }

        def one(state: dict[str, Tensor], columns: dict[str, Tensor]) -> Any:
            with PerNetworkRandom(generators) as mode:
                return functional_call(self.wrapper, state, (program, mode, columns))

        return vmap(one)(state, columns)  # type: ignore[no-any-return]

    def unstack(self, flat: FlatParameters, vector: Tensor, number: int) -> Tensor:
        """Return one network's part [P] of a vector [S P] in the order of the flat parameters."""
        blocks = vector.split([parameter.numel() for parameter in flat.parameters])  # type: ignore[no-untyped-call]
        return torch.cat([block.view(self.size, -1)[number] for block in blocks])

    def concatenate(self, flat: FlatParameters, vectors: Sequence[Tensor]) -> Tensor:
        """Return the vector [S P] in the order of the flat parameters, from the networks' parts [P]."""
        whole = torch.stack(list(vectors))
        sizes = [parameter.numel() // self.size for parameter in flat.parameters]
        return torch.cat([block.flatten() for block in whole.split(sizes, 1)])  # type: ignore[no-untyped-call]


class _Wrapper(nn.Module):
    """Calls a function with the networks, so that `functional_call` can replace their parameters."""

    def __init__(self, nets: Nets) -> None:
        super().__init__()
        self.nets = nets

    def forward(self, program: Callable[..., Any], *arguments: Any) -> Any:
        return program(self.nets, *arguments)
