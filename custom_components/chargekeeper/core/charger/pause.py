"""Hold a pause that the user requested and a transport accepted: send it again if the charger drops it.

The pause ends when the user starts charging or overrides the schedule, and when the car leaves. It also ends when
somebody else starts charging: ChargeKeeper does not fight an external change.
"""

from dataclasses import replace
import logging
from math import inf

from ..cooldown import Backoff
from ..errors import ChargerError, LoginRejected, NotSaved, TransportBusy, TransportDown, UnsafeRequest
from ..model import OCPP, Capability, Status
from ..transport import START, STOP, Setting
from .authority import Authority, status_received_at
from .commands import Commands
from .context import Context, SingleFlight
from .evidence import FirstReport, reported_since
from .intents import End, IntentState, Observation, PauseIntent, PauseStep, decide_pause
from .override import EFFECT_AFTER, OverrideController
from .router import Router

LOGGER = logging.getLogger(__name__)

SILENT_FOR = 90.0
"""Seconds from a pause to the charger's first report after which the charger may have been out of reach, so that the
pause never arrived. A charging charger reports every 30 s."""


class PauseController:
    """The pause of one charger."""

    def __init__(
        self,
        context: Context,
        router: Router,
        authority: Authority,
        commands: Commands,
        override: OverrideController,
    ) -> None:
        self._context = context
        self._clock = context.clock
        self._intents = context.intents
        self._router = router
        self._authority = authority
        self._commands = commands
        self._override = override
        self._single_flight = SingleFlight(context, self._reconcile)
        self._unconfirmed = True
        self._sent_at = -inf
        self._first_report = FirstReport()
        self._retry = Backoff(context.clock)

    def mark_unconfirmed(self) -> None:
        """Record that the charger may have dropped the pause."""
        self._unconfirmed = True

    async def before_user_command(self, setting: Setting) -> None:
        """End the pause before the user's start command is sent, even if that command then fails.

        The caller holds the lock.
        """
        if setting == START:
            await self._end(End.CANCELLED)

    async def after_user_command(self, setting: Setting, base: Status | None) -> None:
        """Hold a pause of the user that a transport accepted. `base` is the charger's status before the pause.

        The caller holds the lock.
        """
        if setting != STOP:
            return
        self._note_sent()
        self._unconfirmed = False
        try:
            await self._override.give_way(PauseIntent(created_at=self._clock.now(), base=base))
        except NotSaved:
            LOGGER.warning("The pause could not be saved; it will not be restored if the charger drops it")

    def reconcile_soon(self) -> None:
        """Take the next step in the background if there is a pause."""
        if self._intents.entries.pause is not None:
            self._single_flight.start()

    async def _reconcile(self) -> None:
        async with self._context.lock:
            pause = self._intents.entries.pause
            if pause is None or self._context.stopping:
                return
            if self._context.options.read_only:
                await self._end(End.CANCELLED)
                return
            decision = decide_pause(pause, self._seen())
            if decision.step is PauseStep.CONFIRM:
                self._unconfirmed = False
                await self._intents.write(pause=replace(pause, state=IntentState.VERIFIED))
            elif decision.step is PauseStep.SEND:
                await self._restore(pause)
            elif decision.end is not None:
                if decision.end is not End.UNPLUGGED or await self._release(pause):
                    await self._end(decision.end)
                elif pause.state is not IntentState.ENDING:  # another car may come before the pause can be taken back
                    await self._intents.write(pause=replace(pause, state=IntentState.ENDING))

    def _seen(self) -> Observation:
        last_report = self._authority.last_report(Capability.CHARGING)
        transport = self._authority.transport(Capability.CHARGING)
        received_at = self._authority.status_received_at(Capability.CHARGING)
        reported = reported_since(transport, self._sent_at)
        if not reported:
            last_report = None  # from before the pause, or only what the cloud wrote down
        elif self._first_report.is_late(transport, self._sent_at, SILENT_FOR):
            self._unconfirmed = True  # the charger may have been out of reach of the pause
        return Observation(
            now=self._clock.now(),
            status=None if last_report is None else last_report.status,
            car_connected=None if last_report is None else last_report.car_connected,
            full=last_report is not None and last_report.status is Status.COMPLETED,
            effect_due=reported and received_at >= self._sent_at + EFFECT_AFTER,
            # A start that a transport did not acknowledge may arrive late.
            unconfirmed=self._unconfirmed or self._commands.sent.may_arrive_late(START),
        )

    async def _release(self, pause: PauseIntent) -> bool:
        """Take back a pause that the charger would keep for the next car, now that the car has left.

        Return False if the pause cannot be taken back yet.
        """
        transport = self._router.first(Capability.CHARGING)
        if transport is None:
            return pause.state is not IntentState.ENDING
        if not transport.pause_outlasts_session:
            return True
        if not self._retry.is_due(status_received_at(transport)):
            return False
        try:
            await self._router.send(transport, START)
        except (TransportDown, TransportBusy, LoginRejected, UnsafeRequest) as err:
            LOGGER.debug("The end of the pause waits: %s", err)
            self._retry.failed(status_received_at(transport))
            return False
        except ChargerError as err:
            LOGGER.warning("The pause could not be taken back: %s", err)
        self._retry.reset()
        return True

    async def _restore(self, pause: PauseIntent) -> None:
        """Save the pause, then send it again. An attempt that surely was not sent does not count."""
        transport = self._router.first(Capability.CHARGING)
        ocpp = self._context.readings_store.get(OCPP)
        if (
            transport is None
            or not self._retry.is_due(status_received_at(transport))
            or (ocpp is not None and ocpp.value)
        ):
            return
        sending = replace(pause, state=IntentState.APPLIED, applications=pause.applications + 1)
        await self._intents.write(pause=sending)
        try:
            await self._commands.send_now(STOP)
        except (TransportDown, TransportBusy, LoginRejected) as err:
            LOGGER.debug("The pause waits: %s", err)
            self._retry.failed(status_received_at(transport))
            if err.surely_not_sent:
                await self._intents.write(pause=pause)
        except ChargerError as err:
            LOGGER.warning("The pause could not be restored: %s", err)
            self._context.emit("connection", "command_failed", {"command": Capability.CHARGING})
            await self._end(End.FAILED)
        else:
            self._note_sent()
            self._unconfirmed = False
            self._context.emit("replay", Capability.CHARGING)

    def _note_sent(self) -> None:
        self._sent_at = self._clock.monotonic()
        self._retry.reset()

    async def _end(self, end: End) -> None:
        if self._intents.entries.pause is not None:
            LOGGER.debug("The pause is over: %s", end)
            await self._intents.write(pause=None)
