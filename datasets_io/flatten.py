"""Flatten nested observations to vectors and back: many rows at once, exactly as Gymnasium does one.

A dictionary or tuple of spaces is concatenated in its own order, a discrete choice is one-hot encoded. The
original space is stored in the manifest (`storage.nested_spaces`), so that a row can be unflattened.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datasets_io.episode import Array, is_image
from datasets_io.errors import BadValues, MissingColumn, UnknownName

KINDS = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"


def flat_space(space: Any) -> Any:
    """Return the float32 Box [D] that contains the rows of `flatten_rows`.

    Raises:
        BadValues: The space, or one inside it, has no vector of fixed width.
    """
    from gymnasium.spaces import Box
    from gymnasium.spaces.utils import flatten_space

    _width(space)
    flat = flatten_space(space)
    return Box(_float32(flat.low), _float32(flat.high), dtype=np.float32)


def flatten_rows(space: Any, values: Any) -> Array:
    """Flatten nested rows; each row equals `gymnasium.spaces.utils.flatten` before it is cast to float32.

    Args:
        space: A Gymnasium space.
        values: As nested as the space: dictionaries and tuples of arrays [T, …] of the shape of a row each.

    Returns:
        [T, D] float32; the common type of the parts if float32 does not hold it.

    Raises:
        MissingColumn: A key of the space is missing.
        BadValues: An array has another shape than the space, a choice is out of range, or a part is an image.
    """
    _width(space)
    parts = _flatten(space, values, "observations")
    if len({len(part) for part in parts}) != 1:
        raise BadValues(
            "the parts of the observations have different lengths.",
            f"Rows: {', '.join(f'{len(part):,}' for part in parts)}",
        )
    return np.concatenate(parts, axis=1)


def unflatten_rows(space: Any, rows: Array) -> Any:
    """Invert `flatten_rows`.

    Args:
        space: Space before flattening.
        rows: [T, D].

    Returns:
        As nested as the space: dictionaries and tuples of arrays [T, …] of the space's own dtypes.

    Raises:
        BadValues: The rows have another width than the space, or a choice has no 1.
    """
    width = _width(space)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise BadValues(f"rows are {list(rows.shape)}.", f"[T, {width}] was expected: {space}")
    return _unflatten(space, rows)


def select(space: Any, keys: Sequence[str]) -> Any:
    """Select parts of a dictionary of spaces, in the order of the keys.

    Args:
        space: A Dict.
        keys: Its keys; a dot separates nested keys: `arm.joints`.

    Returns:
        A Dict with those keys, as they were written.

    Raises:
        UnknownName: A part does not exist.
    """
    from gymnasium.spaces import Dict

    return Dict(list(pick(space, keys).items()))


def pick(tree: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Return the parts of a dictionary, of spaces or of values, that `select` keeps."""
    return {key: _follow(tree, key, key) for key in keys}


def unsupported_space(space: Any) -> BadValues:
    """Return the error of a space that `flatten_rows` does not take."""
    return BadValues(f"{space} has no vector of fixed width.", f"Expected: {KINDS}.")


def _width(space: Any) -> int:
    """Return the width D of a space's vector."""
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

    match space:
        case Dict() | Tuple() if len(space):
            return sum(_width(part) for part in _parts(space))
        case Box() | MultiBinary():
            return int(np.prod(space.shape))
        case Discrete():
            return int(space.n)
        case MultiDiscrete():
            return int(space.nvec.sum())
    raise unsupported_space(space)


def _parts(nest: Any) -> list[Any]:
    """Return the direct parts of a space, or of a value that is nested like one."""
    if isinstance(nest, Mapping):
        return list(nest.values())
    return list(nest) if isinstance(nest, Sequence) else []


def _flatten(space: Any, values: Any, name: str) -> list[Array]:
    """Return flat columns [T, …] of each leaf; `name` is the path of the part, for messages."""
    from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

    if isinstance(space, Dict | Tuple):
        inside = _dictionary(space, values, name) if isinstance(space, Dict) else _tuple(space, values, name)
        return [flat for key, part, value in inside for flat in _flatten(part, value, f"{name}.{key}")]
    if isinstance(space, Box) and is_image(space.shape, space.dtype):
        raise BadValues(
            f"{name} are images: {space}.",
            "off2on learns from vectors: encode images as features first, or leave them out with obs=KEY,KEY;"
            "\na source of your own selects parts by `select` and `pick` of datasets_io.flatten.",
        )
    values = np.asarray(values)
    if values.shape[1:] != space.shape or values.ndim == 0:
        raise BadValues(f"{name} are {list(values.shape)}.", f"[T, …] with a row of {space} was expected.")
    if values.dtype.kind not in "fiub":
        raise BadValues(f"{name} have the type {values.dtype}.", f"Numbers of {space} were expected.")
    if isinstance(space, Discrete | MultiDiscrete):
        return [_one_hot(space, values.reshape(len(values), -1), name)]
    with np.errstate(over="ignore"):  # too large becomes infinite, which the ingest reports
        own = values.astype(space.dtype)
    return [_float32_if_exact(own.reshape(len(own), _width(space)))]


def _dictionary(space: Any, values: Any, name: str) -> list[tuple[Any, Any, Any]]:
    """Yield key, space and values of each part."""
    if not isinstance(values, Mapping):
        raise BadValues(f"{name} are no dictionary but {type(values).__name__}.", f"Keys: {_keys(space)}")
    if missing := [key for key in space if key not in values]:
        raise MissingColumn(f"{name} have no {missing[0]!r}.", f"There are: {_keys(values)}")
    return [(key, part, values[key]) for key, part in space.items()]


def _tuple(space: Any, values: Any, name: str) -> list[tuple[Any, Any, Any]]:
    if not isinstance(values, tuple | list) or len(values) != len(space):
        raise BadValues(f"{name} are no tuple of {len(space)} parts, but {type(values).__name__}.")
    return list(zip(range(len(space)), space, values, strict=True))


def _one_hot(space: Any, values: Array, name: str) -> Array:
    """Encode choices [T, K] as one-hot rows [T, n1 + … + nK]."""
    choices, sizes = values - np.ravel(space.start), _sizes(space)
    if values.dtype.kind not in "iu" or (choices < 0).any() or (choices >= sizes).any():
        raise BadValues(f"{name} are no choices of {space}.", f"They reach from {_range(values)}.")
    flat = np.zeros((len(values), sizes.sum()), np.float32)
    flat[np.arange(len(values))[:, None], choices + np.cumsum(sizes) - sizes] = 1
    return flat


def _unflatten(space: Any, rows: Array) -> Any:
    from gymnasium.spaces import Dict, Discrete, MultiDiscrete, Tuple

    if isinstance(space, Dict | Tuple):
        widths = [_width(part) for part in _parts(space)]
        pieces = np.split(rows, np.cumsum(widths[:-1]), axis=1)
        inside = [_unflatten(part, piece) for part, piece in zip(_parts(space), pieces, strict=True)]
        return dict(zip(space, inside, strict=True)) if isinstance(space, Dict) else tuple(inside)
    if isinstance(space, Discrete | MultiDiscrete):
        hot = np.split(rows != 0, np.cumsum(_sizes(space))[:-1], axis=1)
        if not all(choice.any(axis=1).all() for choice in hot):
            raise BadValues(f"a row holds no choice of {space}.", "One of its numbers must be 1.")
        choices = np.stack([choice.argmax(axis=1) for choice in hot], axis=1) + np.ravel(space.start)
        return choices.reshape(len(rows), *space.shape).astype(space.dtype)
    return rows.reshape(len(rows), *space.shape).astype(space.dtype)


def _sizes(space: Any) -> Array:
    """Return the number of values of each choice [K]."""
    sizes: Array = np.ravel(space.nvec if hasattr(space, "nvec") else space.n).astype(np.int64)
    return sizes


def _follow(tree: Any, path: str, whole: str) -> Any:
    tree = getattr(tree, "spaces", tree)  # `in` of a space tests membership of a value
    if isinstance(tree, Mapping) and path in tree:
        return tree[path]
    head, dot, rest = path.partition(".")
    parts = tree if isinstance(tree, Mapping) else {str(i): part for i, part in enumerate(_parts(tree))}
    if head not in parts or (isinstance(tree, Mapping) and not dot):
        raise UnknownName(
            f"the observations have no part {whole!r}.", f"There are: {_keys(parts)}", given=path, known=parts
        )
    return _follow(parts[head], rest, whole) if dot else parts[head]


def _keys(mapping: Any) -> str:
    return " ".join(map(str, mapping)) or "none"


def _range(values: Array) -> str:
    return f"{values.min()} to {values.max()}" if values.size else "nothing"


def _float32(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)


def _float32_if_exact(values: Array) -> Array:
    """Return numbers as float32, or as they are if float32 does not hold their type.

    Rows are stored as float32, but only the ingest casts to it: it measures what is lost.
    """
    return values.astype(np.float32) if np.can_cast(values.dtype, np.float32) else values
