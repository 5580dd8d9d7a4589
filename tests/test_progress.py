"""Progress as a process shows it: to a pipe, and to a terminal of its own."""

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from off2on.training import progress as progress_module
from off2on.training.live_display import LiveDisplay, open_progress
from off2on.training.progress import LineProgress

RUN = """
import sys, time
from off2on.training.live_display import open_progress

row = {"episodes": 20, "score_std": 3.0, "q": 214.3, "ret": 231.0}
row |= {"offline_share": "", "updates_per_s": 412.0}
plan = {"title": "iql · toy · seed 0", "folder": "runs/toy/iql-s0", "updates": 400, "online": 1000}
with open_progress(**plan, data_score=58.5) as progress:
    for updates in range(0, 401, 4):
        progress.advance("offline", updates, 0, {"updates_per_s": 412.0})
        time.sleep(0.004)
        if updates % 200 == 0 and updates:
            at = {"side": "offline", "updates": updates, "env_steps": 0}
            progress.evaluated({**row, **at, "score": updates / 6})
    progress.note("warning: q has passed the largest return in the data")
    progress.evaluated({**row, "side": "handover", "updates": 400, "env_steps": 0, "score": 66.6})
    for steps, score in ((1, 66.0), (200, 55.9), (500, 40.0), (1000, 91.6)):
        row |= {"side": "online", "updates": 400 + steps, "env_steps": steps, "score": score}
        row |= {"offline_share": 0.37}
        progress.evaluated({**row, "steps_per_s": 1900.0, "critic/loss": 1.82})
        print("result", steps)
        print("chatter", file=sys.stderr)
"""


def process_environment(**changes: str) -> dict[str, str]:
    others = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "JPY_PARENT_PID")
    kept = {name: value for name, value in os.environ.items() if name not in others}
    return (
        kept
        | {"TERM": "xterm-256color", "COLUMNS": "110", "LINES": "30", "PYTHONIOENCODING": "utf-8"}
        | changes
    )


def read_to_end(terminal: int) -> str:
    shown = b""
    with contextlib.suppress(OSError):  # which is how Linux says that the other end is closed
        while piece := os.read(terminal, 65_536):
            shown += piece
    return shown.decode()


def on_a_terminal(**changes: str) -> tuple[str, str]:
    """What RUN writes to a terminal as its standard error, and to a pipe as its standard output."""
    ours, theirs = pty.openpty()
    environment = process_environment(**changes)
    with subprocess.Popen(
        [sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as run:
        os.close(theirs)
        shown = read_to_end(ours)
        assert run.stdout is not None
        out = run.stdout.read().decode()
    os.close(ours)
    assert run.returncode == 0
    return shown, out


def test_into_a_pipe_go_plain_lines_one_per_evaluation() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, env=process_environment(), check=True
    )
    assert b"\x1b" not in done.stderr
    assert b"\r" not in done.stderr
    lines = [line for line in done.stderr.decode().splitlines() if line != "chatter"]
    assert all(re.match(r"\d\d:\d\d:\d\d  \S", line) for line in lines)
    told = [re.sub(r"^\S+  |  left \S+$", "", line) for line in lines]
    assert told == [
        "iql · toy · seed 0  runs/toy/iql-s0",
        "offline         200  score     33.3  q     214.3     412 upd/s",
        "offline         400  score     66.7  q     214.3     412 upd/s",
        "warning: q has passed the largest return in the data",
        "handover        400  score     66.6  (20 episodes)     412 upd/s",
        "online            1  score     66.0  q     214.3  drop     0.7     412 upd/s",
        "online          200  score     55.9  q     214.3  drop    10.8     412 upd/s",
        # The last two are too late to be the drop.
        "online          500  score     40.0  q     214.3  drop    10.8     412 upd/s",
        "online         1000  score     91.6  q     214.3  drop    10.8     412 upd/s",
    ]
    assert done.stdout.decode().split() == ["result", "1", "result", "200", "result", "500", "result", "1000"]


def test_on_a_terminal_seven_lines_are_redrawn_in_place() -> None:
    shown, out = on_a_terminal()
    assert "\x1b[1A" in shown  # up a line: redrawn in place
    assert "\x1b[?25l" in shown  # the cursor is hidden, and given back
    assert shown.rstrip().endswith("\x1b[?25h")
    assert re.search(r"\x1b\[[\d;]*34m━", shown)  # colours
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    last = plain[plain.rindex(" iql · toy") :].splitlines()
    heads = [
        " iql · toy · seed 0",
        " offline ━━━",
        " score    58.5 data │ 66.7 handover │ 55.9 lowest │ 91.6 now ",
    ]
    heads += [" speed    412 updates/s · 1.9 k steps/s", " batch    37 % offline shards, 63 % online replay"]
    heads += [
        " critic   q 214.3 · loss 1.82 · return to go of the data 231.0 ← q should stay",
        " left     ctrl-c",
    ]
    assert [line[: len(head)] for line, head in zip(last, heads, strict=False)] == heads
    assert not "".join(last[7:]).strip()
    assert last[0].rstrip().endswith("runs/toy/iql-s0")
    assert re.search(r"━│━+ online   1 k of 1 k$", last[1].rstrip())  # the handover's mark, both sides full
    assert re.search(r"    ▁?[▁-█]+│[▁-█]+$", last[2].rstrip())
    assert plain.count("warning: q has passed the largest return in the data") == 1
    assert plain.count("chatter") == 4  # what others say on standard error stays readable, above
    assert out.split() == ["result", "1", "result", "200", "result", "500", "result", "1000"]
    assert all(len(line) <= 110 for line in plain.replace("\r", "\n").splitlines())


def test_no_color_is_honoured_on_a_terminal() -> None:
    shown, _ = on_a_terminal(NO_COLOR="1")
    assert "\x1b[1A" in shown
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3[0-9]|9[0-7])m", shown)


@pytest.mark.parametrize(
    "changes",
    [
        {"TERM": "dumb"},
        {"PYTHONIOENCODING": "ascii"},
        {"JPY_PARENT_PID": "7"},
        {"TERM": "xterm-color", "CLICOLOR_FORCE": "1"},
    ],
)
def test_a_terminal_that_cannot_show_it_gets_plain_lines(changes: dict[str, str]) -> None:
    shown, _ = on_a_terminal(**changes)
    assert "\x1b" not in shown
    assert "score     91.6" in shown


@pytest.mark.parametrize("columns", ["20", "45", "300"])
def test_the_display_fits_any_width(columns: str) -> None:
    shown, _ = on_a_terminal(COLUMNS=columns)
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    assert max(len(line) for line in plain.splitlines() if "warning" not in line) <= int(columns)
    last = plain[plain.rindex("\n offline ") :].strip().splitlines()
    assert len(last) == 6  # and the head: nothing is wrapped


def test_an_offline_run_has_no_handover_and_a_resumed_one_may_not_know_it() -> None:
    stream = io.StringIO()
    with open_progress(
        stream, title="bc", folder=Path("runs/bc"), updates=10, online=0, data_score=None
    ) as bc:
        bc.evaluated({"side": "offline", "updates": "10", "env_steps": "0", "score": "1.5", "q": "nan"})
    assert isinstance(bc, LineProgress)
    assert "drop" not in stream.getvalue()
    assert "q " not in stream.getvalue()
    with open_progress(stream, title="iql", folder="", updates=10, online=10, data_score=None) as resumed:
        resumed.evaluated({"side": "online", "updates": 11, "env_steps": 1, "score": 5.0})
    assert resumed.drop is None


def test_a_handover_without_an_environment_names_no_episodes() -> None:
    stream = io.StringIO()
    with open_progress(stream, title="iql", folder="", updates=10, online=10, data_score=None) as progress:
        row = {"side": "handover", "updates": 10, "env_steps": 0, "score": "", "episodes": "", "q": 2.0}
        progress.evaluated(row)
    assert stream.getvalue().splitlines()[1].split()[1:] == ["handover", "10", "score", "-", "q", "2.0"]


def test_a_run_that_goes_on_knows_its_drop_and_forgets_what_it_does_again() -> None:
    before = [
        {"side": "offline", "updates": "10", "env_steps": "0", "score": "7.0"},
        {"side": "handover", "updates": "10", "env_steps": "0", "score": "6.5"},
        {"side": "online", "updates": "11", "env_steps": "1", "score": "4.0"},
    ]
    stream = io.StringIO()
    with open_progress(stream, title="iql", folder="", updates=10, online=10, data_score=None) as progress:
        progress.evaluated({"side": "online", "updates": 12, "env_steps": 2, "score": 1.0})
        said = stream.getvalue()
        progress.recall(before)
        assert stream.getvalue() == said
        assert progress.drop == 3.0
        progress.evaluated({"side": "online", "updates": 12, "env_steps": 2, "score": 5.0})
    assert "drop     3.0" in stream.getvalue()
    assert progress.scores == {"offline": [7.0], "online": [6.5, 4.0, 5.0]}


def test_the_remaining_time_follows_from_the_speed_of_the_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(progress_module, "time", clock)
    now = 100.0
    with open_progress(
        io.StringIO(), title="", folder="", updates=10_000, online=0, data_score=None
    ) as progress:
        assert progress.remaining() is None
        progress.advance("offline", 5_000, 0, {})  # a resumed run starts here; these 5,000 took no time
        now += 0.25
        progress.advance("offline", 5_040, 0, {})
        assert progress.remaining() is None  # less than a hundredth of the 5,000 that were left
        now += 0.25
        progress.advance("offline", 6_000, 0, {})
        assert progress.remaining() == 2.0  # 1,000 took 0.5 s, 4,000 are left
        progress.advance("offline", 10_000, 0, {})
        assert progress.remaining() is None


def test_the_terminal_is_given_back_when_the_run_fails() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        progress = open_progress(terminal, title="t", folder="f", updates=1, online=0, data_score=None)
        with pytest.raises(KeyboardInterrupt), progress:
            raise KeyboardInterrupt
        assert isinstance(progress, LiveDisplay)
        progress.close()  # again, which does nothing
    assert read_to_end(ours).endswith("\x1b[?25h")
    os.close(ours)
