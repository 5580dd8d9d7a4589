"""Diffusion policies a second time, from their definitions: one row and step at a time, in float64."""

import math
from functools import partial
from typing import Any

import plain_flows
import torch
from torch import Tensor


def mish(x: Tensor) -> Tensor:
    """Misra, arXiv:1908.08681: x tanh(log(1 + e^x))."""
    return x * torch.log(1 + x.exp()).tanh()


network = partial(plain_flows.network, function=mish)
values = partial(plain_flows.values, function=mish)


def beta(t: int, steps: int) -> float:
    """1 - exp(-b_min / T - (b_max - b_min) (2 t - 1) / (2 T^2)), with b from 0.1 to 10."""
    return 1 - math.exp(-0.1 / steps - 0.5 * (10 - 0.1) * (2 * t - 1) / steps**2)


def kept(t: int, steps: int) -> float:
    """The product of 1 - beta up to t."""
    return math.prod(1 - beta(number, steps) for number in range(1, t + 1))


def embedding(t: int) -> Tensor:
    """16 numbers: sines, then cosines."""
    angles = torch.tensor([(t - 1) / 10_000 ** (k / 7) for k in range(8)], dtype=torch.float64)
    return torch.cat((angles.sin(), angles.cos()))


def predicted(denoiser: Any, obs: Tensor, point: Tensor, t: int) -> Tensor:
    """The noise in one point after t steps."""
    return network(denoiser.mlp, obs, point, network(denoiser.time, embedding(t)))


def residual(denoiser: Any, obs: Tensor, point: Tensor, t: int, drop: Any = None) -> Tensor:
    """The noise in one point after t steps, by residual blocks; `drop` acts on the input of each."""
    angles = [2 * math.pi * (t - 1) * frequency for frequency in denoiser.frequencies.double()]
    waves = torch.stack([angle.cos() for angle in angles] + [angle.sin() for angle in angles])
    time = network(denoiser.time, waves)
    x = denoiser.first.weight.double() @ torch.cat((obs.double(), point.double(), time))
    x = x + denoiser.first.bias.double()
    for norm, block in zip(denoiser.norms, denoiser.blocks, strict=True):
        y = x if drop is None else drop(x)
        y = (y - y.mean()) / (((y - y.mean()) ** 2).mean() + 1e-5).sqrt()
        x = x + network(block, y * norm.weight.double() + norm.bias.double())
    return denoiser.last.weight.double() @ mish(x) + denoiser.last.bias.double()


def chain(denoiser: Any, obs: Tensor, noise: Tensor) -> Tensor:
    """The end of the chain of one row, from noise [T, A]."""
    steps = len(noise)
    point = noise[0].double()
    for t in range(steps, 0, -1):
        now, before, b = kept(t, steps), kept(t - 1, steps), beta(t, steps)
        start = point / math.sqrt(now) - math.sqrt(1 / now - 1) * predicted(denoiser, obs, point, t)
        start = start.clamp(-1, 1)
        mean = b * math.sqrt(before) / (1 - now) * start + (1 - before) * math.sqrt(1 - b) / (1 - now) * point
        deviation = math.sqrt(b * (1 - before) / (1 - now))
        point = mean + (deviation * noise[steps - t + 1].double() if t > 1 else 0.0)
    return point
