"""Store a network's parameters as one vector, so that an update changes one tensor instead of dozens."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatParameters:
    """Moves a network's parameters into one vector, of which they become views.

    Adam, the Polyak averaging of target networks and the averaging over learners are then one operation each.
    Build it when the network is on its device: moving the network afterwards breaks the views.

    Args:
        network: The network; its parameters keep their names, shapes and values.
    """

    def __init__(self, network: nn.Module) -> None:
        self.parameters = list(network.parameters())
        self.vector = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        start = 0
        for parameter in self.parameters:
            stop = start + parameter.numel()
            parameter.data = self.vector[start:stop].view_as(parameter)
            start = stop

    def set_gradient(self, gradients: Sequence[Tensor]) -> Tensor:
        """Concatenate the parameters' gradients to the vector's gradient [P].

        The copy also makes them contiguous, without which torch's fused Adam on the CPU assigns
        strided gradients to the wrong weights.
        """
        self.vector.grad = torch.cat([gradient.reshape(-1) for gradient in gradients])
        return self.vector.grad

    @torch.no_grad()
    def clip_gradient(self, limit: float, by: str) -> None:
        """Clip the vector's gradient as RLlib's ``grad_clip`` does.

        Args:
            limit: Largest absolute value or norm.
            by: ``value`` of each number, ``norm`` of each parameter, or ``global_norm`` of the vector.
        """
        gradient = self.vector.grad
        assert gradient is not None
        if by == "value":
            gradient.clamp_(-limit, limit)
            return
        sizes = [parameter.numel() for parameter in self.parameters]
        for part in torch.split(gradient, sizes) if by == "norm" else (gradient,):
            part.mul_((limit / (part.norm() + 1e-6)).clamp(max=1.0))

    @torch.no_grad()
    def copy_from(self, network: nn.Module) -> None:
        """Copy the parameters of another network of the same shapes."""
        torch.cat([parameter.flatten() for parameter in network.parameters()], out=self.vector)

    def mark_changed(self) -> None:
        """Mark the parameters as changed for autograd, so that an outdated graph raises an error."""
        torch.autograd.graph.increment_version(self.parameters)

    @torch.no_grad()
    def move_towards(self, other: "FlatParameters", share: float) -> None:
        """Move towards another network's parameters by this share of the distance (Polyak averaging, tau)."""
        self.vector.lerp_(other.vector, share)
