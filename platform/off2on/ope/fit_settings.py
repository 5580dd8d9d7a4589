"""Settings that the estimators with neural networks share: training length and network size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FitSettings:
    """Training length and size of an ensemble of networks.

    Attributes:
        updates: Updates of each member.
        members: Size of the ensemble.
        hidden: Widths of the hidden layers.
        batch_size: Transitions per update.
        lr: Learning rate of Adam.
        samples: Actions drawn to estimate an expectation, for a stochastic policy.
    """

    updates: int = 20_000
    members: int = 5
    hidden: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    lr: float = 1e-4
    samples: int = 4
