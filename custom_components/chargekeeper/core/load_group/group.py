"""A local load group: chargers of any manufacturer on one circuit, each with a static share of its limit.

`shares.py` calculates the shares, `member.py` judges each member, and this module enforces the shares. A share grows
only after the other members are seen to leave room. A member without live readings counts with the highest current that
it could draw.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
import logging
from math import floor, inf, isfinite

from ..charger import unlimited
from ..clock import Clock
from ..coerce import number
from ..errors import ChargerError, NotSaved
from ..limits import MINIMUM_CURRENT, Limits
from ..signal import subscribe
from ..transport import SAVE_WITHIN, START, STOP, SetCurrent, Setting
from .member import GroupMember, MemberState
from .shares import GroupSpec, Key, allocate, static_shares, stored_excess

LOGGER = logging.getLogger(__name__)

REFRESH_AFTER = 20.0
"""Seconds between two refreshes while a command or a raise is due: not every result changes a snapshot."""


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
        now = clock.monotonic()
        self._states = {
            member.key: MemberState(member.weight, member.start_preventable, share, now, now)
            for member, share in zip(spec.members, static_shares(spec), strict=True)
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
        """Restore the state that `save` persisted, without damaged parts. Call this before `attach`.

        No share is granted beyond what the other members leave, as far as that is known.
        """
        entries = stored if isinstance(stored, Mapping) else {}
        self._restore_shares(entries)
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

    def _restore_shares(self, entries: Mapping[str, object]) -> None:
        """Restore the stored shares. They may exceed the static ones, unless the limit or the members changed."""
        stored = {key: _share(entries.get("_".join(key))) for key in self._states}
        fits = sum(share or 0 for share in stored.values()) <= self.spec.limit and None not in stored.values()
        for key, state in self._states.items():
            if (share := stored[key]) is not None:
                state.share = share if fits else min(share, state.share)

    def export(self) -> dict[str, object]:
        """Return the state to persist, as JSON."""
        return {
            "_".join(key): {
                "share": state.share,
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
                "defies": state.defies,
                "overdrawn": state.overdrawn,
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

    def _divide_limit(self, states: Collection[MemberState]) -> None:
        """Set the targets, lower shares at once, and raise each share for which there is room."""
        now = self._clock.monotonic()
        self._set_targets(states, [])
        for state in states:
            state.check_defiance(now)
        if ignoring := [state for state in states if state.ignores_target(now)]:
            self._set_targets(states, ignoring)
        for state in states:
            state.clear_finished()
            if state.target < state.share:
                state.set_share(state.target)
        for state in states:
            raising = state.is_live and state.target > state.share
            if raising and max(state.possible_draw, state.target) <= self._room(state):
                state.set_share(state.target)

    def _set_targets(self, states: Collection[MemberState], ignoring: list[MemberState]) -> None:
        """Set the targets. Members that ignored their target keep it, so that the command is retried."""
        claims = [state.claim(reserved=not state.is_live or state in ignoring) for state in states]
        for state, target in zip(states, allocate(self.spec.limit, claims), strict=True):
            if state not in ignoring:
                state.target = target

    def _send_due(self, state: MemberState) -> bool:
        """Send the next due command to a member. Return True while a command or a raise is pending."""
        now = self._clock.monotonic()
        needed = state.needed_reductions()
        restoration = state.restoration()
        for setting in needed if not state.is_sending else []:
            attempted, at = state.attempts.get(setting.capability, (None, now))
            # A reduction that failed is repeated even if it may still arrive.
            may_repeat = state.failures or not state.in_flight
            if attempted != setting or (may_repeat and now >= at + state.retry_delay):
                state.attempts[setting.capability] = setting, now
                self._start_sending(state, setting)
                break
        if restoration is not None and now >= restoration[1] and self._total_counted() <= self._bound:
            self._start_sending(state, restoration[0])
        raise_due = state.is_live and state.target > state.share
        is_busy = state.is_sending or state.in_flight or state.excess.is_unconfirmed
        return bool(is_busy or needed or restoration or raise_due)

    def _start_sending(self, state: MemberState, setting: Setting) -> None:
        assert state.member is not None  # a live member is attached
        state.is_sending = True
        self._spawn(self._send(state, state.member, setting))

    async def _send(self, state: MemberState, member: GroupMember, setting: Setting) -> None:
        """Persist the change, at most `SAVE_WITHIN` seconds, then send the command."""
        before = state.lowered_to
        if isinstance(setting, SetCurrent):
            if state.lowered_from is None or (state.current_setting != before and not state.in_flight):
                state.lowered_from = floor(state.current_setting)
            state.lowered_to = setting.amps
        elif setting == STOP:
            state.set_paused(paused=True)
            state.resumed_with = None
        try:
            with suppress(TimeoutError):
                async with self._clock.timeout(SAVE_WITHIN):
                    await self._persist()
            if setting == START:
                state.resumed_with = state.share
                await member.lift_pause()
            else:
                await member.command(setting, automatic=True)
            state.refusals = 0
            state.failures = 0
        except ChargerError as err:
            LOGGER.debug("A member of a load group did not accept a command: %s", err)
            state.lowered_to = before
            state.record_refusal(setting, err)
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

    @property
    def _bound(self) -> float:
        """The current in A that all members may be allowed together: the limit, or the lowest that the group can keep.

        The second applies to groups from before the flow refused such limits. An issue names their overrun.
        """
        return self.spec.limit + self.spec.overrun

    def _room(self, state: MemberState) -> float:
        """Return what the other members leave of the limit, in A. No share and no command may exceed this."""
        return self._bound - sum(other.counted_current for other in self._states.values() if other is not state)

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


def _share(entry: object) -> int | None:
    """Return the share in a stored entry in A; None if it is missing or damaged."""
    share = number(entry.get("share")) if isinstance(entry, Mapping) else None
    return None if share is None or share < 0 else int(share)
