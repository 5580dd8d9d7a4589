"""Served episodes on their way through the journal into a data set, without a service."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datasets_io.shards.reading import Shards
from off2on.commands.serve import _journal_options
from off2on.errors import RecipeError
from off2on.serving.journal import Journal, RefusedEpisodesError
from off2on.serving.requests import BadRequestError, Outcome
from off2on.serving.served_episodes import EXTRAS, ServedEpisodes


def test_a_kill_between_shards_and_journal_adds_nothing_twice(tmp_path: Path, toy: Shards, monkeypatch: Any):
    monkeypatch.setenv("OFF2ON_DATA", str(tmp_path / "data"))
    source = ServedEpisodes(None, toy.observation_space, toy.action_space, EXTRAS)
    journal = Journal(tmp_path / "journal", "again", source)

    def episode(name: str) -> None:
        step = {"episode": name, "obs": [0.0, 0.0, 0.0], "action": [1.0], "log_prob": -0.5, "version": "ab"}
        known = journal.add_step(step)
        journal.add_outcomes([Outcome(known, 1.0, True, False, [1.0, 1.0, 1.0])])

    episode("a")
    kept = journal.lines.read_text()
    assert journal.flush() == 1
    journal.close()
    assert Shards(tmp_path / "data/again").manifest.lengths == [1]
    # As if killed before the journal was written anew: the batch and its lines are still there.
    merged: dict[str, Any] = {}
    for line in kept.splitlines():
        merged |= json.loads(line)
    (tmp_path / "journal/batch.jsonl").write_text(json.dumps([merged]) + "\n")
    (tmp_path / "journal/journal.jsonl").write_text(kept + '{"id": "cut o')
    journal = Journal(tmp_path / "journal", "again", source)
    assert not journal.steps
    assert Shards(tmp_path / "data/again").manifest.lengths == [1]
    episode("b")
    journal.close()
    shards = Shards(tmp_path / "data/again")
    assert shards.manifest.lengths == [1, 1]
    rows = shards.read_all(["action_logp", "policy_version", "served_at"])
    assert rows["action_logp"].tolist() == [-0.5, -0.5]
    assert rows["policy_version"].tolist() == [0xAB, 0xAB]
    assert abs(rows["served_at"] / 1000 - time.time()).max() < 600


def outcome(known: str, reward: float = 1.0, ends: bool = True) -> Outcome:
    return Outcome(known, reward, ends, False, [1.0, 1.0, 1.0] if ends else None)


def test_what_cannot_go_into_the_data_set_is_set_aside_and_serving_goes_on(
    tmp_path: Path, toy: Shards, monkeypatch: Any
):
    monkeypatch.setenv("OFF2ON_DATA", str(tmp_path / "data"))
    source = ServedEpisodes(None, toy.observation_space, toy.action_space, EXTRAS)
    journal = Journal(tmp_path / "journal", "mixed", source)
    step = {"episode": "a", "obs": [0.0] * 3, "action": [1.0], "version": "ab"}
    journal.add_outcomes(
        [outcome(journal.add_step(step | {"log_prob": None}))]
    )  # of a time without exploration
    with pytest.raises(RefusedEpisodesError, match="NaN"):
        journal.flush()
    (kept,) = (tmp_path / "journal").glob("refused-*.jsonl")
    assert json.loads(kept.read_text())[0]["obs"] == [0.0] * 3
    assert not journal.steps
    journal.add_outcomes([outcome(journal.add_step(step | {"log_prob": -1.0}))])
    assert journal.flush() == 1
    # The same, when it is found at the start: killed after the batch, before it was looked at.
    journal.add_outcomes([outcome(journal.add_step(step | {"log_prob": None}))])
    (tmp_path / "journal/batch.jsonl").write_text(json.dumps(journal.complete_episodes()[0]) + "\n")
    journal._file.close()
    journal._lock_held.close()
    journal = Journal(tmp_path / "journal", "mixed", source)
    assert not journal.steps
    assert len(list((tmp_path / "journal").glob("refused-*.jsonl"))) == 2
    journal.close()
    assert Shards(tmp_path / "data/mixed").manifest.lengths == [1]


def test_a_log_of_another_environment_is_told_at_the_start(tmp_path: Path, toy: Shards):
    about: Any = SimpleNamespace(env="Other-v0")
    with pytest.raises(
        RecipeError, match=r"environment of .*toy-pendulum is Pendulum-v1, that of the run Other-v0"
    ):
        _journal_options(tmp_path, about, toy, str(toy.path), 1, explore=False)


def test_an_outcome_may_be_said_again_but_not_otherwise(tmp_path: Path, toy: Shards):
    journal = Journal(tmp_path, "told", ServedEpisodes(None, toy.observation_space, toy.action_space))
    step = {"episode": "a", "obs": [0.0] * 3, "action": [1.0], "log_prob": None, "version": "ab"}
    first, second = journal.add_step(step), journal.add_step(step)
    for _ in range(2):
        assert journal.add_outcomes([outcome(first, ends=False)]) == 0
    with pytest.raises(BadRequestError) as told:
        journal.add_outcomes([outcome(second), outcome(first, reward=2.0)])
    assert told.value.status == 409
    with pytest.raises(BadRequestError) as told:
        journal.add_outcomes([outcome(second), outcome(second, reward=2.0)])
    assert told.value.status == 409
    assert "reward" not in journal.steps[second], "all of a request, or nothing"
    assert journal.add_outcomes([outcome(second)]) == 1
    journal.close()
