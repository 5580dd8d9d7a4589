"""Two things timed in turns, so that what else the machine does hits both alike."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ratio:
    """Speeds per second of ours and of a peer, and their ratio round by round."""

    ours: float
    peer: float
    ratios: list[float]

    @property
    def middle(self) -> float:
        return median(self.ratios)

    def __str__(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        speeds = f"ours {self.ours:,.1f}/s  peer {self.peer:,.1f}/s"
        return f"{speeds}  ratio {self.middle:.2f} [{low:.2f}, {high:.2f}]"


def in_turns(
    ours: Callable[[int], float], peer: Callable[[int], float], units: int, rounds: int = 5
) -> Ratio:
    """Time both, one after the other, after one warm-up round.

    Args:
        ours: Does so many units of work and says how many seconds it took.
        peer: The same for the peer.
        units: Work per turn.
        rounds: Counted turns.
    """
    speeds = []
    for turn in range(rounds + 1):
        pair = (units / ours(units), units / peer(units))
        if turn:
            speeds.append(pair)
    return Ratio(median(a for a, _ in speeds), median(b for _, b in speeds), [a / b for a, b in speeds])


class Worker:
    """A process that answers a number of updates with the seconds they took.

    Attributes:
        offers: What the worker can measure, as it says itself when it is ready.
    """

    def __init__(self, script: str, *arguments: str | Path, python: str | Path = sys.executable) -> None:
        command = [str(python), str(HERE / script), *map(str, arguments)]
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.offers = self._read("ready").split()[1:]

    def __call__(self, updates: int, *what: str | int) -> float:
        """Return the seconds of so many updates; `what` comes before the number if the worker has several."""
        assert self.process.stdin is not None
        try:
            print(*what, updates, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise self._ended() from None
        return float(self._read())

    def _read(self, start: str = "") -> str:
        """Return the next line that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise self._ended()

    def _ended(self) -> RuntimeError:
        """Return an error with the last words of the process."""
        code = self.process.wait()
        self.errors.seek(0)
        return RuntimeError(f"{self.process.args} ended with {code}: {self.errors.read()[-2000:]}")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):  # it has ended already
            self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        self.errors.close()


def report(name: str, ratio: Ratio, bars: Sequence[float] = ()) -> None:
    """One line of the table; the bars that it was to reach beside it."""
    aims = "".join(f"  aim ≥ {bar:g}" for bar in bars)
    print(f"{name:<34} {ratio}{aims}", flush=True)
