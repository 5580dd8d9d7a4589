"""Numbers that change between updates, watched while an update is traced.

A trace is valid for other values of such a number if the comparisons that the recipe made have the same
result, and if all arithmetic with it was recorded as tensor operations. Any other use of the number raises
TypeError, and the update cannot be traced.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partialmethod
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
    """A number with its tensor; comparisons become conditions, arithmetic becomes tensor operations.

    Args:
        value: The number.
        tensor: The number as a tensor [], float64.
        compute: Function that computes the number from the values of the watched ones.
        conditions: The conditions of the trace, which are added to.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, value: float, tensor: Tensor, compute: Callable[[Numbers], float], conditions: list[Condition]
    ) -> None:
        self.value, self.tensor, self.compute, self.conditions = value, tensor, compute, conditions

    def fixed(self) -> float:
        """Return the value, which becomes a part of the graph: a trace is valid for no other."""
        self._compared(self.value, operator.eq)
        return self.value

    def __bool__(self) -> bool:
        return not self._compared(0, operator.eq)

    def _compared(self, other: Any, compare: Callable[[float, float], bool]) -> Any:
        if isinstance(other, WatchedNumber):  # a condition has one number
            raise TypeError("two watched numbers cannot be compared")
        if not isinstance(other, int | float):
            return NotImplemented
        result = compare(self.value, other)
        self.conditions.append(Condition(compare, self.compute, other, result))
        return result

    def _combined(self, other: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Combine with a number, watched or not, or with a tensor, whose dtype the result then has."""
        if isinstance(other, Tensor):
            return combine(self.tensor.to(other.device, other.dtype), other)
        own = self.compute
        if isinstance(other, WatchedNumber):
            second = other.compute
            return WatchedNumber(
                combine(self.value, other.value),
                combine(self.tensor, other.tensor),
                lambda numbers: combine(own(numbers), second(numbers)),
                self.conditions,
            )
        if not isinstance(other, int | float):
            return NotImplemented
        return WatchedNumber(
            combine(self.value, other),
            combine(self.tensor, other),
            lambda numbers: combine(own(numbers), other),
            self.conditions,
        )

    __lt__ = partialmethod(_compared, compare=operator.lt)
    __le__ = partialmethod(_compared, compare=operator.le)
    __gt__ = partialmethod(_compared, compare=operator.gt)
    __ge__ = partialmethod(_compared, compare=operator.ge)
    __eq__ = partialmethod(_compared, compare=operator.eq)
    __add__ = partialmethod(_combined, combine=operator.add)
    __sub__ = partialmethod(_combined, combine=operator.sub)
    __mul__ = partialmethod(_combined, combine=operator.mul)
    __truediv__ = partialmethod(_combined, combine=operator.truediv)
    __radd__ = partialmethod(_combined, combine=lambda own, other: other + own)
    __rsub__ = partialmethod(_combined, combine=lambda own, other: other - own)
    __rmul__ = partialmethod(_combined, combine=lambda own, other: other * own)
    __rtruediv__ = partialmethod(_combined, combine=lambda own, other: other / own)
