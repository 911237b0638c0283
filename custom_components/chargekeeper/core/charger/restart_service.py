"""Restart the charger and install firmware: send once, never blindly, and watch until the outcome is known."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from math import inf

from ..clock import monotonic_of
from ..errors import ChargerError, Dangerous, NotAllowed, TransportDown, UnsafeRequest
from ..model import (
    FIRMWARE,
    LATEST_FIRMWARE,
    ROLE,
    STATUS,
    Capability,
    ChargerIssue,
    Outcome,
    Readings,
    RestartAvailability,
    Source,
    Status,
)
from ..transport import Install, Presence, Restart, Transport
from .context import Context, result_of
from .danger import Danger, DangerWatch
from .evidence import report_age
from .intents import InstallRecord, RestartRecord
from .restart import AWAY_WITHIN, BACK_WITHIN, COOLING_DOWN, STATUS_FRESH, Facts, RestartWatch, availability, guard
from .router import Router

INSTALL_WITHIN = 3 * 3600.0
"""Maximum seconds until the charger reports the new version after the start of a firmware install."""

REFUSED_WITHOUT_READING = frozenset(
    {
        RestartAvailability.NO_TRANSPORT,
        RestartAvailability.UNSUPPORTED_MODEL,
        RestartAvailability.NEEDS_LINK,
        RestartAvailability.OFFLINE,
        RestartAvailability.RESTARTING,
        RestartAvailability.NEEDS_ADMIN,
        RestartAvailability.COOLING_DOWN,
        RestartAvailability.CHECKING,
    }
)
"""Reasons for a refusal that a new read of the status cannot remove."""


class RestartRun:
    """One restart in progress."""

    def __init__(self, watch: RestartWatch) -> None:
        self.watch = watch
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Outcome:
        """Wait for the outcome: `VERIFIED`, `UNVERIFIED` or `FAILED`, at most 10 min after the press.

        Raises:
            NoConnection: `stopping`, if the watch ends because ChargeKeeper stops.
        """
        return await result_of(self._outcome)

    def end(self, outcome: Outcome | None) -> None:
        """Set the outcome for the callers of `wait`; None if ChargeKeeper stops before the outcome is known."""
        if outcome is None:
            self._outcome.cancel()
        else:
            self._outcome.set_result(outcome)


class RestartService:
    """Restart and firmware install of one charger."""

    def __init__(self, context: Context, router: Router) -> None:
        self._context = context
        self._clock = context.clock
        self._intents = context.intents
        self._router = router
        self._danger = DangerWatch(context)
        self._run: RestartRun | None = None
        self._unwatch: list[Callable[[], None]] = []
        self._status_read: asyncio.Task[None] | None = None
        self._checking = False
        self._restart_at: float | None = None
        self._install_at: float | None = None
        self._refused_by_plan = False
        self._failed_at = -inf

    @property
    def restarting(self) -> bool:
        """True while a restart is being watched."""
        return self._run is not None

    @property
    def installing(self) -> bool:
        """True while a firmware install is in progress and not overdue."""
        return self._install_at is not None and self._clock.monotonic() < self._install_at + INSTALL_WITHIN

    @property
    def update_doubted(self) -> bool:
        """True if a transport reported an update hours ago, but not the end of the update.

        Only the user can know if the update is over.
        """
        return self._danger.update_doubted is not None

    def dismiss_update(self) -> None:
        """Ignore the updates that are in doubt. See `Charger.dismiss_update`."""
        self._danger.dismiss()
        self._context.publish()

    def marks(self) -> list[float]:
        """Return the monotonic times at which the state may change even if no report arrives."""
        marks = self._danger.marks()
        if self._run is not None:
            pressed_at = self._run.watch.pressed_at
            marks += [pressed_at + AWAY_WITHIN, pressed_at + BACK_WITHIN]
        if self._restart_at is not None:
            marks.append(self._restart_at + COOLING_DOWN)
        if self._install_at is not None:
            marks.append(self._install_at + INSTALL_WITHIN)
        return marks

    def restore(self) -> None:
        """Restore the last restart, the install and the updates from the intent store."""
        self._danger.restore()
        entries = self._intents.entries
        if entries.restart is not None:
            self._restart_at = monotonic_of(self._clock, entries.restart.pressed_at)
            if entries.restart.outcome is Outcome.FAILED:
                self._context.issues.add(ChargerIssue.RESTART_FAILED)
                self._failed_at = self._clock.monotonic()
        if entries.install is not None:
            self._install_at = monotonic_of(self._clock, entries.install.started_at)

    def start(self) -> None:
        """Continue to watch a restart that the intent store shows in progress."""
        record = self._intents.entries.restart
        if record is not None and record.outcome is None and self._restart_at is not None and self._run is None:
            away_at = None if record.away_at is None else monotonic_of(self._clock, record.away_at)
            self._begin_watch(RestartWatch(self._restart_at, away_at))

    def stop(self) -> None:
        """Stop watching. In the intent store, the restart stays in progress."""
        self._end_watch(None)

    async def restart(self) -> RestartRun:
        """Restart the charger. See `Charger.restart`."""
        if self._run is not None:
            raise UnsafeRequest("restart_restarting")
        async with self._context.lock:
            transport = await self._guarded_transport(Restart(), "restart")
            previous = self._intents.entries.restart
            pressed_at = self._clock.monotonic()
            await self._intents.write(restart=RestartRecord(self._clock.now()))
            try:
                self._guard(transport, Restart(), "restart")  # the saving took a while
                await self._router.send(transport, Restart())
            except ChargerError as err:
                if not err.surely_not_sent:
                    self._begin_watch(RestartWatch(pressed_at))
                    raise TransportDown("restart_unclear") from err
                # Nothing was sent, or the restart was refused: the press does not count.
                await self._intents.write(restart=previous)
                if isinstance(err, NotAllowed) and err.reason == "refused":
                    self._refused_by_plan = True
                    self._context.publish()
                    raise NotAllowed("restart_refused") from err
                raise
            self._refused_by_plan = False
            self._context.issues.discard(ChargerIssue.RESTART_FAILED)
            self._context.emit("restart", Outcome.ACCEPTED)
            return self._begin_watch(RestartWatch(pressed_at))

    async def install(self) -> None:
        """Install the newest firmware. See `Charger.install`."""
        async with self._context.lock:
            transport = await self._guarded_transport(Install(), "install")
            latest = self._context.readings_store.get(LATEST_FIRMWARE)
            record = InstallRecord(self._clock.now(), "" if latest is None else latest.value)
            await self._intents.write(install=record)
            try:
                self._guard(transport, Install(), "install")  # the saving took a while
                await self._router.send(transport, Install())
            except ChargerError as err:
                if err.surely_not_sent:
                    await self._intents.write(install=None)
                if isinstance(err, NotAllowed) and err.reason == "refused":
                    raise NotAllowed("install_refused") from err
                raise
            finally:
                self._install_at = None if self._intents.entries.install is None else self._clock.monotonic()
                self._context.publish()
            self._context.issues.discard(ChargerIssue.INSTALL_OVERDUE)

    def availability(self, capability: Capability = Capability.RESTART) -> RestartAvailability:
        """Return `AVAILABLE` if a press would probably succeed, otherwise the reason why not."""
        return availability(self._facts(capability))

    def on_readings(self, transport: Transport, readings: Readings) -> None:
        """Record what a transport reported."""
        self._danger.on_readings(transport, readings)
        self._observe(transport)
        self.check_outcomes()
        status = self._context.readings_store.get(STATUS)
        alive = status is not None and status.observed_mono > self._failed_at and status.value is not Status.OFFLINE
        if alive and self._run is None and ChargerIssue.RESTART_FAILED in self._context.issues:
            self._context.issues.discard(ChargerIssue.RESTART_FAILED)
            self._context.spawn(self._forget_failure())  # otherwise the issue would return after a start

    def check_outcomes(self) -> None:
        """Check whether the outcome of a restart or an install is known by now."""
        self._danger.save_if_due()
        self._check_restart()
        self._check_install()

    async def _guarded_transport(self, command: Restart | Install, what: str) -> Transport:
        """Return the transport that may carry the command, judged on a status read for it. Raises ChargerError."""
        capability = command.capability
        verdict = self.availability(capability)
        if verdict is RestartAvailability.NO_TRANSPORT:
            self._router.require(capability)
        if verdict in REFUSED_WITHOUT_READING:
            raise UnsafeRequest(f"{what}_{verdict}")
        transport = self._router.require(capability)[0]
        status_received_at = transport.status_received_at
        stale = status_received_at is None or self._clock.monotonic() - status_received_at > STATUS_FRESH
        if stale or guard(self._facts(capability)) is RestartAvailability.STATUS_UNKNOWN:
            self._checking = True
            self._context.publish()
            try:
                await transport.check()
            finally:
                self._checking = False
                self._context.publish()
        self._guard(transport, command, what)
        return transport

    def _guard(self, transport: Transport, command: Restart | Install, what: str) -> None:
        """Raise UnsafeRequest if the command may not be sent over the transport now."""
        verdict = guard(self._facts(command.capability))
        if verdict is RestartAvailability.AVAILABLE:
            return
        if verdict is RestartAvailability.STATUS_UNKNOWN and (doubted := self._danger.update_doubted) is not None:
            raise Dangerous(f"{what}_update_doubted", doubted.source)
        if verdict is RestartAvailability.UPDATING:
            danger = self._danger.updating or self._install_danger()
        elif verdict is RestartAvailability.CHARGING:
            danger = self._danger.flowing or Danger(transport.source)
        else:
            raise UnsafeRequest(f"{what}_{verdict}")
        raise Dangerous(f"{what}_{verdict}", danger.source, danger.until)

    def _install_danger(self) -> Danger:
        """Return the danger of an install that the cloud accepted: it may begin at any time, reported or not."""
        assert self._install_at is not None
        left = timedelta(seconds=self._install_at + INSTALL_WITHIN - self._clock.monotonic())
        return Danger(Source.CLOUD, self._clock.now() + left)

    def _facts(self, capability: Capability) -> Facts:
        now = self._clock.monotonic()
        admitted = self._router.ordered()
        capable = [transport for transport in admitted if capability in transport.capabilities]
        # Transports that show the charger online come first: a local transport before a cloud that shows the charger
        # offline.
        transport = next((transport for transport in capable or admitted if transport.breaker.usable), None)
        status_received_at = None if transport is None else transport.status_received_at
        status = self._context.readings_store.fresh(STATUS, now)
        role = self._context.readings_store.get(ROLE)
        if status is not None:
            # The status of the transport that carries the command counts. Dangers that other transports reported are
            # facts of their own, below.
            status = None if transport is None or transport.last_report is None else transport.last_report.status
        if status is Status.UPDATING:
            status = None  # an update counts as long as `DangerWatch` remembers it
        return Facts(
            has_transport=transport is not None,
            over_cloud=transport is not None and transport.source is Source.CLOUD,
            supported=bool(capable),
            presence=Presence.UNKNOWN if transport is None else transport.presence,
            status=status,
            status_age=None if status_received_at is None else now - status_received_at,
            evidence_age=report_age(transport, now),
            role=None if role is None else role.value,
            since_last=None if self._restart_at is None else max(now - self._restart_at, 0.0),
            watching=self._run is not None,
            allow_while_charging=self._context.options.restart_while_charging,
            refused_by_plan=self._refused_by_plan,
            checking=self._checking,
            linkable=capability is Capability.RESTART
            and any(transport.restart_needs_link for transport in self._router),
            at_rest=transport is not None and transport.at_rest,
            updating=self.installing or self._danger.updating is not None,
            update_doubted=self._danger.update_doubted is not None,
            flowing=self._danger.flowing is not None,
        )

    def _begin_watch(self, watch: RestartWatch) -> RestartRun:
        self._run = RestartRun(watch)
        self._restart_at = watch.pressed_at
        self._unwatch = [transport.watch() for transport in self._router]
        self._context.publish()
        return self._run

    def watch_transport(self, transport: Transport) -> None:
        """Let an added transport read as often as it can while a restart is being watched."""
        if self._run is not None:
            self._unwatch.append(transport.watch())

    def _observe(self, transport: Transport) -> None:
        last_report = transport.last_report
        if self._run is None or last_report is None:
            return
        watch = self._run.watch
        was_away = watch.away_at
        watch.observe(
            self._clock.monotonic(),
            away=last_report.status is Status.OFFLINE,
            updating=last_report.status is Status.UPDATING,
            evidence_at=transport.charger_reported_at,
        )
        if watch.away_at is not None and was_away is None:
            self._context.spawn(self._intents.write(restart=replace(self._record, away_at=self._clock.now())))
        if watch.wants_status and (self._status_read is None or self._status_read.done()):
            self._status_read = self._context.spawn(self._router.read_status(transport))

    def _check_restart(self) -> None:
        outcome = None if self._run is None else self._run.watch.outcome(self._clock.monotonic())
        if outcome is None:
            return
        self._end_watch(outcome)
        if outcome is Outcome.FAILED:
            self._context.issues.add(ChargerIssue.RESTART_FAILED)
            self._failed_at = self._clock.monotonic()
        self._context.spawn(self._intents.write(restart=replace(self._record, outcome=outcome)))
        self._context.emit("restart", outcome)

    @property
    def _record(self) -> RestartRecord:
        """The record of the restart that is being watched, or whose watch just ended."""
        record = self._intents.entries.restart
        assert record is not None
        return record

    async def _forget_failure(self) -> None:
        """Remove the record of a failed restart, unless another one was sent meanwhile."""
        async with self._context.lock:
            record = self._intents.entries.restart
            if record is not None and record.outcome is Outcome.FAILED:
                await self._intents.write(restart=None)

    def _end_watch(self, outcome: Outcome | None) -> None:
        for end in self._unwatch:
            end()
        self._unwatch = []
        if self._run is not None:
            self._run.end(outcome)
            self._run = None

    def _check_install(self) -> None:
        record = self._intents.entries.install
        if record is None or self._install_at is None:
            return
        firmware = self._context.readings_store.get(FIRMWARE)
        latest = self._context.readings_store.get(LATEST_FIRMWARE)
        wanted = {record.target, None if latest is None else latest.value}
        if firmware is not None and firmware.observed_mono > self._install_at and firmware.value in wanted:
            self._install_at = None
            self._context.issues.discard(ChargerIssue.INSTALL_OVERDUE)
            self._context.spawn(self._intents.write(install=None))
        elif not self.installing:
            self._context.issues.add(ChargerIssue.INSTALL_OVERDUE)
