"""A local load group: chargers of any maker on one circuit, each with a static share of its limit.

`shares.py` works out what each may be given; here they are kept to it. Nobody is given more before it is seen that the
circuit has room, and a member that is not heard counts with the most it could draw.
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

RETRY_AFTER = 60.0
"""Seconds after which a reduction that did not show is commanded again; twice as many after each of up to
`DOUBLINGS` refusals."""
DOUBLINGS = 3

LOOK_AGAIN = 20.0
"""Seconds between looks while something is under way: not everything that settles changes a snapshot."""

AT_REST = frozenset({Status.AVAILABLE, Status.PAUSED, Status.LOCKED})
"""Statuses of a charger that nobody can draw from before somebody does something about it."""


class GroupMember(Protocol):
    """What a load group asks of a charger's keeper."""

    group_share: float | None
    """The member's share, A: part of its ceiling and its `load_group_limit`. None outside of a group."""
    group_room: Callable[[], float]
    """Returns what the others leave for the member, A (see `LoadGroup.room`)."""
    group_paused: bool
    """Whether the group has paused it, so that the user's override waits for that to be lifted."""

    @property
    def identity(self) -> Identity:
        """Which charger."""

    @property
    def snapshot(self) -> Snapshot:
        """What is known of it."""

    @property
    def in_flight(self) -> bool:
        """Whether a command is being sent, or may have been and is neither seen at the charger nor given up."""

    def listen(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Be given each new snapshot; the answer ends it."""

    async def command(self, setting: Setting, *, automatic: bool = False) -> Outcome:
        """Carry out a setting; `automatic` where the user did not ask for it. Raises ChargerError."""

    async def lift_pause(self) -> Outcome:
        """Take back a pause of the group: the schedule, or the user's override, rules again. Raises ChargerError."""


@dataclass(frozen=True, slots=True)
class GroupView:
    """What the group's device shows, in A: what the members may draw together, what is left, and the share of each.

    `headroom` is below 0 while they exceed the limit; both are None while nothing is known of one of them. `stored` are
    the offline currents that members have stored, as last seen, and `stored_excess` says by how much all together could
    exceed the limit while some are left alone with those and the others draw their shares.
    """

    allocated: float | None
    headroom: float | None
    shares: Mapping[Key, int]
    stored: Mapping[Key, float] = field(default_factory=dict)
    stored_excess: float = 0.0


@dataclass(slots=True)
class _Seat:
    """A member's place: its share, what was taken from it, and what it showed at the last look.

    Durable are `wish` (the setting that we lowered, A), `ours` (what we set instead), `paused` (by us), `most` (what
    it counts with when it is not heard) and of the `limits` the offline current.
    """

    weight: float
    allowance: int
    set_at: float
    switched_at: float
    member: GroupMember | None = None
    limits: Limits | None = None  # as last seen
    unlisten: Callable[[], None] = lambda: None
    wish: int | None = None
    ours: int | None = None
    paused: bool = False
    most: float = inf
    peak: float = 0.0  # the most that a command under way may bring about
    heard: bool = False
    wants: bool = True
    idle: bool = False
    in_flight: bool = False
    adjusts: bool = True  # else only a pause makes it draw less
    let_on: int | None = None  # the share with which it went on after our last pause, A
    regains: float = 0.0  # the setting that it took back by itself after it had gone on with less, A
    status: Status | None = None
    amps: float = inf  # its setting
    reach: float = inf  # the setting that it has or may get
    target: int = 0
    busy: bool = False
    refusals: int = 0  # since the last command that went through
    tried: dict[Capability, tuple[Setting, float]] = field(default_factory=dict)  # reductions, and when

    def look(self) -> None:
        """See what the member shows."""
        if self.member is None:
            self.heard = self.idle = self.in_flight = False
            self.wants = True
            self.reach = max(self.most, self.peak)
            return
        snapshot = self.member.snapshot
        limits = Limits.of(snapshot.readings)
        if limits.offline_current is None and self.limits is not None:
            # One that started anew shows what it has stored in a moment; until then it has what it had.
            limits = replace(limits, offline_current=self.limits.offline_current)
        self.limits = limits
        shown = snapshot.readings.get(CHARGING_CURRENT)
        # What the store gave back, or a cloud repeats of a charger without a sign of life, is not heard.
        current_shown = shown is not None and shown.source is not Source.CACHE and shown.observed_mono > -inf
        self.heard = current_shown and limits.charging_current is not None and snapshot.connection_path is not None
        only_paused = Capability.CHARGING in snapshot.capabilities and Capability.CURRENT not in snapshot.capabilities
        self.adjusts = not self.heard or not only_paused
        self.status = snapshot.value(STATUS)
        self.wants = not self.heard or snapshot.value(CAR_CONNECTED) is not False
        self.idle = self.heard and (not self.wants or self.status in AT_REST)
        self.in_flight = self.member.in_flight
        self.amps = could_draw(limits, heard=True)
        if self.let_on is not None and not self.adjusts and self.amps > self.let_on:
            self.regains = self.amps
        self.reach = self.amps
        if self.in_flight or not self.heard:
            # What was sent before it fell silent may have taken effect since.
            self.reach = max(could_draw(limits, heard=self.heard), self.peak)
        self.peak = max(self.reach, self.allowance)
        self.most = max(could_draw(limits, heard=False), self.peak)

    @property
    def draws(self) -> float:
        """What it may draw before it is told anything, A; one that can only be paused draws nothing while at rest."""
        return 0.0 if not self.adjusts and self.idle and not self.in_flight else self.reach

    @property
    def counted(self) -> float:
        """What the member counts with (A): nothing only while it is without a share, seen at rest, and set for it."""
        at_rest = self.idle and self.allowance == 0 and not self.in_flight and not self.reductions()
        return 0.0 if at_rest else max(self.draws, self.allowance)

    def claim(self, *, bound: bool) -> Claim:
        """What the division needs to know."""
        least = MINIMUM_CURRENT if self.adjusts else max(MINIMUM_CURRENT, ceil(self.regains))
        return Claim(self.weight, self.wants, max(self.draws, self.allowance) if bound else None, least)

    def grant(self, amps: int) -> None:
        """Set the member's share."""
        self.allowance = amps
        self.peak = max(self.peak, amps)
        self.tell()

    def hold(self, *, paused: bool) -> None:
        """Note whether the member is paused by the group."""
        if paused != self.paused:
            self.paused = paused
            self.tell()

    def tell(self) -> None:
        """Let the member know its share, and whether it is paused."""
        if self.member is not None:
            self.member.group_share = self.allowance
            self.member.group_paused = self.paused

    @property
    def patience(self) -> float:
        """Seconds until a reduction is commanded again: one that is refused every time need not come every minute."""
        return RETRY_AFTER * (1 << min(self.refusals, DOUBLINGS))

    def reductions(self) -> list[Setting]:
        """What must be commanded to come down to the target."""
        if not self.heard:
            return []
        lowest = max(self.target, MINIMUM_CURRENT)
        if not self.adjusts:
            return [STOP] if self.amps > self.target and not self.idle else []
        pause: list[Setting] = [STOP] if self.target == 0 and not self.idle else []
        return [*pause, SetCurrent(lowest)] if self.amps > lowest else pause

    def refuses(self) -> bool:
        """Whether it was told to come down to the target in vain."""
        settled = not self.busy and not self.in_flight
        return settled and any(self.tried.get(s.capability, (None,))[0] == s for s in self.reductions())

    def settle(self) -> None:
        """Forget what is over: reductions that show, a pause that ended, a setting that somebody changed."""
        needed = {setting.capability for setting in self.reductions()}
        for capability in self.tried.keys() - needed:
            del self.tried[capability]
        if not self.heard or self.busy or self.in_flight:
            return
        if self.status in PAUSE_OVER:
            self.hold(paused=False)
        changed = self.wish is not None and (self.amps != self.ours or self.amps >= self.wish)
        if changed and Capability.CURRENT not in needed:
            self.wish = self.ours = None

    def restoration(self) -> tuple[Setting, float] | None:
        """What gives back that we took, and the monotonic moment from which it may be sent."""
        if not self.heard or self.busy or self.in_flight or self.target != self.allowance or self.reductions():
            return None
        resumes_with = 0.0 if self.adjusts else max(self.amps, self.regains)
        if self.paused and self.status is Status.PAUSED and self.allowance > 0 and self.allowance >= resumes_with:
            return START, self.switched_at + max(START_SPACING, self.patience)
        if self.wish is not None and self.member is not None and self.adjusts:
            highest, _ = ceiling(Limits.of(self.member.snapshot.readings))
            amps = min(self.wish, self.allowance, self.wish if highest is None else floor(highest))
            if amps > self.amps:
                return SetCurrent(amps), self.set_at + max(RAISE_SPACING, self.patience)
        return None


class LoadGroup:
    """A load group at work, from `start` to `stop`; members come and go by `attach` and `detach`.

    `save` is given what must outlive a restart, and returns when it is on the disk, or raises `NotSaved`.
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
        self._seats = {
            member.key: _Seat(member.weight, share, now, now)
            for member, share in zip(spec.members, static, strict=True)
        }
        self._listeners: list[Callable[[GroupView], None]] = []
        self._view = self._compose()
        self._running = False
        self._cancel_look: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def view(self) -> GroupView:
        """What the group's device shows."""
        return self._view

    def listen(self, callback: Callable[[GroupView], None]) -> Callable[[], None]:
        """Be given each view that differs from the one before; the answer ends it."""
        return subscribe(self._listeners, callback)

    def restore(self, stored: object) -> None:
        """Take what `save` was given earlier; what is garbled is left out. Before `attach`."""
        entries = stored if isinstance(stored, Mapping) else {}
        for key, seat in self._seats.items():
            entry = entries.get("_".join(key))
            if isinstance(entry, Mapping):
                wish, ours, most = (_current(entry.get(name)) for name in ("wish", "ours", "most"))
                seat.wish, seat.ours = (None, None) if None in {wish, ours} else (int(wish or 0), int(ours or 0))
                seat.paused = entry.get("paused") is True
                seat.most = most or inf
                seat.peak = most or 0.0
                stored = _current(entry.get("stored"))
                seat.limits = None if stored is None else Limits(offline_current=stored)
                seat.look()
        rooms = [self._room(seat) for seat in self._seats.values()]
        for seat, room in zip(self._seats.values(), rooms, strict=True):
            if isfinite(room) and room < seat.allowance:  # else there is room, or nothing is remembered of a member
                seat.allowance = floor(room) if room >= MINIMUM_CURRENT else 0
        self._view = self._compose()

    def export(self) -> dict[str, object]:
        """What must outlive a restart, as JSON."""
        return {
            "_".join(key): {
                "wish": seat.wish,
                "ours": seat.ours,
                "paused": seat.paused,
                "most": seat.most if isfinite(seat.most) else None,
                "stored": None if seat.limits is None else seat.limits.offline_current,
            }
            for key, seat in self._seats.items()
        }

    def diagnostics(self) -> list[dict[str, object]]:
        """The inner state, member by member in order, without anything that names a charger."""
        return [
            {
                "share": seat.allowance,
                "target": seat.target,
                "counted": seat.counted if isfinite(seat.counted) else None,
                "heard": seat.heard,
                "in_flight": seat.in_flight,
                "paused": seat.paused,
                "lowered_from": seat.wish,
                "refusals": seat.refusals,
            }
            for seat in self._seats.values()
        ]

    def has(self, key: Key) -> bool:
        """Whether this charger is a member."""
        return key in self._seats

    def room(self, key: Key) -> float:
        """Return what a member may be told to draw at most beside what the others may draw now, A."""
        for seat in self._seats.values():
            seat.look()
        return self._room(self._seats[key])

    def attach(self, member: GroupMember) -> None:
        """A member's keeper is there: its share binds from now on. Raises KeyError for a charger of no concern."""
        seat = self._seats[member.identity.key]
        self.detach(member.identity.key)
        seat.member = member
        if member.group_share is not None:  # of the group as it was just now: raised when there is seen to be room
            seat.allowance = min(seat.allowance, int(member.group_share))
        member.group_room = partial(self.room, member.identity.key)
        seat.tell()
        seat.unlisten = member.listen(lambda _: self._soon())
        self._soon()

    def detach(self, key: Key, *, release: bool = True) -> None:
        """A member's keeper goes: what it was last known to draw counts.

        Args:
            key: which.
            release: whether its share binds it no more; that it was paused stays noted until it is seen to go on.
        """
        seat = self._seats[key]
        if (member := seat.member) is not None:
            seat.look()
            seat.unlisten()
            seat.member = None
            if release:
                member.group_share = None
                member.group_room = unlimited
        self._soon()

    def start(self) -> None:
        """Begin to look after the members."""
        self._running = True
        self._soon()

    async def stop(self) -> None:
        """End all that runs, let the members go, and save; what was lowered or paused stays so, and shares bind on."""
        self._running = False
        self._cancel_look()
        for key in self._seats:
            self.detach(key, release=False)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._persist()

    def _soon(self) -> None:
        self._arm(0.0)

    def _arm(self, delay: float) -> None:
        if self._running:
            self._cancel_look()
            self._cancel_look = self._clock.call_later(delay, self._look)

    def _look(self) -> None:
        seats = self._seats.values()
        for seat in seats:
            seat.look()
        self._divide(seats)
        under_way = [self._step(seat) for seat in seats]
        old = self._view
        self._view = self._compose()
        if self._view != old:
            for listener in list(self._listeners):
                listener(self._view)
        if self.export() != self._saved:
            self._spawn(self._persist())
        if any(under_way):
            self._arm(LOOK_AGAIN)

    def _divide(self, seats: Collection[_Seat]) -> None:
        """Set the targets, lower the shares at once, and raise those for which there is room by now."""
        self._aim(seats, [])
        if refusing := [seat for seat in seats if seat.refuses()]:
            self._aim(seats, refusing)
        for seat in seats:
            seat.settle()
            if seat.target < seat.allowance:
                seat.grant(seat.target)
        for seat in seats:
            raising = seat.heard and seat.target > seat.allowance
            if raising and max(seat.draws, seat.target) <= self._room(seat):
                seat.grant(seat.target)

    def _aim(self, seats: Collection[_Seat], refusing: list[_Seat]) -> None:
        """Set the targets; one that refuses keeps the one that it was told, so that it is told again."""
        claims = [seat.claim(bound=not seat.heard or seat in refusing) for seat in seats]
        for seat, target in zip(seats, allocate(self.spec.limit, claims), strict=True):
            if seat not in refusing:
                seat.target = target

    def _step(self, seat: _Seat) -> bool:
        """Send what is due to a member; whether anything is under way with it."""
        now = self._clock.monotonic()
        needed = seat.reductions()
        given_back = seat.restoration()
        for setting in needed if not seat.busy else []:
            tried, at = seat.tried.get(setting.capability, (None, now))
            if tried != setting or (not seat.in_flight and now >= at + seat.patience):
                seat.tried[setting.capability] = setting, now
                self._begin(seat, setting)
                break
        if given_back is not None and now >= given_back[1] and self._total() <= self.spec.limit:
            self._begin(seat, given_back[0])
        raise_due = seat.heard and seat.target > seat.allowance
        return bool(seat.busy or seat.in_flight or needed or given_back or raise_due)

    def _begin(self, seat: _Seat, setting: Setting) -> None:
        assert seat.member is not None  # it is heard
        seat.busy = True
        self._spawn(self._send(seat, seat.member, setting))

    async def _send(self, seat: _Seat, member: GroupMember, setting: Setting) -> None:
        """Note what is taken or given, then command it."""
        ours = seat.ours
        if isinstance(setting, SetCurrent):
            if seat.wish is None or (seat.amps != ours and not seat.in_flight):
                seat.wish = floor(seat.amps)
            seat.ours = setting.amps
        elif setting == STOP:
            seat.hold(paused=True)
            seat.let_on = None
        try:
            await self._persist()
            if setting == START:
                seat.let_on = seat.allowance
                await member.lift_pause()
            else:
                await member.command(setting, automatic=True)
            seat.refusals = 0
        except ChargerError as err:
            LOGGER.debug("A member of a load group did not take a command: %s", err)
            seat.ours = ours
            seat.refusals = seat.refusals + 1
            if setting == START and err.reason == "paused":
                seat.hold(paused=False)  # it is the user's pause by now
        finally:
            seat.busy = False
            if isinstance(setting, SetCurrent):
                seat.set_at = self._clock.monotonic()
            else:
                seat.switched_at = self._clock.monotonic()
            self._soon()

    async def _persist(self) -> None:
        async with self._saving:
            record = self.export()
            if record == self._saved:
                return
            try:
                # A writing that is under way ends before the next one begins, whoever gives up waiting for it.
                await asyncio.shield(self._save(record))
            except NotSaved:
                # Keeping the limit matters more than giving back later what was taken.
                if not self._save_failed:
                    LOGGER.warning("The state of a load group could not be saved; its limit is kept all the same")
                self._save_failed = True
            else:
                self._saved = record
                self._save_failed = False

    def _room(self, seat: _Seat) -> float:
        """Return what the limit leaves beside what the others may draw: no share and no command exceeds it."""
        return self.spec.limit - sum(other.counted for other in self._seats.values() if other is not seat)

    def _total(self) -> float:
        return sum(seat.counted for seat in self._seats.values())

    def _compose(self) -> GroupView:
        allocated = self._total()
        known = isfinite(allocated)
        limits = {key: seat.limits for key, seat in self._seats.items() if seat.limits is not None}
        stored = {key: each.offline_current for key, each in limits.items()}
        return GroupView(
            allocated=allocated if known else None,
            headroom=self.spec.limit - allocated if known else None,
            shares={key: seat.allowance for key, seat in self._seats.items()},
            stored={key: amps for key, amps in stored.items() if amps is not None},
            stored_excess=stored_excess(self.spec, limits),
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _current(value: object) -> float | None:
    """A stored current in A, or None."""
    amps = number(value)
    return amps if amps is not None and amps > 0 else None
