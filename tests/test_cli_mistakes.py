"""Mistakes at the command line: the message has the problem, what was expected, and a line to paste."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_lab import HEAD, make_lab
from command import off2on, succeeds

from off2on.cli import _help_page
from off2on.commands.serve import _port_errors
from off2on.errors import RecipeError, UserError

WRONG = '''
from off2on.algorithms.iql import IQL


class Misnamed(IQL):
    """Names a loss that it has not."""

    objectives = ("value", "acter", "critic")
'''


KEYS = {
    "observations": (200, 3),
    "actions": (200, 1),
    "rewards": (200,),
    "terminals": (200,),
    "timeouts": (200,),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with data, and every kind of bad file."""
    lab = tmp_path_factory.mktemp("lab")
    lines = make_lab(lab)
    lines[33] = lines[33].replace("3.3", "nan", 1)
    (lab / "nan.csv").write_text("\n".join([HEAD, *lines]))
    (lab / "wrong.py").write_text(WRONG)
    for name, left_out in (("cut.hdf5", ""), ("bare.hdf5", "rewards")):
        with h5py.File(lab / name, "w") as file:
            for key, shape in KEYS.items():
                if key != left_out:
                    file[key] = np.zeros(shape, np.float32)
    content = (lab / "cut.hdf5").read_bytes()
    (lab / "cut.hdf5").write_bytes(content[: len(content) // 2])
    return lab


# What a user gets wrong: (words, exit code, what the message must hold).
# fmt: off
MISTAKES = {
    "verb": ("trian iql toy-pendulum", 2, ["'trian'", "nearest: train", "off2on train iql toy-pendulum"]),
    "option": ("train iql toy-pendulum --updats 10", 2,
               ["'--updats'", "nearest: --updates", "off2on train iql toy-pendulum --updates 10"]),
    "number": ("train iql toy-pendulum --updates 10x", 2, ["--updates", "'10x'", "20k"]),
    "seeds": ("train iql toy-pendulum --seeds 1000000000", 2, ["--seeds", "1000000000", "1000"]),
    "data": ("train iql toy-pendulom", 2,
             ["'toy-pendulom'", "nearest: toy-pendulum", "Looked in", "off2on train iql toy-pendulum"]),
    "data-not-added": ("train iql hopper-medium-v2", 2,
                       ["'hopper-medium-v2' is not added yet", "off2on data add hopper-medium-v2"]),
    "no-data": ("train iql", 2, ["a data set is missing", "off2on train iql toy-pendulum"]),
    "algorithm": ("train iqll toy-pendulum", 2,
                  ["'iqll'", "nearest: iql", "td3_bc", "off2on train iql toy-pendulum"]),
    "module": ("train no_such_lab:IQL toy-pendulum", 2,
               ["'no_such_lab:IQL'", "package.module:Class", "off2on algos"]),
    "objective": ("train wrong:Misnamed toy-pendulum", 2,
                  ["'acter'", "compute_acter_loss", "nearest: actor", "off2on algos iql"]),
    "hyperparameter": ("train iql toy-pendulum expctile=0.9", 2,
                       ["'expctile'", "nearest: expectile", "off2on train iql toy-pendulum expectile=0.9"]),
    "range": ("train iql toy-pendulum expectile=1.4", 2, ["expectile", "(0, 1)", "1.4", "off2on algos iql"]),
    "file": ("train iql toy-pendulum @best.yaml", 2, ["'best.yaml'", "Looked in"]),
    "strategy": ("train iql toy-pendulum --strategy balancd --online 9", 2,
                 ["'balancd'", "nearest: balanced", "iql toy-pendulum --strategy balanced --online 9"]),
    "strategy-option": ("train iql toy-pendulum --online 9 strategy.offline_share=2", 2,
                        ["offline_share", "[0, 1]", "2", "off2on strategies symmetric"]),
    "strategy-offline": ("train iql toy-pendulum --strategy append", 2,
                         ["--strategy is for the online phase", "--strategy append --online 20k"]),
    "repeated-option": ("train iql toy-pendulum --online 0 --strategy append", 2,
                        ["try: off2on train iql toy-pendulum --strategy append --online 20k\n"]),
    "crossing": ("train iql toy-pendulum --online 9 --strategy ensemble", 2, ["IQL", "off2on strategies"]),
    "no-simulator": ("train iql trips --updates 9 --online 9", 2, ["trips has no environment", "--env"]),
    "run": ("eval runs/nothing", 2, ["'runs/nothing'", "Looked"]),
    "nan": ("data add nan.csv --name bad --columns obs=place,speed actions=push rewards=r episode=trip", 3,
            ["nan.csv", "obs", "1 NaN", "row 33", "off2on data add nan.csv", "--nan drop-episode"]),
    "truncated": ("data add cut.hdf5", 3, ["cut.hdf5", "HDF5", "off2on data add -h"]),
    "missing-key": ("data add bare.hdf5", 3, ["'rewards'", "terminals", "off2on data add -h"]),
    "missing-column": ("data add trips.csv --name bad --columns obs=place,sped actions=push rewards=r", 3,
                       ["'sped'", "nearest: speed", "obs=place,speed actions=push"]),
    "role": ("data add trips.csv --name bad --columns observation=place", 2, ["'observation=place'", "obs"]),
    "source-option": ("data add toy-pendulum --name bad episods=3", 2,
                      ["'episods'", "nearest: episodes", "off2on data add toy-pendulum", "episodes=3"]),
    "discount": ("data add toy-pendulum --name bad --discount 1.5", 2,
                 ["discount 1.5", "from 0 to 1", "off2on data add toy-pendulum --name bad --discount 0.99"]),
    "data-exists": ("data add toy-pendulum", 2, ["toy-pendulum exists", "--overwrite", "off2on data add"]),
    "search-word": ("tune search.yaml trials 8", 2, ["unexpected argument 'trials'", "NAME=VALUE"]),
    "no-such-file": ("data add nowhere.hdf5", 2, ["nowhere.hdf5", "Looked in"]),
}
# fmt: on


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_three_parts(lab: Path, mistake: str) -> None:
    words, code, parts = MISTAKES[mistake]
    before = sorted(lab.rglob("*"))
    done = off2on(lab, *words.split())
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "\n  try: " in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
    assert not re.search(r"'(\S+)'.*\n +nearest: \1\.", done.stderr)
    new = {path for path in set(lab.rglob("*")) - set(before) if "__pycache__" not in path.parts}
    assert not new, "a refused command must leave nothing behind"


@pytest.mark.parametrize(
    ("words", "line"),
    [("train lab:Mine toy", "off2on algos iql"), ("serve runs/dt-s0", "off2on serve -h")],
)
def test_an_example_of_an_algorithm_is_for_those_who_write_one(words: str, line: str) -> None:
    assert _help_page(RecipeError("it has a history"), words.split()) == line


@pytest.mark.parametrize(("port", "other"), [(8000, 8001), (65535, 65534)])
def test_another_port_is_one_that_exists(port: int, other: int) -> None:
    with pytest.raises(UserError) as told, _port_errors("127.0.0.1", port):
        raise OSError(98, "Address already in use")
    assert told.value.try_ == f"--port {other}"


def test_the_line_to_paste_works(lab: Path) -> None:
    columns = ["obs=place,speed", "actions=push", "rewards=r", "episode=trip"]
    refused = off2on(lab, "data", "add", "nan.csv", "--name", "mended", "--columns", *columns)
    line = refused.stderr.splitlines()[-1].removeprefix("  try: off2on ")
    done = succeeds(lab, *line.split())
    assert "2 episodes" in done.stdout
    assert "left out" in done.stdout
