"""Numbers as text: scores, counts, durations."""


def points(value: float) -> str:
    """Return a score as text: 66.6, 3,664, −0.52."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if text.strip("-0.") else "0"


def short(amount: float) -> str:
    """Return a number of updates, steps or rows as text: 512, 61.2 k, 1 M."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if amount >= size * 0.99995:
            return f"{amount / size:.1f}".removesuffix(".0") + letter
    return f"{amount:.3g}"


def duration(seconds: float) -> str:
    """Return a duration as text, in its two largest units: 12 s, 3 min 5 s, 2 h 40 min."""
    total = round(seconds)
    for size, small, names in ((86_400, 3_600, ("d", "h")), (3_600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if total >= size:
            return f"{total // size} {names[0]} {total % size // small} {names[1]}"
    return f"{total} s"
