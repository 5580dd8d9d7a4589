"""The names of the columns of a transition, from the file over the shards to the learner.

=================================== =========== =========== =========== ================================
in tables and files of others       `Episode`   shards      learner     meaning
=================================== =========== =========== =========== ================================
obs, observations                   obs[:-1]    obs         obs         s_t [D]
actions, action                     actions     actions     action      a_t [A], or a whole number
rewards, reward                     rewards     rewards     reward      r_t
terminateds, terminated, terminals  terminated  terminateds mask        1 - terminated: factor of the
                                                                        value of the next state
truncateds, truncated, timeouts     truncated   truncateds  (none)      cut off by a limit
new_obs, next_observations,         obs[1:]     new_obs     next_obs    s_{t+1} [D]; stored in the shards
next_obs                                                                or derived
(none)                              (none)      last        last        1 at the end of an episode
(none)                              (none)      new_actions next_action a_{t+1}, 0 after the last
(none)                              (none)      (none)      ret         discounted return to go of the
                                                                        transformed rewards
=================================== =========== =========== =========== ================================

Shards and rollouts have RLlib's names, with raw units; the learner has the names of a loss's arguments, with
transformed units (see `off2on.replay.transforms`). An observation after the last action of an episode is
stored once per episode, as ``final_obs``.
"""

from typing import NamedTuple


class Column(NamedTuple):
    """A quantity of a transition and its names.

    Attributes:
        shard: Name in shards, rollouts and new logs.
        learner: Name in a `Batch` and in an algorithm's ``columns``; empty if no loss uses it.
        role: Name in ``--columns ROLE=COLUMN``; empty if it is derived.
        spellings: Names under which it is looked for in tables.
        at_step: True if an online transition has it at once, False if only when its episode is over.
    """

    shard: str
    learner: str
    role: str = ""
    spellings: tuple[str, ...] = ()
    at_step: bool = True


COLUMNS = (
    Column("obs", "obs", "obs", ("obs", "observations")),
    Column("actions", "action", "actions", ("actions", "action")),
    Column("rewards", "reward", "rewards", ("rewards", "reward")),
    Column("new_obs", "next_obs", "new_obs", ("new_obs", "next_observations", "next_obs")),
    Column("terminateds", "mask", "terminated", ("terminateds", "terminated", "terminals")),
    Column("truncateds", "", "truncated", ("truncateds", "truncated", "timeouts")),
    Column("last", "last", at_step=False),
    Column("new_actions", "next_action", at_step=False),
)
"""All but ``ret``, which is computed of two other columns."""

SHARD_COLUMNS = {column.learner: column.shard for column in COLUMNS if column.learner}
"""The learner's column → the shards' column that it is made of."""

TRANSITION = ("obs", "new_obs", "actions", "rewards", "terminateds", "truncateds")
"""The shards' columns of a transition as an environment gives it, in the order of `Rollout.columns`."""

STEP_COLUMNS = tuple(column.learner for column in COLUMNS if column.learner and column.at_step)
"""The learner's columns of an online transition at once."""

EPISODE_COLUMNS = (*(column.learner for column in COLUMNS if not column.at_step), "ret")
"""The learner's columns of an online transition once its episode is over."""

SPELLINGS = {column.role: column.spellings for column in COLUMNS if column.role}
"""Role of a table's column → the names under which it is looked for."""
