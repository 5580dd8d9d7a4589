"""A worker that makes the matrix products of an update and nothing else.

usage: python worker_floor.py     then the lines of `answering`

Every product that forward and backward passes need is made with `torch.mm` into memory that is there
already: no sampling, no bias, no function between layers, no loss, no optimiser, no target network. The
passes are those of the papers' losses with everything shared that can be: no gradient to weights that a loss
does not train, none to the input unless a loss needs it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from answering import Build, answer

BATCH, OBS, ACTION, SAMPLES = 256, 17, 6, 10
TWO, THREE = (256, 256), (256, 256, 256)


@dataclass(frozen=True)
class Pass:
    """A use of a network of `members` members with `rows` rows.

    `kind` is what is needed besides the forward pass: ``none``; ``weights``, the gradient of the weights;
    ``input``, the gradient of the input; ``slope``, the gradient of the input, and the gradient of a function
    of both value and slope with respect to the weights (EDAC). With `shared`, the first
    layer's product with an observation is made once for all actions at it.
    """

    sizes: tuple[int, ...]
    kind: str = "none"
    rows: int = BATCH
    members: int = 1
    shared: bool = False

    def products(self) -> Iterator[Callable[[], object]]:
        """Yield functions that make one product each."""
        layers = list(pairwise(self.sizes))
        if self.shared:
            first = layers.pop(0)[1]
            yield self._product(BATCH, OBS, first)
            yield self._product(self.rows, ACTION, first)
            if self.kind == "weights":
                yield self._product(OBS, BATCH, first)
                yield self._product(ACTION, self.rows, first)
        for fan_in, fan_out in layers:
            yield self._product(self.rows, fan_in, fan_out)
        if self.kind in ("input", "slope"):
            for fan_in, fan_out in layers:
                yield self._product(self.rows, fan_out, fan_in)
        if self.kind == "slope":  # backward through the slope: to the weights and along the layers
            for fan_in, fan_out in layers:
                yield self._product(fan_in, self.rows, fan_out)
                yield self._product(self.rows, fan_in, fan_out)
        if self.kind in ("weights", "slope"):
            for number, (fan_in, fan_out) in enumerate(layers):
                yield self._product(fan_in, self.rows, fan_out)
                if number or self.shared:
                    yield self._product(self.rows, fan_out, fan_in)

    def _product(self, rows: int, inner: int, columns: int) -> Callable[[], object]:
        """Return a function that multiplies [rows, inner] by [inner, columns], once per member.

        One call per member, because on a CPU `torch.mm` per member is mostly faster than `torch.bmm`.
        """
        shapes = (rows, inner), (inner, columns), (rows, columns)
        triples = [tuple(torch.randn(shape) for shape in shapes) for _ in range(self.members)]

        def product() -> None:
            for one, other, out in triples:
                torch.mm(one, other, out=out)

        return product


def actor(hidden: tuple[int, ...], kind: str = "none", rows: int = BATCH, heads: int = 1) -> Pass:
    return Pass((OBS, *hidden, heads * ACTION), kind, rows)


def critic(hidden: tuple[int, ...], kind: str = "none", rows: int = BATCH, members: int = 2) -> Pass:
    return Pass((OBS + ACTION, *hidden, 1), kind, rows, members, shared=rows > BATCH)


def value(kind: str = "none") -> Pass:
    return Pass((OBS, *TWO, 1), kind)


def conservative(target_rows: int) -> list[Pass]:
    """CQL: samples of the policy at s and s', its step, and critics at 31 actions per row."""
    policy = [actor(THREE, "weights", heads=2), actor(THREE, heads=2)]
    critics = [critic(THREE, "input"), critic(THREE, rows=target_rows)]
    return [*policy, *critics, critic(THREE, "weights", rows=(1 + 3 * SAMPLES) * BATCH)]


def ensemble(kind: str) -> list[Pass]:
    """SAC with ten critics; `kind` is what the critics' own loss needs."""
    policy = [actor(THREE, "weights", heads=2), actor(THREE, heads=2)]
    return [
        *policy,
        critic(THREE, "input", members=10),
        critic(THREE, members=10),
        critic(THREE, kind, members=10),
    ]


def td3(hidden: tuple[int, ...], critics_of_actor: int) -> list[list[Pass]]:
    """Two updates of TD3, of which the second trains the policy."""
    first = [actor(hidden), critic(hidden), critic(hidden, "weights")]
    return [first, [*first, actor(hidden, "weights"), critic(hidden, "input", members=critics_of_actor)]]


AWAC = [actor(THREE, rows=2 * BATCH), critic(THREE, rows=2 * BATCH), critic(THREE)]
UPDATES: dict[str, list[list[Pass]]] = {
    "bc": [[actor(TWO, "weights")]],
    "td3_bc": td3(TWO, 1),
    "iql": [[critic(TWO), value("weights"), value(), value(), critic(TWO, "weights"), actor(TWO, "weights")]],
    "awac": [[*AWAC, critic(THREE, "weights"), actor(THREE, "weights")]],
    "rebrac": td3(THREE, 2),
    "cql": [conservative(BATCH)],
    "cal_ql": [conservative(SAMPLES * BATCH)],
    "sac_n": [ensemble("weights")],
    "edac": [ensemble("slope")],
}
"""Passes of one period of updates, by algorithm."""


def build(passes: list[list[Pass]]) -> Build:
    """Return what builds one algorithm's products."""

    def built(threads: int) -> Callable[[int], None]:
        period = [[product for one in update for product in one.products()] for update in passes]

        def work(updates: int) -> None:
            for number in range(updates):
                for product in period[number % len(period)]:
                    product()

        return work

    return built


if __name__ == "__main__":
    answer({name: build(passes) for name, passes in UPDATES.items()})
