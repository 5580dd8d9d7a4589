"""Recorded traffic: scenes, and what a driver makes of them."""

from datasets_io.driving.scene import Scene

__all__ = ["Scene"]
