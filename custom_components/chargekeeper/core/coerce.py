"""Tolerant conversions of JSON from manufacturers and from the store: bad input becomes None, never an exception."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from math import isfinite

LONGEST_TEXT = 255
"""Characters; no text of a charger is longer."""


def optional_float(low: float, high: float) -> Callable[[object], float | None]:
    """Return a parser of numbers from `low` to `high`."""

    def parse(raw: object) -> float | None:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
            return None
        return float(raw)

    return parse


def optional_int(low: int, high: int) -> Callable[[object], int | None]:
    """Return a parser of whole numbers from `low` to `high`; a fraction of zero (`6.0`) is accepted."""

    def parse(raw: object) -> int | None:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high or raw % 1:
            return None
        return int(raw)

    return parse


def optional_str(raw: object) -> str | None:
    """Return the text on one line, without characters that cannot be printed or encoded.

    None if the value is not a text, is longer than `LONGEST_TEXT`, or has nothing printable.
    """
    if not isinstance(raw, str) or len(raw) > LONGEST_TEXT:
        return None
    return " ".join("".join(c if c.isprintable() else " " for c in raw).split()) or None


def moment(value: object) -> datetime | None:
    """Return the time that an ISO text holds; None for anything else and for a time without a zone."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return parsed if parsed is not None and parsed.tzinfo is not None else None


def member[E: StrEnum](kind: type[E], value: object) -> E | None:
    """Return the member of an enumeration that has this value; None if there is none."""
    try:
        return kind(str(value))
    except ValueError:
        return None


def number(value: object) -> float | None:
    """Return the value if it is a finite number; None for anything else, booleans included."""
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None
    return found if found is not None and isfinite(found) else None
