"""One member of a load group: what it may draw, what its share requires of it, and whether it follows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil, floor, inf
from typing import Protocol

from ..cooldown import RAISE_SPACING, START_SPACING
from ..errors import ChargerError, NotAllowed, NotApplicable, TransportDown, Unsupported
from ..limits import MINIMUM_CURRENT, Limits, ceiling
from ..model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    PAUSE_OVER,
    STATUS,
    Capability,
    Identity,
    Outcome,
    Snapshot,
    Status,
)
from ..transport import START, STOP, SetCurrent, Setting
from .measured import MeasuredExcess, measured_current
from .shares import Claim, could_draw

REDUCE_AGAIN_AFTER = 60.0
"""Seconds after which a reduction without effect is commanded again. The delay doubles with each refusal."""

MAX_DOUBLINGS = 3
"""Number of refusals in a row that double the delay."""

FAILURES_TO_PAUSE = 2
"""Number of failures in a row of a lower current, whatever the reason, after which the member is paused instead."""

IDLE_STATUSES = frozenset({Status.AVAILABLE, Status.PAUSED, Status.LOCKED})
"""Statuses in which no car can draw current until a user, a car or a controller acts."""

IGNORED_AFTER = 180.0
"""Seconds after which a reduction that does not show counts as ignored, even if it may still be on its way."""


class GroupMember(Protocol):
    """The interface of a charger that a load group uses."""

    group_share: float | None
    """The share in A: part of the ceiling and of `load_group_limit`. None outside a group."""
    group_room: Callable[[], float]
    """Returns the current in A that the other members leave (see `LoadGroup.room`)."""
    group_paused: bool
    """True while the group pauses the charger. The user's override waits until the group lifts the pause."""

    @property
    def identity(self) -> Identity:
        """The identity of the charger."""

    @property
    def snapshot(self) -> Snapshot:
        """The latest snapshot of the charger."""

    @property
    def in_flight(self) -> bool:
        """True while a command is queued or being sent, or may still take effect unconfirmed."""

    def listen(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each new snapshot. Return a function that removes the listener."""

    async def command(self, setting: Setting, *, automatic: bool = False) -> Outcome:
        """Carry out a setting; `automatic` is True if the user did not request it. Raises ChargerError."""

    async def lift_pause(self) -> Outcome:
        """End a pause of the group; the schedule or the user's override applies again. Raises ChargerError."""


@dataclass(slots=True)
class MemberState:
    """One member: its share, its setting before the group lowered it, and its readings at the last refresh.

    Persisted are the share, `lowered_from`, `lowered_to`, `paused`, `highest_when_silent` and the offline current of
    `limits`. All currents are in A.
    """

    weight: float
    start_preventable: bool  # without a share it is held at 0 A; any other member can be started elsewhere with 6 A
    share: int
    current_set_at: float
    switched_at: float
    member: GroupMember | None = None
    limits: Limits | None = None  # at the last refresh
    remove_listener: Callable[[], None] = lambda: None
    lowered_from: int | None = None  # the setting before the group lowered it
    lowered_to: int | None = None  # the setting that the group commanded instead
    paused: bool = False  # by the group
    highest_when_silent: float = inf  # counted while the member is not live
    highest_pending: float = 0.0  # the highest setting that a command in flight may cause
    is_live: bool = False
    wants_current: bool = True
    is_idle: bool = False
    in_flight: bool = False
    is_adjustable: bool = True  # False: only a pause lowers its current
    can_pause: bool = False
    knows_setting: bool = True  # False: only a pause is safe, since any current could be a raise
    defies: bool = False  # it refused or ignored a lower current, and still has the higher one
    excess: MeasuredExcess = field(default_factory=MeasuredExcess)
    overdrawn: float = 0.0  # the highest current measured above its setting, until its car keeps to the setting
    resumed_with: int | None = None  # the share with which it resumed after the last pause by the group
    regained: float = 0.0  # the setting that it restored by itself after it had resumed with less
    status: Status | None = None
    current_setting: float = inf
    possible_current: float = inf  # the setting that it has or may get
    target: int = 0
    is_sending: bool = False
    refusals: int = 0  # since the last accepted command
    failures: int = 0  # the same, with the commands that no connection carried
    # The last commanded reductions, with their monotonic times.
    attempts: dict[Capability, tuple[Setting, float]] = field(default_factory=dict)

    def refresh(self) -> None:
        """Update all attributes that depend on the member's snapshot."""
        if self.member is None:
            self.is_live = self.is_idle = self.in_flight = False
            self.wants_current = True
            self.possible_current = max(self.highest_when_silent, self.highest_pending)
            return
        snapshot = self.member.snapshot
        limits = Limits.of(snapshot.readings)
        if limits.offline_current is None and self.limits is not None:
            # The last known offline current counts until the restarted charger reports its offline current.
            limits = replace(limits, offline_current=self.limits.offline_current)
        self.limits = limits
        shown = snapshot.readings.get(CHARGING_CURRENT)
        self.status = snapshot.value(STATUS)
        is_known = shown is not None and shown.is_reported and limits.charging_current is not None
        became_unknown = limits.charging_current is None and self.status is not None
        self.is_live = (is_known or became_unknown) and snapshot.connection_path is not None
        self.wants_current = not self.is_live or snapshot.value(CAR_CONNECTED) is not False
        self.is_idle = self.is_live and (not self.wants_current or self.status in IDLE_STATUSES)
        self.in_flight = self.member.in_flight
        self.current_setting = could_draw(limits, is_live=True)
        self._measure(snapshot)
        self.can_pause = Capability.CHARGING in snapshot.capabilities
        has_current = Capability.CURRENT in snapshot.capabilities
        only_paused = self.can_pause and (not has_current or not is_known or self.overdrawn > 0)
        self.is_adjustable = not self.is_live or not only_paused
        self.knows_setting = is_known
        if self.resumed_with is not None and not has_current and self.resumed_with < self.current_setting < inf:
            self.regained = self.current_setting
        self.possible_current = max(self.current_setting, self.excess.amps)
        if self.in_flight or not self.is_live:
            # A command that was sent before the charger fell silent may have taken effect since.
            known = could_draw(limits, is_live=self.is_live)
            self.possible_current = max(known, self.excess.amps, self.highest_pending)
        self.highest_pending = max(self.possible_current, self.share)
        self.highest_when_silent = max(could_draw(limits, is_live=False), self.highest_pending)

    def _measure(self, snapshot: Snapshot) -> None:
        """Compare the measured current with the setting."""
        if self.is_live:
            self.excess.update(self.current_setting, measured_current(snapshot.readings))
        if self.excess.amps > 0:
            self.overdrawn = max(self.overdrawn, self.excess.amps)
        elif self.excess.is_within or not self.wants_current:
            self.overdrawn = 0.0

    @property
    def possible_draw(self) -> float:
        """The current in A that the member may draw without a further command.

        A member that only a pause lowers draws nothing while paused; as little as a car can where anybody may start it.
        """
        is_idle = self.is_idle and not self.in_flight
        if is_idle and not self.is_adjustable and self.start_preventable:
            return 0.0
        if is_idle and self.status is Status.PAUSED and (self.defies or not self.is_adjustable):
            return 0.0 if self.start_preventable else MINIMUM_CURRENT
        return self.possible_current

    @property
    def counted_current(self) -> float:
        """The current in A with which the member counts.

        It is 0 only while the member is idle, has no share, needs no reduction, and its start can be prevented.
        """
        is_off = self.start_preventable and self.is_idle and self.share == 0
        draws_nothing = is_off and not self.in_flight and not self.needed_reductions()
        return 0.0 if draws_nothing else max(self.possible_draw, self.share)

    def claim(self, *, reserved: bool) -> Claim:
        """Return the input for the division; `reserved` is True if the member may not follow commands."""
        needed = max(MINIMUM_CURRENT, self.regained, self.overdrawn)
        minimum = MINIMUM_CURRENT if self.is_adjustable else ceil(needed)
        exceeds = self.is_adjustable and self.excess.amps > 0  # and nothing lowers it
        amps = max(self.possible_draw, self.share) if reserved or exceeds else None
        return Claim(self.weight, self.wants_current, amps, minimum, self.start_preventable)

    def set_share(self, amps: int) -> None:
        """Set the member's share in A."""
        self.share = amps
        self.highest_pending = max(self.highest_pending, amps)
        self.push_to_member()

    def set_paused(self, *, paused: bool) -> None:
        """Record whether the group pauses the member."""
        if paused != self.paused:
            self.paused = paused
            self.push_to_member()

    def push_to_member(self) -> None:
        """Pass the share and the pause to the member's charger."""
        if self.member is not None:
            self.member.group_share = self.share
            self.member.group_paused = self.paused

    @property
    def retry_delay(self) -> float:
        """Seconds until a reduction is commanded again; the delay grows with consecutive refusals."""
        return REDUCE_AGAIN_AFTER * (1 << min(self.refusals, MAX_DOUBLINGS))

    def needed_reductions(self) -> list[Setting]:
        """Return the commands that are needed to lower the member to its target."""
        if not self.is_live:
            return []
        lowest = max(self.target, MINIMUM_CURRENT)
        if not self.is_adjustable:
            is_above = max(self.current_setting, self.excess.amps) > self.target
            return [STOP] if is_above and not self.is_idle else []
        lowers = self.knows_setting and self.current_setting > lowest
        pauses = self.target == 0 or (lowers and self.defies and self.can_pause)
        pause: list[Setting] = [STOP] if pauses and not self.is_idle else []
        return [*pause, SetCurrent(lowest)] if lowers else pause

    def record_refusal(self, setting: Setting, error: ChargerError) -> None:
        """Record a command that failed. A member that does not take a lower current is paused.

        Only refusals lengthen the delay: a connection that failed is tried again soon.
        """
        self.failures += 1
        self.refusals += not isinstance(error, TransportDown)
        if isinstance(setting, SetCurrent) and setting.amps < self.current_setting:
            is_refused = isinstance(error, NotAllowed | NotApplicable | Unsupported)
            self.defies |= is_refused or self.failures >= FAILURES_TO_PAUSE

    def check_defiance(self, now: float) -> None:
        """Find out if the member ignores a lower current, or no longer does."""
        lowered = [setting for setting in self.needed_reductions() if isinstance(setting, SetCurrent)]
        is_ignored = bool(lowered) and self.failures == 0 and self._has_ignored(lowered[0], now)
        self.defies = bool(lowered) and (self.defies or is_ignored)

    def ignores_target(self, now: float) -> bool:
        """Return True if commanded reductions to the present target had no effect, a pause included if one is due."""
        needed = self.needed_reductions()
        return bool(needed) and self._has_ignored(needed[0], now)

    def _has_ignored(self, setting: Setting, now: float) -> bool:
        """Return True if this needed reduction was commanded, and should show by now."""
        attempted, at = self.attempts.get(setting.capability, (None, now))
        settled = not self.is_sending and (not self.in_flight or now >= at + IGNORED_AFTER)
        return settled and attempted == setting

    def clear_finished(self) -> None:
        """Forget reductions that took effect, a pause that ended, and a lowered setting after an external change."""
        needed = {setting.capability for setting in self.needed_reductions()}
        for capability in self.attempts.keys() - needed:
            del self.attempts[capability]
        if not self.is_live or self.is_sending or self.in_flight:
            return
        if self.status in PAUSE_OVER:
            self.set_paused(paused=False)
        changed = self.lowered_from is not None and (
            self.current_setting != self.lowered_to or self.current_setting >= self.lowered_from
        )
        if changed and Capability.CURRENT not in needed:
            self.lowered_from = self.lowered_to = None

    def restoration(self) -> tuple[Setting, float] | None:
        """Return the command that undoes a pause or a reduction by the group, and its earliest monotonic time."""
        if (
            not self.is_live
            or self.is_sending
            or self.in_flight
            or self.target != self.share
            or self.needed_reductions()
        ):
            return None
        least = 0.0 if self.is_adjustable else max(self.current_setting, self.regained)
        if self.paused and self.status is Status.PAUSED and self.share > 0 and self.share >= least:
            return START, self.switched_at + max(START_SPACING, self.retry_delay)
        if self.lowered_from is not None and self.member is not None and self.is_adjustable:
            highest, _ = ceiling(Limits.of(self.member.snapshot.readings))
            amps = min(self.lowered_from, self.share, self.lowered_from if highest is None else floor(highest))
            if amps > self.current_setting:
                return SetCurrent(amps), self.current_set_at + max(RAISE_SPACING, self.retry_delay)
        return None
