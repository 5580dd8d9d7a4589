"""The policy that is served: a file of a run, read again when the run writes a better one."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from off2on.policy import load_policy
from off2on.transforms import Array


class ServedPolicy:
    """Acts with a policy's file as it is now.

    Args:
        file: What `Policy.export` made; needs neither the algorithm's class nor pickle.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        torch.set_num_threads(1)
        self._load()

    def _load(self) -> None:
        self.stamp = self.file.stat().st_mtime_ns
        self.version = hashlib.sha256(self.file.read_bytes()).hexdigest()[:12]
        self.module: Any = load_policy(self.file)

    def refresh(self) -> None:
        """Read the file again if it was replaced."""
        if self.file.stat().st_mtime_ns != self.stamp:
            self._load()

    def act(self, obs: Array) -> tuple[Array, str]:
        """Actions [n, A] or [n] at observations [n, D], and the version of the policy that chose them."""
        self.refresh()
        with torch.no_grad():
            # The program was exported for two rows or more: one alone is asked twice.
            rows = obs if len(obs) > 1 else np.concatenate((obs, obs))
            actions: Array = self.module(torch.from_numpy(rows)).numpy()[: len(obs)]
        return actions, self.version
