"""Divide the limit of a load group among its members, and refuse impossible groups.

All functions are pure; `group.py` acts on the results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, inf, isfinite

from ..limits import MINIMUM_CURRENT, Limits, ceiling
from ..model import Maker

HIGHEST_LIMIT = 1000.0
"""Highest limit in A per phase; a higher limit counts as a typing error."""

type Key = tuple[Maker, str]
"""Identifies a charger: manufacturer and serial number."""

START_PREVENTABLE = frozenset({Maker.JUICEBOX})
"""Manufacturers of chargers that can be held at 0 A. Anybody can start the others in the manufacturer's app."""


class GroupError(ValueError):
    """An impossible group. `reason` is a slug that selects the text for the user."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Member:
    """A charger of a group. A member with twice the weight of another gets twice the share."""

    key: Key
    weight: float = 1.0

    @property
    def start_preventable(self) -> bool:
        """True if the charger can be held at 0 A, so that no car starts to charge."""
        return self.key[0] in START_PREVENTABLE


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group as its entry describes it: `limit` in A per phase; members that come first are paused last.

    Raises:
        GroupError: `no_members`, `limit_too_low` and `limit_too_high` (`detail` is the bound in A), `member_twice` and
            `weight_not_positive` (`detail` is the serial).
    """

    name: str
    limit: float
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise GroupError("no_members")
        if not self.limit >= MINIMUM_CURRENT:
            raise GroupError("limit_too_low", f"{MINIMUM_CURRENT}")
        if self.limit > HIGHEST_LIMIT:
            raise GroupError("limit_too_high", f"{HIGHEST_LIMIT:g}")
        seen: set[Key] = set()
        for member in self.members:
            if member.key in seen:
                raise GroupError("member_twice", member.key[1])
            if not (isfinite(member.weight) and member.weight > 0):
                raise GroupError("weight_not_positive", member.key[1])
            seen.add(member.key)

    @property
    def lowest_limit(self) -> int:
        """The lowest limit in A that the group can keep: all whose start nobody prevents may draw the minimum."""
        return MINIMUM_CURRENT * sum(not member.start_preventable for member in self.members)

    @property
    def overrun(self) -> float:
        """The current in A by which the members may exceed the limit; 0 for a group that the flow accepts."""
        return max(self.lowest_limit - self.limit, 0.0)


@dataclass(frozen=True, slots=True)
class Claim:
    """The input for one member when the limit is divided.

    Attributes:
        weight: see `Member`.
        wants: False if the charger reports that no car is connected.
        reserved: the current in A that the member may draw whatever ChargeKeeper commands; infinite if unknown.
            None if the member follows commands.
        minimum: the lowest share in A that the member can use.
        start_preventable: see `Member`. A member without a share whose start nobody prevents may draw the minimum.
    """

    weight: float
    wants: bool = True
    reserved: float | None = None
    minimum: int = MINIMUM_CURRENT
    start_preventable: bool = True


def shares(amps: float, claims: Sequence[Claim]) -> list[int]:
    """Divide a current by weight into shares of whole A. Each member gets at least its minimum, or nothing.

    Members whose start nobody prevents are served first, then members with a car, then in configured order. What an
    unserved one of the first may draw is left free. Each remaining ampere goes to the member that is furthest behind
    its weight. If all minimums are equal, a higher current therefore never makes a share smaller.

    Args:
        amps: the current to divide, in A; a negative value counts as 0.
        claims: the members in configured order; `reserved` is ignored.
    """
    result = [0] * len(claims)
    left = max(floor(amps), 0)
    unserved = sum(not claim.start_preventable for claim in claims)
    for i in sorted(range(len(claims)), key=lambda i: (claims[i].start_preventable, not claims[i].wants)):
        others = unserved - (not claims[i].start_preventable)
        kept = MINIMUM_CURRENT * others if claims[i].minimum > MINIMUM_CURRENT or claims[i].start_preventable else 0
        if claims[i].minimum <= left - kept:
            result[i] = claims[i].minimum
            left -= claims[i].minimum
            unserved = others
    left = max(left - MINIMUM_CURRENT * unserved, 0)
    served = [i for i, amps in enumerate(result) if amps]
    for _ in range(left if served else 0):
        result[min(served, key=lambda i: (result[i] + 1) / claims[i].weight)] += 1
    return result


def static_shares(spec: GroupSpec) -> list[int]:
    """Return the share of each member in A while all of them want current and follow commands."""
    return shares(
        spec.limit, [Claim(member.weight, start_preventable=member.start_preventable) for member in spec.members]
    )


def allocate(limit: float, claims: Sequence[Claim]) -> list[int]:
    """Return the share of each member in A, given the reserved currents; never more than its static share."""
    static = shares(limit, claims)
    room = limit - sum(claim.reserved for claim in claims if claim.reserved is not None)
    free = [i for i, claim in enumerate(claims) if claim.reserved is None]
    left = shares(max(room, 0.0), [claims[i] for i in free])
    for i, amps in zip(free, left, strict=True):
        static[i] = min(static[i], amps)
    return static


def could_draw(limits: Limits, *, is_live: bool) -> float:
    """Return the highest current in A that a charger could draw by itself, regardless of its share in a group.

    This is its setting or, if the setting is unknown, its ceiling; infinite if nothing is known. A charger without live
    readings may have restarted after a power failure, and then draws its offline current.
    """
    highest, _ = ceiling(replace(limits, load_group_limit=None))
    setting = limits.charging_current if limits.charging_current is not None else highest
    amps = inf if setting is None else setting
    if not is_live and limits.offline_current is not None:
        amps = max(amps, limits.offline_current)
    return amps if limits.unit_rating is None else min(amps, limits.unit_rating)


def offline_excess(spec: GroupSpec, known: Mapping[Key, Limits]) -> float:
    """Return the excess over the limit in A that all members could draw without ChargeKeeper; at least 0.

    A charger with an offline current falls back to it. Any other charger keeps the setting that the group gave it, but
    not a pause. The result is infinite if nothing is known of a member.
    """
    return max(sum(_draws_alone(spec, known).values()) - spec.limit, 0.0)


def stored_excess(spec: GroupSpec, known: Mapping[Key, Limits]) -> float:
    """Return the excess over the limit in A while some members run alone and the others draw their shares.

    A member that restarts draws its offline current until the first command. Its offline current must therefore not
    exceed its share. A member of which nothing is known counts with its share. The result is at least 0, and it is 0 if
    no member has an offline current.
    """
    if all(limits.offline_current is None for limits in known.values()):
        return 0.0
    alone = _draws_alone(spec, known)
    with_share = _draws_with_share(spec, known)
    amps = sum(max(amps, with_share[key]) if isfinite(amps) else with_share[key] for key, amps in alone.items())
    return max(amps - spec.limit, 0.0)


def _draws_alone(spec: GroupSpec, known: Mapping[Key, Limits]) -> dict[Key, float]:
    """Return the current in A that each member could draw without commands."""
    found: dict[Key, float] = {}
    for key, share in _shares_by_key(spec).items():
        limits = known.get(key, Limits())
        alone = limits.offline_current
        if alone is None and limits.charging_current is not None:
            alone = min(limits.charging_current, max(share, MINIMUM_CURRENT))
        found[key] = could_draw(replace(limits, charging_current=alone), is_live=True)
    return found


def _draws_with_share(spec: GroupSpec, known: Mapping[Key, Limits]) -> dict[Key, float]:
    """Return the current in A that each member could draw while its share is commanded."""
    return {
        key: could_draw(replace(known.get(key, Limits()), charging_current=share), is_live=True)
        for key, share in _shares_by_key(spec).items()
    }


def _shares_by_key(spec: GroupSpec) -> dict[Key, int]:
    amps = static_shares(spec)
    return {member.key: share for member, share in zip(spec.members, amps, strict=True)}
