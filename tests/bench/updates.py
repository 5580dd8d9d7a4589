"""Measure gradient updates per second of every package in turns, and write tests/bench/results/updates.csv.

A package is a process of its own, which waits while another works. For each algorithm and number of threads
the packages take turns, so that what else the machine does hits all of them alike. The ratio to the fastest
peer is taken within each turn.
"""

import csv
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import date
from pathlib import Path
from statistics import median

import torch
from environments import python_of, version_of
from harness import HERE, Worker

RESULTS = HERE / "results" / "updates.csv"
ALGORITHMS = ("td3_bc", "iql", "awac", "rebrac", "cql", "cal_ql", "sac_n", "edac", "bc")
THREADS = (1, 2)
OURS, FLOOR = "off2on", "floor"
RATE, RATIO = "updates/s", "ratio"
TRIAL = "a trial of the measurement, not a result"
"""What the results say about themselves if the machine was busy or the turns were few."""
QUIET = 0.1
"""Share of the cores that may be in use, before and after, on a machine that counts as quiet."""


@dataclass(frozen=True)
class Protocol:
    """Number of counted turns, seconds of a turn, and updates of ours before the first turn.

    The first updates of a learner are slower: what it prepares once belongs to no later update. Their
    number is enough to trace and compile both kinds of update that TD3 has.
    """

    turns: int = 5
    seconds: float = 0.7
    warm_up: int = 30

    @classmethod
    def from_environment(cls) -> "Protocol":
        """Return the protocol that OFF2ON_BENCH gives as ``TURNS,SECONDS,UPDATES``, or the default."""
        text = os.environ.get("OFF2ON_BENCH")
        if not text:
            return cls()
        turns, seconds, warm_up = text.split(",")
        return cls(int(turns), float(seconds), int(warm_up))


@dataclass(frozen=True)
class Row:
    """A line of the table: a package's rate, or a ratio ``ours / peer``, over all turns."""

    package: str
    algorithm: str
    threads: int
    median: float
    min: float
    max: float
    unit: str


@contextmanager
def workers(shards: Path, columns: Path) -> Iterator[dict[str, Worker]]:
    """Start a worker for each package, ours first; a peer whose environment cannot be made is left out."""
    with ExitStack() as stack:

        def start(script: str, *arguments: str | Path, **options: Path) -> Worker:
            return stack.enter_context(Worker(script, *arguments, **options))

        started = {name: start("worker_off2on.py", how, shards) for name, how in variants().items()}
        started["CORL loop"] = start("worker_loops.py", "CORL", columns)
        started["OfflineRL-Kit loop"] = start("worker_loops.py", "OFFLINERL_KIT", columns)
        for name in ("d3rlpy", "torchrl"):
            python = python_of(name)
            if python is not None:
                label = f"{name} {version_of(name, python)}"
                started[label] = start(f"worker_{name}.py", columns, python=python)
        started[FLOOR] = start("worker_floor.py")
        yield started


def variants() -> dict[str, str]:
    """Return the variants of ours that this version has: the worker's word by the name in the table."""
    from off2on.rllib.config import OfflineToOnlineConfig

    known = {OURS: "plain", f"{OURS} compiled": "compiled"}
    return known if hasattr(OfflineToOnlineConfig(), "compile") else {OURS: "plain"}


def measure(
    started: Mapping[str, Worker], algorithm: str, threads: int, protocol: Protocol
) -> dict[str, list[float]]:
    """Return updates per second by package, one number per turn."""
    present = {name: worker for name, worker in started.items() if algorithm in worker.offers}
    updates = {}
    for name, worker in present.items():
        worker(protocol.warm_up if name.startswith(OURS) else 2, algorithm, threads)
        each = worker(2, algorithm, threads) / 2
        updates[name] = 2 * max(1, round(protocol.seconds / each / 2))  # even: the policy learns every second
    rates: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(protocol.turns):
        for name, worker in present.items():
            rates[name].append(updates[name] / worker(updates[name], algorithm, threads))
    return rates


def table(algorithm: str, threads: int, rates: Mapping[str, list[float]]) -> list[Row]:
    """Return the rates as rows, then the ratios of ours to the fastest peer and of the floor to ours."""

    def row(package: str, numbers: list[float], unit: str) -> Row:
        low, middle, high = (float(f"{f(numbers):.4g}") for f in (min, median, max))
        return Row(package, algorithm, threads, middle, low, high, unit)

    def ratio(over: str, under: str) -> Row:
        pairs = zip(rates[over], rates[under], strict=True)
        return row(f"{over} / {under}", [a / b for a, b in pairs], RATIO)

    ours = [name for name in rates if name.startswith(OURS)]
    peers = [name for name in rates if name not in ours and name != FLOOR]
    fastest = max(peers, key=lambda name: median(rates[name]))
    rows = [row(name, numbers, RATE) for name, numbers in rates.items()]
    return rows + [ratio(name, fastest) for name in ours] + [ratio(FLOOR, name) for name in ours]


def cores_in_use(seconds: float = 3.0) -> float:
    """Return the share of the cores' time that is used while nothing is measured; 0 where it is unknown."""
    file = Path("/proc/stat")
    if not file.exists():
        return 0.0

    def read() -> tuple[int, int]:
        times = [int(word) for word in file.read_text().splitlines()[0].split()[1:9]]
        return sum(times), times[3] + times[4]  # idle, and waiting for input and output

    before = read()
    time.sleep(seconds)
    total, idle = (new - old for new, old in zip(read(), before, strict=True))
    return 1 - idle / total


def circumstances(protocol: Protocol, in_use: float) -> str:
    """Return one line with date, commit, machine and protocol, and whether the numbers may be quoted.

    Args:
        protocol: How it is measured.
        in_use: The larger of `cores_in_use` before and after.
    """
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    trial = protocol.turns < Protocol.turns or in_use > QUIET
    return (
        f"{date.today()}, commit {commit}, {os.cpu_count()} cores of {model}, torch {torch.__version__}; "
        f"turns: {protocol.turns} of {protocol.seconds:g} s; cores in use by others: {in_use:.0%}"
        + (f"; {TRIAL}" if trial else "")
    )


def write(rows: list[Row], line: str, path: Path = RESULTS) -> None:
    """Write the rows as CSV below a comment with the circumstances."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        file.write(f"# {line}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Row))
        writer.writerows(map(astuple, rows))


def read(path: Path = RESULTS) -> tuple[list[Row], str]:
    """Return the rows of a file and its circumstances."""
    line, *lines = path.read_text().splitlines()
    rows = [
        Row(one["package"], one["algorithm"], int(one["threads"]), *numbers(one), one["unit"])
        for one in csv.DictReader(lines)
    ]
    return rows, line.removeprefix("# ")


def numbers(one: Mapping[str, str]) -> tuple[float, float, float]:
    return float(one["median"]), float(one["min"]), float(one["max"])
