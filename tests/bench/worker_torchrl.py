"""A worker that makes gradient updates with torchrl, sampling included.

usage: python worker_torchrl.py COLUMNS.npz     then the lines of `answering`

It is executed by the Python of torchrl's own environment. The order of losses and steps is that of torchrl's
own examples. torchrl has losses of BC, TD3+BC, IQL, CQL and SAC, none of AWAC, ReBRAC, Cal-QL and EDAC.
"""

import sys
import warnings
from collections.abc import Callable

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from answering import answer, repeat  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from tensordict.nn import InteractionType, NormalParamExtractor, TensorDictModule  # noqa: E402
from torch import nn  # noqa: E402
from torchrl.data import Bounded, LazyTensorStorage, TensorDictReplayBuffer  # noqa: E402
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator  # noqa: E402
from torchrl.objectives import CQLLoss, IQLLoss, SACLoss, SoftUpdate, TD3BCLoss  # noqa: E402
from torchrl.objectives.bc import BCLoss  # noqa: E402

BATCH, TWO, THREE = 256, [256, 256], [256, 256, 256]
Once = Callable[[], object]


class Worker:
    """Rows in torchrl's replay buffer, and a function for each algorithm."""

    def __init__(self, path: str) -> None:
        data = {name: torch.from_numpy(column) for name, column in np.load(path).items()}
        count, self.obs = data["obs"].shape
        self.action = data["action"].shape[1]
        following = {
            "observation": data["next_obs"],
            "reward": data["reward"],
            "done": (data["done"] + data["truncated"]).bool(),
            "terminated": data["done"].bool(),
        }
        rows = {"observation": data["obs"], "action": data["action"], "next": following}
        self.buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(count), batch_size=BATCH)
        self.buffer.extend(TensorDict(rows, [count]))
        self.spec = Bounded(-torch.ones(self.action), torch.ones(self.action), (self.action,))

    def deterministic(self, hidden: list[int]) -> TensorDictModule:
        net = MLP(in_features=self.obs, out_features=self.action, num_cells=hidden, activation_class=nn.ReLU)
        return TensorDictModule(nn.Sequential(net, nn.Tanh()), in_keys=["observation"], out_keys=["action"])

    def squashed(self, hidden: list[int]) -> ProbabilisticActor:
        net = MLP(
            in_features=self.obs, out_features=2 * self.action, num_cells=hidden, activation_class=nn.ReLU
        )
        module = TensorDictModule(
            nn.Sequential(net, NormalParamExtractor()), in_keys=["observation"], out_keys=["loc", "scale"]
        )
        return ProbabilisticActor(
            module,
            spec=self.spec,
            in_keys=["loc", "scale"],
            distribution_class=TanhNormal,
            distribution_kwargs={"low": -1.0, "high": 1.0, "tanh_loc": False},
            default_interaction_type=InteractionType.RANDOM,
            return_log_prob=False,
        )

    def critic(self, hidden: list[int]) -> ValueOperator:
        net = MLP(
            in_features=self.obs + self.action, out_features=1, num_cells=hidden, activation_class=nn.ReLU
        )
        return ValueOperator(net, in_keys=["observation", "action"])

    def value(self, hidden: list[int]) -> ValueOperator:
        net = MLP(in_features=self.obs, out_features=1, num_cells=hidden, activation_class=nn.ReLU)
        return ValueOperator(net, in_keys=["observation"])

    def bc(self) -> Once:
        loss = BCLoss(self.deterministic(TWO), loss_function="l2")
        optimizer = adam(loss.actor_network_params)

        def once() -> None:
            step(optimizer, loss(self.buffer.sample())["loss_bc"])

        return once

    def td3_bc(self) -> Once:
        loss = TD3BCLoss(
            self.deterministic(TWO), self.critic(TWO), action_spec=self.spec, loss_function="l2", alpha=2.5
        )
        loss.make_value_estimator(gamma=0.99)
        target = SoftUpdate(loss, tau=0.005)
        actor, critic = adam(loss.actor_network_params), adam(loss.qvalue_network_params)
        updates = 0

        def once() -> None:
            nonlocal updates
            updates += 1
            batch = self.buffer.sample()
            step(critic, loss.qvalue_loss(batch)[0])
            if updates % 2 == 0:
                step(actor, loss.actor_loss(batch)[0])
                target.step()

        return once

    def iql(self) -> Once:
        loss = IQLLoss(
            self.squashed(TWO),
            self.critic(TWO),
            self.value(TWO),
            loss_function="l2",
            temperature=3.0,
            expectile=0.7,
        )
        loss.make_value_estimator(gamma=0.99)
        target = SoftUpdate(loss, tau=0.005)
        optimizers = {
            "loss_actor": adam(loss.actor_network_params),
            "loss_qvalue": adam(loss.qvalue_network_params),
            "loss_value": adam(loss.value_network_params),
        }

        def once() -> None:
            losses = loss(self.buffer.sample())
            for name, optimizer in optimizers.items():
                step(optimizer, losses[name])
            target.step()

        return once

    def cql(self) -> Once:
        loss = CQLLoss(
            self.squashed(THREE),
            self.critic(THREE),
            action_spec=self.spec,
            loss_function="l2",
            min_q_weight=5.0,
            num_random=10,
        )
        loss.make_value_estimator(gamma=0.99)
        target = SoftUpdate(loss, tau=0.005)
        actor, critic = adam(loss.actor_network_params, 1e-4), adam(loss.qvalue_network_params)
        alpha = torch.optim.Adam([loss.log_alpha], lr=1e-4)

        def once() -> None:
            batch = self.buffer.sample()
            q_loss, _ = loss.q_loss(batch)
            cql_loss, _ = loss.cql_loss(batch)
            actor_loss, found = loss.actor_loss(batch)
            alpha_loss, _ = loss.alpha_loss(found, mask_tensordict=batch)
            step(alpha, alpha_loss)
            step(actor, actor_loss)
            step(critic, q_loss + cql_loss)
            target.step()

        return once

    def sac_n(self) -> Once:
        loss = SACLoss(
            self.squashed(THREE),
            self.critic(THREE),
            num_qvalue_nets=10,
            action_spec=self.spec,
            loss_function="l2",
        )
        loss.make_value_estimator(gamma=0.99)
        target = SoftUpdate(loss, tau=0.005)
        actor, critic = adam(loss.actor_network_params), adam(loss.qvalue_network_params)
        optimizers = actor, critic, torch.optim.Adam([loss.log_alpha], lr=3e-4)

        def once() -> None:
            losses = loss(self.buffer.sample())
            for optimizer in optimizers:
                optimizer.zero_grad()
            (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
            for optimizer in optimizers:
                optimizer.step()
            target.step()

        return once


def adam(parameters: object, lr: float = 3e-4) -> torch.optim.Optimizer:
    return torch.optim.Adam(list(parameters.values(True, True)), lr=lr)  # type: ignore[attr-defined]


def step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    worker = Worker(sys.argv[1])
    names = ("bc", "td3_bc", "iql", "cql", "sac_n")
    answer({name: lambda threads, name=name: repeat(getattr(worker, name)()) for name in names})
