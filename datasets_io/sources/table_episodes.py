"""Cut rows of a table into episodes."""

from collections.abc import Iterator, Mapping

import numpy as np

from datasets_io.episode import NO_CHOICE, Array, Episode
from datasets_io.errors import BadValues
from datasets_io.sources.table_repeats import RepeatedStep


def cut_episodes(first: int, columns: dict[str, Array]) -> Iterator[Episode]:
    """Cut whole episodes, whose first row is the row `first` of the table."""
    ends = [columns.pop(role, None) for role in ("terminated", "truncated")]
    rows = len(columns["rewards"])
    terminated, truncated = (np.zeros(rows, bool) if flag is None else flag for flag in ends)
    step = columns.pop("step", None)
    episode = columns.pop("episode", None)
    others = {**columns, "terminated": terminated, "truncated": truncated}
    order, starts = _cut(episode, terminated | truncated, step, first, others)
    new_obs, widths = columns.pop("new_obs", None), columns["obs"].shape[1:]
    if new_obs is not None and int(np.prod(new_obs.shape[1:])) != int(np.prod(widths)):
        raise BadValues(f"new_obs have rows of shape {list(new_obs.shape[1:])}, obs of {list(widths)}.")
    for start, stop in zip(starts, [*starts[1:], rows], strict=True):
        index = order[start:stop]
        _check_ends(index, terminated, truncated, first)
        obs = columns["obs"][index]
        extras = {"action_logp": columns["action_logp"][index]} if "action_logp" in columns else {}
        if new_obs is not None:
            extras["new_obs"] = new_obs[index]
            obs = np.concatenate([obs, new_obs[index[-1:]].reshape(1, *obs.shape[1:])])
        last = index[-1]
        yield Episode(
            obs,
            columns["actions"][index],
            columns["rewards"][index],
            terminated=bool(terminated[last]),
            truncated=bool(truncated[last]) or not terminated[last],
            extras=extras,
            row=first + int(index[0]),
        )


def merge(blocks: list[dict[str, Array]]) -> dict[str, Array]:
    """Concatenate blocks.

    Raises:
        BadValues: Lists have different lengths.
    """
    for role, values in blocks[0].items():
        for block in blocks[1:]:
            if block[role].shape[1:] != values.shape[1:]:
                raise BadValues(
                    f"the column of {role} is ragged: rows of shape {list(block[role].shape[1:])}.",
                    f"{list(values.shape[1:])} was expected, as in the first row.",
                )
    return {role: _join([block[role] for block in blocks]) for role in blocks[0]}


def _join(blocks: list[Array]) -> Array:
    """Concatenate; if some blocks have fractions, `NO_CHOICE` in others is NaN."""
    if np.result_type(*blocks).kind == "f":
        blocks = [
            np.where(values == NO_CHOICE, np.nan, values) if values.dtype.kind == "i" else values
            for values in blocks
        ]
    return np.concatenate(blocks)


def last_start(columns: Mapping[str, Array]) -> int:
    """Return the row with which the last episode begins, which may go on after these rows."""
    if "episode" in columns:
        changes = np.flatnonzero(np.diff(columns["episode"]))
    else:
        flags = [columns[role] for role in ("terminated", "truncated") if role in columns]
        changes = np.flatnonzero(np.logical_or.reduce(flags)[:-1])
    return int(changes[-1]) + 1 if len(changes) else 0


def check_closed(columns: Mapping[str, Array], stop: int, closed: int, first: int) -> int:
    """Check that no earlier episode goes on; return the number of episodes that have ended.

    Ids are numbered in the order in which they appear, so that those of rows in order never decrease.

    Raises:
        BadValues: An episode goes on after rows of another.
    """
    if "episode" not in columns:
        return 0
    codes = columns["episode"]
    again = (codes < closed) | (np.diff(codes, prepend=codes[:1]) < 0)
    again &= codes >= 0  # a row without an id is refused where rows are cut into episodes
    if again.any():
        raise BadValues(
            f"row {first + int(np.argmax(again)):,} continues an episode after rows of another one.",
            "Large tables are read in pieces: sort the rows by episode.",
        )
    return int(codes[stop])


def _cut(
    episode: Array | None, ends: Array, step: Array | None, first: int, others: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Return the order of rows by episode [N], and the start of each episode in that order [E]."""
    rows = np.arange(len(ends))
    if episode is None:
        return rows, np.concatenate([[0], np.flatnonzero(ends[:-1]) + 1])
    if (missing := episode < 0).any():
        raise BadValues(
            f"row {first + int(np.argmax(missing)):,} belongs to no episode.", "Its episode column is empty."
        )
    order = np.argsort(episode, kind="stable") if step is None else np.lexsort((step, episode))
    if step is not None:
        _check_steps(step, episode, order, first, others)
    return order, np.flatnonzero(np.diff(episode[order], prepend=-1))


def _check_ends(index: Array, terminated: Array, truncated: Array, first: int) -> None:
    early = terminated[index[:-1]] | truncated[index[:-1]]
    if early.any():
        place = int(np.argmax(early))
        row, after = first + int(index[place]), first + int(index[place + 1])
        raise BadValues(f"row {row:,} ends an episode that goes on in row {after:,}.")


def _check_steps(step: Array, episode: Array, order: Array, first: int, others: Mapping[str, Array]) -> None:
    if step.dtype.kind == "f" and (missing := ~np.isfinite(step)).any():
        raise BadValues(f"row {first + int(np.argmax(missing)):,} has no step.", "Its step column is empty.")
    twice = (np.diff(step[order]) == 0) & (np.diff(episode[order]) == 0)
    if twice.any():
        place = int(np.argmax(twice))
        places = sorted(map(int, order[place : place + 2]))
        code, at = int(episode[places[0]]), float(step[places[0]])
        raise RepeatedStep([first + it for it in places], places, others, code, at)
