"""DT: loops over rows, steps and tokens, in double precision."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_flows import network, normalise
from torch import Tensor

from off2on.algorithms.dt import DT

Make = Callable[..., Any]
OBS, ACTION, CONTEXT = 5, 3, 4
STEP = OBS + ACTION + 2
ROWS = 16


def linear(layer: Any, x: Tensor) -> Tensor:
    return layer.weight.double() @ x + layer.bias.double()


def norm(layer: Any, x: Tensor) -> Tensor:
    return normalise(x, layer.weight, layer.bias)


def attended(block: Any, tokens: list[Tensor]) -> list[Tensor]:
    """Each token's mixture of the values of itself and the earlier ones, head by head."""
    width = len(tokens[0])
    size = width // block.heads
    parts = [linear(block.inputs, norm(block.norm, token)) for token in tokens]
    mixed = []
    for place, own in enumerate(parts):
        heads = []
        for head in range(block.heads):
            part = slice(head * size, (head + 1) * size)
            scores = [own[:width][part] @ it[width : 2 * width][part] / math.sqrt(size) for it in parts]
            shares = [score.exp() for score in scores[: place + 1]]
            total = sum(shares)
            heads.append(
                sum(share / total * it[2 * width :][part] for share, it in zip(shares, parts, strict=False))
            )
        mixed.append(torch.cat(heads))
    return mixed


def actions(net: Any, steps: list[Tensor], scale: float) -> list[Tensor]:
    """The actions that a policy takes after each observation of an episode's steps."""
    tokens = []
    for step in steps:
        obs, action, ret, number = step[:OBS], step[OBS:-2], step[-2:-1], int(step[-1])
        time = net.time.weight[min(number, net.longest) - 1].double()
        for kind, x in zip(net.kinds, (ret / scale, obs, action), strict=True):
            tokens.append(norm(net.norm, linear(kind, x) + time))
    for block in net.blocks:
        mixed = attended(block, tokens)
        tokens = [token + linear(block.outputs, mix) for token, mix in zip(tokens, mixed, strict=True)]
        tokens = [
            token + network(block.mlp, norm(block.mlp_norm, token), function=torch.relu) for token in tokens
        ]
    return [linear(net.head, norm(net.last_norm, token)).tanh() for token in tokens[1::3]]


@pytest.mark.parametrize("seed", range(3))
def test_dt(problem: Make, fidelity: Any, seed: int):
    case = problem(
        DT, seed=seed, width=8, hidden=(12,), blocks=2, heads=2, dropout=0.0, return_scale=3.0,
        max_steps=6, context=CONTEXT,
    )  # fmt: skip
    batch, net = case.prepared(), case.nets.actor
    batch.obs, batch.action = batch.obs[:ROWS], batch.action[:ROWS]
    total, count = torch.zeros((), dtype=torch.float64), 0
    for b in range(ROWS):
        row = batch.obs[b].double().view(CONTEXT, STEP)
        steps = [step for step in row if step[-1] > 0]
        taken = [step[OBS:-2] for step in steps[:-1]] + [batch.action[b].double()]
        for mine, its in zip(actions(net, steps, 3.0), taken, strict=True):
            total, count = total + ((mine - its) ** 2).sum() / ACTION, count + 1
    assert ROWS < count < ROWS * CONTEXT
    fidelity.compare_with_loops("dt", "actor", case, batch, total / count)
