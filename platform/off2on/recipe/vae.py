"""Generative model of the data's actions, and functions of actions drawn from it.

Shapes: ``B`` observations, ``D`` observation width, ``A`` action width, ``L`` latent width, ``n``
actions per observation (before ``B``), ``E`` critics. Actions live in [-1, 1].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from off2on.recipe.action_choice import best_proposal
from off2on.recipe.networks import MLP, Critic, concatenate


class Autoencoder(nn.Module):
    """A variational autoencoder of actions, conditional on observations; L is twice A.

    Fujimoto, Meger & Precup, "Off-Policy Deep Reinforcement Learning without Exploration",
    arXiv:1812.02900.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers of encoder and decoder.
    """

    def __init__(self, obs: int, action: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.latent = 2 * action
        self.encoder = MLP((obs + action, *hidden, 2 * self.latent))
        self.decoder = MLP((obs + self.latent, *hidden, action))

    def encode(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log sigma [B, L] of the latent, given [B, D] and [B, A]."""
        mean, log_std = self.encoder(torch.cat((obs, action), -1)).chunk(2, -1)
        return mean, log_std.clamp(-4, 15)

    def before_tanh(self, obs: Tensor, latent: Tensor) -> Tensor:
        """Decode one or several latents into actions before the tanh: [B, A] or [n, B, A]."""
        return self.decoder(concatenate(obs, latent))  # type: ignore[no-any-return]

    def forward(self, obs: Tensor, latent: Tensor) -> Tensor:
        """Decode one or several latents: [B, L] or [n, B, L] to actions [B, A] or [n, B, A]."""
        return self.before_tanh(obs, latent).tanh()

    def latents(self, *shape: int) -> Tensor:
        """Draw latents [*shape, L] from N(0, 1), clipped to [-0.5, 0.5], where the decoder is reliable."""
        device = next(self.decoder.parameters()).device
        return torch.randn(*shape, self.latent, device=device).clamp(-0.5, 0.5)

    def loss_per_transition(self, obs: Tensor, action: Tensor, kl_weight: float) -> Tensor:
        """Compute the loss of every transition [B]: squared error plus weighted divergence from N(0, 1).

        Both are means over dimensions, as in the authors' code, not sums.
        """
        mean, log_std = self.encode(obs, action)
        latent = mean + log_std.exp() * torch.randn_like(mean)
        error: Tensor = (self(obs, latent) - action).square().mean(-1)
        divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).mean(-1)
        return error + kl_weight * divergence


class Perturbation(nn.Module):
    """A bounded correction of actions: clip(a + reach tanh(f(s, a)), -1, 1).

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        reach: Largest correction of a dimension, BCQ's Phi.
    """

    def __init__(self, obs: int, action: int, hidden: Sequence[int], reach: float) -> None:
        super().__init__()
        self.mlp = MLP((obs + action, *hidden, action))
        self.reach = reach

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return corrected actions [B, A] or [n, B, A]."""
        shift: Tensor = self.reach * self.mlp(concatenate(obs, action)).tanh()
        return (action + shift).clamp(-1, 1)


def min_max_mixture(q: Tensor, smallest: float) -> Tensor:
    """Combine critics by BCQ's soft clipped double Q-learning: share min + (1 - share) max.

    Args:
        q: Values [E, ...].
        smallest: Share of the minimum; 1 is clipped double Q-learning.
    """
    return smallest * q.amin(0) + (1 - smallest) * q.amax(0)


def best_action(critic: Critic, obs: Tensor, action: Tensor) -> Tensor:
    """Select among n actions [n, B, A] per observation the one [B, A] of the highest first critic's value."""
    count, rows, _ = action.shape
    flat = obs.expand(count, rows, obs.shape[-1]).flatten(0, 1)
    return best_proposal(critic.first(flat, action.flatten(0, 1)).view(count, rows), action)
