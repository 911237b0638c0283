"""Decide how much current a charger may be commanded to draw, how much it can draw now, and which limit binds."""

from dataclasses import dataclass, replace
from datetime import datetime
from math import floor, inf, isfinite

from .errors import UnsafeRequest
from .model import (
    CHARGING_CURRENT,
    HOUSE_LIMIT,
    LOAD_GROUP_LIMIT,
    OFFLINE_CURRENT,
    UNIT_RATING,
    WIRE_RATING,
    LimitingFactor,
    Property,
    Reading,
    Readings,
    Source,
)

MINIMUM_CURRENT = 6
"""Lowest current in A with which a car charges (IEC 61851-1). To draw less, pause the charger."""

HIGHEST_CURRENT = 80
"""Current in A that no charger of either manufacturer exceeds; the end of every scale while no limit is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All limits of a charger in A; None if unknown. A cached limit counts as much as a fresh one."""

    wire_rating: float | None = None
    unit_rating: float | None = None
    load_group_limit: float | None = None
    house_limit: float | None = None
    charging_current: float | None = None
    offline_current: float | None = None

    @classmethod
    def of(cls, readings: Readings) -> Limits:
        """Return the limits among the readings. A value that is not a finite number is unknown."""

        def known(prop: Property[float]) -> float | None:
            value = readings.value(prop)
            return value if value is not None and isfinite(value) else None

        return cls(
            wire_rating=known(WIRE_RATING),
            unit_rating=known(UNIT_RATING),
            load_group_limit=known(LOAD_GROUP_LIMIT),
            house_limit=known(HOUSE_LIMIT),
            charging_current=known(CHARGING_CURRENT),
            offline_current=known(OFFLINE_CURRENT),
        )


type BindingLimit = tuple[float | None, LimitingFactor | None]
"""A current in A and the limit that it comes from; both None if no limit is known."""


def _lowest(*candidates: BindingLimit) -> BindingLimit:
    """Return the lowest known limit; of equal limits, the first."""
    known = [(amps, factor) for amps, factor in candidates if amps is not None]
    return min(known, key=lambda candidate: candidate[0], default=(None, None))


def cap_load_group(readings: Readings, amps: float | None, at: datetime) -> None:
    """Set `amps` (entered by the user, or a share) as the load-group limit unless the charger reports a lower limit."""
    reported = readings.value(LOAD_GROUP_LIMIT)
    if amps is not None and (reported is None or amps < reported):
        readings.put(LOAD_GROUP_LIMIT, Reading(amps, Source.USER, at))


def ceiling(limits: Limits) -> BindingLimit:
    """Return the highest current that may ever be commanded: the lowest known limit of the installation."""
    return _lowest(
        (limits.wire_rating, LimitingFactor.WIRE_RATING),
        (limits.unit_rating, LimitingFactor.UNIT_RATING),
        (limits.load_group_limit, LimitingFactor.LOAD_GROUP_LIMIT),
        (limits.house_limit, LimitingFactor.HOUSE_LIMIT),
    )


def effective(limits: Limits, *, commanded: bool, in_force: float | None = None) -> BindingLimit:
    """Return the limit that the charger obeys now. If the ceiling equals the user's setting, the ceiling binds.

    Args:
        limits: the known limits.
        commanded: True if a transport commands the charger. Otherwise the charger falls back to its offline current; a
            charger without an offline current keeps its setting.
        in_force: the limit that the charger reports now, in A. If this limit is lower than every commanded limit, the
            offline current binds. If this limit is also lower than the offline current, it must be a commanded setting,
            which then binds.
    """
    if not commanded and limits.offline_current is not None:
        return _lowest(
            (limits.unit_rating, LimitingFactor.UNIT_RATING),
            (limits.offline_current, LimitingFactor.OFFLINE_CURRENT),
            (in_force, LimitingFactor.OFFLINE_CURRENT),
        )
    offline_current = limits.offline_current
    by_setting = in_force is not None and offline_current is not None and in_force < offline_current
    return _lowest(
        ceiling(limits),
        (limits.charging_current, LimitingFactor.CHARGING_CURRENT),
        (in_force, LimitingFactor.CHARGING_CURRENT if by_setting else LimitingFactor.OFFLINE_CURRENT),
    )


def permit(amps: int, limits: Limits, *, minimum: int = MINIMUM_CURRENT, room: float = inf) -> None:
    """Raise `UnsafeRequest` unless a charging current is permitted (invariant I1).

    Lowering is always permitted, even if the result is still above the ceiling. While the present setting is unknown,
    every command counts as a raise.

    Args:
        amps: the requested setting in A.
        limits: the known limits of the charger.
        minimum: the lowest setting in A that the charger accepts.
        room: the current in A that the other members of the load group leave now.

    Raises:
        UnsafeRequest: `current_too_low` (`detail` is the minimum; to draw less, pause), `wire_rating_unknown`,
            `above_ceiling` (`detail` is the ceiling), or `no_group_room` (`detail` is the room); all in A.
    """
    if amps < minimum:
        raise UnsafeRequest("current_too_low", f"{minimum}")
    if limits.charging_current is not None and amps <= limits.charging_current:
        return
    if limits.wire_rating is None:
        raise UnsafeRequest("wire_rating_unknown")
    highest, _ = ceiling(limits)
    if highest is not None and amps > highest:
        raise UnsafeRequest("above_ceiling", f"{highest:g}")
    if amps > room:
        raise UnsafeRequest("no_group_room", f"{max(room, 0.0):g}")


def with_room(limits: Limits, room: float) -> Limits:
    """Return the limits of a charger that is about to start while its load group leaves it only `room` (A)."""
    share = limits.load_group_limit
    return replace(limits, load_group_limit=room if share is None else min(share, room))


def safe_start(limits: Limits) -> int | None:
    """Return the lower setting (whole A) that is needed before a start; None if the present setting is low enough.

    The result may be lower than any charger accepts. Then `permit` refuses the setting, and the start fails.
    """
    highest, _ = ceiling(limits)
    if highest is None or limits.charging_current is None or limits.charging_current <= highest:
        return None
    return floor(highest)
