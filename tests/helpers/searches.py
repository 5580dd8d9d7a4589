"""Files of searches, for their tests."""

from pathlib import Path

from off2on.search.checks import check
from off2on.search.reading import read
from off2on.search.spec import Search
from off2on.training.located_yaml import COMMAND_LINE, LocatedValue

FILE = """\
algorithm: iql
data: toy-pendulum
updates: 40
eval_every: 20
eval_episodes: 1
online: 20
strategy: append
seeds: 3
trials: 3
maximise: final_score
with:
  hidden: [16, 16]
  batch_size: 32
search:
  expectile: {between: [0.5, 0.95]}
  beta: {log_between: [0.5, 10]}
  actor_lr: default
  online.utd: {one_of: [0.5, 1]}
"""


OFFLINE = """\
algorithm: iql
data: toy-pendulum
updates: 40
eval_every: 20
eval_episodes: 1
seeds: 1
trials: 4
with: {hidden: "16,16", batch_size: 32}
search:
  expectile: {between: [0.5, 0.95]}
  actor_lr: default
"""


def made(text: str, name: str = "search.yaml", **given: str) -> Search:
    """A search of a file with this text, checked."""
    Path(name).write_text(text)
    search = read(
        Path(name), {key: LocatedValue(value, COMMAND_LINE, f"{key}={value}") for key, value in given.items()}
    )
    check(search)
    return search
