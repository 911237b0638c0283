"""Keeps one charger going: merges what its paths show, picks the path for a command, and sees what became of it.

Readings and the paths' changes come in by `path_read` and `path_changed`; a `Snapshot` goes out to whoever listens.
Commands go the other way. Whatever must survive a power cut is in the journal before anything is sent.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
import logging
from math import inf
from typing import override

from . import limits, schedule
from .clock import Clock
from .context import Context, KeeperEvent, KeeperOptions, result_of, subscribe
from .journal import Journal, Until
from .maintenance import Maintenance, RestartRun
from .model import (
    ALLOWED_TO_CHARGE,
    CHARGING_CURRENT,
    ECO_MODE,
    LOAD_GROUP_LIMIT,
    LOCKED,
    OCPP,
    SCHEDULE,
    STATUS,
    Capability,
    Identity,
    Outcome,
    Problem,
    Property,
    Reading,
    Readings,
    Snapshot,
    Source,
    Status,
)
from .override import OverridePursuit
from .paths import (
    ChargerError,
    ChargerPath,
    LoginRejected,
    NotAllowed,
    PathBusy,
    PathDown,
    PathListener,
    SetCharging,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
    Setting,
    UnsafeRequest,
)
from .routing import Router, usable

__all__ = ["Keeper", "KeeperEvent", "KeeperOptions", "RestartRun", "Until"]

LOGGER = logging.getLogger(__name__)

EXPECT_WITHIN = 150.0
"""Seconds within which a setting must show: one groups poll of the Wallbox cloud and some."""

SHORTEST_WAKE = 0.05
"""Seconds: the timer never spins faster, however timers and moments round."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """A setting that was sent, acknowledged or perhaps, and whose effect is looked for."""

    setting: Setting | SetOverride
    sent_at: float


class Keeper(PathListener):
    """One charger and all its paths."""

    def __init__(
        self,
        identity: Identity,
        clock: Clock,
        options: KeeperOptions,
        save_journal: Callable[[dict[str, object]], Awaitable[None]],
    ) -> None:
        self.identity = identity
        self._clock = clock
        self._context = Context(clock, options, Journal(save_journal))
        self._context.publish = self._publish
        self._router = Router(self._context)
        self._override = OverridePursuit(self._context, self._router, self._lower_for_start)
        self._maintenance = Maintenance(self._context, self._router)
        self._detach: dict[Source, list[Callable[[], None]]] = {}
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._contact_listeners: list[Callable[[], None]] = []
        self._running = False
        self._cancel_wake: Callable[[], None] | None = None
        self._wanted: dict[Capability, Setting] = {}  # what waits to be sent; a newer wish takes its place
        self._carriers: dict[Capability, asyncio.Task[Outcome]] = {}
        self._expected: dict[Capability, _Expected] = {}
        self._outcomes: deque[tuple[datetime, str, Outcome]] = deque(maxlen=20)
        self._snapshot = self._compose()[0]

    @property
    def snapshot(self) -> Snapshot:
        """What the entities see."""
        return self._snapshot

    @property
    def revision(self) -> int:
        """Grows with every change of a value that the snapshot store keeps without end."""
        return self._context.ledger.revision

    @property
    def options(self) -> KeeperOptions:
        """What the user chose."""
        return self._context.options

    @options.setter
    def options(self, options: KeeperOptions) -> None:
        self._context.options = options
        self._publish()

    @property
    def group_share(self) -> float | None:
        """The share in a load group, A: a part of the ceiling. None outside of a group."""
        return self._context.group_share

    @group_share.setter
    def group_share(self, amps: float | None) -> None:
        self._context.group_share = amps
        self._group_changed()

    @property
    def group_paused(self) -> bool:
        """Whether a load group has paused the charger: an override then waits, and is not superseded by that."""
        return self._context.group_paused

    @group_paused.setter
    def group_paused(self, paused: bool) -> None:
        self._context.group_paused = paused
        self._group_changed()

    @property
    def in_flight(self) -> bool:
        """Whether a command is being sent, or may have been and is neither seen at the charger nor given up."""
        return bool(self._wanted or self._expected) or self._context.lock.locked()

    def listen(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Be given each snapshot that differs from the one before; the answer ends it."""
        return subscribe(self._listeners, callback)

    def listen_contact(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Be called when nothing changed but the moment of the last contact."""
        return subscribe(self._contact_listeners, callback)

    def listen_events(self, callback: Callable[[KeeperEvent], None]) -> Callable[[], None]:
        """Be told what happens."""
        return self._context.listen_events(callback)

    def diagnostics(self) -> dict[str, object]:
        """The inner state, without anything that names the charger or its owner."""
        return {
            "paths": {
                path.source: {
                    "breaker": path.breaker.state,
                    "presence": path.presence,
                    "capabilities": sorted(path.capabilities),
                }
                for path in self._router
            },
            "journal": self._context.journal.export(),
            "problems": sorted(self._context.problems),
            "commands": [
                {"at": at.isoformat(), "command": command, "outcome": outcome}
                for at, command, outcome in self._outcomes
            ],
        }

    # Life

    def restore(self, stored: object, journal: object) -> None:
        """Take what `export` and the journal's save were given earlier; garbage is left out. Before `start`."""
        self._context.ledger.restore(stored)
        self._context.journal.restore(journal)
        self._maintenance.restore()
        self._snapshot = self._compose()[0]

    def export(self) -> dict[str, object]:
        """What the snapshot store keeps."""
        return self._context.ledger.export()

    def start(self) -> None:
        """Begin, or begin again after `stop`: go on with what the journal holds."""
        self._running, self._context.stopping = True, False
        self._override.disturb()
        self._maintenance.start()
        self._publish()
        self._override.pursue_soon()

    async def stop(self) -> None:
        """End all that runs and leave the paths; intents stay in the journal."""
        self._running, self._context.stopping = False, True
        self._arm(inf)
        for source in list(self._router.paths):
            self.remove_path(source)
        await self._context.end_tasks()
        self._wanted.clear()
        self._maintenance.stop()

    def close(self) -> None:
        """Send nothing any more: Home Assistant is stopping."""
        self._context.stopping = True

    # Paths

    def add_path(self, path: ChargerPath) -> None:
        """Take a path into use; one of the same source gives way."""
        self.remove_path(path.source)
        self._router.paths[path.source] = path
        self._maintenance.watch_path(path)
        self._detach[path.source] = [path.breaker.listen(lambda: self.path_changed(path)), path.listen(self)]
        self._publish()

    def remove_path(self, source: Source) -> None:
        """Take a path out of use; what it showed stays, marked as cached."""
        if self._router.paths.pop(source, None) is not None:
            for detach in self._detach.pop(source):
                detach()
            self._publish()

    @override
    def path_read(self, path: ChargerPath, readings: Readings) -> None:
        status = readings.get(STATUS)
        if status is not None and status.value is Status.OFFLINE and self._online_elsewhere(path):
            readings = readings.copy()
            readings.remove(STATUS)
        self._context.ledger.take(readings, meters_lifetime=path.meters_lifetime)
        if self._maintenance.restarting:
            self._override.disturb()
        self._maintenance.heard(path)
        self.path_changed(path)

    @override
    def path_changed(self, path: ChargerPath) -> None:
        if path.said is not None and (path.source is Source.CLOUD or Source.CLOUD not in self._router.paths):
            self.identity = path.identity
        self._override.heard(path)
        self._publish()
        self._settle_expected()
        if self._running:
            self._override.pursue_soon()

    def _online_elsewhere(self, path: ChargerPath) -> bool:
        return any(other is not path and usable(other) for other in self._router)

    # The snapshot

    def _publish(self) -> None:
        if not self._running:
            return
        snapshot, change_at = self._compose()
        self._arm(change_at)
        old, self._snapshot = self._snapshot, snapshot
        if snapshot != old:
            for listener in list(self._listeners):
                listener(snapshot)
        elif _contacts(snapshot) != _contacts(old):
            for contact_listener in list(self._contact_listeners):
                contact_listener()

    def _compose(self) -> tuple[Snapshot, float]:
        """The snapshot as of now, and the monotonic moment at which time alone changes it."""
        now, wall = self._clock.monotonic(), self._clock.now()
        paths = self._router.ordered()
        readings, change_at = self._context.ledger.visible(now, {path.source for path in self._router if usable(path)})
        self._bound_by_user(readings, wall)
        if self._maintenance.restarting:
            readings.put(STATUS, Reading(Status.RESTARTING, paths[0].source if paths else Source.CACHE, wall))
        windows = readings.value(SCHEDULE) or ()
        next_window = schedule.next_start(windows, wall)
        edges = (next_window, schedule.next_end(windows, wall), self._override.until_at)
        marks = [now + (edge - wall).total_seconds() for edge in edges if edge is not None]
        marks += [*self._maintenance.marks(), self._override.full_at or inf]
        marks += [expected.sent_at + EXPECT_WITHIN for expected in self._expected.values()]
        best = next((path for path in paths if usable(path)), None)
        amps, factor = limits.effective(limits.Limits.of(readings), commanded=best is not None)
        cloud = self._router.paths.get(Source.CLOUD)
        local = [path for path in self._router if path.source is not Source.CLOUD]
        problems = set(self._context.problems)
        if cloud is not None and cloud.gone:
            problems.add(Problem.GONE)
        return Snapshot(
            identity=self.identity,
            readings=readings,
            effective_limit=amps,
            limiting_factor=factor,
            next_window=next_window,
            restart=self._maintenance.availability(),
            override=self._override.shown,
            connection_path=None if best is None else best.source,
            cloud=None if cloud is None or (cloud.said is None and cloud.breaker.usable) else usable(cloud),
            local=any(usable(path) for path in local) if local else None,
            installing=self._maintenance.installing,
            problems=frozenset(problems),
            capabilities=frozenset().union(*(path.capabilities for path in self._router)),
            last_cloud_contact=None if cloud is None else cloud.last_contact,
            last_local_contact=max((p.last_contact for p in local if p.last_contact is not None), default=None),
        ), min([change_at, *(mark for mark in marks if mark > now)])

    def _bound_by_user(self, readings: Readings, wall: datetime) -> None:
        """Put in the load-group limit that was entered, or the share, where it is lower than what the charger tells."""
        ours = [amps for amps in (self.options.load_group_limit, self.group_share) if amps is not None]
        told = readings.value(LOAD_GROUP_LIMIT)
        if ours and (told is None or min(ours) < told):
            readings.put(LOAD_GROUP_LIMIT, Reading(float(min(ours)), Source.USER, wall))

    def _group_changed(self) -> None:
        self._override.disturb()
        self._publish()
        if self._running:
            self._override.pursue_soon()

    def _arm(self, change_at: float) -> None:
        if self._cancel_wake is not None:
            self._cancel_wake()
            self._cancel_wake = None
        if change_at < inf:
            delay = max(change_at - self._clock.monotonic(), SHORTEST_WAKE)
            self._cancel_wake = self._clock.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._maintenance.settle()
        self._settle_expected()
        self._publish()
        self._override.pursue_soon()

    # Settings

    async def command(self, setting: Setting) -> Outcome:
        """Carry out a setting.

        Returns:
            `VERIFIED` where nothing needed to be sent, else `ACCEPTED`.

        Raises:
            ChargerError: it was not carried out, and why.
        """
        self._admit(setting)
        capability = setting.capability
        waits = capability in self._wanted
        self._wanted[capability] = setting
        if not waits:
            self._carriers[capability] = self._context.spawn(self._carry_out(capability))
        return await result_of(self._carriers[capability])

    async def lift_pause(self) -> Outcome:
        """Take back a pause of the load group: the schedule rules again, or the user's override.

        Returns:
            `VERIFIED` where the charger is not paused any more, else `ACCEPTED`.

        Raises:
            ChargerError: it was not carried out, and why.
        """
        return await self._context.run(self._lift_pause())

    async def _lift_pause(self) -> Outcome:
        async with self._context.lock:
            self._admit(SetCharging(on=True))
            if self._shown(STATUS) is not Status.PAUSED:
                return Outcome.VERIFIED
            scheduled = any(window.enabled for window in self._snapshot.value(SCHEDULE) or ())
            by_hand = self._override.shown.on or not scheduled
            return await self._dispatch(SetCharging(on=True) if by_hand else SetOverride(on=False))

    async def set_override(self, on: bool, *, until: Until = Until.FULL, until_at: datetime | None = None) -> Outcome:
        """Charge now whatever the schedule says (`on`), or let the schedule rule again.

        It is journaled first, and succeeds as `PENDING` without any path: it is carried out when one is there.

        Args:
            on: what is wanted.
            until: when it ends by itself; unplugging ends it in any case.
            until_at: the moment, for `Until.TIME`.

        Raises:
            ChargerError: the charger is there and refuses.
        """
        self._admit(None)
        return await self._context.run(self._override.switch(on=on, until=until, until_at=until_at))

    @property
    def disabled_windows(self) -> tuple[str, ...]:
        """The windows of the schedule that are disabled for the override, as text."""
        return self._override.disabled_windows

    async def end_override_for_removal(self) -> tuple[str, ...]:
        """End the override before the charger is given up; the windows that stay disabled, as text."""
        return await self._override.end_for_good()

    async def restart(self) -> RestartRun:
        """Restart the charger, if its status, read for this, allows it. Returns on acceptance; then it is watched.

        Raises:
            UnsafeRequest: `restart_<RestartAvailability>`.
            PathDown: `restart_unclear` where the answer was lost: it is watched all the same.
            ChargerError: any other.
        """
        self._admit(None)
        return await self._context.run(self._maintenance.restart())

    async def install(self) -> None:
        """Install the newest firmware under the guard of a restart; over the cloud only.

        Raises:
            UnsafeRequest: `install_<RestartAvailability>`.
            ChargerError: any other.
        """
        self._admit(None)
        await self._context.run(self._maintenance.install())

    def _admit(self, setting: Setting | None) -> None:
        """Refuse what may not be sent at all. Raises ChargerError."""
        if self._context.stopping:
            raise PathDown("stopping")
        if self.options.read_only:
            raise NotAllowed("read_only")
        if self._snapshot.value(OCPP):
            raise NotAllowed("ocpp_active")
        if setting == SetCharging(on=True):
            self._require_share()
        if isinstance(setting, SetCurrent):
            known = limits.Limits.of(self._snapshot.readings)
            limits.permit(setting.amps, replace(known, charging_current=self._present_current()))

    def _require_share(self) -> None:
        """Refuse a start for which the load group has no room. Raises UnsafeRequest."""
        if self.group_share is not None and self.group_share < limits.MINIMUM_CURRENT:
            raise UnsafeRequest("no_group_share")

    async def _carry_out(self, capability: Capability) -> Outcome:
        async with self._context.lock:
            setting = self._wanted.pop(capability)
            self._admit(setting)
            if self._holds(setting):
                return Outcome.VERIFIED
            return await self._dispatch(setting)

    async def _dispatch(self, setting: Setting | SetOverride) -> Outcome:
        path = await self._deliver(setting)
        self._record(setting, Outcome.ACCEPTED)
        self._publish()
        if setting.capability in {Capability.CHARGING, Capability.OVERRIDE}:
            self._router.read_back(path)
        return Outcome.ACCEPTED

    def _holds(self, setting: Setting) -> bool:
        """Whether the charger shows the setting already, and nothing else of ours is on its way to it."""
        expected = self._expected.get(setting.capability)
        return (expected is None or expected.setting == setting) and self._shows(setting)

    def _shows(self, setting: Setting | SetOverride) -> bool:
        """Whether a reading of a usable path shows the setting in force."""
        match setting:
            case SetCurrent(amps):
                return self._shown(CHARGING_CURRENT) == amps
            case SetEcoMode(mode):
                return self._shown(ECO_MODE) is mode
            case SetLock(locked):
                return self._snapshot.connection_path is not None and self._shown(LOCKED) is locked
        status = self._shown(STATUS)
        if isinstance(setting, SetOverride):
            return status not in {None, Status.PAUSED}
        return status in ALLOWED_TO_CHARGE if setting.on else status is Status.PAUSED

    def _shown[T](self, prop: Property[T]) -> T | None:
        """What the charger showed over a path in this run, as far as it may be shown; None for what is only cached."""
        reading = self._snapshot.readings.get(prop)
        return None if reading is None or reading.source is Source.CACHE or reading.at == -inf else reading.value

    async def _deliver(self, setting: Setting | SetOverride) -> ChargerPath:
        """Send a setting on the best path, and on the next where that one fails; a lower current goes out on all."""
        present, sent_at = self._snapshot.value(CHARGING_CURRENT), self._clock.monotonic()
        lowering = isinstance(setting, SetCurrent) and present is not None and setting.amps < present
        starting = isinstance(setting, SetOverride) or setting == SetCharging(on=True)
        carried: list[ChargerPath] = []
        failures: list[ChargerError] = []
        for path in self._router.require(setting.capability):
            try:
                if starting:
                    await self._lower_for_start(path)
                await self._router.send(path, setting)
            except ChargerError as err:
                failures.append(err)
                if not carried and not isinstance(err, PathDown | PathBusy | LoginRejected | UnsafeRequest):
                    break
            else:
                carried.append(path)
                if not lowering:
                    break
        if carried or not all(failure.surely_not_sent for failure in failures):
            self._expected[setting.capability] = _Expected(setting, sent_at)
        if not carried:
            raise failures[-1]
        return carried[0]

    def _present_current(self) -> float | None:
        """The lowest that the charger may be set to now, A; None where it may be anything.

        What is known only from long ago may have been lowered since: what looks like lowering could raise it (I1).
        """
        shown, expected = self._shown(CHARGING_CURRENT), self._expected.get(Capability.CURRENT)
        if shown is None or expected is None or not isinstance(expected.setting, SetCurrent):
            return shown
        return min(shown, expected.setting.amps)

    async def _lower_for_start(self, path: ChargerPath) -> None:
        """Before a charge is started over a path: bring a setting above the ceiling down to it, over the same (I1).

        Over another path the start could overtake it. Raises ChargerError; UnsafeRequest where the path cannot do that.
        """
        self._require_share()
        known = limits.Limits.of(self._snapshot.readings)
        if (amps := limits.safe_start(known)) is None:
            return
        limits.permit(amps, known)
        if Capability.CURRENT not in path.capabilities:
            raise UnsafeRequest("above_ceiling", f"{amps}")
        setting, sent_at = SetCurrent(amps), self._clock.monotonic()
        await self._router.send(path, setting)
        self._expected[Capability.CURRENT] = _Expected(setting, sent_at)

    def _settle_expected(self) -> None:
        """See which acknowledged settings show by now, and which never did."""
        now = self._clock.monotonic()
        for capability, expected in list(self._expected.items()):
            path = self._router.first(capability)
            answered = path is not None and path.asked_at is not None and path.asked_at > expected.sent_at
            if answered and self._shows(expected.setting):
                outcome = Outcome.VERIFIED
            elif now >= expected.sent_at + EXPECT_WITHIN:
                outcome = Outcome.FAILED if answered else Outcome.UNVERIFIED
            else:
                continue
            del self._expected[capability]
            self._record(expected.setting, outcome)

    def _record(self, setting: Setting | SetOverride, outcome: Outcome) -> None:
        self._outcomes.append((self._clock.now(), type(setting).__name__, outcome))
        if outcome is Outcome.FAILED:
            LOGGER.warning("A command (%s) was sent but never showed at the charger", type(setting).__name__)


def _contacts(snapshot: Snapshot) -> tuple[datetime | None, datetime | None]:
    return snapshot.last_cloud_contact, snapshot.last_local_contact
