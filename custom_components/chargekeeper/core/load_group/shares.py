"""Who may draw how much in a load group: static shares, what is left of them while a member is not heard, bad groups.

All pure: what the group does about it is in `group.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, inf, isfinite

from ..limits import MINIMUM_CURRENT, Limits, ceiling
from ..model import Maker

HIGHEST_LIMIT = 1000.0
"""Amperes per phase; a higher limit is a slip of the finger."""

type Key = tuple[Maker, str]
"""A charger: maker and serial."""


class GroupError(ValueError):
    """A group that cannot be. `reason` is a slug from which the user's text is chosen."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Member:
    """A charger of a group. Of two members, one of twice the weight gets twice the share."""

    key: Key
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group as its entry describes it: `limit` in A per phase; the order of the members says who pauses last.

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


@dataclass(frozen=True, slots=True)
class Claim:
    """What the division needs to know of a member.

    `bound` is what it may draw whatever it is told (A, infinite where nothing is known), None where it does as it is
    told. `wants` is false where it is seen that no car is there. `least` is the smallest share that is of use to it, A.
    """

    weight: float
    wants: bool = True
    bound: float | None = None
    least: int = MINIMUM_CURRENT


def shares(amps: float, claims: Sequence[Claim]) -> list[int]:
    """Divide a current into whole amperes by weight; nobody gets less than is of use to it, some then get nothing.

    Those get something that come first in order, the ones with a car before the ones without. The rest is dealt out one
    by one to whoever is furthest behind its weight, so that a higher current never makes a share smaller, as long as
    all need the same.

    Args:
        amps: what there is, A; less than nothing is nothing.
        claims: the members in the order of the group; `bound` does not matter here.
    """
    whole = max(floor(amps), 0)
    result = [0] * len(claims)
    left = whole
    for i in sorted(range(len(claims)), key=lambda i: not claims[i].wants):
        if claims[i].least <= left:
            result[i] = claims[i].least
            left -= claims[i].least
    served = [i for i, amps in enumerate(result) if amps]
    for _ in range(left if served else 0):
        result[min(served, key=lambda i: (result[i] + 1) / claims[i].weight)] += 1
    return result


def allocate(limit: float, claims: Sequence[Claim]) -> list[int]:
    """What each member may be given in view of those that are bound; in A, never more than its static share."""
    static = shares(limit, claims)
    room = limit - sum(claim.bound for claim in claims if claim.bound is not None)
    free = [i for i, claim in enumerate(claims) if claim.bound is None]
    left = shares(max(room, 0.0), [claims[i] for i in free])
    for i, amps in zip(free, left, strict=True):
        static[i] = min(static[i], amps)
    return static


def could_draw(limits: Limits, *, heard: bool) -> float:
    """The most a charger could draw by itself (A): its setting, or all its installation allows where that is unknown.

    One that is not heard may have lost its power meanwhile, and then starts with its offline current. The share in a
    group does not count here; infinite where nothing is known.
    """
    highest, _ = ceiling(replace(limits, load_group_limit=None))
    setting = limits.charging_current if limits.charging_current is not None else highest
    amps = inf if setting is None else setting
    if not heard and limits.offline_current is not None:
        amps = max(amps, limits.offline_current)
    return amps if limits.unit_rating is None else min(amps, limits.unit_rating)


def offline_excess(spec: GroupSpec, known: Mapping[Key, Limits]) -> float:
    """By how much (A) the members left alone could exceed the limit, when the group has been in force; 0 where not.

    A charger with a stored offline current falls back to that. Any other keeps the setting that the group leaves it,
    which no pause outlives. Infinite where nothing is known of a member.
    """
    return max(sum(_alone(spec, known).values()) - spec.limit, 0.0)


def stored_excess(spec: GroupSpec, known: Mapping[Key, Limits]) -> float:
    """By how much (A) members could exceed the limit while some are left alone and the others draw their shares.

    One that starts beside the others draws its offline current until it is told otherwise, so that this must not be
    above its share. One of which nothing is known counts with its share; 0 where none has a stored offline current.
    """
    if all(limits.offline_current is None for limits in known.values()):
        return 0.0
    alone = _alone(spec, known)
    told = _told(spec, known)
    amps = sum(max(amps, told[key]) if isfinite(amps) else told[key] for key, amps in alone.items())
    return max(amps - spec.limit, 0.0)


def _alone(spec: GroupSpec, known: Mapping[Key, Limits]) -> dict[Key, float]:
    """What each member could draw when it is left alone, A."""
    found: dict[Key, float] = {}
    for key, share in _shares(spec).items():
        limits = known.get(key, Limits())
        alone = limits.offline_current
        if alone is None and limits.charging_current is not None:
            alone = min(limits.charging_current, max(share, MINIMUM_CURRENT))
        found[key] = could_draw(replace(limits, charging_current=alone), heard=True)
    return found


def _told(spec: GroupSpec, known: Mapping[Key, Limits]) -> dict[Key, float]:
    """What each member could draw while it is told its share, A."""
    return {
        key: could_draw(replace(known.get(key, Limits()), charging_current=share), heard=True)
        for key, share in _shares(spec).items()
    }


def _shares(spec: GroupSpec) -> dict[Key, int]:
    """The static share of each member, A."""
    amps = shares(spec.limit, [Claim(member.weight) for member in spec.members])
    return {member.key: share for member, share in zip(spec.members, amps, strict=True)}
