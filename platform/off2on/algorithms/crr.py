"""CRR: behaviour cloning weighted by the advantage over the policy's own actions.

Wang, Novikov, Żołna et al., "Critic Regularized Regression", NeurIPS 2020, arXiv:2006.15134.

    actor   L_pi = -E[ f(A) log pi(a|s) ],  A = Q(s, a) - mean_j Q(s, a_j),  a_j ~ pi(s), j = 1 … m
            f(A) = min(exp(A / beta), 20)  or  1(A > 0);  or max_j in place of the mean           (2-5)
    critic  L_Q  = sum_i E[ (r + gamma min_j Q'_j(s', a') - Q_i(s, a))^2 ],  a' ~ pi'(s')          (1)

Q is the mean of the critics, of which there is one by default. As in the paper and in acme, both losses use
the networks as they were before the update: the actor steps before the critic it reads, and the critic's
loss uses target networks only. Critic and policy have target networks, which are copied every 100 updates;
with ``target_every=1 polyak=0.005`` they change in small steps.

The policy acts through the critic (critic-weighted policy, section 3.2): of m samples one is drawn in
proportion to exp(Q / beta).

Differences: a plain critic with squared errors and a single Gaussian N(tanh f(s), g(s)), as in d3rlpy,
where the paper has a distributional critic (``critic_head=c51``), a mixture of Gaussians and recurrent
networks. Samples are clipped to the action box before they are evaluated. Without exploration nothing is
drawn: the policy takes the best of the mean and m - 1 samples with noise that is fixed when the networks are
built.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.actors import StateGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters, head_of
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class CRRHyperparameters(CriticHeadHyperparameters):
    """Hyperparameters of section 3 and acme's configuration."""

    weight: str = hp("exp", "f: exponential in the advantage, or its sign", choices=("exp", "binary"))
    baseline: str = hp("mean", "statistic of the samples' values in the advantage", choices=("mean", "max"))
    samples: int = hp(4, "m, number of the policy's actions in the baseline of the advantage", least=1)
    acting_samples: int = hp(4, "m of the critic-weighted policy; 1 acts without the critic", least=1)
    beta: float = hp(
        1.0, "temperature of the weights: small selects the best", above=0, search=("log", 0.1, 10)
    )
    weight_clip: float = hp(20.0, "largest weight of exp", above=0)
    critics: int = hp(1, "number of critics", least=1, built=True)
    critic_lr: float = hp(3e-4, "learning rate of the critic (Adam)", above=0, search=("log", 1e-4, 1e-3))
    target_every: int = hp(100, "updates between two updates of the target networks", least=1)
    polyak: float = hp(1.0, "tau: target <- (1 - tau) target + tau network", least=0, most=1)


class CRR(OfflineToOnline):
    """Behaviour cloning weighted by the advantage over the policy's own actions."""

    Hyperparameters = CRRHyperparameters
    objectives = ("actor", "critic")
    acting_networks = ("actor", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: CRRHyperparameters) -> Nets:
        """Build a critic and a Gaussian policy with target networks, and fixed noise for acting."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        actor = StateGaussianActor(obs, action, hp.hidden)
        noise = torch.randn(hp.acting_samples, 1, action)
        noise[0] = 0.0
        actor.register_buffer("noise", noise)
        critic = Critic(obs, action, hp.hidden, hp.critics, head=head_of(hp))
        return Nets(actor=actor, critic=critic, targets=("actor", "critic"))

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: CRRHyperparameters) -> Loss:
        """Compute the cloning loss, weighted by the advantage over the policy's own actions."""
        policy = nets.actor(batch.obs)
        with torch.no_grad():
            own = policy.sample(hp.samples).clamp(-1, 1)
            q = nets.critic(batch.obs, torch.cat((batch.action.unsqueeze(0), own))).mean(0)
            advantage = q[0] - (q[1:].mean(0) if hp.baseline == "mean" else q[1:].amax(0))
        log_prob = policy.log_prob(batch.action)
        metrics = {"actor/log_prob": log_prob.detach().mean(), "advantage": advantage.mean()}
        if hp.weight == "exp":
            loss = losses.advantage_weighted(log_prob, advantage, 1 / hp.beta, hp.weight_clip)
            return loss, metrics
        passes = (advantage > 0).float()
        return -(passes * log_prob).mean(), metrics | {"actor/passes": passes.mean()}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: CRRHyperparameters) -> Loss:
        """Compute the Bellman error against the target value of the target policy's action."""
        with torch.no_grad():
            action = nets.target.actor(batch.next_obs).sample().clamp(-1, 1)
            future = nets.target.critic.future(batch.next_obs, action).amin(0)
            target = batch.reward + hp.discount * batch.mask * future
        q = nets.critic.predict(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def is_target_update_due(cls, hp: CRRHyperparameters, update: int, progress: float) -> bool:
        """Return True on every `target_every`-th update."""
        return update % hp.target_every == 0

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: CRRHyperparameters, explore: bool) -> Tensor:
        """Return the best of the mean and fixed deviations; if exploring, a draw among samples."""
        policy = nets.actor(obs)
        raw = policy.sample(hp.acting_samples) if explore else policy.mean + policy.std * nets.actor.noise
        actions = raw.clamp(-1, 1)
        score = nets.critic(obs, actions).mean(0) / hp.beta
        if explore:  # the largest of logits with Gumbel noise is a draw from their softmax
            score = score - torch.empty_like(score).exponential_().log()
        best = score.argmax(0, keepdim=True).unsqueeze(-1).expand(1, *policy.mean.shape)
        return actions.gather(0, best).squeeze(0)  # type: ignore[no-any-return]
