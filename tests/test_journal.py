"""The journal of served episodes: threads, kills, damaged lines and full disks, without a service."""

import errno
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from datasets_io import Shards
from datasets_io.errors import NoSpace, Unreachable, UserError
from off2on.serving import journal as journals
from off2on.serving.journal import BATCH, LINES, Journal, RefusedEpisodesError
from off2on.serving.line_file import LineFile
from off2on.serving.requests import BadRequestError, Outcome, parse_json
from off2on.serving.served_episodes import EXTRAS, ServedEpisodes

Open = Callable[[], Journal]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def start(place: Path, tmp_path: Path, toy: Shards, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """start(): the journal of a new process; the one before is killed."""
    monkeypatch.setenv("OFF2ON_DATA", str(tmp_path / "data"))
    source = ServedEpisodes(None, toy.observation_space, toy.action_space, EXTRAS)
    current: list[Journal] = []

    def kill() -> None:
        if current:
            current[-1]._file.close()
            current.pop()._lock_held.close()

    def start() -> Journal:
        kill()
        current.append(Journal(place, "served", source))
        return current[-1]

    yield start
    kill()


def act(journal: Journal, episode: str, first: float = 0.0) -> str:
    step = {"episode": episode, "obs": [first, 0.0, 0.0], "action": [1.0], "log_prob": -0.5, "version": "ab"}
    return journal.add_step(step)


def report(journal: Journal, known: str, reward: float = 1.0, ends: bool = False) -> int:
    return journal.add_outcomes([Outcome(known, reward, ends, False, [1.0, 1.0, 1.0])])


def play(journal: Journal, episode: str, steps: int = 3) -> None:
    for step in range(steps):
        report(journal, act(journal, episode, step), ends=step == steps - 1)


def served(tmp_path: Path) -> Shards:
    return Shards(tmp_path / "data/served")


def test_episodes_of_many_threads_are_each_there_once(start: Open, tmp_path: Path):
    journal = start()
    failed = []

    def client(number: int) -> None:
        for episode in range(10):
            name = f"{number}-{episode}"
            for step in range(3):
                # The observation tells which episode it is.
                known = act(journal, name, 100 * number + episode)
                if report(journal, known, ends=step == 2) >= 3:
                    try:
                        journal.flush()
                    except Exception as error:
                        failed.append(error)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))
    journal.flush()
    assert not failed
    assert not journal.steps
    shards = served(tmp_path)
    found = Counter(shards.read_all(["obs"])["obs"][:, 0].tolist())
    assert found == {100 * number + episode: 3 for number in range(4) for episode in range(10)}
    assert shards.manifest.lengths == [3] * 40


def test_steps_are_recorded_while_a_generation_is_written(start: Open, monkeypatch: pytest.MonkeyPatch):
    journal, begun, go_on = start(), threading.Event(), threading.Event()
    play(journal, "a")

    def slow() -> None:
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(journal, "_add", slow)
    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(journal.flush)
        assert begun.wait(30)
        play(journal, "b")
        assert journal.flush() == 0, "another thread does it"
        go_on.set()
        assert flushing.result() == 1
    assert {step["episode"] for step in journal.steps.values()} == {"b"}
    assert {json.loads(line)["episode"] for line in journal.lines.read_text().splitlines()} == {"b"}


def test_a_line_is_on_the_disk_before_the_answer_and_one_wait_serves_all(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    place.mkdir()
    file, synced, wait = LineFile(place / "x", []), [], threading.Event()
    real = os.fsync

    def slow(descriptor: int) -> None:
        synced.append((place / "x").read_text())
        wait.wait(0.3)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)

    def record(number: int) -> None:
        ticket = file.append([str(number)])
        file.sync(ticket)
        assert any(str(number) in text.split() for text in synced)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(record, range(16)))
    assert len(synced) < 8, "far fewer than lines"
    file.close()


# Kills.


def test_a_kill_at_any_point_loses_and_doubles_nothing(start: Open, tmp_path: Path, place: Path):
    journal = start()
    play(journal, "a")
    known = act(journal, "b")
    journal = start()
    report(journal, known, ends=True)
    assert journal.flush() == 2
    batch = json.dumps([*journal.steps.values()])
    assert batch == "[]"
    journal = start()
    assert not journal.steps
    assert served(tmp_path).manifest.lengths == [3, 1]
    play(journal, "c", 2)
    journal.close()
    assert served(tmp_path).manifest.lengths == [3, 1, 2]


def test_a_step_whose_answer_was_lost_does_not_keep_its_episode_back(start: Open, tmp_path: Path):
    journal = start()
    report(journal, act(journal, "a", 0.0))
    act(journal, "a", 1.0)  # killed before the client has the answer: it asks again
    journal = start()
    report(journal, act(journal, "a", 1.0), ends=True)
    journal = start()
    assert journal.flush() == 1
    assert served(tmp_path).read_all(["obs"])["obs"][:, 0].tolist() == [0.0, 1.0]
    assert not journal.steps


def test_an_outcome_that_comes_late_is_waited_for(start: Open):
    journal = start()
    first = act(journal, "a")
    assert report(journal, act(journal, "a"), ends=True) == 0
    assert report(journal, first) == 1


def test_a_batch_whose_writing_failed_goes_first(
    start: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal = start()
    play(journal, "a")
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_add", lambda: (_ for _ in ()).throw(NoSpace("full")))
        with pytest.raises(NoSpace):
            journal.flush()
    play(journal, "b")
    assert journal.flush() == 1
    assert served(tmp_path).manifest.lengths == [3, 3]
    assert not journal.steps


# Damaged and foreign files.


def test_a_damaged_line_in_the_middle_is_set_aside_alone(start: Open, place: Path, tmp_path: Path):
    journal = start()
    play(journal, "a", 1)
    play(journal, "b", 1)
    lines = journal.lines.read_text().splitlines()
    lines[1] = lines[1][:20] + "\x00"
    journal.lines.write_text("\n".join([*lines, '{"id": "cut o']))
    journal = start()
    assert {step["episode"] for step in journal.steps.values()} == {"a", "b"}
    assert [steps[0]["episode"] for steps in journal.complete_episodes()] == ["b"]
    (aside,) = place.glob("damaged-*.jsonl")
    assert aside.read_text().splitlines() == [lines[1], '{"id": "cut o']
    assert len(journal.lines.read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ["[1, 2]", "{}", '{"id": 7}', '{"id": "x", "reward": "much"}', "null", "3"])
def test_a_foreign_line_is_refused_by_its_number(start: Open, place: Path, line: str):
    journal = start()
    act(journal, "a")
    with journal.lines.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError) as refused:
        start()
    assert f"{LINES}:2" in str(refused.value)


def test_a_batch_that_cannot_be_read_is_set_aside(start: Open, place: Path, tmp_path: Path):
    journal = start()
    play(journal, "a")
    (place / BATCH).write_text("[]\n")
    with pytest.raises(RefusedEpisodesError, match=f"{BATCH}:1"):
        journal.flush()
    assert [kept.read_text() for kept in place.glob("refused-*")] == ["[]\n"]
    assert journal.flush() == 1
    assert served(tmp_path).manifest.lengths == [3]


def test_text_that_cannot_be_read_back_is_neither_taken_nor_in_the_way(start: Open, tmp_path: Path):
    journal = start()
    with pytest.raises(BadRequestError, match="not JSON"):
        parse_json(json.dumps({"obs": [0.0] * 3, "episode": "\ud800"}).encode())
    report(journal, act(journal, "\ud800"), ends=True)  # as a journal of an earlier version has it
    play(journal, "a")
    assert start().flush() == 1
    assert served(tmp_path).manifest.lengths == [3]


def test_two_services_do_not_share_a_journal(start: Open, place: Path, monkeypatch: pytest.MonkeyPatch):
    journal = start()
    monkeypatch.setattr(journals, "LOCK_PATIENCE_S", 0.1)
    with pytest.raises(UserError):
        Journal(place, "served", journal.source)


# A full disk.


@pytest.mark.parametrize("part", [0, 25])
def test_on_a_full_disk_nothing_is_recorded_and_then_all_is_again(
    start: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
):
    journal = start()
    known = act(journal, "a")
    before, real = journal.lines.read_bytes(), os.write

    def full(descriptor: int, content: bytes) -> int:
        if part:
            return real(descriptor, content[:part])
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(NoSpace):
            act(journal, "a")
        with pytest.raises(NoSpace):
            report(journal, known, ends=True)
    assert journal.lines.read_bytes() == before
    assert list(journal.steps) == [known]
    assert "reward" not in journal.steps[known]
    assert report(journal, known, ends=True) == 1
    assert journal.flush() == 1
    assert served(tmp_path).manifest.lengths == [1]


def test_a_step_that_did_not_reach_the_disk_is_forgotten(
    start: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal = start()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
        with pytest.raises(NoSpace):
            act(journal, "a")
    play(journal, "a", 2)
    assert len(journal.complete_episodes()) == 1
    journal = start()
    journal.close()
    assert served(tmp_path).manifest.lengths == [2]


def test_a_wait_that_fails_fails_for_all_who_wait(start: Open, place: Path, monkeypatch: pytest.MonkeyPatch):
    """The system reports the loss once: a second fsync succeeds, and the lines are not on the disk."""
    journal, both, failures = start(), threading.Barrier(2), [errno.EIO]
    append, real = journal._file.append, os.fsync

    def together(lines: list[str]) -> int:
        number = append(lines)
        journal._file.lock.release()
        both.wait(30)
        journal._file.lock.acquire()
        return number

    def fail_once(descriptor: int) -> None:
        if failures:
            raise OSError(failures.pop(), "failed")
        real(descriptor)

    def refused(episode: str) -> bool:
        try:
            return not act(journal, episode)
        except UserError:
            return True

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(journal._file, "append", together)
        patch.setattr(os, "fsync", fail_once)
        assert list(pool.map(refused, "ab")) == [True, True]
    assert not journal.steps
    play(journal, "c", 1)
    assert [json.loads(line)["episode"] for line in journal.lines.read_text().splitlines()[:1]] == ["c"]


@pytest.mark.parametrize(("fault", "status"), [(NoSpace("full"), 507), (Unreachable("broken"), 503)])
def test_the_answer_of_a_failing_disk_says_so(fault: UserError, status: int):
    pytest.importorskip("ray.serve", reason="ray[serve] is not installed")
    from off2on.serving.service import _answer

    def fail() -> dict[str, Any]:
        raise fault

    assert _answer(fail)["status"] == status


def test_counting_complete_episodes_does_not_look_at_each_step_again(
    start: Open, monkeypatch: pytest.MonkeyPatch
):
    journal = start()
    first = act(journal, "a")
    late = act(journal, "a")
    assert report(journal, act(journal, "a"), ends=True) == 0
    looked = []
    real = journal.complete_episodes
    monkeypatch.setattr(journal, "complete_episodes", lambda: looked.append(1) or real())
    for _ in range(5):
        assert report(journal, act(journal, "b")) == 0
    assert not looked
    assert [report(journal, first), report(journal, late)] == [0, 1]
    assert journal.flush() == 1
    play(journal, "c")
    assert journal.count_complete() == 1
