"""Decide once in a run whether its updates are compiled."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from datasets_io.sources.download import cache_root
from off2on.recipe.batch import Batch
from off2on.rllib.precision import BFLOAT16, FLOAT32
from off2on.rllib.traced.compiled import compile_trace
from off2on.rllib.traced.trace import Program, Trace
from off2on.rllib.traced.watched import Numbers

logger = logging.getLogger(__name__)

AUTO, ON, OFF = "auto", "on", "off"
MODES = (AUTO, ON, OFF)
CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable that names the folder of compiled programs."""
WORTHWHILE_UPDATES = 50_000
"""Smallest number of updates left for which ``auto`` compiles: it takes ten seconds to a minute."""
LARGEST_DIFFERENCE = {FLOAT32: 1e-3, BFLOAT16: 5e-2}
"""Largest difference between a compiled and a traced change of a network, relative to the change (norms),
by the number format of matrix products."""
LEAST_GAIN = 1.05
"""Smallest ratio of the times of an update for which ``auto`` compiles."""
ROUNDS, REPEATS = 5, 5
"""Number of times that each program is timed, and of updates at a time."""


def cpp_compiler() -> str | None:
    """Return the C++ compiler that torch uses on a CPU, or None if this machine has none."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Compilation:
    """Holds whether updates are compiled. Rounding depends on it, so it is part of a checkpoint.

    Args:
        mode: ``auto`` (if a measurement says that it saves time), ``on`` or ``off``.
        planned: Number of updates of the whole run.
        device: Device of the networks.
    """

    def __init__(self, mode: str, planned: int, device: torch.device) -> None:
        self.mode, self.planned, self.device = mode, planned, device
        self.since: int | None = None
        """First update, counted from 1, that is made by compiled programs; None: there is none."""

    def applies_to(self, update: int) -> bool:
        """Return True if an update is to be made by a compiled program."""
        return self.since is not None and update >= self.since

    def is_open(self, update: int) -> bool:
        """Return True if it is to be decided before an update."""
        is_long = self.planned - update >= WORTHWHILE_UPDATES
        return self.since is None and (self.mode == ON or (self.mode == AUTO and is_long))

    def decide(
        self,
        trace: Trace,
        copies: Callable[[], Mapping[str, Tensor]],
        batch: Batch,
        numbers: Numbers,
        update: int,
        precision: str = FLOAT32,
    ) -> None:
        """Compile a trace, compare its results and its time with those of the compiled program, and decide.

        Args:
            trace: The trace; it runs the program afterwards if updates are to be compiled.
            copies: Function that copies the tensors of the update.
            batch: A batch.
            numbers: The numbers of this batch.
            update: Number of the last update that was made.
            precision: Number format of its matrix products.
        """
        started = time.perf_counter()
        traced, program = trace.plain, self.compile(trace)
        if program is None:
            return

        def repeat(run: Program, state: Mapping[str, Tensor], times: int) -> float:
            begun = time.perf_counter()
            for _ in range(times):
                trace.repeat([state[name] for name in trace.state], batch, numbers, run)
            return (time.perf_counter() - begun) / times

        before, expected, found = copies(), copies(), copies()
        with torch.random.fork_rng(devices=[]):
            state = torch.get_rng_state()
            repeat(traced, expected, 1)
            torch.set_rng_state(state)
            try:
                repeat(program, found, 1)
            except Exception as error:
                self.refuse(error)
                return
            seconds = time.perf_counter() - started
            try:
                check_difference(before, expected, found, precision)
            except ValueError as error:
                self.refuse(str(error))
                return
            turns = [(repeat(traced, found, REPEATS), repeat(program, found, REPEATS)) for _ in range(ROUNDS)]
        slow, fast = (median(times) for times in zip(*turns, strict=True))
        saved = (slow - fast) * (self.planned - update)
        pays = slow > LEAST_GAIN * fast and saved > seconds
        logger.info(
            "Compiling took %.0f s; an update takes %.2f ms instead of %.2f ms",
            seconds,
            1e3 * fast,
            1e3 * slow,
        )
        if self.mode == ON or pays:
            self.since, trace.run = update + 1, program
        else:
            self.mode = OFF

    def compile(self, trace: Trace) -> Program | None:
        """Return the compiled program of a trace; None, with a warning, if it cannot be compiled."""
        if self.device.type == "cpu" and cpp_compiler() is None:
            self.refuse("no C++ compiler was found (looked for $CXX, g++ and clang++)")
            return None
        _keep_programs()
        program = compile_trace(trace)
        if program is None:
            self.refuse("a random draw depends on the value of a tensor")
        return program

    def refuse(self, reason: str | Exception) -> None:
        """Compile nothing more, for a reason that is logged."""
        if isinstance(reason, Exception):
            reason = f"{type(reason).__name__}: {str(reason).strip().splitlines()[0]}"
        log = logger.warning if self.mode == ON else logger.info
        log("The updates are not compiled: %s", reason)
        self.mode = OFF

    def state(self) -> dict[str, Any]:
        """Return the decision for a checkpoint."""
        return {"mode": self.mode, "since": self.since}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state`, except for the modes ``on`` and ``off``, which stay."""
        if self.mode != OFF:
            self.since = state["since"]
        if self.mode == AUTO:
            self.mode = state["mode"]


def _keep_programs() -> None:
    """Let torch keep compiled programs in off2on's cache, unless the user has named another folder."""
    given = os.environ.get(CACHE)
    temporary = Path(tempfile.gettempdir()).resolve()  # torch names a folder there when it is imported
    if given is None or Path(given).resolve().parent == temporary:
        os.environ[CACHE] = str(cache_root() / "compiled")


def check_difference(
    before: Mapping[str, Tensor], expected: Mapping[str, Tensor], found: Mapping[str, Tensor], precision: str
) -> None:
    """Check that a compiled update changed the networks as the trace did.

    Args:
        before: Tensors before the update.
        expected: Tensors after the traced update.
        found: Tensors after the compiled update.
        precision: Number format of the matrix products.

    Raises:
        ValueError: A network's change differs by more than `LARGEST_DIFFERENCE`.
    """
    difference = _difference(before, expected, found)
    if not difference <= LARGEST_DIFFERENCE[precision]:  # also if it is NaN
        raise ValueError(f"a compiled update differs by {difference:.1e} of its size")


def _difference(
    before: Mapping[str, Tensor], expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> float:
    """Return the largest norm of a difference between two changes, relative to the expected change."""
    differences = [0.0]
    for name, start in before.items():
        if name.startswith("vector/"):
            size = float((expected[name] - start).norm())
            apart = float((expected[name] - found[name]).norm())
            differences.append(apart / size if size else float(apart > 0))
    return float(torch.tensor(differences).max())  # NaN if one of them is, unlike max()
