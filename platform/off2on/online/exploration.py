"""Ways to collect that any recipe with critics can take: each overrides `act`, as a user's subclass would.

They change what is done when exploring, never the deterministic policy as it was handed over. Their
settings are in ``cls.online_settings``.
"""

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.errors import OnlineSettingsError
from off2on.online.modifier import Change
from off2on.recipe.hooks import Recipe
from off2on.recipe.networks import Nets


class Noisy(Change):
    """The recipe's exploring action, plus Gaussian noise of ``noise``; every action stays in its box."""

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuses whole numbers."""
        if recipe.actions == "discrete":
            raise OnlineSettingsError(
                f"exploration 'noisy' adds noise to actions; {recipe.__name__} has choices."
            )

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Actions [B, A] in [-1, 1]."""
        action = super().act(nets, obs, hp, explore)
        if not explore:
            return action
        noise: Tensor = cls.online_settings.noise * torch.randn_like(action)
        return (action + noise).clamp(-1, 1)


class Judged(Change):
    """What needs critics where it acts."""

    asks: ClassVar[tuple[str, ...]] = ("critic",)

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuses a recipe without critics of an action."""
        if recipe.actions == "discrete" or "critic" not in [
            objective.name for objective in recipe.objectives_in_order()
        ]:
            raise OnlineSettingsError(
                f"exploration '{cls.__name__.lower()}' asks critics Q(s, a) of continuous actions, "
                f"which {recipe.__name__} has not.",
                "own and noisy need none.",
            )


class Optimistic(Judged):
    """Of several of the recipe's exploring actions, the one that promises most.

    Lee, Laskin, Srinivas & Abbeel, "SUNRISE", ICML 2021, arXiv:2007.04938, equation 7:
    argmax_a mean_i Q_i(s, a) + optimism std_i Q_i(s, a).
    """

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Actions [B, A] in [-1, 1]."""
        if not explore:
            return super().act(nets, obs, hp, explore)
        count, rows = cls.online_settings.proposals, len(obs)
        actions = super().act(nets, obs.repeat(count, 1), hp, explore).view(count, rows, -1)
        q = nets.critic(obs, actions)
        best = (q.mean(0) + cls.online_settings.optimism * q.std(0, correction=0)).argmax(0)
        return actions[best, torch.arange(rows, device=obs.device)]


class Expansion(Judged):
    """The policy of the handover is kept beside the one that learns on; the critics choose.

    Zhang, Xu & Yu, "Policy Expansion", ICLR 2023, arXiv:2302.00935: one of the kept policy's action and a
    sample of the learning one is drawn in proportion to exp(selectivity min_i Q_i(s, .)). Without exploring,
    the better of the two deterministic actions is taken.

    Difference: the learning policy goes on from the handover; the paper's starts from random weights,
    which is the algorithm ``pex``.
    """

    asks = (*Judged.asks, "kept")

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuses a recipe that has an expansion already, or no policy network."""
        super().check(recipe)
        names = [objective.name for objective in recipe.objectives_in_order()]
        if "expansion" in names or "actor" not in names or recipe.acting != ("actor",):
            raise OnlineSettingsError(
                f"exploration 'expansion' keeps a copy of the one network that acts; {recipe.__name__} acts "
                f"with {' and '.join(recipe.acting)}."
            )

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """The recipe's, and room for the policy of the handover; ``kept.is_held``: whether it is there."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("kept", copy.deepcopy(nets.actor))
        nets.kept.register_buffer("is_held", torch.tensor(False))
        return nets

    @classmethod
    def on_handover(cls, nets: Nets, hp: Any) -> None:
        """Keep the policy as it is now."""
        super().on_handover(nets, hp)
        nets.kept.load_state_dict(nets.actor.state_dict() | {"is_held": torch.tensor(True)})

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Actions [B, A] in [-1, 1]."""
        new = super().act(nets, obs, hp, explore)
        old = super().act(Nets(actor=nets.kept), obs, hp, explore=False)
        before, after = nets.critic(obs, torch.stack((old, new))).amin(0)
        chosen = after > before
        if explore:  # the second of two logits wins with the sigmoid of their difference
            chosen = torch.rand_like(after) < (cls.online_settings.selectivity * (after - before)).sigmoid()
        return torch.where((chosen | ~nets.kept.is_held).unsqueeze(-1), new, old)


EXPLORATIONS: dict[str, Any] = {"own": None, "noisy": Noisy, "optimistic": Optimistic, "expansion": Expansion}
