"""Slopes of losses, for tests that compare them."""

import torch
from torch import Tensor, nn


def gradient(loss: Tensor, network: nn.Module) -> Tensor:
    """Of a loss by all parameters of a network, one after the other [P]."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])
