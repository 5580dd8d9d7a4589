"""Learned dynamics: an ensemble of Gaussian networks that predict the next observation and the reward.

Chua et al., arXiv:1805.12114, in the form of Janner et al., arXiv:1906.08253, which model-based offline
algorithms use.

    dynamics  L_M = sum_e mean[ (mu_e(x) - y)^2 / sigma_e(x)^2 + log sigma_e(x)^2 ]
                  + 0.01 (sum log sigma_max^2 - sum log sigma_min^2),  sigma_min < sigma_e < sigma_max
              x = (s, a), standardised;  y = (s' - s, r), not standardised;  mean over rows and dimensions

Every member is trained on its own bootstrap sample of the rows; members differ by that and by their
initial weights. Weight decay is larger in later layers. Fitting ends when no member has improved by more
than 1 % on held-out rows for five epochs; each member keeps its best weights.

Shapes: ``E`` members (always first), ``B`` rows, ``D`` observation width, ``A`` action width.
"""

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.errors import HyperparameterError, UnknownName, UserError
from off2on.recipe.ensembles import EnsembleLinear

FILE = "dynamics.pt"
"""File name of fitted dynamics in the folder of a run."""

PATIENCE = 5
"""Number of epochs without improvement of any member after which fitting ends."""

BETTER = 0.99
"""A member has improved if its error is below this share of its lowest error."""

HELD_OUT = 1000
"""Largest number of held-out rows; at most a fifth of all rows are held out."""


@dataclass(frozen=True)
class DynamicsShape:
    """Sizes that two dynamics must share for the weights of one to fit the other.

    Attributes:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        members: Ensemble size E.
        elites: Number of members used for predictions, the best ones on held-out rows.
    """

    obs: int
    action: int
    hidden: tuple[int, ...] = (200, 200, 200, 200)
    members: int = 7
    elites: int = 5


class Dynamics(nn.Module):
    """E networks N(mu(s, a), sigma(s, a)) of (s' - s, r), as one batched computation."""

    mean: Tensor
    std: Tensor
    elites: Tensor

    def __init__(self, shape: DynamicsShape) -> None:
        super().__init__()
        self.shape = shape
        width, out = shape.obs + shape.action, shape.obs + 1
        sizes = (width, *shape.hidden, 2 * out)
        self.layers = nn.ModuleList(EnsembleLinear(shape.members, *pair) for pair in pairwise(sizes))
        for layer, fan_in in zip(self.layers, sizes, strict=False):
            # As the papers' code initialises: a Gaussian, cut off at twice its sigma.
            sigma = 0.5 / math.sqrt(fan_in)
            nn.init.trunc_normal_(layer.weight, std=sigma, a=-2 * sigma, b=2 * sigma)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.max_log_var = nn.Parameter(torch.full((out,), 0.5))
        self.min_log_var = nn.Parameter(torch.full((out,), -10.0))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("elites", torch.arange(shape.elites))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and log variance of the change and the reward.

        Args:
            inputs: Observations and actions, [B, D + A] for all members or [E, B, D + A].

        Returns:
            Mean and log variance, each [E, B, D + 1].
        """
        x = ((inputs - self.mean) / self.std).expand(self.shape.members, *inputs.shape[-2:])
        for layer in self.layers[:-1]:
            x = F.silu(layer(x))
        mean, log_var = self.layers[-1](x).chunk(2, -1)
        log_var = self.max_log_var - F.softplus(self.max_log_var - log_var)
        return mean, self.min_log_var + F.softplus(log_var - self.min_log_var)

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute twice the negative log-likelihood without its constant, plus the loss of the bounds.

        Args:
            inputs: Observations and actions [E, B, D + A].
            targets: Change of the observation, and the reward [E, B, D + 1].
        """
        mean, log_var = self(inputs)
        likelihood: Tensor = ((mean - targets).square() * (-log_var).exp() + log_var).mean((1, 2)).sum()
        return likelihood + 0.01 * (self.max_log_var.sum() - self.min_log_var.sum())

    @torch.no_grad()
    def errors(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean squared error [E] of each member's mean on rows [B, …]."""
        return (self(inputs)[0] - targets).square().mean((1, 2))  # type: ignore[no-any-return]

    @torch.no_grad()
    def predict(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Compute every member's mean and sigma [E, B, D + 1] of the next observation and the reward."""
        mean, log_var = self(torch.cat((obs, action), -1))
        return mean + F.pad(obs, (0, 1)), (0.5 * log_var).exp()

    def step(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the next observation and the reward from one random elite per row.

        Args:
            obs: Observations [B, D].
            action: Actions [B, A].

        Returns:
            Next observations [B, D], rewards [B], and the sigmas [E, B, D + 1] of all members.
        """
        mean, std = self.predict(obs, action)
        choice = torch.randint(len(self.elites), (len(obs),), device=obs.device)
        member, row = self.elites[choice], torch.arange(len(obs), device=obs.device)
        drawn = mean[member, row] + std[member, row] * torch.randn_like(mean[0])
        return drawn[:, :-1], drawn[:, -1], std


def dynamics_file(name: str) -> Path:
    """Return the path of fitted dynamics, given the file or the folder of a run."""
    return Path(name) / FILE if Path(name).is_dir() else Path(name)


def read_dynamics(path: Path, shape: DynamicsShape) -> dict[str, Tensor]:
    """Read the weights of fitted dynamics, for `load_state_dict`.

    Raises:
        UserError: The file does not exist, or does not hold dynamics of this shape.
    """
    if not path.is_file():
        raise UnknownName(
            f"there are no fitted dynamics at {path}.",
            f"Expected a file, or the folder of a run that holds {FILE}.",
        )
    try:
        kept: Any = torch.load(path, map_location="cpu", weights_only=True)
        found = {name: list(value.shape) for name, value in kept.items()}
    except (pickle.UnpicklingError, EOFError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{path} does not hold fitted dynamics: {type(error).__name__}.",
            f"Expected a file {FILE} of a run.",
        ) from None
    with torch.device("meta"):
        expected = {name: list(value.shape) for name, value in Dynamics(shape).state_dict().items()}
    if differ := [name for name in {**expected, **found} if found.get(name) != expected.get(name)]:
        raise HyperparameterError(
            f"the dynamics at {path} have other shapes than this data set and these hyperparameters need.",
            "\n".join(f"{name}: {found.get(name)}, expected {expected.get(name)}" for name in differ),
            "dynamics=none",
        )
    return dict(kept)


def fit_dynamics(
    dynamics: Dynamics,
    inputs: Tensor,
    targets: Tensor,
    *,
    lr: float,
    decay: Sequence[float],
    batch_size: int,
    epochs: int | None,
    generator: torch.Generator,
) -> dict[str, float]:
    """Train the members until none improves.

    Args:
        dynamics: Dynamics, changed in place.
        inputs: Observations and actions [N, D + A].
        targets: Change of the observation, and the reward [N, D + 1].
        lr: Learning rate of Adam.
        decay: Weight decay of each layer.
        batch_size: Number of rows in every member's batch.
        epochs: Largest number of epochs; None: no limit.
        generator: Generator of all random numbers used here.

    Returns:
        The elites' mean squared error on held-out rows, that of a constant prediction, and the epochs.
    """
    device = generator.device
    order = torch.randperm(len(inputs), generator=generator, device=device).to(inputs.device)
    held = max(1, min(len(inputs) // 5, HELD_OUT))
    test, train = order[:held], order[held:]
    std, mean = torch.std_mean(inputs[train], 0, correction=0)
    dynamics.mean.copy_(mean)
    dynamics.std.copy_(torch.where(std < 1e-12, 1.0, std))
    members = dynamics.shape.members
    rows = torch.randint(len(train), (members, len(train)), generator=generator, device=device)
    rows = train[rows.to(train.device)]
    optimizer = _optimizer(dynamics, lr, decay)
    weights = [parameter for layer in dynamics.layers for parameter in layer.parameters()]
    best = [weight.detach().clone() for weight in weights]
    lowest = torch.full((members,), math.inf, device=inputs.device)
    epoch = waited = 0
    while waited < PATIENCE and (epochs is None or epoch < epochs):
        epoch += 1
        for batch in torch.split(rows, batch_size, 1):
            optimizer.zero_grad()
            dynamics.loss(inputs[batch], targets[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        shuffle = torch.rand(rows.shape, generator=generator, device=device).argsort(1)
        rows = rows.gather(1, shuffle.to(rows.device))
        error = dynamics.errors(inputs[test], targets[test])
        better = error < BETTER * lowest
        lowest = torch.where(better, error, lowest)
        for kept, weight in zip(best, weights, strict=True):
            kept[better] = weight.detach()[better]
        waited = 0 if better.any() else waited + 1
    optimizer.zero_grad()
    with torch.no_grad():
        for kept, weight in zip(best, weights, strict=True):
            weight.copy_(kept)
    dynamics.elites.copy_(lowest.argsort()[: len(dynamics.elites)])
    constant = (targets[test] - targets[train].mean(0)).square().mean()
    return {
        "dynamics/holdout_mse": float(lowest[dynamics.elites].mean()),
        "dynamics/constant_mse": float(constant),
        "dynamics/epochs": float(epoch),
    }


def _optimizer(dynamics: Dynamics, lr: float, decay: Sequence[float]) -> torch.optim.Optimizer:
    """Return Adam; its weight decay d equals the papers' penalty of d / 2 times the squared weights."""
    rest = [dynamics.max_log_var, dynamics.min_log_var, *(layer.bias for layer in dynamics.layers)]
    groups: list[dict[str, Any]] = [{"params": rest}]
    for layer, d in zip(dynamics.layers, decay, strict=True):
        groups.append({"params": [layer.weight], "weight_decay": d})
    return torch.optim.Adam(groups, lr=lr, fused=True)
