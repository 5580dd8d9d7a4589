"""What a loss may do only once for itself, done for each of S networks that learn as one program.

Inside `torch.func.vmap` a loss sees one network's tensors, and runs once for all. Two things would then not
be as in S separate runs, and are answered here: random numbers, which every network must get from its own
generator, in the order in which its own run would draw them; and gradients taken inside a loss. Whatever
else vmap cannot do, it refuses.

The single network's view is left and entered again as vmap itself does it. Torch's public way, a rule of an
`autograd.Function`, takes half a millisecond at each turn, in which small networks make an update.
"""

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
    """Inside it, random numbers are each network's own, and `torch.autograd.grad` works under vmap.

    Args:
        generators: One for each network, on its device.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.generators = generators
        self.level = retrieve_current_functorch_interpreter().level()

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
        """What a function makes of the tensors of all networks, [S, …] each: such, too, or nothing."""
        vmap = retrieve_current_functorch_interpreter()
        if vmap.level() != self.level:
            raise RuntimeError("a loss draws random numbers or takes gradients inside a transform of its own")
        inside = [self._of_all(tensor) for tensor in tensors]
        with torch._C.DisableTorchFunction(), vmap.lower():
            result = function(*inside)
        if isinstance(result, tuple):
            return tuple(self._of_one(one) for one in result)
        return None if result is None else self._of_one(result)

    def _of_all(self, tensor: Tensor) -> Tensor:
        whole, at = _functorch._unwrap_batched(tensor, self.level)
        if at is None:
            return whole.expand(len(self.generators), *whole.shape)
        # Where they are in front already, the tensor itself: a gradient is of it, not of a view.
        return whole.movedim(at, 0) if at else whole

    def _of_one(self, whole: Tensor) -> Any:
        return _functorch._add_batch_dim(whole, 0, self.level)


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


def _dropout(
    draws: PerNetworkRandom, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As torch does it on the CPU: a mask in the units of the layer, times the layer."""
    if p == 0 or not training:
        return x

    def mask(like: Tensor, *, generator: torch.Generator) -> Tensor:
        return torch.empty_like(like).bernoulli_(1 - p, generator=generator).div_(1 - p)

    kept = draws.each(mask, x.detach())
    return x.mul_(kept) if inplace else x * kept


def _leaf(draws: PerNetworkRandom, x: Tensor, requires_grad: bool = True) -> Tensor:
    """A tensor that gradients can be taken with respect to; torch's own call does not reach through vmap."""

    def leaf(whole: Tensor) -> Tensor:
        return whole if whole.requires_grad else whole.detach().requires_grad_(requires_grad)

    return draws.whole(leaf, x)  # type: ignore[no-any-return]


def _grad(draws: PerNetworkRandom, outputs: Any, inputs: Any, **kwargs: Any) -> Any:
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
