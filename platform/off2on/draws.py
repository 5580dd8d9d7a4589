"""What a loss may do only once for itself, done for each of S networks that learn as one program.

Inside `torch.func.vmap` a loss sees one network's tensors, and runs once for all. Two things would then not
be as in S separate runs, and are answered here: random numbers, which every network must get from its own
generator, in the order in which its own run would draw them; and gradients taken inside a loss. Whatever
else vmap cannot do, it refuses.

A `torch.autograd.Function` whose `vmap` rule is called with the tensors of all S at once is torch's public
way to leave the single network's view.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

Draw = Callable[..., Tensor]


class Whole(torch.autograd.Function):
    """Calls a function with the tensors of all S networks, [S, …] each, once."""

    @staticmethod
    def forward(function: Any, number: Tensor, *tensors: Tensor) -> Any:
        """Outside of vmap there is nothing to call it for."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep: what the function does is differentiated as usual."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, function: Any, number: Tensor, *tensors: Tensor) -> Any:
        """Bring the networks to the front, and call it."""
        size = info.batch_size
        whole = [
            # Where they are in front already, the tensor itself: a gradient is of it, not of a view.
            tensor.expand(size, *tensor.shape) if at is None else tensor.movedim(at, 0) if at else tensor
            for tensor, at in zip(tensors, in_dims[2:], strict=True)
        ]
        result = function(*whole)
        return result, tuple(0 for _ in result) if isinstance(result, tuple) else 0


# Torch asks for it at every call, and to find it out takes longer than most calls.
Whole.forward.__signature__ = inspect.signature(Whole.forward)  # type: ignore[attr-defined]


class Draws(TorchFunctionMode):
    """Inside it, random numbers are each network's own, and `torch.autograd.grad` works under vmap.

    Args:
        generators: One for each network, on its device.
        number: A network's own number []; vmap must have made it of [S], so that it is another for each.
    """

    def __init__(self, generators: Sequence[torch.Generator], number: Tensor) -> None:
        super().__init__()
        self.generators, self.number = generators, number

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what is asked, or its like for all networks."""
        kwargs = kwargs or {}
        answer = ANSWERS.get(func)
        if answer is None or "generator" in kwargs:
            return func(*args, **kwargs)
        return answer(self, *args, **kwargs)

    def each(self, draw: Draw, *args: Any, **kwargs: Any) -> Tensor:
        """What every network draws with its own generator and, of tensors, its own part."""
        places = [place for place, arg in enumerate(args) if isinstance(arg, Tensor)]

        def drawn(*whole: Tensor) -> Tensor:
            parts = []
            for number, generator in enumerate(self.generators):
                own = dict(zip(places, (tensor[number] for tensor in whole), strict=True))
                given = [own.get(place, arg) for place, arg in enumerate(args)]
                parts.append(draw(*given, generator=generator, **kwargs))
            return torch.stack(parts)

        return self.whole(drawn, *(args[place] for place in places))  # type: ignore[no-any-return]

    def whole(self, function: Callable[..., Any], *tensors: Tensor) -> Any:
        """What a function makes of the tensors of all networks."""
        return Whole.apply(function, self.number, *tensors)  # type: ignore[no-untyped-call]


def _drawn(draw: Draw) -> Callable[..., Tensor]:
    return lambda draws, *args, **kwargs: draws.each(draw, *args, **kwargs)


def _filled(fill: Draw) -> Callable[..., Tensor]:
    """Drawn beside, and written into the tensor; one that all networks share is refused by vmap."""

    def draw(into: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return fill(torch.empty_like(into), *args, **kwargs)

    return lambda draws, into, *args, **kwargs: into.copy_(draws.each(draw, into, *args, **kwargs))


def _like(fill: Draw) -> Callable[..., Tensor]:
    def draw(like: Tensor, *, generator: torch.Generator, **kwargs: Any) -> Tensor:
        return fill(torch.empty_like(like, **kwargs), generator=generator)

    return _drawn(draw)


def _dropout(draws: Draws, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As torch does it on the CPU: a mask in the units of the layer, times the layer."""
    if p == 0 or not training:
        return x

    def mask(like: Tensor, *, generator: torch.Generator) -> Tensor:
        return torch.empty_like(like).bernoulli_(1 - p, generator=generator).div_(1 - p)

    kept = draws.each(mask, x.detach())
    return x.mul_(kept) if inplace else x * kept


def _leaf(draws: Draws, x: Tensor, requires_grad: bool = True) -> Tensor:
    """A tensor that gradients can be taken with respect to; torch's own call does not reach through vmap."""

    def leaf(whole: Tensor) -> Tensor:
        return whole if whole.requires_grad else whole.detach().requires_grad_(requires_grad)

    return draws.whole(leaf, x)  # type: ignore[no-any-return]


def _grad(draws: Draws, outputs: Any, inputs: Any, **kwargs: Any) -> Any:
    """Gradients of scalars: of their sum over the networks, none of which depends on another's."""
    outputs, inputs = ([x] if isinstance(x, Tensor) else list(x) for x in (outputs, inputs))

    def gradients(*whole: Tensor) -> tuple[Tensor, ...]:
        scalars = [scalar.sum() for scalar in whole[: len(outputs)]]
        return torch.autograd.grad(scalars, whole[len(outputs) :], **kwargs)

    if any(output.dim() for output in outputs):
        raise RuntimeError("gradients inside a loss are taken of scalars")
    return draws.whole(gradients, *outputs, *inputs)


ANSWERS: dict[Any, Callable[..., Any]] = {
    **{draw: _drawn(draw) for draw in (torch.rand, torch.randn, torch.randint, torch.randperm)},
    **{draw: _drawn(draw) for draw in (torch.normal, torch.bernoulli, torch.multinomial)},
    **{
        fill: _filled(fill)
        for fill in (
            torch.Tensor.uniform_,
            torch.Tensor.normal_,
            torch.Tensor.exponential_,
            torch.Tensor.bernoulli_,
        )
    },
    torch.rand_like: _like(torch.Tensor.uniform_),
    torch.randn_like: _like(torch.Tensor.normal_),
    F.dropout: _dropout,
    torch.Tensor.requires_grad_: _leaf,
    torch.autograd.grad: _grad,
}
"""What is not left to vmap."""
