"""The served policy: a file of a run, read again when it is replaced."""

import hashlib
import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from off2on.errors import UserError
from off2on.policy import load_policy
from off2on.replay.transforms import Array

RETRY_S = 1.0
"""Seconds after which a policy file that could not be read is read again."""

logger = logging.getLogger(__name__)


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
        self.module: Any = None
        self._next_try: float | None = None
        """Earliest time of the next attempt, after one that failed."""
        self._load()

    def _load(self) -> None:
        """Read version and module of the same file, which may be replaced at any moment."""
        stamp = None
        while stamp != (now := self.file.stat().st_mtime_ns):
            stamp = now
            version = hashlib.sha256(self.file.read_bytes()).hexdigest()[:12]
            module = load_policy(self.file)
        self.stamp, self.version, self.module = stamp, version, module

    def refresh(self) -> None:
        """Read the file again if it was replaced since; serve the policy before while it cannot be read."""
        if self._next_try is not None and time.monotonic() < self._next_try:
            return
        try:
            if self.file.stat().st_mtime_ns != self.stamp:
                self._load()
            self._next_try = None
        except (OSError, UserError) as error:
            if self._next_try is None:
                logger.warning("version %s is served on: %s", self.version, error)
            self._next_try = time.monotonic() + RETRY_S

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
