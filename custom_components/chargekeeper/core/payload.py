"""Tolerant fields of a maker's JSON: whatever it holds, these answer with a value of their type or None."""

from collections.abc import Callable

LONGEST_TEXT = 255
"""Characters; no text of a charger is longer."""


def optional_float(low: float, high: float) -> Callable[[object], float | None]:
    """A parser of numbers from `low` to `high`."""

    def parse(raw: object) -> float | None:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
            return None
        return float(raw)

    return parse


def optional_int(low: int, high: int) -> Callable[[object], int | None]:
    """A parser of whole numbers from `low` to `high`, also where they are written with a fraction of zero."""

    def parse(raw: object) -> int | None:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high or raw % 1:
            return None
        return int(raw)

    return parse


def optional_str(raw: object) -> str | None:
    """A text on one line, without what cannot be printed or encoded; None where it is longer than `LONGEST_TEXT`."""
    if not isinstance(raw, str) or len(raw) > LONGEST_TEXT:
        return None
    return " ".join("".join(c if c.isprintable() else " " for c in raw).split()) or None
