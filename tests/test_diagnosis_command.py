"""Check `off2on data check`: its output, exit code, page and figures."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from PIL import Image

from datasets_io import Episode, Source
from datasets_io.diagnosis import Diagnosis, diagnose_source
from datasets_io.ingestion.ingest import ingest
from off2on.commands.check import check
from off2on.commands.data import data
from off2on.errors import UnknownName
from off2on.reports import data_figures
from off2on.reports.data import data_report, write_data_report
from off2on.reports.images import png

LARGEST = 400 * 1024
"""Maximum size in bytes of a page that can be sent by e-mail."""


class Trips(Source):
    """Source with zero rewards, actions outside the box and eleven observations."""

    action_space = gym.spaces.Box(-1, 1, (3,))

    def episodes(self, part: Any) -> Iterator[Episode]:
        rng = np.random.default_rng(0)
        for number in range(30):
            obs = np.cumsum(rng.normal(size=(41, 11)), 0)
            actions = rng.uniform(-1.2, 0.9, (40, 3))
            yield Episode(obs, actions, np.zeros(40), terminated=number % 3 == 0)


@pytest.fixture
def run(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return run(words…), which runs `off2on data check` in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(check, list(words))


@pytest.fixture(scope="module")
def trips() -> Diagnosis:
    return diagnose_source(Trips(), None, "trips <east>", "off2on data add trips")


def test_a_valid_data_set_is_verified_and_has_no_error(run: Callable[..., Result]) -> None:
    done = run("toy-pendulum")
    assert done.exit_code == 0, done.output
    first, second, *rest = done.stdout.splitlines()
    assert re.fullmatch(
        r"verified +\S+toy-pendulum   4 shards, \d+ kB, every SHA-256 as written on [\d-]+", first
    )
    assert re.fullmatch(r"found +\d notes?", second)
    for fact in ("episodes", "return", "scale of Q", "effective", "novelty", "behaviour"):
        assert any(line.startswith(fact) for line in rest), fact


def test_a_source_is_examined_and_nothing_is_written(run: Callable[..., Result], data_root: Path) -> None:
    before = sorted(data_root.iterdir())
    done = run("toy-cartpole", "episodes=10", "seed=3")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("read  ")
    assert "nothing written" in done.stdout
    assert sorted(data_root.iterdir()) == before


def test_an_error_comes_first_with_what_to_do_and_exit_code_3(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    table = tmp_path / "trips.csv"
    rows = "\n".join(f"{row // 10},{np.sin(row):.4f},{np.cos(row) * 1.5:.4f},0" for row in range(100))
    table.write_text(f"trip,x,u,r\n{rows.replace('0.8415', 'nan')}\n")
    columns = ("--columns", "obs=x", "actions=u", "rewards=r", "episode=trip")
    done = run(str(table), *columns)
    assert done.exit_code == 3, done.output
    findings = [line for line in done.stdout.splitlines() if re.match(r"(error|warning|note) ", line)]
    assert [line.split()[0] for line in findings[:2]] == ["error", "error"]
    assert "obs: NaN or infinity in 1 of 100 rows (columns 0) · row 1" in done.stdout
    assert f"try:  off2on data add {table} --columns obs=x" in done.stdout
    assert "--nan drop-episode" in done.stdout
    plain = json.loads(run(str(table), *columns, "--json").stdout)
    assert plain["rows"] == 100
    assert [finding["check"] for finding in plain["findings"][:2]] == ["finite", "rewards"]
    assert plain["facts"][0]["values"]["count"] == 10


def test_a_page_is_written_beside_json(run: Callable[..., Result], tmp_path: Path) -> None:
    page = tmp_path / "new folder" / "pendulum.html"
    done = run("toy-pendulum", "--html", str(page), "--against", "toy-pendulum", "--json")
    assert done.exit_code == 0, done.output
    assert {"beside toy-pendulum", "novelty"} <= {fact["name"] for fact in json.loads(done.stdout)["facts"]}
    assert f"page       {page}" in done.stderr
    assert "Grey rings: states of toy-pendulum" in page.read_text()


@pytest.mark.parametrize("words", [("toy-pendulun",), ("toy-pendulum", "--against", "toy-pendulun")])
def test_a_wrong_name_is_refused_with_the_nearest(run: Callable[..., Result], words: tuple[str, ...]) -> None:
    done = run(*words)
    assert isinstance(done.exception, UnknownName)
    assert "nearest: toy-pendulum" in str(done.exception)


def test_a_missing_file_is_reported(run: Callable[..., Result]) -> None:
    done = run("no/such.hdf5")
    assert isinstance(done.exception, UnknownName)
    assert re.match(r"there is no file \S*no/such.hdf5", str(done.exception))


def test_adding_prints_the_known_defects(run: Callable[..., Result], tmp_path: Path) -> None:
    import h5py

    path, rng = tmp_path / "maze2d-umaze-v1.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = rng.normal(size=(50, 4)), rng.uniform(-1, 1, (50, 2))
        file["rewards"], file["terminals"] = rng.normal(size=50), np.arange(50) % 10 == 9
    done = CliRunner().invoke(data, ["add", str(path), "--overwrite"])
    assert done.exit_code == 0, done.output
    assert re.search(r"^known +rewards\[t\] belongs .*D4RL#194", done.stdout, re.MULTILINE)


class Page(HTMLParser):
    """Parser that collects the tags of a page and the files that they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        about = dict(attrs)
        self.sources += [about[name] or "" for name in ("src", "href") if name in about]
        if tag == "img":
            self.alts.append(about.get("alt") or "")


def test_the_page_has_no_external_files(trips: Diagnosis) -> None:
    text = data_report(trips, "trips/2026")
    page = Page(text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "http" not in re.sub(r"data:image/png;base64,\S+", "", text)
    assert len(page.sources) == page.tags.count("img") == 7
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(page.alts)
    assert len(text.encode()) < LARGEST
    for finding in trips.findings:
        assert finding.severity in text
    assert "trips &lt;east&gt;" in text
    assert "<east>" not in text
    assert "<pre>off2on data add trips --clip-actions</pre>" in text


def test_figures_on_the_page_are_images(trips: Diagnosis) -> None:
    for source in Page(data_report(trips, "")).sources:
        image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert image.width > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 8


def test_the_page_of_data_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    class Broken(Source):
        def episodes(self, part: Any) -> Iterator[Episode]:
            yield Episode(np.zeros((3, 1)), np.zeros((9, 1)), np.zeros(9), terminated=False)

    diagnosis = diagnose_source(Broken(), None, "broken", "")
    page = write_data_report(diagnosis, "broken", tmp_path / "page.html")
    assert "9 actions and 3 observations" in page.read_text()
    assert "<img" not in page.read_text()


def test_discrete_actions_have_bars(data_root: Path) -> None:
    from datasets_io import open_shards
    from datasets_io.diagnosis import diagnose_shards

    text = data_report(diagnose_shards(open_shards("toy-cartpole")), "")
    assert "How often each action was taken." in text
    assert "Actions and their bounds" not in text


def test_rows_without_numbers_leave_the_episodes_pictures(tmp_path: Path) -> None:
    class Blank(Source):
        def episodes(self, part: Any) -> Iterator[Episode]:
            for _ in range(3):
                yield Episode(np.full((6, 2), np.nan), np.zeros((5, 2)), np.ones(5), terminated=True)

    diagnosis = diagnose_source(Blank(), None, "blank", "")
    assert diagnosis.count("error") >= 1
    assert Page(data_report(diagnosis, "")).tags.count("img") == 3


def render(figure: Figure) -> bytes:
    return png(figure, dpi=60)


def test_actions_outside_the_box_have_bars_of_their_own() -> None:
    values = np.array([[-0.5], [0.0], [0.5], [1.0], [1.5]])
    low, high = np.array([-1.0]), np.array([1.0])
    figure = data_figures.histograms(values, ["u"], low, high)
    (axes,) = figure.axes
    inside = sum(bar.get_height() for bar in axes.patches if not bar.get_hatch())
    outside = sum(bar.get_height() for bar in axes.patches if bar.get_hatch())
    assert (inside, outside) == (4, 1)
    assert render(figure)


@pytest.mark.parametrize("values", [np.full(5, 7.0), np.array([0.0, 1.0] * 30), np.linspace(-1e6, 1e6, 500)])
def test_returns_of_any_kind_are_drawn(values: Any) -> None:
    figure = data_figures.returns(values)
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == len(values)
    assert render(figure)


def test_lengths_are_stacked_by_end() -> None:
    figure = data_figures.lengths(
        np.array([5.0, 10.0, 10.0, 200.0]), np.array([True, True, False, False]), 200
    )
    heights = {bool(bar.get_hatch()): 0.0 for bar in figure.axes[0].patches}
    for bar in figure.axes[0].patches:
        heights[bool(bar.get_hatch())] += bar.get_height()
    assert heights == {False: 2, True: 2}
    assert render(figure)


def test_a_data_set_of_one_row_is_drawn(tmp_path: Path) -> None:
    class One(Source):
        def episodes(self, part: Any) -> Iterator[Episode]:
            yield Episode(np.zeros((2, 1)), np.zeros((1, 1)), np.ones(1), terminated=True)

    shards = ingest(One(), None, tmp_path, name="one")
    diagnosis = diagnose_source(One(), None, "one", "")
    assert shards.rows == 1
    assert "one" in data_report(diagnosis, "")
