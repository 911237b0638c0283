"""Restart: the guard for every combination of facts, and the restart watch for every sequence of statuses (I5)."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import NamedTuple

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.charger.restart import Facts, RestartWatch, availability, guard
from custom_components.chargekeeper.core.model import Outcome, RestartAvailability, Role, Status
from custom_components.chargekeeper.core.transport import Presence

READY = Facts(
    has_transport=True,
    over_cloud=True,
    supported=True,
    presence=Presence.ONLINE,
    status=Status.AVAILABLE,
    status_age=5,
    evidence_age=30,
    role=Role.ADMIN,
    since_last=None,
    watching=False,
    allow_while_charging=False,
)

BY_STATUS = {
    None: "status_unknown",
    Status.AVAILABLE: "available",
    Status.PLUGGED_IN: "available",
    Status.WAITING_SCHEDULE: "available",
    Status.WAITING_CAR: "available",
    Status.WAITING_POWER: "available",
    Status.PAUSED: "available",
    Status.CHARGING: "charging",
    Status.DISCHARGING: "charging",
    Status.COMPLETED: "available",
    Status.LOCKED: "available",
    Status.UPDATING: "updating",
    Status.RESTARTING: "restarting",
    Status.ERROR: "available",
    Status.OFFLINE: "offline",
}
"""The verdict on a restart by status alone, for an online charger."""

ASKED_AGES = {None: False, 0.0: True, 60.0: True, 60.1: False, 86400.0: False, float("nan"): False}
EVIDENCE_AGES = {None: False, 0.0: True, 600.0: True, 600.1: False, 86400.0: False, float("nan"): False}


def test_table_of_verdicts_covers_every_status() -> None:
    assert set(BY_STATUS) == {None, *Status}


def expected(facts: Facts, *, fresh: bool) -> str:
    """Return the expected verdict for a charger with a transport, a supported model and no earlier restart."""
    verdict = BY_STATUS[facts.status]
    if verdict == "restarting":
        return verdict
    if facts.presence is Presence.OFFLINE:
        return "offline"
    if verdict in {"offline", "updating"}:
        return verdict
    if facts.over_cloud and facts.role is Role.USER:
        return "needs_admin"
    if facts.presence is Presence.UNKNOWN or not fresh:
        return "status_unknown"
    if verdict == "charging" and facts.allow_while_charging:
        return "available"
    return verdict


def everything() -> Iterator[tuple[Facts, bool]]:
    """Yield every combination of status, presence, ages, transport, role and option; True if the ages are fresh."""
    for status, presence, asked, evidence, over_cloud, role, allow in product(
        BY_STATUS, Presence, ASKED_AGES, EVIDENCE_AGES, (True, False), (None, *Role), (True, False)
    ):
        facts = replace(
            READY,
            status=status,
            presence=presence,
            status_age=asked,
            evidence_age=evidence,
            over_cloud=over_cloud,
            role=role,
            allow_while_charging=allow,
        )
        fresh = ASKED_AGES[asked] and (not over_cloud or EVIDENCE_AGES[evidence])
        yield facts, fresh


def test_guard_and_availability_match_table_for_every_combination() -> None:
    count = 0
    for facts, fresh in everything():
        assert guard(facts) == expected(facts, fresh=fresh), facts
        assert availability(facts) == expected(facts, fresh=True), facts
        count += 1
    assert count == 15 * 3 * 6 * 6 * 2 * 5 * 2


def test_i5_restart_refused_while_updating_or_on_unknown_or_old_status() -> None:
    """I5: no restart while updating or on an unknown or old status, whatever the other facts are."""
    passed = set()
    for facts, fresh in everything():
        if guard(facts) is RestartAvailability.AVAILABLE:
            assert facts.status not in {None, Status.UPDATING, Status.RESTARTING, Status.OFFLINE}
            assert facts.presence is Presence.ONLINE
            assert fresh
            passed.add(facts.status)
    assert passed == set(Status) - {Status.UPDATING, Status.RESTARTING, Status.OFFLINE}


def test_i5_restart_refused_while_watched_or_within_10_minutes() -> None:
    """I5: no restart while the last one is watched or less than 10 min old, even if allowed while charging."""
    for status in (status for status in Status if BY_STATUS[status] in {"available", "charging"}):
        facts = replace(READY, status=status, allow_while_charging=True)
        assert guard(replace(facts, watching=True, since_last=5)) is RestartAvailability.RESTARTING
        assert guard(replace(facts, since_last=0)) is RestartAvailability.COOLING_DOWN
        assert guard(replace(facts, since_last=599.9)) is RestartAvailability.COOLING_DOWN
        assert guard(replace(facts, since_last=600)) is RestartAvailability.AVAILABLE


def test_refusal_gives_first_reason_in_fixed_order() -> None:
    """Of several reasons, the first of this list is given; every combination is tried."""
    reasons: tuple[tuple[str, dict[str, object]], ...] = (
        ("no_path", {"has_transport": False}),
        ("needs_link", {"supported": False, "linkable": True}),
        ("unsupported_model", {"supported": False}),
        ("restarting", {"watching": True}),
        ("offline", {"presence": Presence.OFFLINE}),
        ("updating", {"status": Status.UPDATING}),
        ("needs_admin", {"role": Role.USER}),
        ("status_unknown", {"status": None}),
        ("charging", {"status": Status.CHARGING}),
        ("cooling_down", {"since_last": 10.0}),
        ("checking", {"checking": True}),
    )
    for chosen in product((False, True), repeat=len(reasons)):
        applied = [reason for reason, on in zip(reasons, chosen, strict=True) if on]
        changes: dict[str, object] = {}
        for _, change in reversed(applied):  # a charger has one status: the status of the first reason
            changes |= change
        for plan in (False, True):
            facts = replace(READY, **changes, refused_by_plan=plan)  # type: ignore[arg-type]
            first = applied[0][0] if applied else "available"
            assert guard(facts) == first
            assert availability(facts) == ("needs_plan" if plan and not applied else first)


def test_role_required_only_over_cloud() -> None:
    facts = replace(READY, role=Role.USER)
    assert guard(facts) is RestartAvailability.NEEDS_ADMIN
    assert guard(replace(facts, over_cloud=False)) is RestartAvailability.AVAILABLE
    for role in (None, Role.OPERATOR, Role.ADMIN, Role.SUPER_ADMIN):
        assert guard(replace(facts, role=role)) is RestartAvailability.AVAILABLE


PRESS = 5000.0


class Look(NamedTuple):
    """An observation; its time and its evidence are in seconds after the press."""

    at: float
    away: bool = False
    updating: bool = False
    evidence: float | None = None


def watch_of(*looks: Look) -> RestartWatch:
    watch = RestartWatch(PRESS)
    for look in looks:
        evidence = None if look.evidence is None else PRESS + look.evidence
        watch.observe(PRESS + look.at, away=look.away, updating=look.updating, evidence_at=evidence)
    return watch


AWAY = Look(60, away=True)


@pytest.mark.parametrize(
    ("looks", "outcome"),
    [
        ((), None),
        ((Look(60, evidence=-20),), None),
        ((AWAY,), None),
        ((AWAY, Look(120)), None),  # seems back, without evidence yet
        ((AWAY, Look(120, evidence=60)), None),  # not newer than the absence
        ((AWAY, Look(120, evidence=61)), Outcome.VERIFIED),
        ((AWAY, Look(120), Look(140, evidence=110)), Outcome.VERIFIED),
        ((AWAY, Look(120, updating=True, evidence=110)), None),
        ((AWAY, Look(120, updating=True, evidence=110), Look(300)), Outcome.VERIFIED),
        ((Look(180, away=True), Look(600, evidence=599)), Outcome.VERIFIED),
        ((Look(180, away=True), Look(601, evidence=599)), None),
        ((Look(181, away=True), Look(300, evidence=299)), None),  # too late to be this restart
        ((Look(170), Look(190, evidence=180)), None),
        ((Look(190, evidence=181),), Outcome.UNVERIFIED),
        ((Look(240, updating=True, evidence=200),), Outcome.UNVERIFIED),
        ((Look(100, evidence=250),), None),  # evidence from a clock that is ahead proves nothing
        ((Look(240, evidence=185), AWAY._replace(at=250)), Outcome.UNVERIFIED),
        ((Look(-1, away=True), Look(100, evidence=90)), None),  # from before the press
        ((Look(601, evidence=600),), None),
    ],
)
def test_restart_watch_decides_outcome_from_observations(looks: tuple[Look, ...], outcome: Outcome | None) -> None:
    watch = watch_of(*looks)
    assert watch.outcome(PRESS + 599.9) == outcome
    assert watch.outcome(PRESS + 600) == (outcome or Outcome.FAILED)


def test_restart_outcome_is_final() -> None:
    watch = watch_of(AWAY)
    assert watch.outcome(PRESS + 600) is Outcome.FAILED
    watch.observe(PRESS + 600, away=False, updating=False, evidence_at=PRESS + 590)
    assert watch.outcome(PRESS + 601) is Outcome.FAILED
    watch = watch_of(AWAY, Look(120, evidence=110), Look(130, away=True))
    assert watch.outcome(PRESS + 9999) is Outcome.VERIFIED


@pytest.mark.parametrize(
    ("looks", "wanted"),
    [
        ((), False),
        ((Look(60),), False),
        ((AWAY,), False),
        ((AWAY, Look(120, updating=True)), False),
        ((AWAY, Look(120)), True),
        ((AWAY, Look(120, evidence=50)), True),
        ((AWAY, Look(120, evidence=110)), False),
        ((AWAY, Look(120), Look(180, away=True)), False),
        ((Look(180),), False),
        ((Look(240),), True),  # never away: evidence from after the 3 min is missing
        ((Look(240, evidence=100),), True),
        ((Look(240, evidence=200),), False),
        ((Look(240, away=True), Look(300)), False),  # away too late: the restart cannot be proven any more
    ],
)
def test_restart_watch_wants_status_only_when_useful(looks: tuple[Look, ...], wanted: bool) -> None:
    assert watch_of(*looks).wants_status is wanted


def test_restart_watch_wants_no_status_after_end() -> None:
    watch = watch_of(AWAY, Look(120))
    wanted = [watch.wants_status]
    watch.outcome(PRESS + 600)
    assert [*wanted, watch.wants_status] == [True, False]


def test_restart_watch_continues_after_restart_of_home_assistant() -> None:
    assert watch_of(AWAY).away_at == PRESS + 60
    watch = RestartWatch(PRESS, PRESS + 60)
    assert (watch.pressed_at, watch.away_at) == (PRESS, PRESS + 60)
    wanted = [watch.wants_status]
    watch.observe(PRESS + 130, away=False, updating=False, evidence_at=None)
    assert [*wanted, watch.wants_status] == [False, True]
    watch.observe(PRESS + 150, away=True, updating=False, evidence_at=None)
    assert watch.away_at == PRESS + 60
    watch.observe(PRESS + 200, away=False, updating=False, evidence_at=PRESS + 190)
    assert watch.outcome(PRESS + 200) is Outcome.VERIFIED


def test_restart_watch_resumed_too_late_has_failed() -> None:
    assert RestartWatch(PRESS).outcome(PRESS + 5000) is Outcome.FAILED


looks_in_order = st.lists(
    st.builds(
        Look,
        st.integers(-30, 700),
        st.booleans(),
        st.booleans(),
        st.none() | st.integers(-300, 800),
    ),
    max_size=12,
).map(lambda looks: sorted(looks, key=lambda look: look.at))


def judged_at_the_end(looks: list[Look]) -> Outcome:
    """Return the outcome judged from the whole sequence at once."""
    counted = [look for look in looks if 0 <= look.at <= 600]
    went = min((look.at for look in counted if look.away), default=None)

    def newest(until: int) -> float:
        return max((min(k.evidence, k.at) for k in counted[: until + 1] if k.evidence is not None), default=-999)

    if went is not None and went <= 180:
        first = next(i for i, look in enumerate(counted) if look.away)
        back = any(
            not look.away and not look.updating and newest(i) > went for i, look in enumerate(counted) if i > first
        )
        return Outcome.VERIFIED if back else Outcome.FAILED
    first_away = next((i for i, look in enumerate(counted) if look.away), len(counted))
    seen = any(newest(i) > 180 for i in range(first_away))
    return Outcome.UNVERIFIED if seen else Outcome.FAILED


@given(looks_in_order)
def test_restart_outcome_matches_judgment_of_whole_sequence(looks: list[Look]) -> None:
    watch = watch_of(*looks)
    end = judged_at_the_end(looks)
    assert watch.outcome(PRESS + 599) == (None if end is Outcome.FAILED else end)
    assert not (watch.wants_status and end is not Outcome.FAILED)
    assert watch.outcome(PRESS + 700) == end
