"""UWAC: BEAR with targets and policy loss weighted by the critics' dropout uncertainty.

Wu et al., "Uncertainty Weighted Actor-Critic for Offline Reinforcement Learning", ICML 2021,
arXiv:2105.08140.

    critic  L_Q  = sum_i E[ (w(max_n sum_j V'_j(s', a_n)) (r + gamma max_n M*(s', a_n) - Q_i(s, a)))^2 ]
            M, V: mean and variance of a critic over T draws of dropout masks; Q_i: one draw
            w(V) = clip(exp(-beta V), 0, 1), or clip(beta / V, 0, 1);  a_n and M* = BEAR's mixture
    actor   BEAR's with w(sum_j V_j(s, a~)) min_i M_i(s, a~) in place of min_i Q_i(s, a~)

Order as in the authors' code: the autoencoder steps first; the losses of critics and policy both see
the critics and the policy as the update found them, so a_n are drawn first and the policy steps before
the critics; then multiplier and targets. Dropout is active in the targets too; the critics' weights are
divided by their largest singular value.

Differences: as in the authors' code, the weight is exp(-beta V) and inside the square, where the paper has
beta / V outside; ``weight=inverse`` is beta / V, inside too. A target without next state has the weight 1; in
the code it has that of the variance after the end. The largest singular value is exact; the code approximates
it by one step of power iteration per pass. Initialisation differs as in `bear`. Acting uses no dropout, the
code samples it. T = 100 is expensive: ``off2on plan uwac DATA passes=10`` tells what fewer passes save.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.algorithms.bear import BEAR, BEARHyperparameters
from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets, concatenate
from off2on.recipe.singular_values import largest_singular_value
from off2on.recipe.vae import min_max_mixture

ROWS = 16_384
"""Number of rows that are evaluated at a time, so that the memory does not grow with T."""


@dataclass(frozen=True)
class UWACHyperparameters(BEARHyperparameters):
    """Hyperparameters of the authors' code."""

    beta: float = hp(0.5, "weight of the variance; 0 (exponential): all weights are 1", least=0,
                     search=("log", 0.1, 2.0))  # fmt: skip
    weight: str = hp("exponential", "w: exp(-beta V) or beta / V", choices=("exponential", "inverse"))
    passes: int = hp(100, "T, number of dropout masks per value", least=2)
    dropout: float = hp(0.1, "dropout of the critics' hidden units", least=0, below=1, built=True)
    spectral: bool = hp(True, "divide the critics' weights by their largest singular value", built=True)
    kernel: str = hp("gaussian", "kernel of the MMD", choices=("laplacian", "gaussian"))
    threshold: float = hp(0.07, "eps, the bound on the MMD", above=0, search=("log", 0.02, 0.2))
    slow_actor: bool = hp(False, "take the target's actions from the target network of the policy")

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}


class DropoutCritic(Critic):
    """Critics with dropout after every hidden layer in `forward` and `passes`."""

    def __init__(self, obs: int, action: int, hidden: Sequence[int], dropout: float, spectral: bool) -> None:
        super().__init__(obs, action, hidden)
        self.dropout, self.spectral = dropout, spectral

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Compute values [E, B] with one dropout mask for every row."""
        return self.passes(obs, action, 1)[:, 0]

    def passes(self, obs: Tensor, action: Tensor, count: int) -> Tensor:
        """Compute values with `count` masks: [B, A] to [E, count, B], [n, B, A] to [E, count, n, B]."""
        (first, bias), *rest = self._layers()
        x = concatenate(obs, action).flatten(0, -2)
        hidden = torch.baddbmm(bias, x.expand(self.members, *x.shape), first.transpose(1, 2)).relu()
        parts = []
        for start in range(0, count, at_once := max(1, ROWS // len(x))):
            draws = min(at_once, count - start)
            h = hidden.unsqueeze(1).expand(-1, draws, -1, -1).flatten(1, 2)
            for number, (weight, bias) in enumerate(rest):
                h = F.dropout(h.relu() if number else h, self.dropout)
                h = torch.baddbmm(bias, h, weight.transpose(1, 2))
            parts.append(h.view(self.members, draws, *action.shape[:-1]))
        return torch.cat(parts, 1)

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        """Compute the values [B] of the first member, without dropout."""
        x = torch.cat((obs, action), -1)
        for number, (weight, bias) in enumerate(self._layers(members=1)):
            x = F.linear(x.relu() if number else x, weight[0], bias[0, 0])
        return x.squeeze(-1)

    def _layers(self, members: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return weights [E, out, in] and biases [E, 1, out] by layer."""
        layers: Any = self.layers
        pairs = [(layer.weight[:members], layer.bias[:members]) for layer in layers]
        return [(w / largest_singular_value(w) if self.spectral else w, b) for w, b in pairs]


class UWAC(BEAR):
    """BEAR with targets and policy loss weighted by the critics' dropout uncertainty."""

    Hyperparameters = UWACHyperparameters
    objectives = ("vae", "actor", "critic", "multiplier")

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Draw ``next_actions`` [n, B, A] that the target maximises over, without gradient."""
        with torch.no_grad():
            batch.next_actions = cls.next_actions(nets, batch, hp)
        return batch

    @classmethod
    def build_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Build twin critics with dropout."""
        return DropoutCritic(obs, action, hp.hidden, hp.dropout, hp.spectral)

    @classmethod
    def certainty(cls, variance: Tensor, hp: Any) -> Tensor:
        """Return the weights of values with this variance."""
        inverse = hp.weight == "inverse"
        weight = hp.beta / variance.clamp(min=1e-12) if inverse else torch.exp(-hp.beta * variance)
        return weight.clamp(max=1)

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the Bellman error, weighted by the target's certainty."""
        with torch.no_grad():
            drawn = nets.target.critic.passes(batch.next_obs, batch.next_actions, hp.passes)
            weighed = hp.discount * batch.mask
            target = batch.reward + weighed * min_max_mixture(drawn.mean(1), hp.smallest).amax(0)
            variance = drawn.var(1).sum(0).amax(0) * (weighed > 0)
            weight = cls.certainty(variance, hp)
        q = nets.critic(batch.obs, batch.action)
        squared = weight.square() if batch.weight is None else weight.square() * batch.weight
        return losses.td(q, target, squared), {"q": q.detach().mean(), "critic/trust": weight.mean()}

    @classmethod
    def own_value(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Return the minimum mean [B], weighted by its certainty."""
        drawn = nets.critic.passes(batch.obs, batch.own_action, hp.passes)
        certainty = cls.certainty(drawn.detach().var(1).sum(0), hp)
        return certainty * drawn.mean(1).amin(0)  # type: ignore[no-any-return]
