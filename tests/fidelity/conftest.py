"""The table of fidelity: every loss beside a reference on the same weights, batch and random numbers.

`make fidelity` writes what the tests find into the package's `algorithms/fidelity.csv` and the page;
without it the tests hold every comparison against the table that is committed.
"""

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from readme import FIDELITY as TABLE
from readme import PAGE, embed, read
from torch import Tensor, nn

HEADER = ("algorithm", "loss", "reference", "relation", "loss_error", "gradient_error")
MODE = os.environ.get("OFF2ON_FIDELITY", "check")
"""check: every comparison is a row of the table. write: the rows found replace the table's. ignore."""
LOOPS = "plain loops from the paper's equations, float64"

Key = tuple[str, str, str, str]


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The size of the difference in sizes of the reference."""
    difference = (ours.double() - theirs.double()).norm()
    return float(difference / theirs.double().norm().clamp(min=1e-12)) if difference else 0.0


@dataclass
class Fidelity:
    """What was compared so far: row → largest errors of loss and gradient."""

    known: set[Key]
    found: dict[Key, list[float | None]] = field(default_factory=dict)

    def compare(
        self,
        algorithm: str,
        loss: str,
        *,
        reference: str,
        ours: Tensor,
        theirs: Tensor,
        network: nn.Module | None = None,
        gradient: dict[str, Tensor] | None = None,
        relation: str = "=",
        tolerance: float = 2e-5,
    ) -> None:
        """Compare a loss and, given its network, its gradient; fail where they differ.

        Args:
            algorithm: Its name in the catalogue.
            loss: The objective's name, or another quantity's.
            reference: What it is held against, such as ``d3rlpy 2.8.1`` or ``plain loops, equation 7``.
            ours: Our loss.
            theirs: The reference's, already brought to ours by what `relation` says.
            network: Whose gradient is compared too.
            gradient: The reference's gradient by our parameters' names; None differentiates `theirs`
                with respect to the same network.
            relation: How the two are related: ``=``, a factor, a constant.
            tolerance: Largest relative error; float32 sums taken in another order reach 1e-5.
        """
        key = (algorithm, loss, reference, relation)
        errors: list[float | None] = [relative(ours.detach(), theirs.detach()), None]
        if network is not None:
            named = dict(network.named_parameters())
            mine = _gradient(ours, named)
            other = _gradient(theirs, named) if gradient is None else gradient
            errors[1] = relative(*(torch.cat([of[name].flatten() for name in named]) for of in (mine, other)))
        for error in errors:
            assert error is None or error < tolerance, f"{' '.join(key)}: off by {error:.1e}"
        self._keep(key, errors)
        if MODE == "check":
            assert key in self.known, f"{key} is not in {TABLE.name}: make fidelity"

    def compare_with_loops(
        self, algorithm: str, loss: str, case: Any, batch: Any, theirs: Tensor, more: str = ""
    ) -> None:
        """Compare a loss of a case with loops over rows, and the gradient of the network it trains.

        Args:
            algorithm: Its name in the catalogue.
            loss: The objective's name, which is the network's too.
            case: The algorithm with networks and data.
            batch: The batch of both losses.
            theirs: The loss of the loops, in float64.
            more: Settings that the row of the table names.
        """
        self.compare(
            algorithm, loss + more, reference=LOOPS, ours=case.loss(loss, batch), theirs=theirs,
            network=getattr(case.nets, loss), tolerance=5e-5,
        )  # fmt: skip

    def _keep(self, key: Key, errors: list[float | None]) -> None:
        before = self.found.get(key, [None, None])
        self.found[key] = [
            max((e for e in pair if e is not None), default=None) for pair in zip(before, errors, strict=True)
        ]


def key_of(row: dict[str, str]) -> Key:
    """What identifies a row of the table."""
    return row["algorithm"], row["loss"], row["reference"], row["relation"]


def _gradient(loss: Tensor, named: dict[str, Any]) -> dict[str, Tensor]:
    """With respect to each parameter, zero where the loss does not depend on it."""
    parts = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if part is None else part
        for (name, parameter), part in zip(named.items(), parts, strict=True)
    }


@pytest.fixture(scope="session")
def fidelity() -> Iterator[Fidelity]:
    """The table under way."""
    rows = read(TABLE)
    table = Fidelity({key_of(row) for row in rows})
    yield table
    if MODE == "write":
        _write(table, rows)


def _write(table: Fidelity, rows: list[dict[str, str]]) -> None:
    """The rows found, and those of before that were not compared this time; then the page."""
    kept = [[row[name] for name in HEADER] for row in rows if key_of(row) not in table.found]
    fresh = [
        [*key, *("" if error is None else f"{error:.1e}" for error in errors)]
        for key, errors in table.found.items()
    ]
    with TABLE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *sorted(kept + fresh)])
    PAGE.write_text(embed(PAGE.read_text()))


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """draw(*numbers, normal=…): the next normal random numbers, in order, whoever asks for them how."""

    def prepare(*numbers: Tensor, normal: tuple[Tensor, ...] = ()) -> None:
        plain_numbers, of_distributions = list(numbers), list(normal)
        monkeypatch.setattr(torch, "randn", lambda *_, **__: plain_numbers.pop(0))
        monkeypatch.setattr(
            "torch.distributions.normal._standard_normal", lambda *_, **__: of_distributions.pop(0)
        )

    return prepare
