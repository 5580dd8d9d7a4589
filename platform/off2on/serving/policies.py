"""The policy that is served: a file of a run, read again when the run writes a better one."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from off2on.policy import load_policy
from off2on.replay.transforms import Array


class Acted(NamedTuple):
    """What a policy does at n observations.

    Attributes:
        actions: [n, A] or [n].
        log_probs: How likely they were, [n]; None if nothing was drawn.
        version: Of the policy.
    """

    actions: Array
    log_probs: Array | None
    version: str


class ServedPolicy:
    """Acts with a policy's file as it is now.

    Args:
        file: What `Policy.export` made; needs neither the algorithm's class nor pickle.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        torch.set_num_threads(1)
        torch.seed()  # two replicas must not draw the same
        self._load()

    def _load(self) -> None:
        self.stamp = self.file.stat().st_mtime_ns
        self.version = hashlib.sha256(self.file.read_bytes()).hexdigest()[:12]
        self.module: Any = load_policy(self.file)

    def refresh(self) -> None:
        """Read the file again if it was replaced."""
        if self.file.stat().st_mtime_ns != self.stamp:
            self._load()

    def act(self, obs: Array) -> Acted:
        """Actions at observations [n, D]."""
        self.refresh()
        with torch.no_grad():
            # The program was exported for two rows or more: one alone is asked twice.
            rows = obs if len(obs) > 1 else np.concatenate((obs, obs))
            made = self.module(torch.from_numpy(rows))
        actions, said = made if isinstance(made, tuple) else (made, None)
        log_probs = None if said is None else said.numpy()[: len(obs)]
        return Acted(actions.numpy()[: len(obs)], log_probs, self.version)
