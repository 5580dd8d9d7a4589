"""Updates per second of a flow policy, compiled and not: FQL with four layers of 256, in one thread."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rows
from harness import in_turns, report

from off2on.algorithms import find_algorithm

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]
WARM_UP = 150
"""Updates before the first turn, among them those that are traced and compiled."""


def timed(shards: Path, precision: str, compiled: str) -> Callable[[int], float]:
    """Return a function that makes n updates and returns the seconds."""
    config: Any = find_algorithm("fql").configure(str(shards)).offline(10_000_000)
    config.training(threads=1, hidden=(256,) * 4, batch_size=256, precision=precision, compile=compiled)
    learner = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
    learner.build()
    learner.advance(WARM_UP)
    assert (learner.traced.compilation.since is not None) == (compiled == "on")

    def updates(number: int) -> float:
        started = time.perf_counter()
        learner.advance(number)
        return time.perf_counter() - started

    return updates


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiling_the_updates_of_a_flow_policy(precision: str, tmp_path: Path):
    shards, _ = rows.write(tmp_path)
    ratio = in_turns(timed(shards, precision, "on"), timed(shards, precision, "off"), 60)
    report(f"updates fql {precision}: compiled / not", ratio)
    assert ratio.middle > 1
