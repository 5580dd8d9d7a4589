"""Parse numbers and sizes as users write them: 250k, 1M, 1e-4; 500M, 4G."""

import math
import re
from decimal import Decimal

LARGEST = 2**53
"""Largest whole number: up to it, float64 represents every whole number."""


def number(text: str) -> float:
    """Return the finite number that a text such as ``"250k"``, ``"1M"`` or ``"1e-4"`` stands for.

    Raises:
        ValueError: It is not a finite number.
    """
    parsed = float(_decimal(text))
    if not math.isfinite(parsed):
        raise ValueError(f"{text} is too large")
    return parsed + 0.0  # not -0


def whole_number(text: str) -> int:
    """Return the whole number that a text such as ``"20000"``, ``"20k"`` or ``"1M"`` stands for.

    Raises:
        ValueError: It is not a whole number, or its absolute value is more than `LARGEST`.
    """
    parsed = _decimal(text)
    if abs(parsed) > LARGEST:
        raise ValueError(f"{text} is more than {LARGEST:,}")
    if parsed != parsed.to_integral_value():
        raise ValueError(f"{text} is not a whole number")
    return int(parsed)


def _decimal(text: str) -> Decimal:
    stripped = text.strip()
    scale = {"k": 1000, "M": 1_000_000}.get(stripped[-1:], 1)
    try:
        parsed = Decimal(stripped[:-1] if scale > 1 else stripped) * scale
    except ArithmeticError:  # also an exponent of many digits
        raise ValueError(f"{text} is not a number") from None
    if not parsed.is_finite():
        raise ValueError(f"{text} is not a finite number")
    return parsed


def parse_size(text: str) -> int:
    """Return the bytes that a text such as ``"500M"`` or ``"4 GiB"`` stands for, in powers of 1024.

    Raises:
        ValueError: It is not a size, is 0, or is more than `LARGEST`.
    """
    found = re.fullmatch(r"(\d+\.?\d*)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    size = Decimal(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ") if found else Decimal(0)
    if not 1 <= size <= LARGEST:
        raise ValueError(f"{text} is not a size from 1 byte to {LARGEST:,}")
    return int(size)
