"""Convert nested spaces to plain JSON values and back, without loss."""

import math
import operator
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets_io.episode import Array
from datasets_io.errors import BadValues
from datasets_io.flatten import KINDS, unsupported_space

MAX_WIDTH = 2**22
"""Largest number of values of an observation or an action in a file."""
_NUMBERS = "bool|u?int(8|16|32|64)|float(16|32|64)"


def nested_to_json(space: Any) -> dict[str, Any]:
    """Convert a space to plain JSON values, without loss.

    Raises:
        BadValues: Another kind of space than `flatten_rows` takes.
    """
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

    kind: dict[str, Any] = {"type": type(space).__name__}
    match space:
        case Dict():  # pairs, as the order matters
            return {**kind, "spaces": [[str(key), nested_to_json(part)] for key, part in space.items()]}
        case Tuple():
            return {**kind, "spaces": [nested_to_json(part) for part in space]}
        case MultiBinary():
            return {**kind, "n": list(space.shape)}
        case Discrete():
            kind |= {"n": int(space.n), "start": int(space.start)}
        case MultiDiscrete():
            kind |= {"n": space.nvec.tolist(), "start": space.start.tolist()}
        case Box():
            kind |= {"shape": list(space.shape), "low": _bound(space.low), "high": _bound(space.high)}
        case _:
            raise unsupported_space(space)
    return {**kind, "dtype": str(space.dtype)}


def nested_from_json(plain: Mapping[str, Any]) -> Any:
    """Invert `nested_to_json`.

    Raises:
        BadValues: They are of no space, or of one of more than `MAX_WIDTH` numbers.
    """
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

    try:
        if (width := _plain_width(plain)) > MAX_WIDTH:  # before memory is taken for it
            raise BadValues(f"a space has {width:,} numbers.", f"Expected at most {MAX_WIDTH:,}.")
        dtype: Any = np.dtype(plain.get("dtype", "int8"))
        match plain["type"]:
            case "Dict":
                return Dict([(key, nested_from_json(part)) for key, part in plain["spaces"]])
            case "Tuple":
                return Tuple([nested_from_json(part) for part in plain["spaces"]])
            case "MultiBinary":
                return MultiBinary(plain["n"] if len(plain["n"]) > 1 else plain["n"][0])
            case "Discrete":
                return Discrete(plain["n"], start=plain["start"], dtype=dtype.type)
            case "MultiDiscrete":
                return MultiDiscrete(plain["n"], dtype.type, start=plain["start"])
        low, high = (np.asarray(plain[side]).astype(dtype) for side in ("low", "high"))
        shape = tuple(plain["shape"])
        return Box(np.broadcast_to(low, shape).copy(), np.broadcast_to(high, shape).copy(), shape, dtype.type)
    except (LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError) as error:
        raise BadValues("a nested space cannot be read.", f"{error}".partition("\n")[0]) from None


def _plain_width(plain: Any) -> int:
    match plain if re.fullmatch(_NUMBERS, plain.get("dtype", "int8")) else {}:
        case {"type": "Dict", "spaces": pairs}:
            return sum(_plain_width(part) for _, part in pairs)
        case {"type": "Tuple", "spaces": parts}:
            return sum(map(_plain_width, parts))
        case {"type": "MultiBinary", "n": shape} | {"type": "Box", "shape": shape}:
            return math.prod(map(operator.index, shape))
        case {"type": "Discrete" | "MultiDiscrete", "n": sizes}:
            return int(np.asarray(sizes, np.float64).sum())
    raise ValueError(f"Expected {KINDS}, of numbers.")


def _bound(values: Array) -> Any:
    """Convert a bound to JSON without loss: one number if all are equal, infinity as text."""
    plain: Array = values.astype(object)
    plain[~np.isfinite(values)] = values[~np.isfinite(values)].astype(str).astype(object)
    same = values.size > 0 and (values == values.flat[0]).all()
    return plain.flat[0] if same else plain.tolist()
