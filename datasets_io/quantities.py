"""Parse numbers and sizes as users write them: 250k, 1M, 1e-4; 500M, 4G."""

import re


def number(text: str) -> float:
    """Return the number that a text such as ``"250k"``, ``"1M"`` or ``"1e-4"`` stands for.

    Raises:
        ValueError: It is not a number.
    """
    text = text.strip().replace("_", "")
    scale = {"k": 1e3, "M": 1e6}.get(text[-1:], 1.0)
    return float(text[:-1] if scale > 1 else text) * scale


def whole_number(text: str) -> int:
    """Return the whole number that a text such as ``"20000"``, ``"20k"`` or ``"1M"`` stands for.

    Raises:
        ValueError: It is not a whole number.
    """
    parsed = number(text)
    if not parsed.is_integer():
        raise ValueError(f"{text} is not a whole number")
    return int(parsed)


def parse_size(text: str) -> int:
    """Return the bytes that a text such as ``"500M"`` or ``"4 GiB"`` stands for, in powers of 1024.

    Raises:
        ValueError: It is not a size, or is 0.
    """
    found = re.fullmatch(r"(\d+\.?\d*)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ValueError(f"{text} is not a size")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
