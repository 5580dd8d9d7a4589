"""Balanced replay: transitions are prioritised by an estimated density ratio, online over offline.

Lee et al., "Offline-to-Online Reinforcement Learning via Balanced Replay and Pessimistic
Q-Ensemble", CoRL 2021, arXiv:2107.00591, section 4.1 and algorithm 1.

    density ratio   w(s, a) ≈ p_online(s, a) / p_offline(s, a), by L_DR (`losses.density_ratio`)
    priority        p = clip( w^(1/T) / mean_offline(w^(1/T)), 0.001, 1000 )
    new rows        p = max( M f / ((1 - f) 1000), largest priority so far )

The priority of a row is updated after each update that used it. New online rows get a priority
that gives the first thousand of them the share f of the total priority; M is the number of offline rows.
One sum tree holds all rows. Every batch is drawn with the priorities left by the previous update, in strata
of equal mass, and there is no importance correction. If the offline rows have weights (see
`replay.augmentation`), these are their first priorities, M is their sum, and p_offline is the weighted
distribution.

With several learners, each holds its share of the rows; M counts the rows of all learners, so that the first
thousand online rows, which are distributed as well, have the share f.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.hyperparameters import Settings, hp
from off2on.recipe.networks import MLP
from off2on.replay.buffer import ReplayBuffer
from off2on.replay.strategy import Strategy, draw_offline, draw_uniform
from off2on.replay.sum_tree import SumTree


@dataclass(frozen=True)
class BalancedOptions(Settings):
    """Options; defaults of section 5 and the authors' code."""

    online_share: float = hp(
        0.5,
        "f, share of the first 1000 online rows in the total priority; 0.75 for medium data",
        above=0,
        below=1,
    )
    temperature: float = hp(5.0, "T: priorities are w^(1/T), more uniform for larger T", above=0)
    ratio_lr: float = hp(3e-4, "learning rate of the density ratio (Adam)", above=0)
    ratio_batch: int = hp(256, "offline rows, and online rows, per update of the density ratio", least=1)


class Balanced(Strategy):
    """Density-ratio prioritised replay over offline and online rows."""

    Options: ClassVar[type[Settings]] = BalancedOptions
    block: ClassVar[int] = 1

    def __init__(self, rows: ReplayBuffer, options: BalancedOptions) -> None:
        super().__init__(rows, options)
        device = rows.data.device
        self.tree = SumTree(len(rows.data), device)
        first = torch.ones(rows.offline, dtype=torch.float64, device=device)
        self.tree.fill(first if rows.weights is None else rows.weights)
        layout = rows.layout
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            width = layout.widths["obs"] + (layout.num_actions or layout.widths["action"])
            self.ratio = MLP((width, 256, 256, 1)).to(device)
        last = self.ratio[-1]
        assert isinstance(last, nn.Linear)
        nn.init.ones_(last.bias)
        self.optimizer = torch.optim.Adam(self.ratio.parameters(), lr=options.ratio_lr, fused=True)
        share = options.online_share
        held = rows.offline if rows.weights is None else rows.offline_weight
        first_online = rows.learners * held * share / ((1 - share) * 1000)
        self.largest = torch.tensor(first_online, dtype=torch.float64, device=device)

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Return positions [updates, size] in proportion to priority, stratified within each batch."""
        total = self.tree.total
        stratum = torch.arange(size, device=total.device) + torch.rand(
            (updates, size), generator=generator, device=total.device, dtype=total.dtype
        )
        return self.tree.find((stratum / size * total).flatten()).view(updates, size)

    def on_added(self, position: Tensor) -> None:
        """Give new online rows the largest priority so far."""
        self.tree.set(position, self.largest)

    def on_replaced(self, position: Tensor) -> None:
        """Give new offline rows priority 1; a stream has already applied their weights."""
        self.tree.set(position, 1.0)

    def on_used(self, batch: Batch, position: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Update the priorities of the used rows, then the density ratio, as in the authors' code."""
        if self.rows.online == 0 or len(position) == 0:  # model rollouts have no priority
            return {}
        size = (self.options.ratio_batch,)
        offline = draw_offline(self.rows, size, generator)
        online = draw_uniform(self.rows.offline, self.rows.online, size, generator)
        (drawn,) = self.rows.batches_at(torch.cat((offline, online)).unsqueeze(0))
        ratio_offline, ratio_online = self._ratio(drawn).chunk(2)
        with torch.no_grad():
            mean = self._root(ratio_offline).mean().clamp(min=1e-10)
            fresh = (self._root(self._ratio(batch)) / mean).clamp(1e-3, 1e3)
        loss = losses.density_ratio(ratio_offline, ratio_online)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.tree.set(position, fresh)
        self.largest = torch.maximum(self.largest, fresh.max().to(self.largest))
        return {"balanced/ratio_loss": loss.detach(), "balanced/priority": fresh.mean()}

    def _ratio(self, batch: Batch) -> Tensor:
        """Return w(s, a) [B] of a batch, at least 0."""
        num_actions = self.rows.layout.num_actions
        action = F.one_hot(batch.action.long(), num_actions) if num_actions else batch.action
        return F.relu(self.ratio(torch.cat((batch.obs, action), -1))).squeeze(-1)

    def _root(self, ratio: Tensor) -> Tensor:
        """Return w^(1/T) of ratios w [B], bounded because it would be infinite for T near 0."""
        return ratio.pow(1 / self.options.temperature).clamp(max=1e30)

    def state(self) -> dict[str, Any]:
        """Return the priorities, the density ratio and its optimiser."""
        return {
            "priority": self.tree.priority[: self.rows.offline + self.rows.online].cpu().clone(),
            "largest": float(self.largest),
            "ratio": self.ratio.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state` returned."""
        self.tree.fill(state["priority"].to(self.tree.priority))
        self.largest = torch.full_like(self.largest, state["largest"])
        self.ratio.load_state_dict(state["ratio"])
        self.optimizer.load_state_dict(state["optimizer"])
