"""Transformers: blocks of self-attention and a feed-forward network, and a policy that reads a history.

Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019: layer normalisation is
before each part.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.recipe.histories import split
from off2on.recipe.networks import MLP


class TransformerBlock(nn.Module):
    """x <- x + attention(norm(x)), then x <- x + mlp(norm(x)).

    Weights are drawn from N(0, 0.02^2), biases are 0, as in GPT-2.

    Args:
        width: Width W of a token.
        hidden: Widths of the hidden layers of the feed-forward network.
        heads: Number of attention heads; `width` must be a multiple of it.
    """

    def __init__(self, width: int, hidden: Sequence[int], heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.outputs = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP((width, *hidden, width))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
        """Map tokens [B, T, W] to tokens [B, T, W].

        Args:
            x: Tokens.
            mask: [B, T, T] true where a token (first T) attends to another one (second T).
            dropout: Share of attention weights, and of the outputs of both parts, that is set to 0.
        """
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.inputs(self.norm(x)).chunk(3, -1)
        )
        seen = F.scaled_dot_product_attention(query, key, value, mask.unsqueeze(1), dropout)
        x = x + drop(self.outputs(seen.transpose(1, 2).flatten(2)), dropout)
        return x + drop(self.mlp(self.mlp_norm(x)), dropout)


def drop(x: Tensor, share: float) -> Tensor:
    """Set a share of the numbers to 0, and scale the others by 1 / (1 - share)."""
    return F.dropout(x, share) if share else x


def causal_mask(inside: Tensor, tokens: int) -> Tensor:
    """Return the attention mask [B, T, T] of steps of several tokens: no token attends to a later one.

    Nor does any attend to tokens of steps that are not inside. These attend to themselves, because a softmax
    over nothing is NaN.

    Args:
        inside: [B, K] true for the steps that are there.
        tokens: Number of tokens of a step; T is K times this.
    """
    there = inside.repeat_interleave(tokens, 1)
    size = there.shape[1]
    earlier = torch.ones(size, size, dtype=torch.bool, device=inside.device).tril()
    itself = torch.eye(size, dtype=torch.bool, device=inside.device)
    return earlier & there.unsqueeze(1) | itself


class DecisionTransformer(nn.Module):
    """A policy that reads return, observation and action of each step of a history as three tokens.

    Args:
        obs: Observation width D.
        action: Action width A.
        context: Steps K of a history.
        scale: Divisor of returns.
        longest: Number of embeddings of time; later steps have the last one.
        width: Width of a token.
        hidden: Widths of the hidden layers of each block.
        blocks: Number of blocks.
        heads: Number of attention heads of each block.
    """

    def __init__(
        self,
        obs: int,
        action: int,
        context: int,
        scale: float,
        longest: int,
        width: int,
        hidden: Sequence[int],
        blocks: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.obs, self.context, self.scale, self.longest = obs, context, scale, longest
        self.kinds = nn.ModuleList(nn.Linear(size, width) for size in (1, obs, action))
        self.time = nn.Embedding(longest, width)
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(TransformerBlock(width, hidden, heads) for _ in range(blocks))
        self.head = nn.Linear(width, action)

    def forward(self, history: Tensor, dropout: float = 0.0) -> Tensor:
        """Map histories [B, K (D + A + 2)] to actions [B, K, A] in (-1, 1), one after each observation.

        `dropout` is the share of tokens' numbers and, in the blocks, of others that is set to 0.
        """
        steps = split(history, self.context, self.obs)
        time = self.time(steps.number.long().clamp(1, self.longest) - 1)
        inputs = zip(self.kinds, (steps.ret / self.scale, steps.obs, steps.action), strict=True)
        tokens = torch.stack([kind(x) + time for kind, x in inputs], 2).flatten(1, 2)
        # Nothing attends to the newest action, which is not yet known.
        x, mask = drop(self.norm(tokens[:, :-1]), dropout), causal_mask(steps.inside, 3)[:, :-1, :-1]
        for block in self.blocks:
            x = block(x, mask, dropout)
        return self.head(self.last_norm(x[:, 1::3])).tanh()  # type: ignore[no-any-return]
