"""Checks of packed columns before they are written: NaN, infinity, actions outside the action space."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets_io.episode import NO_CHOICE, Array
from datasets_io.errors import BadValues
from datasets_io.faults import Fault
from datasets_io.shards.manifest import space_from_json


@dataclass(frozen=True)
class IngestOptions:
    """Options of an ingest.

    Args:
        nan: `refuse` the data, or `drop-episode`: leave out each episode with a NaN or an infinity.
        clip_actions: Clip actions outside the box instead of only reporting them.
        store_new_obs: Store the next observation with each row, although it can be derived.
        action_space: Action space as plain values (`space_to_json`), or None to derive it from the data.
    """

    nan: str = "refuse"
    clip_actions: bool = False
    store_new_obs: bool = False
    action_space: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.nan not in ("refuse", "drop-episode"):
            raise BadValues(f"nan={self.nan!r} is not a valid value.", "Expected refuse or drop-episode.")


def check_rows(
    columns: dict[str, Array],
    starts: Array,
    final_obs: Array,
    first_rows: Array,
    options: IngestOptions,
    too_large: Collection[str] = (),
) -> tuple[dict[str, Array], Array, list[Fault]]:
    """Find faults in packed episodes, and clip their actions if requested.

    Args:
        columns: Columns [N, …].
        starts: Row at which each episode starts [E].
        final_obs: Observations after the last actions [E, …].
        first_rows: Row of the source at which each episode starts [E].
        options: Options that define how faults are handled.
        too_large: Columns with values that became infinite in float32.

    Returns:
        The columns, with clipped actions if requested; a mask of the episodes to leave out [E] bool; the
        faults.
    """
    lengths = np.diff(starts, append=len(columns["t"]))

    def source_row(row: int) -> int:
        episode = int(np.searchsorted(starts, row, side="right")) - 1
        return int(first_rows[episode] + row - starts[episode])

    faults: list[Fault] = []
    bad, refused = np.zeros(len(starts), bool), options.nan == "refuse"
    left_out = "" if options.nan == "refuse" else "; their episodes are left out"
    verdicts = dict.fromkeys(too_large, f"rows with values too large for float32, or NaN{left_out}")
    verdict = f"NaN or infinite rows{left_out}"
    for name, values in columns.items():
        wrong = _not_finite(values)
        if wrong.any():
            bad |= np.logical_or.reduceat(wrong, starts)
            row = source_row(int(np.argmax(wrong)))
            faults.append(
                Fault("nan", name, verdicts.get(name, verdict), int(wrong.sum()), row, refused=refused)
            )
    wrong = _not_finite(final_obs) & ~bad
    if wrong.any():
        bad |= wrong
        row = int((first_rows + lengths - 1)[wrong][0])
        detail = f"{verdicts.get('obs', verdict)} (observation after the last action)"
        faults.append(Fault("nan", "obs", detail, int(wrong.sum()), row, refused=refused))
    if options.action_space is not None:
        columns, found = _actions(columns, options, source_row)
        faults += found
    return columns, bad, faults


def _not_finite(values: Array) -> Array:
    """Return the mask of the rows with NaN, infinity or `NO_CHOICE` [N] bool."""
    if values.dtype.kind not in "fi":
        return np.zeros(len(values), bool)
    finite = np.isfinite(values) if values.dtype.kind == "f" else values != NO_CHOICE
    if finite.all():
        return np.zeros(len(values), bool)
    wrong: Array = ~finite
    rows: Array = np.logical_or.reduce(wrong.reshape(len(values), -1), axis=1)
    return rows


def _actions(
    columns: dict[str, Array], options: IngestOptions, source_row: Any
) -> tuple[dict[str, Array], list[Fault]]:
    space, actions = space_from_json(options.action_space or {}), columns["actions"]
    discrete = hasattr(space, "n")
    if not discrete and space.shape == (1,) and actions.ndim == 1:  # whole numbers that are amounts
        actions = np.where(actions == NO_CHOICE, np.nan, actions).astype(np.float32)[:, None]
        columns = {**columns, "actions": actions}
    if discrete != (actions.ndim == 1) or (not discrete and actions.shape[1:] != space.shape):
        raise BadValues(
            f"actions of shape {['N', *actions.shape[1:]]} and type {actions.dtype} do not fit {space}.",
            "Actions of a Discrete space are [N] integers; those of a Box have its shape.",
        )
    low, high = (0, space.n - 1) if discrete else (space.low, space.high)
    # Rounding errors of a tanh or of a conversion of units are not faults.
    slack = 0 if discrete else 1e-6 * np.maximum(1, np.abs(np.where(np.isfinite(high), high, 0)))
    least, most = low - slack, high + slack
    if actions.min() >= np.max(least) and actions.max() <= np.min(most):  # several times as fast
        return columns, []
    outside = ((actions < least) | (actions > most)) & np.isfinite(actions) & (actions != NO_CHOICE)
    if not outside.any():  # but NaN or infinity, which are faults of their own
        return columns, []
    rows = outside.reshape(len(outside), -1).any(1)
    clip = options.clip_actions and not discrete
    fault = Fault(
        kind="outside",
        column="actions",
        detail=f"values outside {_box(space)}" + (", clipped" if clip else ""),
        count=int(outside.sum()),
        first_row=source_row(int(np.argmax(rows))),
        largest=float(actions[outside][np.argmax(np.abs(actions[outside]))]),
        refused=discrete,  # a discrete action outside the space has no meaning
    )
    if clip:
        columns = {**columns, "actions": np.clip(actions, low, high)}
    return columns, [fault]


def _box(space: Any) -> str:
    if hasattr(space, "n"):
        return f"0 … {space.n - 1}"
    if (space.low == space.low.flat[0]).all() and (space.high == space.high.flat[0]).all():
        return f"[{space.low.flat[0]:g}, {space.high.flat[0]:g}]"
    return "the box"
