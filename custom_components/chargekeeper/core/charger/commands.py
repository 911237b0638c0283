"""Admit, queue and send the settings of a charger. `sent_commands` looks for their effect."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
import logging

from .. import limits
from ..errors import (
    ChargerError,
    GaveWay,
    NoConnection,
    NotAllowed,
    NotApplicable,
    TransportBusy,
    TransportDown,
    UnsafeRequest,
)
from ..model import (
    OCPP,
    PAUSE_OVER,
    SCHEDULE,
    STATUS,
    Capability,
    Outcome,
    Snapshot,
    Source,
    Status,
)
from ..transport import START, STOP, SetCharging, SetCurrent, SetOverride, Setting, Transport
from .context import Context, result_of
from .reduction import relief
from .router import Router
from .sent_commands import TIME_TO_LIVE, SentCommand, SentCommands

LOGGER = logging.getLogger(__name__)

ROOM_RETRY = 60.0
"""Seconds after which an override is tried again when the load group had no room for it."""


@dataclass(frozen=True, slots=True)
class _QueuedCommand:
    """A setting in the queue; `automatic` if the user did not request it, `urgent` if it is a reduction."""

    setting: Setting
    automatic: bool
    urgent: bool
    queued_at: float


class Commands:
    """The settings of one charger. `snapshot` returns the charger's current snapshot."""

    def __init__(self, context: Context, router: Router, snapshot: Callable[[], Snapshot]) -> None:
        self._context = context
        self._clock = context.clock
        self._router = router
        self._snapshot = snapshot
        self._queue: dict[Capability, _QueuedCommand] = {}  # not sent yet; a newer setting replaces an older one
        self._sending: _QueuedCommand | None = None  # taken from the queue; it may still wait for a slot
        self._tasks: dict[Capability, asyncio.Task[Outcome | None]] = {}  # of the newest setting
        self.sent = SentCommands(context, router, snapshot)
        self.before_user_command: Callable[[Setting], Awaitable[None]] = _do_nothing
        """Called with each setting of the user before it is sent."""
        self.after_user_command: Callable[[Setting, Status | None], Awaitable[None]] = _do_nothing
        """Called with each setting of the user that a transport accepted, and the charger's status before it."""

    async def command(self, setting: Setting, *, automatic: bool = False) -> Outcome:
        """Queue and send a setting. See `Charger.command`."""
        self.admit(setting)
        if automatic:
            self._require_cooldown(setting)
        capability = setting.capability
        replaced = self._queue.get(capability)
        if replaced is not None and replaced.setting == setting:
            automatic = automatic and replaced.automatic  # a request of the user stays a request of the user
        urgent = relief(setting, self._highest_wanted) > 0
        queued = _QueuedCommand(setting, automatic, urgent, self._clock.monotonic())
        self._queue[capability] = queued
        task = self._tasks[capability] = self._context.spawn(self._carry_out(queued))
        while (outcome := await result_of(task)) is None and task is not self._tasks[capability]:
            task = self._tasks[capability]  # a newer setting replaced this one
        if outcome is None:
            raise NoConnection("stopping")
        return outcome

    @property
    def in_flight(self) -> bool:
        """True while a command is queued or unconfirmed, or may still take effect late."""
        return bool(self._queue) or self.sent.pending or any(not task.done() for task in self._tasks.values())

    @property
    def _highest_wanted(self) -> float | None:
        """Highest current in A that the charger may be set to, now or by what still waits to be sent."""
        waiting = [self._queue.get(Capability.CURRENT), self._sending]
        wanted = [each.setting.amps for each in waiting if each is not None and isinstance(each.setting, SetCurrent)]
        present = self.sent.highest_current
        return max([*([] if present is None else [present]), *wanted], default=None)

    def clear_queue(self) -> None:
        """Drop all queued settings. Their callers were notified already."""
        self._queue.clear()

    def admit(self, setting: Setting | None) -> None:
        """Raise ChargerError if the setting may not be sent at all."""
        if self._context.stopping:
            raise TransportDown("stopping")
        if self._context.options.read_only:
            raise NotAllowed("read_only")
        if self._snapshot().value(OCPP):
            raise NotAllowed("ocpp_active")
        room = self._context.group_room()
        if setting == START:
            self._require_group_share()
            if room < limits.MINIMUM_CURRENT:
                raise UnsafeRequest("no_group_room", f"{max(room, 0.0):g}")
        if isinstance(setting, SetCurrent):
            self._permit(setting.amps, self.sent.lowest_current, room)

    def _permit(self, amps: int, present: float | None, room: float) -> None:
        """Raise UnsafeRequest unless a current is permitted now (I1).

        This is the only caller of `limits.permit`. `present` is the setting that the charger has, as far as known.
        """
        known = limits.Limits.of(self._snapshot().readings)
        limits.permit(amps, replace(known, charging_current=present), room=room)

    async def lower_for_start(self, transport: Transport, hurried: bool) -> None:
        """Lower a setting above the ceiling before a charge is started over the same transport (I1).

        Over another transport, the start could arrive first.

        Raises:
            UnsafeRequest: the transport cannot lower the current, or the load group allots no share.
            TransportBusy: `too_soon`, if the load group has no room.
            ChargerError: the current was not lowered, and why.
        """
        self._require_group_share()
        room = self._context.group_room()
        if room < limits.MINIMUM_CURRENT:  # an override survives this error and waits
            raise TransportBusy("too_soon", ROOM_RETRY)
        known = replace(limits.Limits.of(self._snapshot().readings), charging_current=self.sent.highest_current)
        known = limits.with_room(known, room)
        if (amps := limits.safe_start(known)) is None:
            return
        self._permit(amps, known.charging_current, room)
        if Capability.CURRENT not in transport.capabilities:
            raise UnsafeRequest("cannot_lower", f"{amps}")
        setting = SetCurrent(amps)
        try:
            await self._router.send(transport, setting, hurried=hurried)
        except ChargerError as err:
            if not err.surely_not_sent:
                self.sent.note_unacknowledged(SentCommand(setting, self._clock.monotonic()))
            raise
        self.sent.expect(SentCommand(setting, self._clock.monotonic()))

    def _require_group_share(self) -> None:
        """Raise UnsafeRequest if the load group allots too little for a start."""
        share = self._context.group_share
        if share is not None and share < limits.MINIMUM_CURRENT:
            raise UnsafeRequest("no_group_share")

    def check_timeouts(self) -> None:
        """Check which sent settings a report shows by now, which became overdue, and which arrived late."""
        self.sent.check()
        for latest in self.sent.late_arrivals():
            if latest.setting.capability not in self._queue:  # otherwise the queued setting corrects it
                LOGGER.info(
                    "A command (%s) arrived late; the latest setting is sent once more", type(latest.setting).__name__
                )
                self._context.spawn(self.command(latest.setting, automatic=latest.automatic))
        if not self.sent.commands_charging and self.sent.live_value(STATUS) in PAUSE_OVER:
            self._context.group_pause_sent = False

    async def _carry_out(self, queued: _QueuedCommand) -> Outcome | None:
        """Send a setting when it is its turn. Return None if a newer setting has replaced it."""
        capability = queued.setting.capability
        while self._queue.get(capability) is queued:
            async with self._router.turn(urgent=queued.urgent):
                if self._queue.get(capability) is not queued:
                    break
                self._sending = self._queue.pop(capability)
                try:
                    return await self._carry_out_now(queued)
                except GaveWay:  # a reduction comes first
                    self._queue.setdefault(capability, queued)
                finally:
                    self._sending = None
        return None

    async def _carry_out_now(self, queued: _QueuedCommand) -> Outcome:
        """Send a setting. The caller holds the lock. Raises ChargerError."""
        setting = queued.setting
        if self._clock.monotonic() > queued.queued_at + TIME_TO_LIVE:
            self.sent.record(setting, Outcome.FAILED)
            raise NoConnection("expired")
        self.admit(setting)
        if queued.automatic:
            self._require_cooldown(setting)
        else:
            await self.before_user_command(setting)
        if self.sent.is_in_force(setting):
            if not queued.automatic and self._context.paused_by_group:
                await self.after_user_command(setting, None)  # now the pause is the user's as well
            return Outcome.VERIFIED
        base = self.sent.live_value(STATUS)
        await self._deliver(setting, automatic=queued.automatic)
        if not queued.automatic:
            await self.after_user_command(setting, base)
        return Outcome.ACCEPTED

    async def lift_pause(self, *, overridden: bool) -> Outcome:
        """End the pause of a load group. See `Charger.lift_pause`.

        `overridden` is True while an override replaces the schedule.
        """
        has_schedule = any(window.enabled for window in self._snapshot().value(SCHEDULE) or ())
        if overridden or not has_schedule or self._router.first(Capability.OVERRIDE) is None:
            return await self.command(START, automatic=True)
        return await self._context.run(self._hand_back())

    async def _hand_back(self) -> Outcome:
        """Let the schedule apply again, which may start charging at once."""
        async with self._router.turn():
            self.admit(None)
            self._require_cooldown(START)
            delivery = await self._router.deliver(SetOverride(on=False), self.lower_for_start)
            delivery.require()
            self._context.cooldown.switched()
            self._router.read_back(delivery.acknowledged_by[0])
            return Outcome.ACCEPTED

    async def send_now(self, setting: Setting) -> None:
        """Send an automatic setting at once. The caller holds the lock. Raises ChargerError."""
        self.admit(setting)
        await self._deliver(setting, automatic=True)

    async def _deliver(self, setting: Setting, *, automatic: bool) -> None:
        """Send a setting on the best transport, and on the next one if the best transport fails.

        A lower current goes out on all transports.

        Raises:
            ChargerError: no transport carried the setting.
        """
        present = self.sent.highest_current
        urgent = relief(setting, present)
        lowers = isinstance(setting, SetCurrent) and urgent > 0
        prepare = self.lower_for_start if setting == START else None
        delivery = await self._router.deliver(setting, prepare, everywhere=lowers, urgent=urgent)
        # Only a report from after the acknowledgement is surely from after the charger could receive the command.
        sent = SentCommand(setting, self._clock.monotonic(), automatic, acknowledged=bool(delivery.acknowledged_by))
        if delivery.in_doubt:
            self.sent.note_unacknowledged(sent)
        if delivery.may_have_arrived:
            self.sent.expect(sent)
        delivery.require()
        self.sent.record(setting, Outcome.ACCEPTED)
        self._context.publish()
        if automatic:
            self._start_cooldown(setting)
        if setting == STOP:
            self._context.group_pause_sent = automatic and self._context.intents.entries.pause is None
        for transport in delivery.acknowledged_by:
            if setting.capability is Capability.CHARGING or transport.source is not Source.CLOUD:
                self._router.read_back(transport, lambda: not self.sent.is_pending(sent))

    def _require_cooldown(self, setting: Setting) -> None:
        """Refuse an automatic setting that comes too soon, or against a pause of the user.

        Raises:
            TransportBusy: `too_soon`.
            NotApplicable: `paused`.
        """
        now = self._clock.monotonic()
        cooldown = self._context.cooldown
        free_at = now
        if isinstance(setting, SetCurrent) and setting.amps > (self.sent.live_current or 0.0):
            free_at = cooldown.raise_at
        elif isinstance(setting, SetCharging) and setting.on:
            if self._context.intents.entries.pause is not None:
                raise NotApplicable("paused")
            free_at = cooldown.start_at
        if free_at > now:
            raise TransportBusy("too_soon", free_at - now)

    def _start_cooldown(self, setting: Setting) -> None:
        if isinstance(setting, SetCharging):
            self._context.cooldown.switched()
        elif isinstance(setting, SetCurrent) and setting.amps > (self.sent.live_current or 0.0):
            self._context.cooldown.raised()


async def _do_nothing(*_: object) -> None:
    """Do nothing: the default hook."""
