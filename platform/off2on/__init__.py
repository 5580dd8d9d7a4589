"""off2on: learn policies from recorded data, then keep improving them in the world."""

__version__ = "0.1.0"
