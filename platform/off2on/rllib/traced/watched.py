"""Numbers that change between updates, watched while an update is traced.

A trace is valid for other values of such a number if the comparisons that the recipe made have the same
result, and if all arithmetic with it was recorded as tensor operations. Any other use of the number raises
TypeError, and the update cannot be traced.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Numbers = Mapping[str, float]
"""Values by name, such as ``progress``."""


@dataclass(frozen=True)
class Condition:
    """Result that a comparison had when an update was traced.

    Attributes:
        compare: Function of two numbers, such as ``operator.lt``.
        compute: Function that computes the left side from the current values.
        other: The right side.
        result: The result.
    """

    compare: Callable[[float, float], bool]
    compute: Callable[[Numbers], float]
    other: float
    result: bool

    def holds(self, numbers: Numbers) -> bool:
        """Return True if the comparison has the same result for other values."""
        return self.compare(self.compute(numbers), self.other) is self.result


class WatchedNumber:
    """A number with its tensor; comparisons become guards, arithmetic becomes tensor operations.

    Args:
        value: The number.
        tensor: The number as a tensor [], float64 on the CPU.
        compute: Function that computes the number from the values of the watched ones.
        guards: The guards of the trace, which are added to.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, value: float, tensor: Tensor, compute: Callable[[Numbers], float], guards: list[Condition]
    ) -> None:
        self.value, self.tensor, self.compute, self.guards = value, tensor, compute, guards

    def _compared(self, compare: Callable[[float, float], bool], other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        result = compare(self.value, other)
        self.guards.append(Condition(compare, self.compute, other, result))
        return result

    def __lt__(self, other: Any) -> Any:
        return self._compared(operator.lt, other)

    def __le__(self, other: Any) -> Any:
        return self._compared(operator.le, other)

    def __gt__(self, other: Any) -> Any:
        return self._compared(operator.gt, other)

    def __ge__(self, other: Any) -> Any:
        return self._compared(operator.ge, other)

    def __eq__(self, other: Any) -> Any:
        return self._compared(operator.eq, other)

    def _combined(self, combine: Callable[[Any, Any], Any], other: Any, reverse: bool) -> Any:
        """Apply an operation with a Python number, or with a tensor whose dtype the result then has."""
        if isinstance(other, Tensor):
            own = self.tensor.to(other.device, other.dtype)
            return combine(other, own) if reverse else combine(own, other)
        if not isinstance(other, int | float):
            return NotImplemented

        def apply(number: Any) -> Any:
            return combine(other, number) if reverse else combine(number, other)

        compute = self.compute
        return WatchedNumber(
            apply(self.value), apply(self.tensor), lambda numbers: apply(compute(numbers)), self.guards
        )

    def __add__(self, other: Any) -> Any:
        return self._combined(operator.add, other, False)

    def __radd__(self, other: Any) -> Any:
        return self._combined(operator.add, other, True)

    def __sub__(self, other: Any) -> Any:
        return self._combined(operator.sub, other, False)

    def __rsub__(self, other: Any) -> Any:
        return self._combined(operator.sub, other, True)

    def __mul__(self, other: Any) -> Any:
        return self._combined(operator.mul, other, False)

    def __rmul__(self, other: Any) -> Any:
        return self._combined(operator.mul, other, True)

    def __truediv__(self, other: Any) -> Any:
        return self._combined(operator.truediv, other, False)

    def __rtruediv__(self, other: Any) -> Any:
        return self._combined(operator.truediv, other, True)
