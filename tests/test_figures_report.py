"""Reports of made run folders: what is on the page, what must not be, and what is drawn."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_runs import make_run, write_guard
from matplotlib.text import Annotation
from PIL import Image

from off2on.reports import figures
from off2on.reports.images import png
from off2on.reports.page import MAX_PAGE_BYTES
from off2on.reports.run import write_report
from off2on.runs import statistics
from off2on.runs.numbers import points
from off2on.runs.record import find_runs, load_run


class Outline(HTMLParser):
    """What a browser would see: headings, images, the tags that must not be there, and all the text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.text = ""
        self.html = page.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags and self.tags[-1] in ("h1", "h2", "h3") and data.strip():
            self.headings.append(data)


def decode(image: dict[str, str | None]) -> Image.Image:
    kind, data = str(image["src"]).split(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seeds of one group."""
    root = tmp_path_factory.mktemp("runs") / "hopper-medium-v2"
    for seed in range(5):
        make_run(root / f"iql-balanced-s{seed}", seed=seed)
    return root


def test_the_page_of_five_seeds(five: Path) -> None:
    page = write_report(find_runs([str(five)]))
    assert page == five / "report.html"
    assert page.stat().st_size <= MAX_PAGE_BYTES
    seen = Outline(page)
    assert seen.html.startswith('<!doctype html>\n<html lang="en">')
    assert seen.headings == [
        "iql × balanced on hopper-medium-v2", "The handover", "The drop by seed",
        "Offline rows in the batches", "Q and the return to go of the data", "Runs", "Commands",
        "Differences from the defaults",
    ]  # fmt: skip
    assert not {"script", "link", "iframe", "object"} & set(seen.tags)
    assert all(str(link).startswith("data:image/png;base64,") for link in seen.links)
    assert "http" not in seen.html
    assert len(seen.images) == 4
    assert all(image["alt"] and decode(image).size[0] > 500 for image in seen.images)
    assert sorted(path.name for path in (five / "figures").iterdir()) == [
        "batch.png", "drop.png", "handover.png", "q.png",
    ]  # fmt: skip

    runs = [load_run(folder) for folder in find_runs([str(five)])]
    for scores in ([run.curve.handover for run in runs], [run.curve.online[-1] for run in runs]):
        told = statistics.estimate(scores)
        assert told.interval is not None
        assert f">{points(told.value)}</b>" in seen.html
        assert f"[{points(told.interval[0])}, {points(told.interval[1])}]" in seen.text
    lost = statistics.estimate([run.curve.drop or 0.0 for run in runs])
    assert f"<b class='loss'>{points(-lost.value)}</b>" in seen.html
    assert "recovered after" in seen.text
    assert "right after it" in seen.text
    assert "normalised" in seen.text
    assert "off2on train iql hopper-medium-v2" in seen.text
    assert "sha256:8d1f0c9a77e0" in seen.text
    assert "no interval" not in seen.text.split("Interquartile")[0]
    assert "extrapolating" not in seen.text
    assert re.search(r"beta\s*6\.0\s*3\.0\s*command line", seen.text)
    assert "expectile" not in seen.text  # it has its default


def test_one_seed_has_no_interval_and_its_figures_in_its_own_folder(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs" / "iql-balanced-s0")
    page = write_report([folder], tmp_path / "elsewhere" / "one.html")
    assert page == tmp_path / "elsewhere" / "one.html"
    assert (folder / "figures" / "handover.png").is_file()
    text = Outline(page).text
    assert text.count("one seed: no interval") == 3
    assert "[" not in text.split("The handover")[0]
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("evaluations", [1, 2, 20])
def test_a_run_that_stays_offline_says_nothing_of_a_handover(tmp_path: Path, evaluations: int) -> None:
    folder = make_run(tmp_path / "bc-s0", algorithm="bc", strategy=None, online=0, evaluations=evaluations)
    seen = Outline(write_report([folder]))
    assert seen.headings[:3] == [
        "bc on hopper-medium-v2",
        "Offline training",
        "Q and the return to go of the data",
    ]
    assert "handover" not in seen.text
    assert "drop" not in seen.text


def test_a_run_from_another_runs_handover_has_only_an_online_side(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "iql-append-s0", strategy="append", offline=False, evaluations=2)
    seen = Outline(write_report([folder]))
    assert "The handover" in seen.headings


def test_a_q_above_anything_in_the_data_is_told_in_words(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "sac-s0", algorithm="sac", q_scale=50, reference=None)
    text = Outline(write_report([folder])).text
    passed = r"Seed 0: Q exceeded the largest return to go of the data \([\d,]+ > 264.0\) at update 50,000"
    assert re.search(passed, text)
    assert "extrapolates" in text
    assert "normalised" not in text.lower()  # there is no reference


def test_what_makes_the_numbers_doubtful_is_said(tmp_path: Path) -> None:
    def options(updates: int, precision: str, asynchronous: bool) -> dict[str, Any]:
        plan = {"updates": {"value": updates}, "precision": {"value": precision}}
        return {"plan": plan, "online_side": {"online.asynchronous": {"value": asynchronous}}}

    same, differs = options(1000, "float32", False), options(2000, "bfloat16", True)
    runs = [make_run(tmp_path / f"s{n}", seed=min(n, 1), **(differs if n == 2 else same)) for n in range(3)]
    write_guard(runs[2], served=1.0, refused=2.0)
    other = yaml.safe_load((runs[2] / "run.yaml").read_text())
    other["hyperparameters"]["beta"]["value"] = 9.0
    other["data"]["content_hash"] = "sha256:other"
    other["status"] = "interrupted"
    (runs[2] / "run.yaml").write_text(yaml.safe_dump(other))
    waiting = make_run(tmp_path / "s3", seed=3)
    (waiting / "metrics.csv").unlink()
    text = Outline(write_report([*runs, waiting])).text
    assert "s2 is interrupted" in text
    assert "have the same seed" in text
    assert "were not trained on the same rows" in text
    assert "Final scores are those of the policies that the guard left in service" in text
    assert "differ in more than their seeds: " in text
    for words in (
        "updates (1000, 2000)",
        "precision (bfloat16, float32)",
        "guard (off, on)",
        "beta (6.0, 9.0)",
        "online.asynchronous (False, True)",
    ):
        assert words in text
    assert f"Left out: {waiting} has no evaluation yet." in text


def test_negative_returns_are_compared_by_difference(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "iql-s0", reference=None)
    told = yaml.safe_load((folder / "run.yaml").read_text())
    told["data"]["return_mean"] = -1000.0
    (folder / "run.yaml").write_text(yaml.safe_dump(told))
    text = Outline(write_report([folder])).text
    final = load_run(folder).curve.online[-1]
    assert f"+{points(final + 1000)}" in text
    assert "×-" not in text


def test_whatever_is_in_a_run_stays_text(tmp_path: Path) -> None:
    evil = "<script>alert('1')</script>&$body{0}%s"
    folder = make_run(
        tmp_path / "x<b>-s0", algorithm=evil, data=evil, strategy=evil, command=evil, device=evil,
        commit=evil, env=evil, status=evil, versions={evil: evil},
        hyperparameters={evil: {"value": evil, "default": evil, "origin": evil}},
    )  # fmt: skip
    seen = Outline(write_report([folder]))
    assert "script" not in seen.tags
    assert "<script" not in seen.html
    assert seen.text.count(evil) >= 10
    assert not {"b>-s0", "x<b"} & set(seen.tags)


def test_groups_are_compared_and_kept_apart(tmp_path: Path) -> None:
    for algorithm, depth, gain in (("iql", 10.0, 25.0), ("cql", 2.0, 60.0)):
        for seed in range(3):
            make_run(
                tmp_path / f"{algorithm}-s{seed}", algorithm=algorithm, seed=seed, depth=depth, gain=gain
            )
    page = write_report(find_runs([str(tmp_path)]))
    seen = Outline(page)
    assert page == tmp_path / "report.html"
    assert page.stat().st_size <= MAX_PAGE_BYTES
    assert seen.headings[0] == "cql × balanced and iql × balanced on hopper-medium-v2"
    assert "Comparison on hopper-medium-v2" in seen.headings
    assert "a seed of cql × balanced ends above one of iql × balanced: 100% [100%, 100%]" in seen.text
    assert (tmp_path / "figures" / "comparison-hopper-medium-v2.png").is_file()
    assert (tmp_path / "figures" / "hopper-medium-v2-iql-balanced-handover.png").is_file()


def test_a_page_of_many_groups_stays_small_and_loses_no_figure(tmp_path: Path) -> None:
    for number in range(15):
        make_run(tmp_path / "runs" / f"a{number}", algorithm=f"algorithm{number:02}", evaluations=12)
    page = write_report(find_runs([str(tmp_path / "runs")]), tmp_path / "all.html")
    assert 0.8 * MAX_PAGE_BYTES < page.stat().st_size <= MAX_PAGE_BYTES
    seen = Outline(page)
    assert str(seen.images[-1]["alt"]).startswith(
        "Final returns"
    )  # the comparison comes before any single group
    assert len(seen.images) < 16
    aside = re.findall(r"all-figures/([\w.-]+-handover\.png)", seen.text)
    assert len(aside) + len(seen.images) - 1 == 15
    assert all((tmp_path / "all-figures" / name).is_file() for name in aside)


def test_the_figure_shows_what_was_lost_in_orange_and_scores_in_blue(tmp_path: Path) -> None:
    """A drop of 0 has no orange at all; a deeper one has more than a shallower."""

    def pixels(depth: float, colour: str) -> int:
        run = load_run(make_run(tmp_path / f"d{depth}", depth=depth, gain=40.0 if depth == 0 else 25.0))
        image = np.asarray(Image.open(io.BytesIO(png(figures.handover([run.curve])))).convert("RGB"))
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return int((image == wanted).all(-1).sum())

    assert pixels(0.0, figures.ORANGE) == 0
    shallow, deep = pixels(20.0, figures.ORANGE), pixels(60.0, figures.ORANGE)
    assert 0 < 1.5 * shallow < deep
    assert pixels(1.0, figures.BLUE) > 1000


def test_the_arrow_says_the_size_of_the_drop(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run", depth=30))
    figure = figures.handover([run.curve], 1872.0, run.reference)
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any(text.startswith(f"drop {points(run.curve.drop or 0)},") for text in words)
    assert "return of the data, 1,872" in words
    notes = [text for axes in figure.axes for text in axes.texts if isinstance(text, Annotation)]
    (arrow,) = [note for note in notes if note.arrowprops]
    tail, head = arrow.xyann[1], arrow.xy[1]
    assert tail - head == pytest.approx(run.curve.drop)
    left, right = figure.axes[0].get_position(), figure.axes[1].get_position()
    assert left.x1 == pytest.approx(right.x0)  # the panels touch
    assert (left.y0, left.y1) == (right.y0, right.y1)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_the_batch_figure_is_read_from_the_run(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run"))
    axes = figures.batch_mix([run.trace("offline_share", "online")]).axes[0]
    (line,) = axes.get_lines()
    share = np.asarray(line.get_ydata())
    assert share[-1] == pytest.approx(0.1)
    assert share.max() == pytest.approx(0.5, abs=1e-5)
    assert axes.get_legend_handles_labels()[1] == ["offline shards", "online replay"]


def test_seeds_whose_online_evaluations_do_not_overlap_have_one_level() -> None:
    early = np.array([1e3, 5e3]), np.array([0.5, 0.5])
    (line,) = figures.batch_mix([early, (np.array([1e4]), np.array([0.4]))]).axes[0].get_lines()
    assert np.asarray(line.get_xydata()) == pytest.approx(np.array([[0, 0.45], [1e4, 0.45]]))


def test_runs_whose_online_evaluations_do_not_overlap_have_a_report(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"iql-append-s{seed}", seed=seed, evaluations=8) for seed in range(2)]
    for run, is_kept in zip(runs, (lambda at: at < 9, lambda at: at >= 9), strict=True):
        header, *rows = (run / "metrics.csv").read_text().splitlines(keepends=True)
        online = [row for row in rows if row.startswith("online")]
        kept = [row for row in rows if row not in online or is_kept(online.index(row))]
        (run / "metrics.csv").write_text("".join([header, *kept]))
    assert "Offline rows in the batches" in Outline(write_report(runs)).text


def test_a_report_of_the_same_runs_is_the_same_file(five: Path, tmp_path: Path) -> None:
    folders = find_runs([str(five)])
    one, two = write_report(folders, tmp_path / "one.html"), write_report(folders, tmp_path / "two.html")
    assert one.read_bytes() == two.read_bytes()


def test_reporting_imports_nothing_that_learns() -> None:
    modules = "off2on.reports.run, off2on.training.live_display"
    code = f"import sys, {modules}; print({{'torch', 'ray'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
