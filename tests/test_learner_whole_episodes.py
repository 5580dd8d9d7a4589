"""Check the learner with columns and labels that need whole episodes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets_io import Shards
from datasets_io.shards.returns import returns_to_go
from off2on.algorithms.bc import BC
from off2on.recipe.batch import Batch
from off2on.replay.episode_assembler import EpisodeAssembler

Build = Callable[..., Any]


# Columns that wait.


def rollout(envs: list[int], obs: list[float], ends: list[bool]) -> dict[str, Any]:
    """Transitions from obs to obs + 1, reward obs."""
    value = np.array(obs, np.float32)
    return {
        "env": np.array(envs),
        "obs": value[:, None],
        "new_obs": value[:, None] + 1,
        "actions": value[:, None],
        "rewards": value,
        "terminateds": np.array(ends),
        "truncateds": np.zeros(len(envs), bool),
    }


def test_transitions_come_out_as_whole_episodes():
    held = EpisodeAssembler()
    assert list(held.add(rollout([0, 1, 0, 1], [0, 10, 1, 11], [False] * 4))) == []
    (first,) = held.add(rollout([0, 1, 0, 1], [2, 12, 20, 13], [True, False, False, False]))
    assert first["rewards"].tolist() == [0, 1, 2]
    assert first["last"].tolist() == [False, False, True]
    assert "env" not in first
    (second,) = held.add(rollout([1], [14], [True]))
    assert second["rewards"].tolist() == [10, 11, 12, 13, 14]


def test_an_environment_that_starts_anew_has_cut_its_episode_off():
    held = EpisodeAssembler()
    list(held.add(rollout([0, 0], [0, 1], [False, False])))
    (cut,) = held.add(rollout([0], [7], [False]))
    assert cut["rewards"].tolist() == [0, 1]
    assert cut["last"].tolist() == [False, True]
    assert not cut["terminateds"].any()


def test_unfinished_transitions_survive_a_checkpoint(tmp_path: Path):
    held, other = EpisodeAssembler(), EpisodeAssembler()
    list(held.add(rollout([0, 3, 0], [0, 5, 1], [False] * 3)))
    torch.save(held.state(), tmp_path / "held.pt")
    other.load(torch.load(tmp_path / "held.pt", weights_only=True))
    for one in (held, other):
        (whole,) = one.add(rollout([0], [2], [True]))
        assert whole["rewards"].tolist() == [0, 1, 2]


class Waits(BC):
    """Reads everything that is only known at an episode's end."""

    columns = ("obs", "action", "reward", "mask", "ret", "last", "next_action")


@pytest.mark.parametrize("world", [1, 2])
def test_online_episodes_enter_whole_with_what_they_wait_for(build_learner: Build, wide: Shards, world: int):
    columns = wide.read_all(["obs", "new_obs", "actions", "rewards", "terminateds", "truncateds", "last"])
    ends = columns.pop("last")
    expected = build_learner(Waits, "wide").rows.data  # the same rows, read as offline data
    taken = []
    for rank in range(world):
        learner = build_learner(Waits, "wide")
        learner.sampler.partition = rank, world
        learner.rows.capacity = wide.rows
        learner.rows.data = torch.cat((learner.rows.data, torch.zeros_like(learner.rows.data)))
        first = 0
        for stop in (1, 30, 200, wide.rows):
            part = {name: column[first:stop] for name, column in columns.items()}
            learner.add(part | {"env": np.zeros(stop - first, int)}, first)
            first = stop
        taken.append(learner.rows.data[learner.rows.offline :][: learner.rows.online])
    number = np.cumsum(np.concatenate([[0], ends[:-1]]))
    for rank, rows in enumerate(taken):
        torch.testing.assert_close(rows, expected[torch.from_numpy(number % world == rank)])


def test_a_learners_part_of_an_episode_ends_where_its_rows_do(build_learner: Build, wide: Shards):
    rows = build_learner(Waits, "wide").sampler.source.reader
    whole = [rows.layout.split(rows.read_piece(0))]
    parts = []
    for rank in range(2):
        part = type(rows)(**(vars(rows) | {"partition": (rank, 2)}))
        parts.append(part.layout.split(part.read_piece(0)))
    assert torch.equal(torch.cat([part.obs for part in parts]), whole[0].obs)
    assert torch.equal(torch.cat([part.ret for part in parts]), whole[0].ret)  # of the whole episode
    assert [float(part.last[-1]) for part in parts] == [1.0, 1.0]
    assert whole[0].last.sum() <= parts[0].last.sum() + parts[1].last.sum() <= whole[0].last.sum() + 1


# Labels.


class Labels(BC):
    """Labels every row with how far its episode has still to go, and what update it is."""

    columns = ("obs", "action", "reward", "last")
    relabelled_columns = ("left", "when")
    seen: ClassVar[list[tuple[int, Tensor]]] = []

    @classmethod
    def is_relabel_due(cls, hp: Any, update: int) -> bool:
        return update % 10 == 5

    @classmethod
    def relabel(cls, nets: Any, rows: Batch, hp: Any, update: int) -> dict[str, Tensor]:
        ones = np.ones(len(rows.last))
        left = returns_to_go(ones, rows.last.numpy() > 0, 1.0)
        return {"left": torch.from_numpy(left), "when": torch.full_like(rows.last, update)}

    @classmethod
    def prepare(cls, nets: Any, batch: Batch, hp: Any) -> Batch:
        cls.seen.append((int(batch.when[0]), batch.left.clone()))
        return batch


def test_labels_are_made_on_time_from_whole_episodes(build_learner: Build, wide: Shards):
    Labels.seen.clear()
    learner = build_learner(Labels, "wide")
    learner.advance(33)
    when = [0] * 4 + [5] * 10 + [15] * 10 + [25] * 9
    assert [update for update, _ in Labels.seen] == when
    ends = wide.read_all(["last"])["last"]
    expected = torch.from_numpy(returns_to_go(np.ones(len(ends)), ends, 1.0))
    assert torch.equal(learner.rows.layout.split(learner.rows.data).left, expected)
    assert all((left > 0).all() for update, left in Labels.seen if update)


def test_labels_survive_a_checkpoint(build_learner: Build, tmp_path: Path):
    learner, other = build_learner(Labels, "wide"), build_learner(Labels, "wide")
    learner.advance(8)
    learner.save_rows(str(tmp_path))
    other.load_rows(str(tmp_path))
    assert torch.equal(learner.rows.data, other.rows.data)


def test_labels_of_online_rows_follow_the_age_of_the_ring(build_learner: Build):
    rows = build_learner(Labels, "wide").rows
    rows.capacity = 5
    rows.data = torch.cat((rows.data, torch.zeros(5, rows.layout.width)))
    for value in range(7):
        row = torch.zeros(1, rows.layout.width)
        row[0, 0] = value
        rows.add(row)
    position, held = rows.rows_in_order()
    assert torch.equal(held.obs[: rows.offline], rows.layout.split(rows.data[: rows.offline]).obs)
    assert held.obs[rows.offline :, 0].tolist() == [2, 3, 4, 5, 6]
    rows.write("left", position, torch.arange(rows.offline + 5.0) - rows.offline)
    assert rows.layout.split(rows.data[rows.offline :]).left.tolist() == [3, 4, 0, 1, 2]


def test_whole_episodes_do_not_stream(data_root: Path):
    config = Labels.configure("wide").data(memory_budget=1000).offline(10)
    with pytest.raises(Exception, match="whole episodes"):
        config.validate()
