"""A working directory for the command line: toy data, and data of a table without a simulator."""

from pathlib import Path

from command import succeeds

HEAD = "place,speed,push,r,trip,crashed"


def make_lab(folder: Path) -> list[str]:
    """Add toy-pendulum (4 episodes) and trips (3 of 20 rows, from trips.csv); return the lines of the CSV."""
    succeeds(folder, "data", "add", "toy-pendulum", "episodes=4")
    lines = [f"{i / 10},{i % 3},{0.5 * (-1) ** i},{-i},{i // 20},{int(i % 20 == 19)}" for i in range(60)]
    (folder / "trips.csv").write_text("\n".join([HEAD, *lines]))
    columns = "obs=place,speed actions=push rewards=r episode=trip terminated=crashed"
    succeeds(folder, "data", "add", "trips.csv", "--columns", *columns.split())
    return lines
