"""Append: online transitions join the offline ones, and all are equally likely.

This is the common baseline: a replay buffer that starts with the offline data.
"""

from off2on.replay.strategy import Strategy


class Append(Strategy):
    """All transitions equally likely, as in the default `Strategy.draw`."""
