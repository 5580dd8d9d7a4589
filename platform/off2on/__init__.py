"""off2on: learn policies from recorded data, then keep improving them in the world."""

import os
from importlib import import_module
from typing import Any

# OpenMP's threads spin while they wait, and on a busy machine they then wait for one another: two of
# them took 11 times as long as one for a 256 × 256 product, and 0.7 times as long when they sleep
# instead. It is read when torch is loaded, so it must be set here; a value that the user set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = ["Callbacks", "LoadedRun", "evaluate", "load_run", "open_dataset", "train"]


def __getattr__(name: str) -> Any:
    """Import a function of `off2on.api` when it is first used: it loads Ray and torch."""
    if name not in __all__:
        raise AttributeError(f"module 'off2on' has no attribute {name!r}")
    return getattr(import_module("off2on.api"), name)
