"""Operate one charger: merge the readings of its transports, route commands and verify their effect.

Readings and changes arrive through `readings_received` and `transport_changed`; the listeners receive a `Snapshot`.
Commands go the other way. The intent store saves whatever must survive a power cut before a command is sent.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
import logging
from math import inf
from typing import override

from .. import limits, schedule
from ..clock import Clock, DivergenceMark
from ..model import (
    LIMIT_IN_FORCE,
    LIVE_AGE,
    SCHEDULE,
    STATUS,
    ChargerIssue,
    Identity,
    Outcome,
    Reading,
    Readings,
    Snapshot,
    Source,
    Status,
)
from ..signal import subscribe
from ..transport import Setting, Transport, TransportListener
from .authority import Authority
from .commands import Commands
from .context import ChargerEvent, ChargerOptions, Context, SingleFlight
from .intents import IntentStore, Until
from .limit_enforcer import LimitEnforcer
from .override import OverrideController
from .pause import PauseController
from .restart_service import RestartRun, RestartService
from .router import Handover, Router, usable

LOGGER = logging.getLogger(__name__)

SHORTEST_WAKE = 0.05
"""Shortest delay of the timer in seconds, so that rounded times never make the timer spin."""


class Charger(TransportListener):
    """One charger and all its transports."""

    def __init__(
        self,
        identity: Identity,
        clock: Clock,
        options: ChargerOptions,
        save_intents: Callable[[dict[str, object]], Awaitable[None]],
    ) -> None:
        self.identity = identity
        self._clock = clock
        self._context = Context(clock, options, IntentStore(save_intents))
        self._context.publish = self._publish
        self._router = Router(self._context)
        self._commands = Commands(self._context, self._router, lambda: self._snapshot)
        self._authority = Authority(self._router)
        self._override = OverrideController(
            self._context, self._router, self._authority, self._commands.lower_for_start
        )
        self._pause = PauseController(self._context, self._router, self._authority, self._commands, self._override)
        self._commands.before_user_command = self._pause.before_user_command
        self._commands.after_user_command = self._pause.after_user_command
        self._restart_service = RestartService(self._context, self._router)
        self._limit_enforcer = LimitEnforcer(self._context, self._router, self._commands)
        self._own_limits = limits.Limits()
        self._handover = Handover(self._context, self._router)
        self._saving = SingleFlight(self._context, self._context.save_again)
        self._detach: dict[Source, list[Callable[[], None]]] = {}
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._contact_listeners: list[Callable[[], None]] = []
        self._running = False
        self._cancel_wake: Callable[[], None] | None = None
        self._divergence = DivergenceMark(clock)
        self._stop_looking: Callable[[], None] = lambda: None
        self._snapshot = self._compose()[0]

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that the entities show."""
        return self._snapshot

    @property
    def revision(self) -> int:
        """A number that grows with every change of a value that the snapshot store keeps indefinitely."""
        return self._context.readings_store.revision

    @property
    def options(self) -> ChargerOptions:
        """The user's options."""
        return self._context.options

    @options.setter
    def options(self, options: ChargerOptions) -> None:
        self._context.options = options
        self._publish()

    @property
    def group_share(self) -> float | None:
        """Current that the load group allots, in A, part of the `load_group_limit`. The load group enforces it."""
        return self._context.group_share

    @group_share.setter
    def group_share(self, amps: float | None) -> None:
        self._context.group_share = None if amps is None else float(amps)
        self._group_changed()

    @property
    def group_room(self) -> Callable[[], float]:
        """Returns the current in A that the other members of the load group leave for this charger now."""
        return self._context.group_room

    @group_room.setter
    def group_room(self, room: Callable[[], float]) -> None:
        self._context.group_room = room

    @property
    def group_paused(self) -> bool:
        """True while a load group has paused the charger. An override then waits and is not superseded.

        The load group sets this value. Sent commands and the charger's reports change it too, and show when the pause
        is over.
        """
        return self._context.group_pause_sent

    @group_paused.setter
    def group_paused(self, paused: bool) -> None:
        self._context.group_pause_sent = paused
        self._group_changed()

    def listen(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each snapshot that differs from the previous snapshot.

        Return a function that removes the listener.
        """
        return subscribe(self._listeners, callback)

    def listen_contact(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when only the time of the last contact changed.

        Return a function that removes the listener.
        """
        return subscribe(self._contact_listeners, callback)

    def listen_events(self, callback: Callable[[ChargerEvent], None]) -> Callable[[], None]:
        """Call `callback` with each event. Return a function that removes the listener."""
        return self._context.listen_events(callback)

    def diagnostics(self) -> dict[str, object]:
        """Return the inner state, without anything that names the charger or its owner."""
        return {
            "paths": {
                transport.source: {
                    "breaker": transport.breaker.state,
                    "presence": transport.presence,
                    "capabilities": sorted(transport.capabilities),
                }
                for transport in self._router
            },
            "journal": self._context.intents.export(),
            "problems": sorted(self._context.issues),
            "refused_values": dict(self._context.readings_store.refused),
            "commands": [
                {"at": at.isoformat(), "command": command, "outcome": outcome}
                for at, command, outcome in self._commands.sent.outcomes
            ],
        }

    # Life cycle

    def restore(self, stored: object, intents: object) -> None:
        """Restore what `export` returned and what the intent store saved; skip garbage. Call this before `start`."""
        self._context.readings_store.restore(stored)
        self._context.intents.restore(intents)
        self._restart_service.restore()
        self._commands.sent.refuted.restore()
        self._snapshot = self._compose()[0]

    def export(self) -> dict[str, object]:
        """Return what the snapshot store keeps."""
        return self._context.readings_store.export()

    def start(self) -> None:
        """Start, or start again after `stop`, and continue with the intents in the intent store."""
        self._running = True
        self._context.stopping = False
        self._mark_unconfirmed()
        self._restart_service.start()
        self._stop_looking = self._clock.divergence.listen(self._publish)
        self._publish()
        self._reconcile_soon()

    async def stop(self) -> None:
        """End all tasks and remove the transports. The intents stay in the intent store."""
        self._running = False
        self._context.stopping = True
        self._schedule_wake(inf)
        self._stop_looking()
        for source in list(self._router.transports):
            self.remove_transport(source)
        await self._context.end_tasks()
        self._commands.clear_queue()
        self._restart_service.stop()

    def close(self) -> None:
        """Send nothing from now on, because Home Assistant is stopping."""
        self._context.stopping = True

    # Transports

    def add_transport(self, transport: Transport) -> None:
        """Add a transport. An earlier transport of the same source is removed."""
        self.remove_transport(transport.source)
        self._router.transports[transport.source] = transport
        self._restart_service.watch_transport(transport)
        self._detach[transport.source] = [
            transport.breaker.listen(lambda: self.transport_changed(transport)),
            transport.listen(self),
        ]
        self._publish()

    def remove_transport(self, source: Source) -> None:
        """Remove a transport. Its readings stay, marked as cached."""
        if self._router.transports.pop(source, None) is not None:
            for detach in self._detach.pop(source):
                detach()
            self._publish()

    @override
    def readings_received(self, transport: Transport, readings: Readings) -> None:
        status = readings.get(STATUS)
        if status is not None and status.value is Status.OFFLINE and self._online_elsewhere(transport):
            readings = readings.copy()
            readings.remove(STATUS)
        self._expire_after_divergence()
        self._context.readings_store.take(readings, meters_lifetime=transport.meters_lifetime)
        if self._restart_service.restarting:
            self._mark_unconfirmed()
        self._restart_service.on_readings(transport, readings)
        self.transport_changed(transport)

    @override
    def transport_changed(self, transport: Transport) -> None:
        if transport.last_report is not None and (
            transport.source is Source.CLOUD or Source.CLOUD not in self._router.transports
        ):
            self.identity = transport.identity
        if self._authority.observe(transport):
            self._mark_unconfirmed()
        self._override.heard(transport)
        self._publish()
        self._commands.check_timeouts()
        if self._running:
            self._reconcile_soon()

    def _expire_after_divergence(self) -> None:
        """Forget live values from before the clocks diverged: their age is unknown."""
        if self._divergence.is_new:
            self._context.readings_store.expire_live()

    def _mark_unconfirmed(self) -> None:
        """Record that the charger may have forgotten what was sent to it."""
        self._override.mark_unconfirmed()
        self._pause.mark_unconfirmed()

    def _group_changed(self) -> None:
        self._override.mark_unconfirmed()
        self._publish()
        if self._running:
            self._override.reconcile_soon()

    def _reconcile_soon(self) -> None:
        """Continue with the stored intents in the background, and with saving them."""
        if self._context.intents.unsaved:
            self._saving.start()
        self._override.reconcile_soon()
        self._pause.reconcile_soon()
        self._limit_enforcer.reconcile_soon()

    def _online_elsewhere(self, transport: Transport) -> bool:
        return any(other is not transport and usable(other) for other in self._router)

    # The snapshot

    def _publish(self) -> None:
        if not self._running:
            return
        snapshot, change_at = self._compose()
        self._schedule_wake(change_at)
        old = self._snapshot
        self._snapshot = snapshot
        if snapshot != old:
            for listener in list(self._listeners):
                listener(snapshot)
        elif _contacts(snapshot) != _contacts(old):
            for contact_listener in list(self._contact_listeners):
                contact_listener()
        self._handover.check()
        self._limit_enforcer.update_limits(self._own_limits)

    def _compose(self) -> tuple[Snapshot, float]:
        """Return the present snapshot, and the monotonic time at which the snapshot next changes without a report."""
        self._expire_after_divergence()
        now = self._clock.monotonic()
        wall = self._clock.now()
        transports = self._router.ordered()
        readings, change_at = self._context.readings_store.visible(
            now, {transport.source for transport in self._router if usable(transport)}
        )
        limits.cap_load_group(readings, self.options.load_group_limit, wall)
        self._own_limits = limits.Limits.of(readings)
        limits.cap_load_group(readings, self.group_share, wall)
        if self._restart_service.restarting:
            readings.put(STATUS, Reading(Status.RESTARTING, transports[0].source if transports else Source.CACHE, wall))
        windows = readings.value(SCHEDULE) or ()
        next_window = schedule.next_start(windows, wall)
        edges = (next_window, schedule.next_end(windows, wall), self._override.until_at)
        local = [transport for transport in self._router if transport.source is not Source.CLOUD]
        marks = [now + (edge - wall).total_seconds() for edge in edges if edge is not None]
        marks += [
            transport.status_received_at + LIVE_AGE[transport.source]
            for transport in local
            if transport.status_received_at is not None
        ]
        marks += [*self._restart_service.marks(), *self._commands.sent.marks(), *self._override.marks()]
        best = next((transport for transport in transports if usable(transport)), None)
        in_force = readings.value(LIMIT_IN_FORCE)
        amps, factor = limits.effective(limits.Limits.of(readings), commanded=best is not None, in_force=in_force)
        cloud = self._router.transports.get(Source.CLOUD)
        issues = set(self._context.issues)
        if cloud is not None and cloud.removed_from_account:
            issues.add(ChargerIssue.GONE)
        if self._context.intents.unsaved:
            issues.add(ChargerIssue.NOT_SAVED)
        if self._restart_service.update_doubted:
            issues.add(ChargerIssue.UPDATE_DOUBTED)
        return Snapshot(
            identity=self.identity,
            readings=readings,
            effective_limit=amps,
            limiting_factor=factor,
            next_window=next_window,
            restart=self._restart_service.availability(),
            override=self._override.shown,
            commanded=self._commands.sent.commanded,
            connection_path=None if best is None else best.source,
            cloud=None if cloud is None or (cloud.last_report is None and cloud.breaker.usable) else usable(cloud),
            local=any(usable(transport) for transport in local) if local else None,
            installing=self._restart_service.installing,
            issues=frozenset(issues),
            capabilities=frozenset().union(*(transport.capabilities for transport in self._router)),
            last_cloud_contact=None if cloud is None else cloud.endpoint_contact_at,
            last_local_contact=max(
                (p.endpoint_contact_at for p in local if p.endpoint_contact_at is not None), default=None
            ),
        ), min([change_at, *(mark for mark in marks if mark > now)])

    def _schedule_wake(self, change_at: float) -> None:
        if self._cancel_wake is not None:
            self._cancel_wake()
            self._cancel_wake = None
        if change_at < inf:
            delay = max(change_at - self._clock.monotonic(), SHORTEST_WAKE)
            self._cancel_wake = self._clock.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._restart_service.check_outcomes()
        self._commands.check_timeouts()
        self._publish()
        self._reconcile_soon()

    # Settings

    @property
    def in_flight(self) -> bool:
        """True while a command is queued, being sent or unconfirmed, or may still take effect late."""
        return self._commands.in_flight or self._context.lock.locked()

    async def command(self, setting: Setting, *, automatic: bool = False) -> Outcome:
        """Carry out a setting.

        Args:
            setting: the requested setting.
            automatic: True if ChargeKeeper requests the setting, not the user. Such a setting may come too soon after
                an earlier one.

        Returns:
            `VERIFIED` if nothing needed to be sent, else `ACCEPTED`.

        Raises:
            TransportBusy: `too_soon`, for an automatic setting (see `cooldown`).
            TransportsFailed: several transports failed; the error names each with its reason.
            ChargerError: the setting was not carried out, and why.
        """
        return await self._commands.command(setting, automatic=automatic)

    async def lift_pause(self) -> Outcome:
        """End the pause of a load group: the schedule, or the user's override, applies again.

        Raises:
            NotApplicable: `paused`, if the user also paused the charger.
            TransportBusy: `too_soon`.
            ChargerError: the pause was not ended, and why.
        """
        return await self._commands.lift_pause(overridden=self._override.shown.on)

    async def set_override(self, on: bool, *, until: Until = Until.FULL, until_at: datetime | None = None) -> Outcome:
        """Charge now regardless of the schedule (`on`), or follow the schedule again.

        The request is saved first. Without any transport the result is `PENDING`, and the request is carried out once a
        transport is available.

        Args:
            on: True to charge now.
            until: what ends the override; unplugging ends it in any case.
            until_at: the end time, for `Until.TIME`.

        Raises:
            ChargerError: the charger is reachable and refuses.
        """
        self._commands.admit(None)
        return await self._context.run(self._override.switch(on=on, until=until, until_at=until_at))

    @property
    def disabled_windows(self) -> tuple[str, ...]:
        """Schedule windows that are disabled for the override, as text."""
        return self._override.disabled_windows

    @property
    def left_paused(self) -> bool:
        """True if the end of an override may have left the charger paused. ChargeKeeper releases the charger later."""
        return self._override.left_paused

    @property
    def override_left(self) -> bool:
        """True if an override was sent and not taken back: the charger may keep the override without ChargeKeeper."""
        return self._override.left_on

    async def cancel_override(self, *, read_back: bool = True) -> tuple[str, ...]:
        """End the override before the charger is removed. Return the windows that may stay disabled, as text.

        `read_back` is False for a charger that stays in ChargeKeeper: an acknowledged schedule counts as restored, and
        the charger checks its schedule later.
        """
        return await self._override.end_for_good(read_back=read_back)

    async def restart(self) -> RestartRun:
        """Read the status of the charger, and restart the charger if this status permits a restart.

        Return on acceptance; the restart is then watched.

        Raises:
            UnsafeRequest: `restart_<RestartAvailability>`, or `restart_update_doubted`.
            TransportDown: `restart_unclear`, if the answer was lost. The restart is watched all the same.
            ChargerError: any other reason.
        """
        self._commands.admit(None)
        return await self._context.run(self._restart_service.restart())

    def require_safe_restart(self) -> None:
        """Raise UnsafeRequest unless a restart or a power cycle is safe now, by what every transport reported."""
        self._restart_service.require_safe_restart()

    async def install(self) -> None:
        """Install the newest firmware under the guard of a restart, over the cloud only.

        Raises:
            UnsafeRequest: `install_<RestartAvailability>`, or `install_update_doubted`.
            ChargerError: any other reason.
        """
        self._commands.admit(None)
        await self._context.run(self._restart_service.install())

    def dismiss_update(self) -> None:
        """Ignore a firmware update whose end no transport reported: the user says that the update is over."""
        self._restart_service.dismiss_update()


def _contacts(snapshot: Snapshot) -> tuple[datetime | None, datetime | None]:
    return snapshot.last_cloud_contact, snapshot.last_local_contact
