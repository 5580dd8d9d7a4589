"""Gradient updates per second against every peer in the same run, and beside a bare loop."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rows
import speed_page
import updates
from harness import Worker, in_turns, report
from torch.utils.flop_counter import FlopCounterMode
from worker_floor import UPDATES as PRODUCTS
from worker_floor import build
from worker_off2on import learner

LEAST = {"cql": 1.5, "cal_ql": 1.5, "bc": 1.3}
"""Times as fast as the fastest peer that our fastest variant is to be, by algorithm; else 1.8."""
UPDATES = {"td3_bc": 200, "iql": 200, "cql": 50}
"""Updates per turn of the comparison with the bare loop."""
TRACED_AFTER = 300
"""Updates after which all kinds of updates are traced."""

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of shards, and the columns."""
    return rows.write(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def measured(written: tuple[Path, Path]) -> Iterator[tuple[Any, dict[str, list[updates.Row]]]]:
    """The workers, and a place for results: they are written when all algorithms are there."""
    in_use = updates.cores_in_use()
    found: dict[str, list[updates.Row]] = {}
    with updates.workers(*written) as started:
        yield started, found
    line = updates.circumstances(updates.Protocol.from_environment(), max(in_use, updates.cores_in_use()))
    if found.keys() == set(updates.ALGORITHMS):
        updates.write([row for name in updates.ALGORITHMS for row in found[name]], line)
        speed_page.PAGE.write_text(speed_page.page(speed_page.PAGE.read_text()))


@pytest.mark.parametrize("name", updates.ALGORITHMS)
def test_updates_per_second_against_the_fastest_peer(name: str, measured: Any):
    started, found = measured
    protocol, lines = updates.Protocol.from_environment(), []
    for threads in updates.THREADS:
        lines += updates.table(name, threads, updates.measure(started, name, threads, protocol))
    print(*(f"{row.package:<40} {row.threads} {row.median:8.4g} {row.unit}" for row in lines), sep="\n")
    found[name] = lines
    ratios = [row for row in lines if row.unit == updates.RATIO and row.package.startswith(updates.OURS)]
    print(f"{name}: aim ≥ {LEAST.get(name, 1.8)} times the fastest peer")
    assert max(row.median for row in ratios) > 1


@pytest.mark.parametrize("name", UPDATES)
def test_train_against_a_bare_loop(name: str, written: tuple[Path, Path]):
    with (
        Worker("worker_off2on.py", name, written[0], "train") as ours,
        Worker("worker_off2on.py", name, written[0], "bare") as bare,
    ):
        for work in (ours, bare):
            work(TRACED_AFTER)
        ratio = in_turns(ours, bare, UPDATES[name])
    report(f"updates {name}: train(), traced / bare loop", ratio, [0.95])
    assert ratio.middle > 0.8


@pytest.mark.parametrize("name", updates.ALGORITHMS)
def test_the_floor_has_the_products_of_our_updates(name: str, written: tuple[Path, Path]):
    """The number of floating point operations is counted, so no clock is needed."""
    ours, floor = learner(name, "plain", str(written[0]), 1), build(PRODUCTS[name])(1)
    ours(2)  # what is made once is made here
    assert operations(ours) == pytest.approx(operations(floor), rel=0.02)


def operations(work: Callable[[int], object]) -> int:
    """Count the floating point operations of matrix products in two updates."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()  # the usual one fails where a module has no gradient
    with counter:
        work(2)
    return counter.get_total_flops()


class NoModules:
    """All operations belong to one module."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "NoModules":
        return self

    def __exit__(self, *_: object) -> None:
        pass
