"""Append: online rows join the offline ones, and every row is equally likely.

The baseline of the field: the replay buffer of the offline data, filled further.
"""

from off2on.replay.strategy import Strategy


class Append(Strategy):
    """Draw offline and online rows, all equally likely: the default of `Strategy.draw`."""
