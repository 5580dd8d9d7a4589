"""Files of searches: every mistake is told, and which values their trials get."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from searches import FILE, OFFLINE, made

from off2on.errors import UserError
from off2on.runs.statistics import iqm
from off2on.search.checks import check
from off2on.search.reading import read
from off2on.search.scoring import mean
from off2on.search.searcher import SCORE, TrialSearcher, require_packages
from off2on.search.spec import Dimension
from off2on.search.trial_store import FINISHED, TrialStore
from off2on.training.located_yaml import LocatedValue

# What a user gets wrong: (in the file, instead of it), what the message must hold, the line to paste.
# fmt: off
MISTAKES: dict[str, tuple[tuple[str, str], list[str], str]] = {
    "key": (("updates:", "update:"), ["wrong.yaml:3", "'update'", "nearest: updates"], "updates: 40"),
    "twice": (("updates: 40", "data: toy"), ["wrong.yaml:3", "'data' is given twice", "wrong.yaml:2"], ""),
    "yaml": (("updates: 40", "updates: [40"), ["wrong.yaml:4", "not YAML"], ""),
    "no-algorithm": (("algorithm: iql\n", ""), ["wrong.yaml", "no algorithm"], "algorithm: iql"),
    "algorithm": (("iql", "iqll"), ["wrong.yaml:1", "'iqll'", "nearest: iql"], "algorithm: iql"),
    "data": (("toy-pendulum", "toy-pendulom"), ["wrong.yaml:2", "'toy-pendulom'", "nearest: toy-pendulum"],
             "data: toy-pendulum"),
    "strategy": (("append", "apend"), ["wrong.yaml:7", "'apend'", "nearest: append"], "strategy: append"),
    "number": (("updates: 40", "updates: many"), ["wrong.yaml:3", "updates", "many"], ""),
    "negative": (("online: 20", "online: -20"), ["wrong.yaml:6", "online", "-20", "≥ 0"], ""),
    "seeds": (("seeds: 3", "seeds: 0"), ["wrong.yaml:8", "seeds", "≥ 1"], ""),
    "measure": (("final_score", "final_scare"), ["wrong.yaml:10", "'final_scare'", "nearest: final_score"],
                "maximise: final_score"),
    "by": (("trials: 3", "by: radnom"), ["wrong.yaml:9", "'radnom'", "nearest: random"], "by: random"),
    "stop": (("trials: 3", "stop_early: asho"), ["wrong.yaml:9", "'asho'", "nearest: asha"],
             "stop_early: asha"),
    "fixed-name": (("  batch_size", "  batch_sise"), ["wrong.yaml:13", "'batch_sise'", "nearest: batch_size"],
                   "batch_size: 32"),
    "fixed-value": (("batch_size: 32", "batch_size: 0"), ["wrong.yaml:13", "batch_size", "≥ 1", "0"], ""),
    "searched-name": (("  expectile", "  expctile"), ["wrong.yaml:15", "'expctile'", "nearest: expectile"],
                      "expectile: {between: [0.5, 0.95]}"),
    "online-name": (("online.utd", "online.udt"), ["wrong.yaml:18", "'online.udt'", "nearest: online.utd"],
                    "online.utd: {one_of: [0.5, 1]}"),
    "both": (("batch_size: 32", "expectile: 0.7"), ["wrong.yaml:13", "'expectile' is both"], ""),
    "range-word": (("{between", "{betwen"), ["wrong.yaml:15", "'betwen'", "nearest: between"],
                   "expectile: {between: [0.5, 0.95]}"),
    "no-range": (("{between: [0.5, 0.95]}", "0.7"), ["wrong.yaml:15", "expectile", "between"],
                 "expectile: {between: [LOW, HIGH]}"),
    "out-of-range": (("[0.5, 0.95]", "[0.5, 1.4]"), ["wrong.yaml:15", "expectile", "(0, 1)", "1.4"], ""),
    "falls": (("[0.5, 0.95]", "[0.95, 0.5]"), ["wrong.yaml:15", "must rise"],
              "expectile: {between: [0.5, 0.95]}"),
    "no-value": (("[0.5, 0.95]", "[]"), ["wrong.yaml:15", "expected a value"], ""),
    "no-data": (("toy-pendulum", "[]"), ["wrong.yaml:2", "expected a value"], ""),
    "bounds-named": (("[0.5, 0.95]", "{low: 0.5}"), ["wrong.yaml:15", "is not a list"],
                     "expectile: {between: [LOW, …]}"),
    "one-bound": (("[0.5, 0.95]", "[0.5]"), ["wrong.yaml:15", "two numbers"],
                  "expectile: {between: [LOW, HIGH]}"),
    "log-of-zero": (("[0.5, 10]", "[0, 10]"), ["wrong.yaml:16", "starts at 0", "logarithm"],
                    "beta: {log_between: [0.1, 10]}"),
    "no-own-range": (("actor_lr: default", "discount: default"),
                     ["wrong.yaml:17", "no default search range", "[0, 1]"],
                     "discount: {one_of: [0.99, …]}"),
    "no-number": (("actor_lr: default", "reward: {between: [0, 1]}"), ["wrong.yaml:17", "takes no numbers"],
                  "reward: {one_of: [return_scale, …]}"),
    "value": (("[0.5, 1]}", "[0.5, -1]}"), ["wrong.yaml:18", "utd", "> 0", "-1"], ""),
    "recipe": (("online.utd: {one_of: [0.5, 1]}", "online.targets: {one_of: [own, random_pair]}"),
               ["wrong.yaml:18", "IQL"], ""),
    "offline": (("online: 20", "online: 0"), ["wrong.yaml:18", "online.utd", "online phase"],
                "online: 20k"),
    "nothing-varies": ((FILE[FILE.index("search:"):], ""), ["wrong.yaml", "no search dimension"],
                       "search: {actor_lr: default}"),
    "grid": (("trials: 3", "by: grid"), ["wrong.yaml:15", "grid", "between"],
             "expectile: {one_of: [0.5, 0.95]}"),
    "estimate-stopped": (("trials: 3\nmaximise: final_score", "stop_early: asha\nmaximise: fqe"),
                         ["wrong.yaml:9", "estimate"], "stop_early: none"),
    "threads": (("trials: 3", "threads: 999"), ["wrong.yaml:9", "999 threads", "cores"], "threads: 1"),
    "learners": (("trials: 3", "learners: 400"), ["wrong.yaml:9", "400 cores", "this machine has"],
                 "learners: 0"),
}
# fmt: on


@pytest.fixture
def here(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_line(here: Path, mistake: str) -> None:
    (there, instead), parts, attempt = MISTAKES[mistake]
    assert there in FILE
    with pytest.raises(UserError) as caught:
        made(FILE.replace(there, instead, 1), "wrong.yaml")
    told = str(caught.value)
    for part in parts:
        assert part in told, told
    assert caught.value.try_ == attempt or not attempt, caught.value.try_
    assert [file.name for file in here.iterdir()] == ["wrong.yaml"], "nothing is begun"


# fmt: off
TOGETHER = {
    "no-simulator": ({"data": "wide"}, ["command line", "wide has no"], "maximise=fqe"),
    "drop-offline": ({"maximise": "smallest_drop"}, ["command line", "online phase, and there is none"],
                     "online=20k"),
    "drop-unseen": ({"maximise": "smallest_drop", "online": "200", "eval_every": "50"},
                    ["command line", "first 40 environment steps"], "eval_every=10"),
    "preset": ({"preset": "nonsense"}, ["command line", "no preset 'nonsense'", "antmaze"], ""),
    "tracker": ({"track": "wandbb"}, ["command line", "'wandbb'", "nearest: wandb"], "track=wandb"),
    "no-mean": ({"data": "toy-pendulum,wide"}, ["command line", "0 and 100"], ""),
    "estimates": ({"data": "toy-pendulum,wide", "maximise": "fqe"}, ["command line", "common scale"], ""),
    "column": ({"algorithm": "bcq", "data": "toy-cartpole"}, ["search.yaml"], ""),
    "once": ({"stop_early": "asha", "eval_every": "40"}, ["command line", "one evaluation"], "eval_every=4"),
    "population-stopped": ({"by": "pbt", "stop_early": "asha"}, ["command line", "pbt"], "stop_early=none"),
    "population-bucket": ({"by": "pbt", "out": "s3://b/f"}, ["command line", "s3://b/f"], "by=random"),
    "for-online": ({"online.utd": "2"}, ["command line", "online.utd", "online phase"], "online=20k"),
    "few": ({"by": "pbt", "trials": "3"}, ["command line", "population of 3"], "trials=8"),
    "grid-size": ({"by": "grid", "trials": "3"}, ["search.yaml:10", "grid"], ""),
}
# fmt: on


@pytest.mark.parametrize("wrong", TOGETHER)
def test_what_does_not_go_together_is_refused(here: Path, wrong: str) -> None:
    given, parts, attempt = TOGETHER[wrong]
    with pytest.raises(UserError) as caught:
        made(OFFLINE, **given)
    told = str(caught.value)
    for part in parts:
        assert part in told, told
    assert caught.value.try_ == attempt or not attempt, caught.value.try_


def test_policies_of_chunks_have_no_estimates(here: Path) -> None:
    text = OFFLINE.replace("iql", "qc").partition("search:")[0] + "search:\n  critic_lr: default\n"
    with pytest.raises(UserError, match="chunks of 5 actions") as caught:
        made(text, maximise="fqe")
    assert caught.value.try_ == "maximise=final_score"
    made(text, "single.yaml", chunk="1", maximise="fqe")


def test_trackers_are_told_of_every_run(here: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    search = made(OFFLINE, track="mlflow")
    plan = search.plans({}, "000")[0]
    assert tuple(plan.track) == ("mlflow",)
    assert "--track mlflow" in plan.command
    assert search.as_dict()["track"] == {"value": ["mlflow"], "origin": "command line"}
    with pytest.raises(UserError, match="'mlflw'"):
        made(OFFLINE, track="mlflw")


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("iql", "hidden: {one_of: ['16,16', '32,32']}"),
        ("iql", "normalise_obs: {one_of: [no, yes]}"),
        ("awac", "weight_decay: {between: [0, 0.1]}"),  # a checkpoint has the optimiser with its options
    ],
)
def test_a_population_cannot_search_what_cannot_change_in_a_run(
    here: Path, algorithm: str, name: str
) -> None:
    text = OFFLINE.replace('hidden: "16,16", ', "").replace("actor_lr: default", name)
    text = text.replace("expectile: {between: [0.5, 0.95]}", "discount: {between: [0.9, 0.99]}")
    with pytest.raises(UserError, match=r"search\.yaml:11: pbt cannot search"):
        made(text, by="pbt", algorithm=algorithm)
    made(text, by="random", stop_early="asha", algorithm=algorithm)


def test_more_trials_at_once_than_cores_are_refused(here: Path) -> None:
    search = made(OFFLINE)
    with pytest.raises(UserError, match="--jobs 999") as caught:
        check(search, 999)
    assert caught.value.try_.startswith("off2on tune search.yaml --jobs ")


def test_the_command_line_wins_and_what_it_fixes_is_not_searched(here: Path) -> None:
    search = made(OFFLINE, expectile="0.7", trials="9", updates="1k")
    assert (search.names, search.trials, search.options["updates"]) == (["actor_lr"], 9, 1000)
    (plan,) = search.plans({"actor_lr": "1e-4"}, "000")
    assert dict(plan.hyperparameters)["expectile"] == "0.7"
    assert plan.origins["expectile"] == "command line"
    assert search.as_dict()["with"]["batch_size"] == {"value": "32", "origin": "search.yaml:8"}


def test_numbers_have_the_type_of_their_hyperparameter(here: Path) -> None:
    text = OFFLINE.replace("actor_lr: default", "actor_lr: {one_of: [1e-4, 3e-4]}")
    text = text.replace("expectile: {between: [0.5, 0.95]}", "batch_size: {between: [16, 1k]}")
    search = made(text.replace(", batch_size: 32", ""))
    drawn = TrialSearcher(search, TrialStore(here, search.names)).suggest("a")["drawn"]
    (plan,) = search.plans(search.as_text(drawn), "000")
    hp = plan.check().settings.hp
    assert hp.actor_lr in (1e-4, 3e-4)
    assert hp.batch_size == drawn["batch_size"]
    assert isinstance(hp.batch_size, int)


def test_a_grid_has_every_setting_once_and_no_value_that_means_nothing(here: Path) -> None:
    text = OFFLINE.replace("algorithm: iql", "algorithm: [iql, td3_bc]").replace("trials: 4\n", "by: grid\n")
    text = text[: text.index("  expectile")]
    text += (
        "  expectile: {one_of: [0.6, 0.7, 0.8]}\n  alpha: {one_of: [1, 2.5]}\n  actor_lr: {one_of: [1e-3]}\n"
    )
    search = made(text)
    searcher, drawn = TrialSearcher(search, TrialStore(here, search.names)), []
    while (told := searcher.suggest(str(len(drawn)))) != TrialSearcher.FINISHED:
        drawn.append(tuple(told["drawn"].items()))
    iql = [(("algorithm", "iql"), ("expectile", e), ("actor_lr", "1e-3")) for e in ("0.6", "0.7", "0.8")]
    td3_bc = [(("algorithm", "td3_bc"), ("alpha", a), ("actor_lr", "1e-3")) for a in ("1", "2.5")]
    assert sorted(drawn) == sorted(iql + td3_bc)
    assert search.trials == 5


def test_what_is_drawn_at_random_depends_on_the_number_of_the_trial_alone(here: Path) -> None:
    search = made(FILE)
    one, other = (TrialSearcher(search, TrialStore(here / name, search.names)) for name in ("a", "b"))
    first = [one.suggest(str(number))["drawn"] for number in range(3)]
    assert first == [other.suggest(str(number))["drawn"] for number in range(3)]
    assert first[0] != first[1]
    # A search that goes on begins with what was begun, and does not draw it again.
    again = TrialSearcher(search, TrialStore(here / "a", search.names))
    assert [again.suggest(f"again-{number}")["drawn"] for number in range(3)] == first
    assert again.suggest("more") == TrialSearcher.FINISHED


@given(
    low=st.floats(1e-6, 1e3),
    ratio=st.floats(1.01, 1e4),
    share=st.floats(0, 1),
    whole=st.booleans(),
    kind=st.sampled_from(["between", "log_between"]),
)
def test_what_is_run_lies_within_the_range(
    low: float, ratio: float, share: float, whole: bool, kind: str
) -> None:
    low, high = (float(int(low) + 1), float(int(low * ratio) + 2)) if whole else (low, low * ratio)
    dimension = Dimension("x", kind, (repr(low), repr(high)), whole, LocatedValue("", ""))
    told = dimension.as_text(low + share * (high - low))
    assert low <= float(told) <= high
    assert not whole or float(told) == int(told)
    assert abs(float(told) - (low + share * (high - low))) <= (0.5 if whole else 1e-5 * high)


def test_a_score_is_the_mean_over_seeds_and_data_sets() -> None:
    assert mean([[1.0, 5.0]]) == mean([[5.0, 1.0]])
    assert (mean([[1.0, 5.0]]).value, mean([[1.0, 5.0]]).interval) == (3.0, None)
    assert mean([[1.0, 2.0, 6.0], [9.0, 9.0, 9.0]]).value == 6.0
    seeds = [0.0, 100.0, 100.0, 100.0]
    assert mean([seeds]).value == 75.0 != iqm(seeds), "a seed that fails counts"
    assert mean([[4.0, 4.0, 4.0]]).interval == (4.0, 4.0)
    # Of three seeds, all three are the lowest in one resample of 27, so that 2.5 % is at the lowest.
    assert mean([[0.0, 3.0, 6.0]]).interval == (0.0, 6.0)
    # Data sets are resampled each by itself: a constant one narrows, another's level does not widen.
    assert mean([[0.0, 3.0, 6.0], [300.0, 300.0, 300.0]]).interval == (150.0, 153.0)


def test_optuna_learns_from_scores_and_from_those_of_an_earlier_command(here: Path) -> None:
    text = OFFLINE.replace("trials: 4", "trials: 60").replace("  actor_lr: default\n", "")
    search = made(text, by="optuna")
    store = TrialStore(here, search.names)

    def distances(searcher: TrialSearcher, count: int) -> list[float]:
        found = []
        for _ in range(count):
            name = f"t{len(store.trials)}"
            expectile = searcher.suggest(name)["drawn"]["expectile"]
            found.append(abs(expectile - 0.9))
            searcher.on_trial_complete(name, {SCORE: -found[-1]})
            store.end(store.trials[-1], {"status": FINISHED, SCORE: -found[-1]})
        return found

    before = distances(TrialSearcher(search, store), 30)
    after = distances(TrialSearcher(search, TrialStore(here, search.names)), 10)
    assert np.mean(before[20:]) < 0.5 * np.mean(before[:10])
    assert np.mean(after) < 0.5 * np.mean(before[:10]), "it does not begin anew"


SEARCHES = [
    path.name
    for path in sorted((Path(__file__).parents[1] / "tune_configs").glob("*.yaml"))
    if "search" in (keys := yaml.safe_load(path.read_text())) or keys.get("by") == "grid"
]


@pytest.mark.parametrize("name", SEARCHES)
def test_ready_searches_can_be(here: Path, name: str) -> None:
    told = LocatedValue("toy-cartpole" if name == "discrete_cql.yaml" else "toy-pendulum", "command line")
    given = {"data": told}
    if name == "mopo.yaml":  # no rule is known by which a pendulum's episodes end
        given["termination"] = LocatedValue("never", "command line")
    search = read(Path(__file__).parents[1] / "tune_configs" / name, given)
    check(search)
    assert search.trials >= 4


def test_there_is_a_ready_search_for_every_family() -> None:
    assert {"bc.yaml", "td3_bc.yaml", "iql.yaml", "edac.yaml", "mopo.yaml", "cal_ql.yaml"} < set(SEARCHES)
    assert {"smoke.yaml", "leaderboard.yaml"} < set(SEARCHES)


def test_a_population_that_goes_on_is_numbered_anew(here: Path) -> None:
    search = made(OFFLINE, by="pbt")
    store = TrialStore(search.place, search.names)
    drawn = TrialSearcher(search, store).draw_population()
    store.end(store["abc_00001"], {"status": FINISHED, SCORE: 0.0})
    again = TrialSearcher(search, TrialStore(search.place, search.names))
    assert again.draw_population() == [drawn[0], *drawn[2:]]
    assert [again.store[f"def_{number:05d}"].name for number in range(3)] == ["000", "002", "003"]


def test_optuna_that_is_not_installed_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = made(OFFLINE, by="optuna")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError) as caught:
        require_packages(search)
    assert caught.value.try_ == "pip install 'off2on[tune]'"
