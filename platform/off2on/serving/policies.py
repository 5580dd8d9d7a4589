"""The served policy: a file of a run, read again when it is replaced."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from off2on.policy import load_policy
from off2on.replay.transforms import Array


class Actions(NamedTuple):
    """Actions of a policy at n observations.

    Attributes:
        actions: [n, A] or [n], in raw units.
        log_probs: Log probabilities or log densities [n]; None for deterministic actions.
        version: Version of the policy.
    """

    actions: Array
    log_probs: Array | None
    version: str


class ServedPolicy:
    """Acts with the current content of a policy file.

    Args:
        file: Written by `Policy.export`; read without the algorithm's class and without pickle.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        torch.set_num_threads(1)
        torch.seed()  # replicas must draw different numbers
        self._load()

    def _load(self) -> None:
        self.stamp = self.file.stat().st_mtime_ns
        self.version = hashlib.sha256(self.file.read_bytes()).hexdigest()[:12]
        self.module: Any = load_policy(self.file)

    def refresh(self) -> None:
        """Read the file again if it was replaced since."""
        if self.file.stat().st_mtime_ns != self.stamp:
            self._load()

    def act(self, obs: Array) -> Actions:
        """Return actions at observations [n, D] in raw units."""
        self.refresh()
        with torch.no_grad():
            # The program was exported for two rows or more: a single one is repeated.
            rows = obs if len(obs) > 1 else np.concatenate((obs, obs))
            output = self.module(torch.from_numpy(rows))
        actions, log_prob = output if isinstance(output, tuple) else (output, None)
        log_probs = None if log_prob is None else log_prob.numpy()[: len(obs)]
        return Actions(actions.numpy()[: len(obs)], log_probs, self.version)
