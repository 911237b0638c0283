"""Hold the user's time-of-use override until its end, through outages, restarts and external changes.

`intents.decide` chooses the next step; this module takes it. Every step is saved before a command is sent.
"""

from dataclasses import replace
from datetime import datetime, timedelta
import logging
from math import inf
from types import EllipsisType

from .. import schedule
from ..cooldown import Backoff
from ..errors import (
    ChargerError,
    GaveWay,
    LoginRejected,
    NotAllowed,
    NotApplicable,
    NotSaved,
    TransportBusy,
    TransportDown,
    Unsupported,
)
from ..model import (
    ALLOWED_TO_CHARGE,
    CAR_CONNECTED,
    CHARGING_CURRENT,
    LIVE_AGE,
    OVERRIDE_IN_EFFECT,
    POWER_FLOWS,
    SCHEDULE,
    SESSION_ENERGY,
    STATUS,
    Capability,
    ChargerIssue,
    Outcome,
    Override,
    Schedule,
    Status,
)
from ..transport import STOP, Presence, SetOverride, StatusReport, Transport
from .authority import Authority, status_received_at
from .context import Context, SingleFlight
from .evidence import UNVERIFIED_AFTER, FirstReport, reported_since
from .intents import (
    APPLICATIONS,
    Decision,
    End,
    IntentState,
    Observation,
    OverrideIntent,
    PauseIntent,
    Step,
    Until,
    decide,
    end_override,
)
from .reduction import relief
from .router import Prepare, Router

LOGGER = logging.getLogger(__name__)

EFFECT_AFTER = 15.0
"""Seconds after which an acknowledged override counts as without effect if no status shows it."""

SILENT_FOR = 400.0
"""Seconds from a command to the charger's first report after which the charger may have been out of reach, so that the
command never arrived. An idle charger reports every 300 s."""

REPORT_LAG = 60.0
"""Seconds by which a status report may lag behind the edge of a window."""

SCHEDULE_RETRY = 1800.0
"""Seconds until the next attempt after a schedule could not be read completely or could not be handed back."""

SHOWS_WITHIN = 300.0
"""Seconds within which a written schedule appears when the schedule is read. An earlier answer may be out of date."""

FULL_AFTER_WAITING = 600.0
"""Seconds without charging after which a car that took at least `FULL_ENERGY` kWh counts as full."""
FULL_ENERGY = 0.2

HANDED_BACK = frozenset({End.CANCELLED, End.TIME, End.FULL})
"""Ends of an override after which ChargeKeeper hands control back to the schedule. After the other ends, the schedule
is already in control or is not wanted."""

FAILURES = frozenset({ChargerIssue.OVERRIDE_SUPERSEDED, ChargerIssue.OVERRIDE_FAILED, ChargerIssue.SCHEDULE_UNREADABLE})
"""Issues of an override that ended against the user's will, shown until the car leaves or the user requests a new
one."""


class OverrideController:
    """The override of one charger.

    `lower_for_start` brings the current below the ceiling on a transport before a start.
    """

    def __init__(
        self,
        context: Context,
        router: Router,
        authority: Authority,
        lower_for_start: Prepare,
    ) -> None:
        self._context = context
        self._clock = context.clock
        self._intents = context.intents
        self._router = router
        self._authority = authority
        self._lower_for_start = lower_for_start
        self._single_flight = SingleFlight(context, self._reconcile_alone)
        self._stopping_flight = SingleFlight(context, self._stop_alone)
        self._stop_unanswered = False  # the pause that ends a draw may not have arrived
        self._sent_at = -inf
        self._first_report = FirstReport()
        self._told_of = -inf  # the step of which the user was told that nobody has seen its effect
        self._begun_at = context.clock.monotonic()  # commands of an earlier run were sent before
        self._retry = Backoff(context.clock)
        self._released_at = -inf  # monotonic time of the last report before control was handed back
        self._pending_announced = True  # a restored override was pending at least for a while
        self._unconfirmed = True
        self._requested = False  # the user requested the override, and it was not sent after that
        self._inside_at_confirm: bool | None = None
        self._waiting_car_since: float | None = None
        self._schedule_handed_back: Schedule = ()  # the schedule as it should be after it was handed back
        self._disabled_at = self._begun_at  # when windows were last written as disabled; before this run if never

    @property
    def shown(self) -> Override:
        """The state of the override switch."""
        intent = self._intents.entries.override
        if intent is None or intent.state is IntentState.ENDING:
            return Override()
        now = self._clock.monotonic()
        status = self._context.readings_store.fresh(STATUS, now)
        held = status is Status.PAUSED and self._context.paused_by_group
        transport = self._authority.transport(Capability.OVERRIDE)
        live = transport is not None and reported_since(transport, now - LIVE_AGE[transport.source])
        report = self._last_report() if live else None
        # A meter may see a charger charge that is silent otherwise, so that its status reads offline.
        flows = report is not None and report.status in POWER_FLOWS
        followed = status in ALLOWED_TO_CHARGE or held or flows
        return Override(on=True, applied=followed and intent.state is IntentState.VERIFIED)

    @property
    def disabled_windows(self) -> tuple[str, ...]:
        """Schedule windows that are disabled for the override, as text, until a report shows them enabled."""
        intent = self._intents.entries.override
        return () if intent is None else _named(intent.originals)

    @property
    def left_paused(self) -> bool:
        """True if the end of the override may have left the charger paused. ChargeKeeper releases the charger later."""
        intent = self._intents.entries.override
        if intent is None:
            return False
        handed_back = intent.sent and intent.applications > 0  # which ends the pause that stopped the draw
        return intent.left_paused or (intent.stopped and not handed_back)

    @property
    def left_on(self) -> bool:
        """True if the charger may be under an override, and control was not handed back to its schedule."""
        intent = self._intents.entries.override
        if intent is None or not intent.sent:
            return False
        return intent.state is not IntentState.ENDING or not (intent.applications or intent.stopped)

    @property
    def until_at(self) -> datetime | None:
        """Time at which the override ends by itself; None if there is no such time or it is past."""
        intent = self._intents.entries.override
        until_at = None if intent is None or intent.state is IntentState.ENDING else intent.until_at
        return until_at if until_at is not None and until_at > self._clock.now() else None

    @property
    def full_at(self) -> float | None:
        """Monotonic time at which a car that takes nothing counts as full; None if no car is waiting."""
        return None if self._waiting_car_since is None else self._waiting_car_since + FULL_AFTER_WAITING

    def marks(self) -> list[float]:
        """Return the monotonic times at which the override may need a step even if no report arrives."""
        wanted = self._intents.entries.override is not None
        unverified_at = self._sent_at + UNVERIFIED_AFTER if wanted else inf
        return [self.full_at or inf, self._context.cooldown.start_at if wanted else inf, unverified_at]

    def mark_unconfirmed(self) -> None:
        """Record that the charger may have dropped the override."""
        self._unconfirmed = True

    def heard(self, transport: Transport) -> None:
        """Update how long the car has waited, and clear the failure issues once the car has left."""
        last_report = transport.last_report
        if last_report is None:
            return
        if last_report.status is not Status.WAITING_CAR:
            self._waiting_car_since = None
        elif self._waiting_car_since is None:
            self._waiting_car_since = self._clock.monotonic()
        if last_report.car_connected is False and not self.disabled_windows:
            self._context.issues -= FAILURES

    async def switch(self, *, on: bool, until: Until, until_at: datetime | None) -> Outcome:
        """Turn the override on or off. See `Charger.set_override`."""
        if not any(Capability.OVERRIDE in transport.capabilities for transport in self._router):
            raise Unsupported("unsupported", Capability.OVERRIDE)
        if on:
            self._router.admit(Capability.OVERRIDE)  # otherwise the override would wait forever
        async with self._router.turn(urgent=not on):
            self._retry.reset()
            intent = self._intents.entries.override
            if on:
                await self._request(intent, until, until_at)
            elif intent is not None and intent.state is not IntentState.ENDING:
                await self._end(intent, End.CANCELLED)
            if (refusal := await self._reconcile()) is not None:
                raise refusal
            return Outcome.FAILED if on and self._context.issues & FAILURES else self._outcome()

    async def give_way(self, pause: PauseIntent) -> None:
        """End the override because the user paused the charger instead, and store that pause.

        Control is not handed back, because that would end the pause. The caller holds the lock.
        """
        intent = self._intents.entries.override
        if intent is not None:
            intent = replace(intent, sent=False, left_paused=False, stopped=False)
        if intent is None or intent.state is IntentState.ENDING:
            await self._context.save_or_keep(override=intent, pause=pause)
        else:
            await self._end(intent, End.CANCELLED, pause)

    async def end_for_good(self, *, read_back: bool) -> tuple[str, ...]:
        """End the override before the charger is removed. See `Charger.cancel_override`."""
        async with self._router.turn(urgent=True):
            intent = self._intents.entries.override
            if intent is not None and intent.state is not IntentState.ENDING:
                await self._end(intent, End.CANCELLED)
            self._retry.reset()
            await self._reconcile()
            return () if await self._is_restored(read_back=read_back) else self.disabled_windows

    def reconcile_soon(self) -> None:
        """Take the next steps in the background if there is an override."""
        intent = self._intents.entries.override
        if intent is not None:
            flight = self._stopping_flight if self._ends_draw(intent) else self._single_flight
            flight.start()

    async def _reconcile_alone(self) -> None:
        async with self._router.turn():
            await self._reconcile()

    async def _stop_alone(self) -> None:
        async with self._router.turn(urgent=True):
            await self._reconcile()

    def _ends_draw(self, intent: OverrideIntent) -> bool:
        """Return True if the next step ends an override under which the charger may charge."""
        if not intent.sent:
            return False
        if intent.state is not IntentState.ENDING:
            return self._next_step(intent).end in HANDED_BACK
        is_due = self._retry.is_due(status_received_at(self._router.first(Capability.OVERRIDE)))
        may_be_sent = not intent.originals and intent.applications == 0 and intent.end in HANDED_BACK
        return is_due and (may_be_sent or self._must_stop(intent))

    async def _request(self, intent: OverrideIntent | None, until: Until, until_at: datetime | None) -> None:
        readings_store = self._context.readings_store
        if readings_store.fresh(STATUS, self._clock.monotonic()) is Status.LOCKED:
            raise NotAllowed("locked")
        self._context.issues -= FAILURES
        self._schedule_handed_back = ()
        self._requested = True
        if intent is None:
            self._pending_announced = False
            status = readings_store.get(STATUS)
            car = readings_store.get(CAR_CONNECTED)
            base = None if status is None else status.value
            intent = OverrideIntent(
                created_at=self._clock.now(),
                # The request ends the pause, even if the charger is silent now and shows the pause later.
                base=base if self._intents.entries.pause is None else Status.PAUSED,
                seen_plugged=car is not None and car.value,
            )
        elif intent.state is IntentState.ENDING:
            # The effects of the old override remain at the charger: the same intent starts again.
            self._pending_announced = False
            base = Status.PAUSED if intent.stopped else intent.base  # our own pause is no external change
            reopened = replace(intent, state=IntentState.PENDING, applications=0, disabled=False, left_paused=False)
            intent = replace(reopened, end=None, external_status=None, stopped=False, base=base)
        await self._intents.write(override=replace(intent, until=until, until_at=until_at), pause=None)
        self._context.publish()

    async def _end(
        self,
        intent: OverrideIntent,
        end: End,
        pause: PauseIntent | EllipsisType = ...,
        *,
        failure: ChargerIssue = ChargerIssue.OVERRIDE_FAILED,
    ) -> None:
        last_report = self._last_report()
        external_status = None if last_report is None else last_report.status
        await self._context.save_or_keep(override=end_override(intent, end, external_status), pause=pause)
        if end is End.SUPERSEDED:
            self._context.issues.add(ChargerIssue.OVERRIDE_SUPERSEDED)
            details = {
                "ours": Status.CHARGING.value,
                "theirs": "" if external_status is None else external_status.value,
            }
            self._context.emit("connection", "override_superseded", details)
        else:
            if end is End.FAILED:
                self._context.issues.add(failure)
            self._context.emit("connection", "override_ended", {"reason": end.value})
        self._context.publish()

    def _outcome(self) -> Outcome:
        intent = self._intents.entries.override
        if intent is None or intent.state is IntentState.VERIFIED:
            return Outcome.VERIFIED
        if intent.state is IntentState.APPLIED or (intent.state is IntentState.ENDING and not self.left_on):
            return Outcome.ACCEPTED
        if intent.state is IntentState.PENDING and not self._pending_announced:
            self._pending_announced = True
            self._context.emit("connection", "override_pending")
        return Outcome.PENDING

    async def _reconcile(self) -> ChargerError | None:
        """Take steps until the override has to wait. Return the error that refused a step, if any.

        After a transport failed, the override waits. A refusal ends the override and goes to the caller.
        """
        refusal: ChargerError | None = None
        if self._context.options.read_only:
            await self._end_for_read_only()
        while (intent := self._intents.entries.override) is not None and not self._context.stopping:
            decision = self._next_step(intent)
            if decision.step is Step.WAIT:
                self._report_unverified(intent)
                self._request_report(intent)
                break
            try:
                done = await self._take_step(intent, decision)
            except GaveWay:  # a reduction comes first
                self._context.spawn(self._reconcile_alone())
                break
            except (TransportDown, TransportBusy, LoginRejected, NotSaved) as err:
                LOGGER.debug("The override waits: %s", err)
                self._back_off()
                refusal = err if isinstance(err, NotSaved) else refusal
                break
            except ChargerError as err:
                refusal = err
                done = True
                await self._handle_refusal(err)
            self._context.publish()
            if not done:
                break
        return refusal

    async def _end_for_read_only(self) -> None:
        """End the override of a read-only charger, so that its effects are undone."""
        intent = self._intents.entries.override
        if intent is not None and intent.state is not IntentState.ENDING:
            await self._end(intent, End.CANCELLED)

    def _back_off(self, *, at_least: float = 0.0) -> None:
        """Record a failed step: the next try needs a newer report, and waits longer after each failure."""
        self._retry.failed(status_received_at(self._router.first(Capability.OVERRIDE)), at_least=at_least)

    def _next_step(self, intent: OverrideIntent) -> Decision:
        last_report = self._last_report()
        received_at = self._authority.status_received_at(Capability.OVERRIDE)
        transport = self._authority.transport(Capability.OVERRIDE)
        reported = reported_since(transport, self._sent_at)
        if not reported and intent.state is not IntentState.PENDING:
            last_report = None  # from before the last step, or only what the cloud wrote down
        elif self._first_report.is_late(transport, self._sent_at, SILENT_FOR):
            self._unconfirmed = True  # the charger may have been out of reach of the last step
        status = None if last_report is None else last_report.status
        if status in OVERRIDE_IN_EFFECT and (received_at <= self._released_at or not reported):
            status = Status.WAITING_SCHEDULE  # reported before control was handed back
        if status is Status.PAUSED and self._context.group_pause_sent and self._context.group_share is None:
            status = Status.WAITING_SCHEDULE  # the load group that paused the charger is gone
        elif status is Status.PAUSED and self._context.paused_by_group:
            # Nobody ended the override. Once there is room, the override must still end an earlier pause of the user.
            begun = self._context.group_pause_sent or intent.state is not IntentState.PENDING
            status = Status.WAITING_POWER if begun else None
        elif status is Status.WAITING_SCHEDULE and self._context.paused_by_group:
            status = None  # keep waiting: the load group lets the charger charge once there is room
        window_closed = self._inside_at_confirm is True and self._inside(received_at) is False
        return decide(
            intent,
            Observation(
                now=self._clock.now(),
                status=status,
                car_connected=None if last_report is None else last_report.car_connected,
                full=self._is_full(status),
                effect_due=reported and received_at >= self._sent_at + EFFECT_AFTER and self._reported_since(intent),
                unconfirmed=self._unconfirmed or window_closed,
            ),
        )

    def _reported_since(self, intent: OverrideIntent) -> bool:
        """Return True if the charger itself reported after the last command, or if no such report is needed.

        A cloud acknowledges commands even for a charger that is off. Only a report of the charger therefore shows if
        ChargeKeeper's changes were undone. ChargeKeeper tries again only after such a report.
        """
        transport = self._transport_for(intent, Step.FINISH)
        if intent.state is not IntentState.ENDING or transport is None:
            return True
        return reported_since(transport, max(self._sent_at, self._begun_at))

    def _report_unverified(self, intent: OverrideIntent) -> None:
        """Tell once that no report of the charger has followed the last step. The override goes on."""
        due = self._clock.monotonic() >= self._sent_at + UNVERIFIED_AFTER
        if intent.state is not IntentState.APPLIED or not due or self._told_of == self._sent_at:
            return
        self._told_of = self._sent_at
        if not reported_since(self._authority.transport(Capability.OVERRIDE), self._sent_at):
            self._context.emit("connection", "command_unverified", {"command": Capability.OVERRIDE})

    def _request_report(self, intent: OverrideIntent) -> None:
        """Read the status now and then while the last step waits for a report of the charger."""
        transport = self._transport_for(intent, Step.FINISH)
        waited = status_received_at(transport) >= self._sent_at + EFFECT_AFTER and self._retry.is_due()
        sent_at = max(self._sent_at, self._begun_at if intent.state is IntentState.ENDING else -inf)
        if waited and transport is not None and sent_at > -inf and not reported_since(transport, sent_at):
            self._back_off()
            self._context.spawn(self._router.read_status(transport))

    def _transport_for(self, intent: OverrideIntent, step: Step) -> Transport | None:
        """Return the transport that can take a step.

        A step that concerns the schedule needs a transport that can read and write it.
        """
        on_schedule = step is Step.DISABLE_SCHEDULE or (step is Step.FINISH and intent.originals)
        return self._router.first(Capability.SCHEDULES if on_schedule else Capability.OVERRIDE)

    def _last_report(self) -> StatusReport | None:
        return self._authority.last_report(Capability.OVERRIDE)

    def _inside(self, at: float) -> bool | None:
        """Return True if a window was open at a recent monotonic time; None without an enabled window or a time."""
        windows = self._context.readings_store.get(SCHEDULE)
        if windows is None or not any(window.enabled for window in windows.value) or at == -inf:
            return None
        return schedule.inside(windows.value, self._clock.now() - timedelta(seconds=self._clock.monotonic() - at))

    def _is_full(self, status: Status | None) -> bool:
        if status is Status.COMPLETED:
            return True
        energy = self._context.readings_store.get(SESSION_ENERGY)
        waited = self.full_at is not None and self._clock.monotonic() >= self.full_at
        return status is Status.WAITING_CAR and waited and energy is not None and energy.value >= FULL_ENERGY

    async def _take_step(self, intent: OverrideIntent, decision: Decision) -> bool:
        """Take one step. Raises ChargerError.

        Return False if the next step has to wait for a transport or its next report.
        """
        last_report = self._last_report()
        now = self._clock.monotonic()
        if last_report is not None and last_report.car_connected and not intent.seen_plugged:
            intent = replace(intent, seen_plugged=True)
        if decision.step is Step.END:
            await self._end(intent, decision.end or End.FAILED)
            return True
        if decision.step is Step.FINISH and not intent.originals and not (intent.sent and intent.end in HANDED_BACK):
            await self._context.save_or_keep(override=None)
            return True
        if decision.step is Step.CONFIRM:
            await self._confirm(intent)
            return False
        if decision.step is Step.FINISH and self._must_stop(intent):
            return await self._stop_draw(intent)
        if intent.left_paused:
            return await self._release(intent, last_report)
        if decision.step is Step.SEND and self._is_automatic(intent) and now < self._context.cooldown.start_at:
            return False
        transport = self._transport_for(intent, decision.step)
        if transport is None and decision.step is Step.DISABLE_SCHEDULE and not self._reads_schedules():
            raise NotApplicable("wrong_state")
        if (
            transport is None
            or last_report is None
            or not self._retry.is_due(status_received_at(self._router.first(Capability.OVERRIDE)))
        ):
            return False
        steps = {Step.SEND: self._apply, Step.DISABLE_SCHEDULE: self._disable_schedule, Step.FINISH: self._finish}
        await steps[decision.step](transport, intent)
        self._retry.reset()
        return True

    def _reads_schedules(self) -> bool:
        """Return True if any transport, usable now or not, could disable the schedule."""
        return any(Capability.SCHEDULES in transport.capabilities for transport in self._router)

    async def _confirm(self, intent: OverrideIntent) -> None:
        """Record that the charger does what the user wants.

        The reason may be the override, somebody else, or an open window.
        """
        lagging = self._authority.status_received_at(Capability.OVERRIDE) - REPORT_LAG
        self._unconfirmed = False
        self._inside_at_confirm = self._inside(lagging)
        sent = intent.sent or self._inside_at_confirm is False
        await self._intents.write(override=replace(intent, state=IntentState.VERIFIED, sent=sent))

    def _is_automatic(self, intent: OverrideIntent) -> bool:
        """Return True if the override would be sent again without a request of the user."""
        return intent.sent and not self._requested

    async def _apply(self, transport: Transport, intent: OverrideIntent) -> None:
        """Ask the charger to charge now."""
        again = intent.sent or self._pending_announced
        pending = replace(intent, state=IntentState.PENDING)
        sending = replace(pending, sent=True, applications=intent.applications + 1)
        await self._intents.write(override=sending)
        delivery = await self._router.deliver(SetOverride(on=True), self._lower_for_start)
        conflict = isinstance(delivery.refusal, NotApplicable)
        if not conflict and not delivery.may_have_arrived:
            await self._intents.write(override=pending)  # the attempt does not count
        if not conflict:
            delivery.require()
        transport = self._router.transports.get(delivery.last_source, transport)
        if self._is_automatic(intent):
            self._context.cooldown.switched()
        self._requested = False
        self._unconfirmed = False
        await self._intents.write(override=replace(sending, state=IntentState.APPLIED))
        if again:
            self._context.emit("connection", "override_reapplied")
        if conflict:
            # The charger may charge already, or its schedule may block it: read the status at once.
            self._sent_at = -inf
            await transport.check()
        else:
            self._sent_at = self._clock.monotonic()
            self._router.read_back(transport)

    async def _disable_schedule(self, transport: Transport, intent: OverrideIntent) -> None:
        """Disable the schedule, because the charger did not start. The original windows are saved first."""
        present = await transport.read_schedule()
        enabled = tuple(window for window in present if window.enabled)
        originals = enabled + schedule.missing(intent.originals, enabled)
        if not originals:
            raise NotApplicable("wrong_state")
        earlier = self._disabled_at if intent.originals else -inf
        intent = replace(intent, originals=originals)
        if enabled:  # otherwise an earlier try succeeded
            await self._intents.write(override=intent)
            self._disabled_at = self._clock.monotonic()
            try:
                await transport.write_schedule(schedule.disabled(enabled))
            except ChargerError as err:
                self._disabled_at = earlier if err.surely_not_sent else self._disabled_at
                raise
            self._sent_at = self._clock.monotonic()
            wanted = schedule.changed(present, schedule.disabled(enabled))
            if not schedule.same(await transport.read_schedule(), wanted):
                raise NotApplicable("schedule_not_taken")
        await self._intents.write(override=replace(intent, disabled=True))
        self._sent_at = self._clock.monotonic()
        self._router.read_back(transport)

    def _must_stop(self, intent: OverrideIntent) -> bool:
        """Return True if the charger would charge on against its schedule, because that is still disabled."""
        last_report = self._last_report()
        status = None if last_report is None else last_report.status
        is_owed = intent.sent and intent.end in HANDED_BACK and intent.applications == 0
        is_open = is_owed and intent.state is IntentState.ENDING and (self._stop_unanswered or not intent.stopped)
        draws = status is None or status in OVERRIDE_IN_EFFECT
        return bool(is_open and draws and intent.originals) and not schedule.inside(intent.originals, self._clock.now())

    async def _stop_draw(self, intent: OverrideIntent) -> bool:
        """Pause the charger until its schedule is enabled again. The pause is saved first. Raises ChargerError.

        Return False if that has to wait for a transport or its next report.
        """
        transport = self._router.first(Capability.CHARGING)
        if transport is None or not self._retry.is_due(status_received_at(transport)):
            return False
        await self._context.save_or_keep(override=replace(intent, stopped=True))
        self._stop_unanswered = False
        try:
            delivery = await self._router.deliver(STOP, urgent=relief(STOP, self._present_current))
            delivery.require()
        except (TransportDown, TransportBusy, LoginRejected) as err:
            self._stop_unanswered = not err.surely_not_sent
            if err.surely_not_sent:
                await self._context.save_or_keep(override=intent)
            raise
        except ChargerError as err:
            LOGGER.debug("The charger does not take the pause: %s", err)
        self._retry.reset()
        return True

    @property
    def _present_current(self) -> float | None:
        """The last known setting in A; None if unknown."""
        setting = self._context.readings_store.get(CHARGING_CURRENT)
        return None if setting is None else setting.value

    async def _finish(self, transport: Transport, intent: OverrideIntent) -> None:
        """Undo the override.

        Enable the windows that ChargeKeeper disabled and that nobody changed afterwards, and hand back control. An
        acknowledgement is not an effect: ChargeKeeper repeats both until a later report shows nothing left to undo.
        """
        self._released_at = self._authority.latest
        if intent.stopped and schedule.inside(intent.originals, self._clock.now()):
            intent = await self._release_in_window(transport, intent)
        try:
            present = await transport.read_schedule() if intent.originals else ()
        except NotApplicable:
            await self._free(transport, intent)
            raise
        self._report_lost_windows(present)
        to_enable = schedule.disabled_of(intent.originals, present)
        if not to_enable and self._may_show_later(intent):
            await self._free(transport, intent)
            raise TransportBusy("too_soon", SHOWS_WITHIN)
        if not to_enable:
            intent = replace(intent, originals=())  # seen enabled, or changed by somebody else: nothing to undo
        hand_back = self._must_hand_back(intent)
        if not to_enable and not hand_back:
            self._context.issues.discard(ChargerIssue.SCHEDULE_UNREADABLE)
            await self._context.save_or_keep(override=None)
            return
        if intent.applications >= APPLICATIONS:
            raise NotApplicable("schedule_not_taken" if to_enable else "wrong_state")
        if to_enable:
            await transport.write_schedule(to_enable)
            self._schedule_handed_back = schedule.changed(present, to_enable)
        left_paused = await self._hand_back(transport, stopped=intent.stopped) if hand_back else False
        await self._context.save_or_keep(
            override=replace(intent, applications=intent.applications + 1, left_paused=left_paused)
        )
        self._sent_at = self._clock.monotonic()
        if transport.presence is Presence.ONLINE:
            self._router.read_back(transport)

    async def _release_in_window(self, transport: Transport, intent: OverrideIntent) -> OverrideIntent:
        """End the pause that stopped the draw: by its own schedule, disabled or not, the charger may charge now."""
        left_paused = await self._hand_back(transport, stopped=True)
        released = replace(intent, stopped=False, sent=False, left_paused=left_paused)
        await self._context.save_or_keep(override=released)
        return released

    async def _free(self, transport: Transport, intent: OverrideIntent) -> None:
        """Hand control back at once if the disabled windows can only be enabled later."""
        if self._must_hand_back(intent) and not intent.stopped:
            left_paused = await self._hand_back(transport)
            await self._context.save_or_keep(override=replace(intent, sent=False, left_paused=left_paused))

    def _may_show_later(self, intent: OverrideIntent) -> bool:
        """Return True if windows were written as disabled, but an answer may show the change only later."""
        if not intent.originals or intent.disabled or intent.applications > 0:
            return False
        return self._clock.monotonic() < self._disabled_at + SHOWS_WITHIN

    async def _hand_back(self, transport: Transport, *, stopped: bool = False) -> bool:
        """Hand control back to the schedule. Return True if the charger is only paused instead.

        `stopped` is True if the draw was ended before. Raises ChargerError.
        """
        by_switch = not transport.frees_schedule
        inside = self._inside(self._clock.monotonic())
        if by_switch and self._context.paused_by_group:
            return True
        if by_switch and inside:
            await self._lower_for_start(transport, False)  # inside a window the end of the override may start a charge
        try:
            command = SetOverride(on=False)
            may_start = stopped or (by_switch and inside)
            urgent = 0.0 if may_start else relief(command, self._present_current)
            await self._router.send(transport, command, urgent=urgent)
        except NotApplicable:
            LOGGER.debug("The charger was under its schedule already")
        return by_switch and inside is False

    def _report_lost_windows(self, present: Schedule) -> None:
        """Report which windows are gone since the schedule was handed back.

        A cloud may drop a schedule that it acknowledged.
        """
        lost = schedule.missing(self._schedule_handed_back, present)
        self._schedule_handed_back = ()
        for window in _named(lost):
            LOGGER.warning("The schedule from %s is gone since it was written", window)
            self._context.issues.add(ChargerIssue.OVERRIDE_FAILED)

    async def _is_restored(self, *, read_back: bool) -> bool:
        """Return True if the schedule was handed back and no window is left disabled.

        Without `read_back`, the acknowledgement is enough.
        """
        intent = self._intents.entries.override
        if intent is None or intent.state is not IntentState.ENDING or not (intent.originals and intent.applications):
            return False
        if not read_back:
            return True
        transport = self._transport_for(intent, Step.FINISH)
        try:
            return transport is not None and not schedule.disabled_of(intent.originals, await transport.read_schedule())
        except ChargerError as err:
            LOGGER.debug("The schedule cannot be read back: %s", err)
            return False

    async def _release(self, intent: OverrideIntent, last_report: StatusReport | None) -> bool:
        """End the pause left by a transport that could not hand back control.

        A transport that can hand back control is used as soon as such a transport is available. Otherwise the pause
        ends in the next window, as it would by the schedule.
        """
        transport = self._router.first(Capability.OVERRIDE)
        now = self._clock.monotonic()
        if last_report is None or transport is None:
            return False
        charging_or_unplugged = last_report.car_connected is False or last_report.status in POWER_FLOWS
        if not charging_or_unplugged and not (
            transport.frees_schedule and last_report.status is Status.WAITING_SCHEDULE
        ):
            waits = self._context.paused_by_group or (not transport.frees_schedule and not self._inside(now))
            if waits or not self._retry.is_due(status_received_at(transport)):
                return False
            delivery = await self._router.deliver(SetOverride(on=False), self._lower_for_start)
            delivery.require()
        self._retry.reset()
        await self._context.save_or_keep(override=replace(intent, left_paused=False, sent=False))
        return True

    def _must_hand_back(self, intent: OverrideIntent) -> bool:
        """Return True if control is to be handed back to the schedule.

        Control is handed back once, and again if the charger still seems to be under the override.
        """
        last_report = self._last_report()
        status = None if last_report is None else last_report.status
        if not intent.sent or intent.end not in HANDED_BACK:
            return False
        if status is Status.PAUSED:
            return intent.stopped  # else somebody paused the charger: handing back would let it charge
        overridden = status in OVERRIDE_IN_EFFECT and self._inside(self._released_at) is False
        return intent.applications == 0 or overridden

    async def _handle_refusal(self, err: ChargerError) -> None:
        """Handle a refusal by the charger or its cloud.

        An active override ends as failed. An ending override with disabled windows stays, and ChargeKeeper tries later
        to undo it. An ending override without disabled windows is removed.
        """
        intent = self._intents.entries.override
        assert intent is not None
        failure = (
            ChargerIssue.SCHEDULE_UNREADABLE if err.reason == "schedule_unreadable" else ChargerIssue.OVERRIDE_FAILED
        )
        if failure not in self._context.issues:
            LOGGER.warning("The time-of-use override could not be carried out: %s", err)
        if intent.state is not IntentState.ENDING:
            await self._end(intent, End.FAILED, failure=failure)
            return
        if intent.originals:
            # Keep the record of disabled windows until they show as enabled: a refusal may be temporary.
            self._context.issues.add(failure)
            if intent.applications >= APPLICATIONS:  # the charger ignores the hand-back; only the schedule is retried
                await self._context.save_or_keep(override=replace(intent, sent=False, applications=1))
            self._back_off(at_least=SCHEDULE_RETRY)
            return
        self._context.issues.add(ChargerIssue.OVERRIDE_FAILED)
        self._context.publish()  # the listeners see the windows before they are forgotten
        await self._context.save_or_keep(override=None)


def _named(windows: Schedule) -> tuple[str, ...]:
    return tuple(f"{window.start:%H:%M} to {window.end:%H:%M} {window.zone}" for window in windows)
