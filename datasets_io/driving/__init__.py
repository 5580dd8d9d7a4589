"""Recorded traffic scenes, and driving episodes derived from them."""

from datasets_io.driving.scene import Scene

__all__ = ["Scene"]
