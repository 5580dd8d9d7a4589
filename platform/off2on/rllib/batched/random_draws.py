"""Draw random numbers and compute gradients inside the losses of S networks under `torch.func.vmap`.

Under vmap a loss is written for one network's tensors and runs once for all networks. Two things would then
differ from S separate runs, and are replaced here: random numbers, which each network must get from its own
generator in the order of its own run; and gradients computed inside a loss. Other operations that vmap does
not support raise vmap's error.

The replacements leave vmap's batching level and enter it again with torch's internal functions. The
documented alternative, a vmap rule of an `autograd.Function`, takes half a millisecond per call, as long as
an update of small networks.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

Draw = Callable[..., Tensor]


class PerNetworkRandom(TorchFunctionMode):
    """Gives each network its own random numbers under vmap, and makes `torch.autograd.grad` work there.

    Args:
        generators: One generator for each network, on its device.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.generators = generators
        self.level = retrieve_current_functorch_interpreter().level()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function, or its replacement for all networks."""
        kwargs = kwargs or {}
        replacement = REPLACEMENTS.get(func)
        if replacement is None or "generator" in kwargs:
            return func(*args, **kwargs)
        return replacement(self, *args, **kwargs)

    def draw_each(self, draw: Draw, *args: Any, **kwargs: Any) -> Tensor:
        """Draw for every network with its own generator and its own part of the tensors."""
        indices = [index for index, arg in enumerate(args) if isinstance(arg, Tensor)]

        def draw_all(*stacked: Tensor) -> Tensor:
            parts = []
            for number, generator in enumerate(self.generators):
                own = dict(zip(indices, (tensor[number] for tensor in stacked), strict=True))
                own_args = [own.get(index, arg) for index, arg in enumerate(args)]
                parts.append(draw(*own_args, generator=generator, **kwargs))
            return torch.stack(parts)

        return self.run_unbatched(draw_all, *(args[index] for index in indices))  # type: ignore[no-any-return]

    def run_unbatched(self, function: Callable[..., Any], *tensors: Tensor) -> Any:
        """Call a function outside vmap: tensors of all networks, [S, …] each, go in and come out, or None."""
        vmap = retrieve_current_functorch_interpreter()
        if vmap.level() != self.level:
            raise RuntimeError("a loss draws random numbers or takes gradients in a transform of its own")
        stacked = [self._unwrap(tensor) for tensor in tensors]
        with torch._C.DisableTorchFunction(), vmap.lower():
            result = function(*stacked)
        if isinstance(result, tuple):
            return tuple(self._wrap(one) for one in result)
        return None if result is None else self._wrap(result)

    def _unwrap(self, tensor: Tensor) -> Tensor:
        whole, at = _functorch._unwrap_batched(tensor, self.level)
        if at is None:
            return whole.expand(len(self.generators), *whole.shape)
        # movedim would return a view, and gradients are with respect to the tensor itself.
        return whole.movedim(at, 0) if at else whole

    def _wrap(self, whole: Tensor) -> Any:
        return _functorch._add_batch_dim(whole, 0, self.level)


def _replace_draw(draw: Draw) -> Callable[..., Tensor]:
    return lambda draws, *args, **kwargs: draws.draw_each(draw, *args, **kwargs)


def _replace_fill(fill: Draw) -> Callable[..., Tensor]:
    """Draw into new memory and copy: vmap does not support an in-place draw into a shared tensor."""

    def draw(into: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return fill(torch.empty_like(into), *args, **kwargs)

    return lambda draws, into, *args, **kwargs: into.copy_(draws.draw_each(draw, into, *args, **kwargs))


def _replace_like(fill: Draw) -> Callable[..., Tensor]:
    def draw(like: Tensor, *, generator: torch.Generator, **kwargs: Any) -> Tensor:
        return fill(torch.empty_like(like, **kwargs), generator=generator)

    return _replace_draw(draw)


def _dropout(
    draws: PerNetworkRandom, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Multiply by a mask, as torch does on the CPU."""
    if p == 0 or not training:
        return x

    def mask(like: Tensor, *, generator: torch.Generator) -> Tensor:
        return torch.empty_like(like).bernoulli_(1 - p, generator=generator).div_(1 - p)

    kept = draws.draw_each(mask, x.detach())
    return x.mul_(kept) if inplace else x * kept


def _attention(
    draws: PerNetworkRandom, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float = 0.0
) -> Tensor:
    """Compute attention with a mask [..., T, T], as torch does on the CPU if it drops weights."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~mask, -math.inf).softmax(-1)
    return _dropout(draws, weights, dropout) @ value


def _leaf(draws: PerNetworkRandom, x: Tensor, requires_grad: bool = True) -> Tensor:
    """Make a leaf tensor for gradients; torch's own call has no effect through vmap."""

    def leaf(whole: Tensor) -> Tensor:
        return whole if whole.requires_grad else whole.detach().requires_grad_(requires_grad)

    return draws.run_unbatched(leaf, x)  # type: ignore[no-any-return]


def _grad(draws: PerNetworkRandom, outputs: Any, inputs: Any, **kwargs: Any) -> Any:
    """Compute gradients of one scalar per network, as the gradient of their sum: they are independent."""
    outputs, inputs = ([x] if isinstance(x, Tensor) else list(x) for x in (outputs, inputs))

    def gradients(*whole: Tensor) -> tuple[Tensor, ...]:
        scalars = [scalar.sum() for scalar in whole[: len(outputs)]]
        return torch.autograd.grad(scalars, whole[len(outputs) :], **kwargs)

    if any(output.dim() for output in outputs):
        raise RuntimeError("gradients inside a loss must be of scalars")
    return draws.run_unbatched(gradients, *outputs, *inputs)


REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    **{draw: _replace_draw(draw) for draw in (torch.rand, torch.randn, torch.randint, torch.randperm)},
    **{draw: _replace_draw(draw) for draw in (torch.normal, torch.bernoulli, torch.multinomial)},
    **{
        fill: _replace_fill(fill)
        for fill in (
            torch.Tensor.uniform_,
            torch.Tensor.normal_,
            torch.Tensor.exponential_,
            torch.Tensor.bernoulli_,
        )
    },
    torch.rand_like: _replace_like(torch.Tensor.uniform_),
    torch.randn_like: _replace_like(torch.Tensor.normal_),
    F.dropout: _dropout,
    F.scaled_dot_product_attention: _attention,
    torch.Tensor.requires_grad_: _leaf,
    torch.autograd.grad: _grad,
}
"""Torch function → replacement under vmap."""
