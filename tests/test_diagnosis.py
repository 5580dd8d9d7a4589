"""Check each diagnosis separately against numbers computed by hand."""

import tracemalloc
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_walks import Lab, blocks_of, checks, diagnose, fact, only, random_walks

from datasets_io import Episode, Shards
from datasets_io.diagnosis import Finding, diagnose_shards, diagnose_source
from datasets_io.diagnosis.behaviour import _discrete
from datasets_io.diagnosis.coverage import _correlation_times
from datasets_io.diagnosis.duplicates import DuplicateCheck
from datasets_io.diagnosis.dynamics import LinearDynamics
from datasets_io.diagnosis.finding import Fact, listed, share, sort_by_severity
from datasets_io.errors import BadValues
from datasets_io.ingestion.ingest import ingest


def test_nan_is_counted_by_row_and_column() -> None:
    episodes = random_walks([10, 10, 10])
    episodes[1].obs[3, 1] = np.nan
    episodes[2].obs[10, 0] = np.inf  # after the last action
    episodes[2].rewards[5:7] = np.nan
    found = {f.what: f.rows for f in diagnose(episodes).findings if f.check == "finite"}
    assert found == {
        "obs: NaN or infinity in 2 of 30 rows (columns 0, 1)": (13,),
        "rewards: NaN or infinity in 2 of 30 rows": (25,),
    }


def test_huge_offset_and_constant_columns_are_reported() -> None:
    episodes = random_walks([100] * 5)
    rng = np.random.default_rng(0)
    for episode in episodes:
        extra = np.stack([np.full(101, 3.0), 1.7e9 + 1000 * rng.random(101)], 1)
        object.__setattr__(episode, "obs", np.concatenate([episode.obs, extra], 1))
    diagnosis = diagnose(episodes)
    assert only(diagnosis, "constant").what == "obs: 1 of 4 columns are the same in all rows (2)"
    assert only(diagnosis, "huge").what == "obs reach 1.7e+09 (columns 3)"
    assert "obs columns 3 vary by less" in only(diagnosis, "offset").what


def test_an_outlier_is_reported() -> None:
    episodes = random_walks([500] * 4)
    episodes[2].obs[100, 1] = 9e4
    assert "obs column 1 has outliers" in only(diagnose(episodes), "outliers").what


def test_copies_of_rows_and_of_episodes_are_counted() -> None:
    episodes = random_walks([40] * 30)
    diagnosis = diagnose([*episodes, *episodes[:3]])
    rows, copies = (f for f in diagnosis.findings if f.check == "copies")
    assert rows.what.startswith("9.09 % of the rows")
    assert rows.rows[0] == 1200
    assert copies.what == "3 of 33 episodes are copies of an earlier episode, step by step"
    assert copies.rows == (1200, 1240, 1280)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=60))
def test_the_share_of_copies_is_exact_while_all_hashes_are_kept(states: list[int]) -> None:
    obs = np.array(states, float)
    copies = DuplicateCheck()
    for block in blocks_of([Episode(obs, -0.0 * obs[:, None], 0 * obs, terminated=True)]):
        copies.add(block)
    assert len(np.unique(np.concatenate(copies._rows))) == len(set(states))


def test_unchanged_observations_are_reported() -> None:
    episodes = random_walks([200] * 5)
    for episode in episodes:
        episode.obs[50:100] = episode.obs[50]
    finding = only(diagnose(episodes), "still")
    assert finding.what.startswith("in 24.6 % of the steps")
    assert finding.rows == (50,)


@pytest.mark.parametrize(
    ("scale", "shift", "looks"),
    [(1.0, 0.0, None), (100.0, 0.0, "degrees"), (0.5, 0.5, "a range of [0, 1]"), (5.0, 0.0, "another unit")],
)
def test_actions_in_another_unit_are_recognised(scale: float, shift: float, looks: str | None) -> None:
    episodes = [
        Episode(episode.obs, scale * episode.actions + shift, episode.rewards, terminated=False)
        for episode in random_walks([50] * 6)
    ]
    diagnosis = diagnose(episodes)
    if looks is None:
        assert not {"unit", "box"} & checks(diagnosis)
    else:
        assert f"look like {looks}; the box is [-1, 1]" in only(diagnosis, "unit").what


def test_actions_as_bytes_without_an_action_space() -> None:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(episode.obs, rng.integers(0, 256, (50, 2)).astype(float), episode.rewards, terminated=False)
        for episode in random_walks([50] * 6)
    ]
    assert "bytes (0 … 255)" in only(diagnose(episodes, None), "unit").what
    assert "no action space is declared" in only(diagnose(episodes, None), "box").what


def test_actions_outside_their_box_are_counted() -> None:
    episodes = random_walks([50, 50])
    episodes[0].actions[7] = (1.5, -1.25)
    episodes[1].actions[3, 1] = 1.1
    finding = only(diagnose(episodes), "box")
    assert finding.what == (
        "1.5 % of the action values lie outside [-1, 1] (columns 0, 1), the furthest at 1.5"
    )
    assert finding.rows == (7,)
    assert finding.do == "off2on data add lab --clip-actions"


def test_actions_on_an_edge_are_counted_but_not_those_beyond() -> None:
    episodes = random_walks([50] * 4)
    for episode in episodes:
        episode.actions[:20, 0] = 1
        episode.actions[:20, 1] = 1.01
    assert only(diagnose(episodes), "saturated").what == (
        "action column 0 is on a bound of the box in 40 % of the rows (1 of 2 columns in 10 % or more)"
    )


def test_discrete_actions_that_do_not_exist_or_never_occur() -> None:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(episode.obs, rng.integers(0, 3, 50), episode.rewards, terminated=False)
        for episode in random_walks([50] * 4)
    ]
    episodes[1].actions[5] = 9
    found = [f for f in diagnose(episodes, gym.spaces.Discrete(5)).findings if f.check == "box"]
    assert [f.severity for f in found] == ["error", "warning"]
    assert found[0].what == "1 actions are not in 0 … 4"
    assert found[0].rows == (55,)
    assert found[1].what == "2 of 5 actions never occur (3, 4)"


def test_both_marks_one_step_and_an_early_end() -> None:
    episodes = [
        *random_walks([30] * 6, truncated=True),
        *random_walks([12], seed=1, terminated=True, truncated=True),
        *random_walks([1, 1], seed=2, terminated=True),
        *random_walks([10], seed=3),
    ]
    diagnosis = diagnose(episodes)
    texts = [finding.what for finding in diagnosis.findings if finding.check == "ends"]
    assert "1 of 10 episodes are marked as terminated and as truncated" in texts
    assert "the last episode stops after 10 steps; all other truncated episodes have 30" in texts
    assert only(diagnosis, "one step").what == "20 % of the episodes (2) have one step only"
    assert "marked twice" in only(diagnosis, "one step").means
    for parts in (1, 7):  # few, and more than half
        cut = only(diagnose([*random_walks([30] * 6), *random_walks([1] * parts, seed=2)]), "one step")
        assert (cut.severity, "parts between gaps" in cut.means) == ("note", True)
    assert fact(diagnosis, "episodes").text == "10 of 1 to 30 steps · 3 ended by the task, 7 cut off"


def test_episodes_longer_than_the_environment_allows() -> None:
    rng = np.random.default_rng(0)
    shapes = [(steps, rng.normal(size=(steps + 1, 3)), rng.normal(size=steps)) for steps in (250, 200, 200)]
    source = Lab([Episode(obs, np.ones((steps, 1)), rewards, False) for steps, obs, rewards in shapes])
    source.env = "Pendulum-v1"
    finding = only(diagnose_source(source, None, "swings", ""), "ends")
    assert finding.what == "1 episodes have more steps than the environment allows (200); the longest has 250"
    assert finding.rows == (0,)


def test_terminals_at_a_horizon_among_true_ones() -> None:
    true = random_walks([3, 8, 15, 22, 27, 31, 36, 38], seed=1, terminated=True)
    assert "horizon" not in checks(diagnose(true))
    late = random_walks([40] * 12, seed=2, terminated=True)
    assert (
        "60 % of the 20 terminals come after exactly 40 steps" in only(diagnose(true + late), "horizon").what
    )


def test_the_scale_of_q_is_the_largest_return_to_go() -> None:
    episodes = [Episode(np.arange(4.0), np.zeros((3, 2)), np.array([1.0, 2.0, 3.0]), terminated=True)]
    scale = fact(diagnose(episodes), "scale of Q").values
    assert scale["largest"] == pytest.approx(1 + 0.99 * 2 + 0.99**2 * 3)
    assert scale["largest_undiscounted"] == 6
    assert scale["least"] == 3


def test_sparse_rewards_and_terminals_that_disagree() -> None:
    episodes = random_walks([100] * 40, seed=4)
    for number, episode in enumerate(episodes):
        episode.rewards[:] = 0
        episode.rewards[-1] = number < 30
        object.__setattr__(episode, "terminated", number < 25)
    diagnosis = diagnose(episodes)
    assert "0.75 % of the rows (30)" in only(diagnosis, "sparse").what
    assert only(diagnosis, "goal").what == (
        "reward 1 and terminal disagree: 25 rows have both, 5 only the reward, 0 only the terminal"
    )


@pytest.mark.parametrize(("value", "severity"), [(0.0, "error"), (1.0, "warning")])
def test_constant_rewards(value: float, severity: str) -> None:
    episodes = random_walks([20] * 5)
    for episode in episodes:
        episode.rewards[:] = value
    assert only(diagnose(episodes), "rewards").severity == severity


def test_dynamics_distinguish_a_step_from_a_jump() -> None:
    rng = np.random.default_rng(0)
    obs, actions = rng.normal(size=(2000, 4)), rng.uniform(-1, 1, (2000, 2))
    push = rng.normal(size=(2, 4))
    new_obs = obs + 0.05 * obs[:, ::-1] + 0.1 * actions @ push + 0.01 * rng.normal(size=(2000, 4))
    new_obs[::100] = rng.normal(size=(20, 4))  # some of what it is fitted on is wrong
    model = LinearDynamics.fit(obs, actions, new_obs)
    assert model is not None
    score = model.score(obs, actions, new_obs)
    jumps = np.arange(2000) % 100 == 0
    assert score[~jumps].max() < 4 < 8 < score[jumps].min()


def test_dynamics_leave_out_constant_dimensions() -> None:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(500, 3))
    new_obs = obs + 0.1
    new_obs[:, 2] = obs[:, 2]  # a goal
    model = LinearDynamics.fit(obs, np.zeros((500, 1)), new_obs)
    assert model is not None
    assert model.moves.tolist() == [True, True, False]
    assert LinearDynamics.fit(obs, np.zeros((500, 1)), obs) is None


def test_correlation_time_of_an_autoregressive_process() -> None:
    rng = np.random.default_rng(0)
    trace = np.zeros((20, 2048, 1), np.float32)
    for step in range(1, 2048):
        trace[:, step, 0] = 0.9 * trace[:, step - 1, 0] + rng.normal(size=20)
    (time,) = _correlation_times(trace, np.full(20, 2048))
    assert time == pytest.approx((1 + 0.81) / (1 - 0.81), rel=0.15)  # 1 + 2 Σ φ^2k
    (noise,) = _correlation_times(rng.normal(size=(20, 2048, 1)).astype(np.float32), np.full(20, 2048))
    assert noise == 1


def test_behaviour_of_a_noisy_linear_policy() -> None:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(6001, 2))
    actions = 0.3 * obs[:-1] + 0.1 * rng.normal(size=(6000, 2))
    episodes = [
        Episode(obs[i : i + 101], actions[i : i + 100], obs[i : i + 100, 0], False)
        for i in range(0, 6000, 100)
    ]
    values = fact(diagnose(episodes), "behaviour").values
    assert values["noise"] == pytest.approx(0.1, rel=0.1)
    usual = np.log(0.1 * np.sqrt(2 * np.pi * np.e)) - np.log(2)
    assert values["entropy_per_dimension_vs_uniform"] == pytest.approx(usual, abs=0.1)


@pytest.mark.parametrize(("choices", "nats"), [(4, np.log(4)), (1, 0.0)])
def test_entropy_of_discrete_choices(choices: int, nats: float) -> None:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(episode.obs, rng.integers(0, choices, 100), episode.rewards, terminated=False)
        for episode in random_walks([100] * 20)
    ]
    values = fact(diagnose(episodes, gym.spaces.Discrete(4)), "behaviour").values
    assert values["entropy"] == pytest.approx(nats, abs=0.02)


@pytest.mark.parametrize("choices", [1, 3, 100_000])
def test_entropy_takes_no_memory_for_choices_that_are_not_taken(choices: int) -> None:
    actions = np.random.default_rng(0).integers(0, choices, (100, 64))
    tracemalloc.start()
    found = next(iter(_discrete(actions, choices)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = []
    for row in actions:
        counts = np.unique(row, return_counts=True)[1]
        expected.append(-(counts / 64 * np.log(counts / 64)).sum() + (len(counts) - 1) / 128)
    assert isinstance(found, Fact)
    assert found.values["entropy"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert peak < 10 * actions.nbytes


def test_later_data_elsewhere_are_novel_and_so_are_other_data(tmp_path: Path) -> None:
    early, late = random_walks([50] * 40, seed=1), random_walks([50] * 40, seed=2)
    assert fact(diagnose(early + late), "novelty").values["outside"] < 0.15
    for episode in late:
        episode.obs[:] += 20
    diagnosis = diagnose(early + late)
    assert fact(diagnosis, "novelty").values["outside"] > 0.9
    assert "later episodes visit other states" in only(diagnosis, "novelty").what
    shards = ingest(Lab(early), None, tmp_path, name="early")
    beside = diagnose_source(Lab(late), None, "late", "", against=shards)
    assert fact(beside, "beside early").values["outside"] > 0.9
    itself = diagnose_shards(shards, against=shards)
    assert fact(itself, "beside early").values["outside"] < 0.1


def test_only_states_of_the_same_width_are_compared(toy: Shards, wide: Shards) -> None:
    with pytest.raises(BadValues, match=r"have 5 numbers, these data have 3"):
        diagnose_shards(toy, against=wide)


def test_findings_are_sorted_by_severity_and_keep_their_order() -> None:
    found = [
        Finding(severity, str(i), "", "") for i, severity in enumerate(("note", "error", "warning", "error"))
    ]
    assert [finding.check for finding in sort_by_severity(found)] == ["1", "3", "2", "0"]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 10, "none"), (10, 10, "all"), (1, 3, "33.3 %"), (1, 10**6, "< 0.01 %"), (99_999, 10**5, "> 99.9 %")],
)
def test_a_share_never_rounds_something_to_nothing(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


def test_long_lists_are_cut() -> None:
    assert listed([str(i) for i in range(9)], 3) == "0, 1, 2 and 6 more"
