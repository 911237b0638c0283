"""How much current a charger may be told to draw, how much it can draw now, and which limit binds."""

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
"""Amperes below which no car charges (IEC 61851-1); less is no current setting but a pause."""

HIGHEST_CURRENT = 80
"""Amperes that no charger of either maker exceeds; the end of every scale while no limit is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All limits of a charger in amperes, None where unknown; from the cache as good as fresh."""

    wire_rating: float | None = None
    unit_rating: float | None = None
    load_group_limit: float | None = None
    house_limit: float | None = None
    charging_current: float | None = None
    offline_current: float | None = None

    @classmethod
    def of(cls, readings: Readings) -> Limits:
        """The limits among the readings; a value that is no finite number is unknown."""

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


type Bound = tuple[float | None, LimitingFactor | None]
"""A current in amperes and the limit it comes from; both None where no limit is known."""


def _smallest(*bounds: Bound) -> Bound:
    """The smallest known; of equal ones the first."""
    known = [(amps, factor) for amps, factor in bounds if amps is not None]
    return min(known, key=lambda bound: bound[0], default=(None, None))


def cap_load_group(readings: Readings, amps: float | None, at: datetime) -> None:
    """Let what the user entered, or a share, stand as the load-group limit where the charger reports none so low."""
    reported = readings.value(LOAD_GROUP_LIMIT)
    if amps is not None and (reported is None or amps < reported):
        readings.put(LOAD_GROUP_LIMIT, Reading(amps, Source.USER, at))


def ceiling(limits: Limits) -> Bound:
    """The highest current that may ever be commanded: the smallest known limit of the installation."""
    return _smallest(
        (limits.wire_rating, LimitingFactor.WIRE_RATING),
        (limits.unit_rating, LimitingFactor.UNIT_RATING),
        (limits.load_group_limit, LimitingFactor.LOAD_GROUP_LIMIT),
        (limits.house_limit, LimitingFactor.HOUSE_LIMIT),
    )


def effective(limits: Limits, *, commanded: bool, in_force: float | None = None) -> Bound:
    """The current that the charger keeps to now; where the ceiling and the user's setting are equal, the ceiling binds.

    Args:
        limits: what is known.
        commanded: whether a path commands the charger. One that runs alone falls back to its offline current if its
            maker has such a thing; otherwise it keeps its setting by itself.
        in_force: what the charger says now that it keeps to. Where that is less than all that it was told, what it has
            stored binds; where it is less than that too, the setting of whoever commands it.
    """
    if not commanded and limits.offline_current is not None:
        return _smallest(
            (limits.unit_rating, LimitingFactor.UNIT_RATING),
            (limits.offline_current, LimitingFactor.OFFLINE_CURRENT),
            (in_force, LimitingFactor.OFFLINE_CURRENT),
        )
    stored = limits.offline_current
    by_setting = in_force is not None and stored is not None and in_force < stored
    return _smallest(
        ceiling(limits),
        (limits.charging_current, LimitingFactor.CHARGING_CURRENT),
        (in_force, LimitingFactor.CHARGING_CURRENT if by_setting else LimitingFactor.OFFLINE_CURRENT),
    )


def permit(amps: int, limits: Limits, *, minimum: int = MINIMUM_CURRENT, room: float = inf) -> None:
    """Let a charging current pass or refuse it (invariant I1).

    Lowering is always allowed, also where the result still lies above the ceiling. Where the present setting is unknown
    every command counts as raising it.

    Args:
        amps: the wanted setting, A.
        limits: what is known of the charger.
        minimum: the lowest setting the charger takes, A.
        room: what the load group leaves beside what its other members may draw now, A.

    Raises:
        UnsafeRequest: `current_too_low` (pausing is the switch; `detail` is the minimum), `wire_rating_unknown`,
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
    """Return the limits of a charger that is about to start, where its load group leaves only `room` (A) for it."""
    share = limits.load_group_limit
    return replace(limits, load_group_limit=room if share is None else min(share, room))


def safe_start(limits: Limits) -> int | None:
    """The setting in whole amperes to lower to before a charge is started; None where the present one is within bounds.

    It may be less than any charger takes; `permit` then refuses it, and with it the start.
    """
    highest, _ = ceiling(limits)
    if highest is None or limits.charging_current is None or limits.charging_current <= highest:
        return None
    return floor(highest)
