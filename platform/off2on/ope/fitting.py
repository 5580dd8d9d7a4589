"""How long the networks of an estimator are fitted, and how large they are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fitting:
    """What all of them have.

    Attributes:
        updates: Of every member.
        members: Size of the ensemble.
        hidden: Widths of the hidden layers.
        batch_size: Transitions an update.
        lr: Step size of Adam.
        samples: Actions drawn for an expectation, of a policy that draws them.
    """

    updates: int = 20_000
    members: int = 5
    hidden: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    lr: float = 1e-4
    samples: int = 4
