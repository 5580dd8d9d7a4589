"""Diffusion policies: actions as the end of a chain of denoising steps that starts at Gaussian noise.

Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020, arXiv:2006.11239. A network
e(s, x, t) predicts the noise in a noisy action

    x_t = sqrt(abar_t) a + sqrt(1 - abar_t) z,  z ~ N(0, 1),  abar_t = (1 - beta_1) ... (1 - beta_t)       (4)

with the variance preserving schedule of Xiao, Kreis & Vahdat, "Tackling the Generative Learning Trilemma with
Denoising Diffusion GANs", ICLR 2022, arXiv:2112.07804, which suits few steps:

    beta_t = 1 - exp(-0.1 / T - 4.95 (2 t - 1) / T^2),  t = 1 ... T

Shapes: ``B`` observations, ``D`` observation width, ``A`` action width, ``T`` steps, ``n`` samples per
observation (before ``B``). Actions live in [-1, 1].
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from operator import mul
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.recipe.networks import MLP, concatenate, glorot

Prediction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A prediction e(s, x, t) of the noise in points x after t + 1 steps, such as a `Denoiser`."""


class DiffusionStep(NamedTuple):
    """Constants of the step from a noisy action x_t to x_(t-1).

    Attributes:
        beta: beta_t, the variance that the forward step adds.
        kept: abar_t, the share of the action's variance in x_t.
        kept_before: abar_(t-1), or 1 at the last step.
    """

    beta: float
    kept: float
    kept_before: float


@cache
def schedule(steps: int) -> tuple[DiffusionStep, ...]:
    """Return the constants of the variance preserving schedule for t = 1 ... T."""
    betas = [1 - math.exp(-0.1 / steps - 4.95 * (2 * t - 1) / steps**2) for t in range(1, steps + 1)]
    kept = [*accumulate((1 - beta for beta in betas), mul)]
    return tuple(map(DiffusionStep, betas, kept, [1.0, *kept]))


class Denoiser(nn.Module):
    """A prediction of noise by layers with Mish, and sines and cosines of the step.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        steps: Number of steps T.
        samples: Number n of samples with fixed noise, for actions that are the same again.
        embedding: Width of the embedding of the step.
    """

    def __init__(
        self, obs: int, action: int, hidden: Sequence[int], steps: int, samples: int, embedding: int = 16
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("kept", torch.tensor([step.kept for step in schedule(steps)]))
        self.register_buffer("draws", torch.randn(steps, samples, 1, action))
        self.time = MLP((embedding, 2 * embedding, embedding), "mish")
        self.mlp = MLP((obs + action + embedding, *hidden, action), "mish")

    def forward(self, obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        """Return the noise in points [B, A] or [n, B, A], at times t - 1 of [B, 1] or [1, 1]."""
        embedded = self.time(sinusoids(time, self.embedding)).expand(*point.shape[:-1], -1)
        return self.mlp(concatenate(obs, torch.cat((point, embedded), -1)))  # type: ignore[no-any-return]


class ResidualDenoiser(nn.Module):
    """A prediction of noise by residual blocks with layer normalisation, and learned waves of the step.

    Hansen-Estruch et al., "IDQL", arXiv:2304.10573, appendix: each block adds W2 mish(W1 norm(x)) to x.

    Args:
        obs: Observation width D.
        action: Action width A.
        width: Width H of the blocks; the layer within a block has 4 H units.
        blocks: Number of blocks.
        steps: Number of steps T.
        samples: Number n of samples with fixed noise, for actions that are the same again.
        waves: Number of waves.
    """

    def __init__(
        self, obs: int, action: int, width: int, blocks: int, steps: int, samples: int, waves: int = 32
    ) -> None:
        super().__init__()
        self.register_buffer("kept", torch.tensor([step.kept for step in schedule(steps)]))
        self.register_buffer("draws", torch.randn(steps, samples, 1, action))
        self.frequencies = nn.Parameter(0.2 * torch.randn(waves))
        self.time = MLP((2 * waves, 128, 128), "mish")
        self.first, self.last = nn.Linear(obs + action + 128, width), nn.Linear(width, action)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.blocks = nn.ModuleList(MLP((width, 4 * width, width), "mish") for _ in range(blocks))
        glorot(self)

    def forward(self, obs: Tensor, point: Tensor, time: Tensor, dropout: float = 0.0) -> Tensor:
        """Return the noise in points [B, A] or [n, B, A], at times t - 1 of [B, 1] or [1, 1]."""
        angle = 2 * math.pi * time * self.frequencies
        embedded = self.time(torch.cat((angle.cos(), angle.sin()), -1)).expand(*point.shape[:-1], -1)
        x = self.first(concatenate(obs, torch.cat((point, embedded), -1)))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(F.dropout(x, dropout) if dropout else x))
        return self.last(F.mish(x))  # type: ignore[no-any-return]


def sinusoids(time: Tensor, width: int) -> Tensor:
    """Return the sines, then the cosines, of times [..., 1] with wavelengths from 2 pi to 20,000 pi.

    Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.5: [..., width].
    """
    numbers = torch.arange(width // 2, device=time.device, dtype=time.dtype)
    angle = time * torch.exp(numbers * (-math.log(10_000) / (width // 2 - 1)))
    return torch.cat((angle.sin(), angle.cos()), -1)


def noise_error(
    predict: Prediction, kept: Tensor, obs: Tensor, action: Tensor, noise: Tensor, number: Tensor
) -> Tensor:
    """Compute the squared error [B, A] of the predicted noise, arXiv:2006.11239, equation 14.

    Args:
        predict: Prediction of the noise in a point.
        kept: abar_t [T] for t = 1 ... T.
        obs: Observations [B, D].
        action: Actions [B, A] of the data.
        noise: Noise z [B, A], from N(0, 1).
        number: Numbers t - 1 [B] of the steps, uniform in 0 ... T - 1.
    """
    share = kept[number].unsqueeze(-1)
    point = share.sqrt() * action + (1 - share).sqrt() * noise
    return (predict(obs, point, number.unsqueeze(-1).to(obs.dtype)) - noise).square()


def denoise(predict: Prediction, obs: Tensor, noise: Tensor, clip_start: bool = True) -> Tensor:
    """Follow the chain from noise to actions in [-1, 1].

    Every step goes to the mean of x_(t-1) given x_t and the predicted action a, arXiv:2006.11239, equation 7,
    and adds noise, except in the last step.

    Args:
        predict: Prediction of the noise in a point.
        obs: Observations [B, D].
        noise: The starting point and the noise of all steps but the last one, [T, B, A] or [T, n, B, A].
        clip_start: True to clip the predicted action a to [-1, 1], and to add noise with the variance of
            x_(t-1) given x_t and a. False to clip x_(t-1) itself, and to add noise with the variance beta_t.
    """
    steps = schedule(len(noise))
    point = noise[0]
    for count, step in enumerate(reversed(steps), 1):
        time = point.new_full((1, 1), float(len(steps) - count))
        predicted = predict(obs, point, time)
        start = (point - math.sqrt(1 - step.kept) * predicted) / math.sqrt(step.kept)
        if clip_start:
            start = start.clamp(-1, 1)
        of_start = step.beta * math.sqrt(step.kept_before) / (1 - step.kept)
        of_point = (1 - step.kept_before) * math.sqrt(1 - step.beta) / (1 - step.kept)
        point = of_start * start + of_point * point
        if count < len(steps):
            variance = step.beta
            if clip_start:
                variance *= (1 - step.kept_before) / (1 - step.kept)
            point = point + math.sqrt(variance) * noise[count]
        if not clip_start:
            point = point.clamp(-1, 1)
    return point
