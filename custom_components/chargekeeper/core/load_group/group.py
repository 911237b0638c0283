"""A local load group: chargers of any manufacturer on one circuit, each with a static share of its limit.

`shares.py` calculates the shares; this module enforces them. A share grows only after the other members are seen to
leave room. A member without live readings counts with the highest current that it could draw.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
import logging
from math import ceil, floor, inf, isfinite
from typing import Protocol

from ..charger import unlimited
from ..clock import Clock
from ..coerce import number
from ..cooldown import RAISE_SPACING, START_SPACING
from ..errors import ChargerError, NotSaved
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
    Source,
    Status,
)
from ..signal import subscribe
from ..transport import START, STOP, SetCurrent, Setting
from .shares import Claim, GroupSpec, Key, allocate, could_draw, shares, stored_excess

LOGGER = logging.getLogger(__name__)

REDUCE_AGAIN_AFTER = 60.0
"""Seconds after which a reduction without effect is commanded again. The delay doubles with each refusal."""

MAX_DOUBLINGS = 3
"""Number of refusals in a row that double the delay."""

REFRESH_AFTER = 20.0
"""Seconds between two refreshes while a command or a raise is due: not every result changes a snapshot."""

IDLE_STATUSES = frozenset({Status.AVAILABLE, Status.PAUSED, Status.LOCKED})
"""Statuses in which no car can draw current until a user, a car or a controller acts."""


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


@dataclass(frozen=True, slots=True)
class GroupView:
    """The state of the group that its device shows; all currents are in A.

    Attributes:
        allocated: the current that all members may draw together; None while nothing is known of a member.
        headroom: the limit minus `allocated`; negative while the members exceed the limit.
        shares: the share of each member.
        offline_currents: the last known offline current of each member that has one.
        stored_excess: see `shares.stored_excess`.
    """

    allocated: float | None
    headroom: float | None
    shares: Mapping[Key, int]
    offline_currents: Mapping[Key, float] = field(default_factory=dict)
    stored_excess: float = 0.0


@dataclass(slots=True)
class _MemberState:
    """One member: its share, its setting before the group lowered it, and its readings at the last refresh.

    Persisted are `lowered_from`, `lowered_to`, `paused`, `highest_when_silent` and the offline current of `limits`.
    All currents are in A.
    """

    weight: float
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
    resumed_with: int | None = None  # the share with which it resumed after the last pause by the group
    regained: float = 0.0  # the setting that it restored by itself after it had resumed with less
    status: Status | None = None
    current_setting: float = inf
    possible_current: float = inf  # the setting that it has or may get
    target: int = 0
    is_sending: bool = False
    refusals: int = 0  # since the last accepted command
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
        # Cached values, and cloud values without evidence of life, do not count as live.
        current_shown = shown is not None and shown.source is not Source.CACHE and shown.observed_mono > -inf
        self.is_live = current_shown and limits.charging_current is not None and snapshot.connection_path is not None
        only_paused = Capability.CHARGING in snapshot.capabilities and Capability.CURRENT not in snapshot.capabilities
        self.is_adjustable = not self.is_live or not only_paused
        self.status = snapshot.value(STATUS)
        self.wants_current = not self.is_live or snapshot.value(CAR_CONNECTED) is not False
        self.is_idle = self.is_live and (not self.wants_current or self.status in IDLE_STATUSES)
        self.in_flight = self.member.in_flight
        self.current_setting = could_draw(limits, is_live=True)
        if self.resumed_with is not None and not self.is_adjustable and self.current_setting > self.resumed_with:
            self.regained = self.current_setting
        self.possible_current = self.current_setting
        if self.in_flight or not self.is_live:
            # A command that was sent before the charger fell silent may have taken effect since.
            self.possible_current = max(could_draw(limits, is_live=self.is_live), self.highest_pending)
        self.highest_pending = max(self.possible_current, self.share)
        self.highest_when_silent = max(could_draw(limits, is_live=False), self.highest_pending)

    @property
    def possible_draw(self) -> float:
        """The current in A that the member may draw without a further command.

        An idle member draws nothing if only a pause can lower its current.
        """
        return 0.0 if not self.is_adjustable and self.is_idle and not self.in_flight else self.possible_current

    @property
    def counted_current(self) -> float:
        """The current in A with which the member counts.

        It is 0 only while the member is idle, has no share and needs no reduction.
        """
        draws_nothing = self.is_idle and self.share == 0 and not self.in_flight and not self.needed_reductions()
        return 0.0 if draws_nothing else max(self.possible_draw, self.share)

    def claim(self, *, reserved: bool) -> Claim:
        """Return the input for the division; `reserved` is True if the member may not follow commands."""
        minimum = MINIMUM_CURRENT if self.is_adjustable else max(MINIMUM_CURRENT, ceil(self.regained))
        amps = max(self.possible_draw, self.share) if reserved else None
        return Claim(self.weight, self.wants_current, amps, minimum)

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
            return [STOP] if self.current_setting > self.target and not self.is_idle else []
        pause: list[Setting] = [STOP] if self.target == 0 and not self.is_idle else []
        return [*pause, SetCurrent(lowest)] if self.current_setting > lowest else pause

    def ignores_target(self) -> bool:
        """Return True if a commanded reduction to the present target had no effect."""
        settled = not self.is_sending and not self.in_flight
        return settled and any(self.attempts.get(s.capability, (None,))[0] == s for s in self.needed_reductions())

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


class LoadGroup:
    """An active load group, from `start` to `stop`. `attach` and `detach` add and remove the members' chargers.

    `save` persists the state of the group. It returns once the state is on the disk, or raises `NotSaved`.
    """

    def __init__(self, clock: Clock, spec: GroupSpec, save: Callable[[dict[str, object]], Awaitable[None]]) -> None:
        self.spec = spec
        self._clock = clock
        self._save = save
        self._saved: dict[str, object] | None = None
        self._save_failed = False
        self._saving = asyncio.Lock()
        static = shares(spec.limit, [Claim(member.weight) for member in spec.members])
        now = clock.monotonic()
        self._states = {
            member.key: _MemberState(member.weight, share, now, now)
            for member, share in zip(spec.members, static, strict=True)
        }
        self._listeners: list[Callable[[GroupView], None]] = []
        self._view = self._compose()
        self._running = False
        self._cancel_refresh: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def view(self) -> GroupView:
        """The latest view of the group."""
        return self._view

    def listen(self, callback: Callable[[GroupView], None]) -> Callable[[], None]:
        """Call `callback` with each changed view. Return a function that removes the listener."""
        return subscribe(self._listeners, callback)

    def restore(self, stored: object) -> None:
        """Restore the state that `save` persisted, without damaged parts. Call this before `attach`."""
        entries = stored if isinstance(stored, Mapping) else {}
        for key, state in self._states.items():
            entry = entries.get("_".join(key))
            if isinstance(entry, Mapping):
                lowered_from, lowered_to, highest = (_current(entry.get(name)) for name in ("wish", "ours", "most"))
                is_lowered = None not in {lowered_from, lowered_to}
                state.lowered_from = int(lowered_from or 0) if is_lowered else None
                state.lowered_to = int(lowered_to or 0) if is_lowered else None
                state.paused = entry.get("paused") is True
                state.highest_when_silent = highest or inf
                state.highest_pending = highest or 0.0
                offline_current = _current(entry.get("stored"))
                state.limits = None if offline_current is None else Limits(offline_current=offline_current)
                state.refresh()
        rooms = [self._room(state) for state in self._states.values()]
        for state, room in zip(self._states.values(), rooms, strict=True):
            if isfinite(room) and room < state.share:  # otherwise there is room, or nothing is known of a member
                state.share = floor(room) if room >= MINIMUM_CURRENT else 0
        self._view = self._compose()

    def export(self) -> dict[str, object]:
        """Return the state to persist, as JSON."""
        return {
            "_".join(key): {
                "wish": state.lowered_from,
                "ours": state.lowered_to,
                "paused": state.paused,
                "most": state.highest_when_silent if isfinite(state.highest_when_silent) else None,
                "stored": None if state.limits is None else state.limits.offline_current,
            }
            for key, state in self._states.items()
        }

    def diagnostics(self) -> list[dict[str, object]]:
        """Return the inner state of each member in order, without data that identify a charger."""
        return [
            {
                "share": state.share,
                "target": state.target,
                "counted": state.counted_current if isfinite(state.counted_current) else None,
                "heard": state.is_live,
                "in_flight": state.in_flight,
                "paused": state.paused,
                "lowered_from": state.lowered_from,
                "refusals": state.refusals,
            }
            for state in self._states.values()
        ]

    def has(self, key: Key) -> bool:
        """Return True if this charger is a member."""
        return key in self._states

    def room(self, key: Key) -> float:
        """Return the highest current in A that may be commanded to a member, given what the others may draw now."""
        for state in self._states.values():
            state.refresh()
        return self._room(self._states[key])

    def attach(self, member: GroupMember) -> None:
        """Add the charger of a member; its share applies from now on. Raises KeyError for any other charger."""
        state = self._states[member.identity.key]
        self.detach(member.identity.key)
        state.member = member
        if member.group_share is not None:  # the share before a reload; raised once there is room
            state.share = min(state.share, int(member.group_share))
        member.group_room = partial(self.room, member.identity.key)
        state.push_to_member()
        state.remove_listener = member.listen(lambda _: self._schedule_refresh())
        self._schedule_refresh()

    def detach(self, key: Key, *, release: bool = True) -> None:
        """Remove the charger of a member. The member still counts with its last known possible current.

        Args:
            key: the member.
            release: True to lift the share from the charger. A pause by the group stays recorded until the charger
                resumes.
        """
        state = self._states[key]
        if (member := state.member) is not None:
            state.refresh()
            state.remove_listener()
            state.member = None
            if release:
                member.group_share = None
                member.group_room = unlimited
        self._schedule_refresh()

    def start(self) -> None:
        """Start to enforce the shares."""
        self._running = True
        self._schedule_refresh()

    async def stop(self) -> None:
        """Stop all tasks, detach the members and save. Reductions, pauses and shares stay in force."""
        self._running = False
        self._cancel_refresh()
        for key in self._states:
            self.detach(key, release=False)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._persist()

    def _schedule_refresh(self) -> None:
        self._schedule_refresh_in(0.0)

    def _schedule_refresh_in(self, delay: float) -> None:
        if self._running:
            self._cancel_refresh()
            self._cancel_refresh = self._clock.call_later(delay, self._refresh)

    def _refresh(self) -> None:
        states = self._states.values()
        for state in states:
            state.refresh()
        self._divide_limit(states)
        pending = [self._send_due(state) for state in states]
        old = self._view
        self._view = self._compose()
        if self._view != old:
            for listener in list(self._listeners):
                listener(self._view)
        if self.export() != self._saved:
            self._spawn(self._persist())
        if any(pending):
            self._schedule_refresh_in(REFRESH_AFTER)

    def _divide_limit(self, states: Collection[_MemberState]) -> None:
        """Set the targets, lower shares at once, and raise each share for which there is room."""
        self._set_targets(states, [])
        if ignoring := [state for state in states if state.ignores_target()]:
            self._set_targets(states, ignoring)
        for state in states:
            state.clear_finished()
            if state.target < state.share:
                state.set_share(state.target)
        for state in states:
            raising = state.is_live and state.target > state.share
            if raising and max(state.possible_draw, state.target) <= self._room(state):
                state.set_share(state.target)

    def _set_targets(self, states: Collection[_MemberState], ignoring: list[_MemberState]) -> None:
        """Set the targets. Members that ignored their target keep it, so that the command is retried."""
        claims = [state.claim(reserved=not state.is_live or state in ignoring) for state in states]
        for state, target in zip(states, allocate(self.spec.limit, claims), strict=True):
            if state not in ignoring:
                state.target = target

    def _send_due(self, state: _MemberState) -> bool:
        """Send the next due command to a member. Return True while a command or a raise is pending."""
        now = self._clock.monotonic()
        needed = state.needed_reductions()
        restoration = state.restoration()
        for setting in needed if not state.is_sending else []:
            attempted, at = state.attempts.get(setting.capability, (None, now))
            if attempted != setting or (not state.in_flight and now >= at + state.retry_delay):
                state.attempts[setting.capability] = setting, now
                self._start_sending(state, setting)
                break
        if restoration is not None and now >= restoration[1] and self._total_counted() <= self.spec.limit:
            self._start_sending(state, restoration[0])
        raise_due = state.is_live and state.target > state.share
        return bool(state.is_sending or state.in_flight or needed or restoration or raise_due)

    def _start_sending(self, state: _MemberState, setting: Setting) -> None:
        assert state.member is not None  # a live member is attached
        state.is_sending = True
        self._spawn(self._send(state, state.member, setting))

    async def _send(self, state: _MemberState, member: GroupMember, setting: Setting) -> None:
        """Persist the change, then send the command."""
        before = state.lowered_to
        if isinstance(setting, SetCurrent):
            if state.lowered_from is None or (state.current_setting != before and not state.in_flight):
                state.lowered_from = floor(state.current_setting)
            state.lowered_to = setting.amps
        elif setting == STOP:
            state.set_paused(paused=True)
            state.resumed_with = None
        try:
            await self._persist()
            if setting == START:
                state.resumed_with = state.share
                await member.lift_pause()
            else:
                await member.command(setting, automatic=True)
            state.refusals = 0
        except ChargerError as err:
            LOGGER.debug("A member of a load group did not accept a command: %s", err)
            state.lowered_to = before
            state.refusals = state.refusals + 1
            if setting == START and err.reason == "paused":
                state.set_paused(paused=False)  # the pause is now the user's
        finally:
            state.is_sending = False
            if isinstance(setting, SetCurrent):
                state.current_set_at = self._clock.monotonic()
            else:
                state.switched_at = self._clock.monotonic()
            self._schedule_refresh()

    async def _persist(self) -> None:
        async with self._saving:
            record = self.export()
            if record == self._saved:
                return
            try:
                # A write must finish before the next one starts, even if the waiting task is cancelled.
                await asyncio.shield(self._save(record))
            except NotSaved:
                # Enforcing the limit matters more than restoring a setting later.
                if not self._save_failed:
                    LOGGER.warning("The state of a load group could not be saved; its limit is still enforced")
                self._save_failed = True
            else:
                self._saved = record
                self._save_failed = False

    def _room(self, state: _MemberState) -> float:
        """Return the limit minus what the other members may draw, in A. No share and no command may exceed this."""
        return self.spec.limit - sum(other.counted_current for other in self._states.values() if other is not state)

    def _total_counted(self) -> float:
        return sum(state.counted_current for state in self._states.values())

    def _compose(self) -> GroupView:
        allocated = self._total_counted()
        known = isfinite(allocated)
        limits = {key: state.limits for key, state in self._states.items() if state.limits is not None}
        offline = {key: each.offline_current for key, each in limits.items()}
        return GroupView(
            allocated=allocated if known else None,
            headroom=self.spec.limit - allocated if known else None,
            shares={key: state.share for key, state in self._states.items()},
            offline_currents={key: amps for key, amps in offline.items() if amps is not None},
            stored_excess=stored_excess(self.spec, limits),
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _current(value: object) -> float | None:
    """Return a stored current in A if it is a positive number, else None."""
    amps = number(value)
    return amps if amps is not None and amps > 0 else None
