"""Restart: whether it may be sent (the guard), and whether it worked (the watch). Pure, no input or output."""

from dataclasses import dataclass

from ..model import POWER_FLOWS, Outcome, RestartAvailability, Role, Status
from ..transport import Presence

STATUS_FRESH = 60.0
"""Seconds: a restart is sent on a status that its path told at most this long ago."""

EVIDENCE_FRESH = 600.0
"""Seconds: over the cloud the charger itself must have reported within this time, not only the cloud."""

COOLING_DOWN = 600.0
"""Seconds between two restarts."""

AWAY_WITHIN = 180.0
"""Seconds after the press within which a charger that restarts is seen to be away (about 10 s is usual;
docs/protocols/wallbox-cloud.md, section 6.4)."""

BACK_WITHIN = 600.0
"""Seconds after the press within which it is back (about 2 min is usual, 5 min were seen;
docs/protocols/wallbox-cloud.md, section 6.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that decides on a restart; ages in seconds, None where there never was such a moment."""

    has_transport: bool  # some usable path can carry a restart
    over_cloud: bool  # it is the cloud
    supported: bool  # the model can be restarted on that path
    presence: Presence  # the last word of that path
    status: Status | None  # None: unknown, ambiguous (Wallbox 163) or too old to be shown
    status_age: float | None  # since that path last told a status
    evidence_age: float | None  # since the charger itself showed it
    role: Role | None  # of the signed-in account, None: not known
    since_last: float | None  # since the last restart was sent
    watching: bool  # the last restart is not over yet
    allow_while_charging: bool  # an option of the user
    refused_by_plan: bool = False  # the cloud refused the last restart, perhaps for the plan
    checking: bool = False  # another press still waits for its status
    linkable: bool = False  # the user may link what restarts it
    at_rest: bool = False  # that path sees that no power flows, whether or not the charger tells anything
    updating: bool = False  # some path reported a firmware update, and that counts
    update_doubted: bool = False  # some path reported one hours ago, and never its end
    flowing: bool = False  # some path reported that power flows, and that counts


def availability(facts: Facts) -> RestartAvailability:
    """What to show: whether a press would probably be obeyed. The status may be older than the guard accepts."""
    verdict = _judge(facts, status_good=True)
    if verdict is RestartAvailability.AVAILABLE and facts.refused_by_plan:
        return RestartAvailability.NEEDS_PLAN
    return verdict


def guard(facts: Facts) -> RestartAvailability:
    """Whether a restart may be sent now (invariant I5); anything but `AVAILABLE` refuses it.

    The facts must come from a status read for this restart; an older one reads `STATUS_UNKNOWN`. An earlier refusal by
    the cloud does not count: the plan may have changed, and the cloud decides. `checking` is not to be set by the
    press that waited for the check itself.
    """
    recently_read = facts.status_age is not None and facts.status_age <= STATUS_FRESH
    recently_reported = facts.evidence_age is not None and facts.evidence_age <= EVIDENCE_FRESH
    return _judge(facts, status_good=recently_read and (recently_reported or not facts.over_cloud))


def _judge(facts: Facts, *, status_good: bool) -> RestartAvailability:
    """The first reason to refuse. What tells more, or lasts longer, comes first; `error` is no reason."""
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
    """What became of one restart, judged by what is seen of the charger afterwards. All moments are monotonic.

    Seen away within 3 min of the press and back within 10 min is `VERIFIED`. Never seen away, but heard of from after
    the 3 min is `UNVERIFIED`: it may have restarted between two looks. All else is `FAILED`, once the 10 min are over;
    that includes a charger that went away later than a restart explains.
    """

    def __init__(self, pressed_at: float, away_at: float | None = None) -> None:
        """Begin a watch, or go on with one after a restart of Home Assistant.

        Args:
            pressed_at: when the restart was sent; may lie in the past.
            away_at: when the charger was first seen away, if it was already.
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
        """When the charger was first seen away since, or None."""
        return self._away_at

    @property
    def wants_status(self) -> bool:
        """Whether the charger seems to be there, and only its own word is missing to end the watch well.

        That is the case when it came back, and when it never went away and the 3 min are over.
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
        """Take note of a look at the charger.

        Args:
            at: when it was seen so; looks from before the press or more than 10 min after it do not count.
            away: offline in the cloud, or the local link lost.
            updating: its firmware is being replaced, so it is not back yet.
            evidence_at: when the charger itself last showed something (`last_sync`, a local answer), if known.
        """
        if self._outcome is not None or not self._pressed_at <= at <= self._pressed_at + BACK_WITHIN:
            return
        self._seen_at = at
        self._present = not away and not updating
        if away and self._away_at is None:
            self._away_at = at
        if evidence_at is not None:  # the charger's clock may be ahead of ours
            self._evidence_at = max(self._evidence_at, min(evidence_at, at))
        self._outcome = self._judge()

    def outcome(self, now: float) -> Outcome | None:
        """`VERIFIED`, `UNVERIFIED` or `FAILED`, final once told; None while the watch goes on."""
        if self._outcome is None and now >= self._pressed_at + BACK_WITHIN:
            self._outcome = Outcome.FAILED
        return self._outcome

    def _judge(self) -> Outcome | None:
        if self._away_at is None:
            reported_later = self._evidence_at > self._pressed_at + AWAY_WITHIN
            return Outcome.UNVERIFIED if reported_later else None
        back = self._present and self._evidence_at > self._away_at
        return Outcome.VERIFIED if back and self._away_in_time else None
