"""Reading back what was stored as JSON: garbage becomes None, never an exception."""

from datetime import datetime
from enum import StrEnum
from math import isfinite


def moment(value: object) -> datetime | None:
    """A moment from its ISO text; None for anything else, also for one without a zone."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return parsed if parsed is not None and parsed.tzinfo is not None else None


def member[E: StrEnum](kind: type[E], value: object) -> E | None:
    """A member of an enumeration from its value; None for anything else."""
    try:
        return kind(str(value))
    except ValueError:
        return None


def number(value: object) -> float | None:
    """A finite number; None for anything else, also for a truth value."""
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None
    return found if found is not None and isfinite(found) else None
