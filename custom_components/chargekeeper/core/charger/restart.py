"""Decide whether a restart may be sent (the guard) and whether it worked (the watch). Pure: no input or output."""

from dataclasses import dataclass

from ..model import POWER_FLOWS, Outcome, RestartAvailability, Role, Status
from ..transport import Presence

STATUS_FRESH = 60.0
"""Highest age in seconds of a status that still permits a restart."""

EVIDENCE_FRESH = 600.0
"""Highest age in seconds of the charger's own last report over the cloud. An answer of the cloud alone is not
enough."""

COOLING_DOWN = 600.0
"""Seconds between two restarts."""

AWAY_WITHIN = 180.0
"""Maximum seconds from the press until a report shows that the restarting charger is away. About 10 s is usual
(docs/protocols/wallbox-cloud.md, section 6.4)."""

BACK_WITHIN = 600.0
"""Maximum seconds from the press until the charger is back. About 2 min is usual; 5 min were seen
(docs/protocols/wallbox-cloud.md, section 6.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All facts that decide on a restart. Ages are in seconds; None if the event never happened."""

    has_transport: bool  # a usable transport can carry a restart
    over_cloud: bool  # that transport is the cloud
    supported: bool  # the model can be restarted over that transport
    presence: Presence  # what that transport last reported
    status: Status | None  # None: unknown, ambiguous (Wallbox 163) or expired
    status_age: float | None  # since that transport last received a status
    evidence_age: float | None  # since the charger itself last reported
    role: Role | None  # of the signed-in account; None: unknown
    since_last: float | None  # since the last restart was sent
    watching: bool  # the last restart is still being watched
    allow_while_charging: bool  # the user's option
    refused_by_plan: bool = False  # the cloud refused the last restart, perhaps because of the plan
    checking: bool = False  # another press waits for its status read
    linkable: bool = False  # the user may link an entity that restarts the charger
    at_rest: bool = False  # that transport sees that no power flows, even if the charger is silent
    updating: bool = False  # a transport reported a firmware update that still counts
    update_doubted: bool = False  # a transport reported an update hours ago, but not its end
    flowing: bool = False  # a transport reported that power flows, and the report still counts


def availability(facts: Facts) -> RestartAvailability:
    """Return `AVAILABLE` if a press would probably succeed, otherwise the reason why not, for display.

    The status may be older than the guard accepts.
    """
    verdict = _judge(facts, status_good=True)
    if verdict is RestartAvailability.AVAILABLE and facts.refused_by_plan:
        return RestartAvailability.NEEDS_PLAN
    return verdict


def guard(facts: Facts) -> RestartAvailability:
    """Return `AVAILABLE` if a restart may be sent now (invariant I5), otherwise the reason to refuse it.

    The facts must come from a status read for this restart; an older status yields `STATUS_UNKNOWN`. An earlier refusal
    by the cloud does not count: the plan may have changed, and the cloud decides. The press that waited for the status
    read must not set `checking`.
    """
    recently_read = facts.status_age is not None and facts.status_age <= STATUS_FRESH
    recently_reported = facts.evidence_age is not None and facts.evidence_age <= EVIDENCE_FRESH
    return _judge(facts, status_good=recently_read and (recently_reported or not facts.over_cloud))


def _judge(facts: Facts, *, status_good: bool) -> RestartAvailability:
    """Return the first reason to refuse. Reasons that say more or last longer come first.

    The status `error` is no reason to refuse a restart.
    """
    known = facts.status is not None and facts.presence is not Presence.UNKNOWN and status_good
    unknown = facts.update_doubted or not (known or facts.at_rest)
    flowing = facts.flowing or facts.status in POWER_FLOWS
    reasons = (
        (RestartAvailability.NO_TRANSPORT, not facts.has_transport),
        (RestartAvailability.NEEDS_LINK, not facts.supported and facts.linkable),
        (RestartAvailability.UNSUPPORTED_MODEL, not facts.supported),
        (RestartAvailability.RESTARTING, facts.watching or facts.status is Status.RESTARTING),
        (RestartAvailability.OFFLINE, facts.presence is Presence.OFFLINE or facts.status is Status.OFFLINE),
        (RestartAvailability.UPDATING, facts.updating or facts.status is Status.UPDATING),
        (RestartAvailability.NEEDS_ADMIN, facts.over_cloud and facts.role is Role.USER),
        (RestartAvailability.STATUS_UNKNOWN, unknown),
        (RestartAvailability.CHARGING, flowing and not facts.allow_while_charging),
        (RestartAvailability.COOLING_DOWN, facts.since_last is not None and facts.since_last < COOLING_DOWN),
        (RestartAvailability.CHECKING, facts.checking),
    )
    return next((reason for reason, applies in reasons if applies), RestartAvailability.AVAILABLE)


class RestartWatch:
    """Judges one restart by what transports report afterwards. All times are monotonic.

    `VERIFIED`: the charger was seen away within 3 min of the press, and back within 10 min. `UNVERIFIED`: the charger
    was never seen away, but reported after the 3 min; it may have restarted between two observations. `FAILED`:
    anything else once the 10 min are over. That includes a charger that went away later than a restart explains.
    """

    def __init__(self, pressed_at: float, away_at: float | None = None) -> None:
        """Begin a watch, or continue one after a restart of Home Assistant.

        Args:
            pressed_at: when the restart was sent; may lie in the past.
            away_at: when the charger was first seen away; None if it was not yet.
        """
        self._pressed_at = pressed_at
        self._away_at = away_at
        self._present = False
        self._evidence_at = pressed_at
        self._seen_at = pressed_at
        self._outcome: Outcome | None = None

    @property
    def pressed_at(self) -> float:
        """When the restart was sent."""
        return self._pressed_at

    @property
    def away_at(self) -> float | None:
        """When the charger was first seen away after the restart was sent; None if it was not."""
        return self._away_at

    @property
    def wants_status(self) -> bool:
        """True if the charger seems to be back, and only its own report is missing for the outcome.

        The charger must be back from its restart. If it was never seen away, the 3 min must be over.
        """
        if self._outcome is not None or not self._present:
            return False
        if self._away_at is None:
            return self._seen_at > self._pressed_at + AWAY_WITHIN
        return self._away_in_time

    @property
    def _away_in_time(self) -> bool:
        return self._away_at is not None and self._away_at <= self._pressed_at + AWAY_WITHIN

    def observe(self, at: float, *, away: bool, updating: bool, evidence_at: float | None) -> None:
        """Record one observation of the charger.

        Args:
            at: when it was made. Observations from before the press, or more than 10 min after it, do not count.
            away: True if the charger is offline in the cloud, or the local link is lost.
            updating: True if the firmware is being replaced, so that the charger is not back yet.
            evidence_at: when the charger itself last reported (`last_sync`, a local answer), if known.
        """
        if self._outcome is not None or not self._pressed_at <= at <= self._pressed_at + BACK_WITHIN:
            return
        self._seen_at = at
        self._present = not away and not updating
        if away and self._away_at is None:
            self._away_at = at
        if evidence_at is not None:  # the charger's clock may be ahead of this one
            self._evidence_at = max(self._evidence_at, min(evidence_at, at))
        self._outcome = self._judge()

    def outcome(self, now: float) -> Outcome | None:
        """Return `VERIFIED`, `UNVERIFIED` or `FAILED`, final once returned; None while the watch continues."""
        if self._outcome is None and now >= self._pressed_at + BACK_WITHIN:
            self._outcome = Outcome.FAILED
        return self._outcome

    def _judge(self) -> Outcome | None:
        if self._away_at is None:
            reported_later = self._evidence_at > self._pressed_at + AWAY_WITHIN
            return Outcome.UNVERIFIED if reported_later else None
        back = self._present and self._evidence_at > self._away_at
        return Outcome.VERIFIED if back and self._away_in_time else None
