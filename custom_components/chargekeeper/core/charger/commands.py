"""Admit, queue and send the settings of a charger, and look for their effect."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
import logging
from math import inf

from .. import limits
from ..errors import ChargerError, NoConnection, NotAllowed, NotApplicable, TransportBusy, TransportDown, UnsafeRequest
from ..model import (
    ALLOWED_TO_CHARGE,
    CHARGING_CURRENT,
    ECO_MODE,
    LOCKED,
    OCPP,
    PAUSE_OVER,
    SCHEDULE,
    STATUS,
    Capability,
    Outcome,
    Property,
    Snapshot,
    Source,
    Status,
)
from ..transport import START, STOP, SetCharging, SetCurrent, SetEcoMode, SetLock, SetOverride, Setting, Transport
from .context import Context, result_of
from .router import Router

LOGGER = logging.getLogger(__name__)

EXPECT_WITHIN = 150.0
"""Maximum seconds until a report shows a sent setting: one groups poll of the Wallbox cloud and a margin."""

TIME_TO_LIVE = 300.0
"""Seconds for which a setting may wait in the queue, and for which an unacknowledged setting may still arrive."""

ROOM_RETRY = 60.0
"""Seconds after which an override is tried again when the load group had no room for it."""


@dataclass(frozen=True, slots=True)
class _QueuedCommand:
    """A setting in the queue; `automatic` if the user did not request it."""

    setting: Setting
    automatic: bool
    queued_at: float


@dataclass(frozen=True, slots=True)
class _SentCommand:
    """A setting that was sent, whether or not a transport acknowledged it."""

    setting: Setting
    sent_at: float
    automatic: bool = False


class Commands:
    """The settings of one charger. `snapshot` returns the charger's current snapshot."""

    def __init__(self, context: Context, router: Router, snapshot: Callable[[], Snapshot]) -> None:
        self._context = context
        self._clock = context.clock
        self._router = router
        self._snapshot = snapshot
        self._queue: dict[Capability, _QueuedCommand] = {}  # not sent yet; a newer setting replaces an older one
        self._tasks: dict[Capability, asyncio.Task[Outcome]] = {}
        self._expected: dict[Capability, _SentCommand] = {}  # sent, but not seen at the charger yet
        self._latest: dict[Capability, _SentCommand] = {}  # the last setting that was sent, and should hold
        self._unacknowledged: dict[Capability, list[_SentCommand]] = {}  # may still arrive late
        self.before_user_command: Callable[[Setting], Awaitable[None]] = _do_nothing
        """Called with each setting of the user before it is sent."""
        self.after_user_command: Callable[[Setting, Status | None], Awaitable[None]] = _do_nothing
        """Called with each setting of the user that a transport accepted, and the charger's status before it."""
        self.outcomes: deque[tuple[datetime, str, Outcome]] = deque(maxlen=20)

    async def command(self, setting: Setting, *, automatic: bool = False) -> Outcome:
        """Queue and send a setting. See `Charger.command`."""
        self.admit(setting)
        if automatic:
            self._require_cooldown(setting)
        capability = setting.capability
        is_queued = capability in self._queue
        replaced = self._queue.get(capability)
        if replaced is not None and replaced.setting == setting:
            automatic = automatic and replaced.automatic  # a request of the user stays a request of the user
        self._queue[capability] = _QueuedCommand(setting, automatic, self._clock.monotonic())
        if not is_queued:
            self._tasks[capability] = self._context.spawn(self._carry_out(capability))
        return await result_of(self._tasks[capability])

    @property
    def in_flight(self) -> bool:
        """True while a command is queued or unconfirmed, or may still take effect late."""
        return bool(self._queue or self._expected or self._unacknowledged) or any(
            not task.done() for task in self._tasks.values()
        )

    def may_arrive_late(self, setting: Setting) -> bool:
        """Return True if this setting was sent not long ago, not acknowledged, and may still arrive."""
        return any(late.setting == setting for late in self._unacknowledged.get(setting.capability, ()))

    @property
    def live_current(self) -> float | None:
        """Current setting that the charger reports, in A; None if there is no live value."""
        return self._live_value(CHARGING_CURRENT)

    @property
    def lowest_current(self) -> float | None:
        """Lowest current to which the charger may be set at present, in A; None if unknown.

        An old value does not count. The setting may have been lowered since, so that an apparent reduction could raise
        the setting (I1).
        """
        shown = self.live_current
        return None if shown is None else min([shown, *self._currents_under_way])

    @property
    def highest_current(self) -> float | None:
        """Highest current to which the charger may be set at present, in A, as far as known; None if unknown."""
        shown = self._snapshot().value(CHARGING_CURRENT)
        return max([*([] if shown is None else [shown]), *self._currents_under_way], default=None)

    @property
    def _currents_under_way(self) -> list[int]:
        """Currents in A that were sent or may still arrive, and that no report shows yet."""
        under_way = [*self._unacknowledged.get(Capability.CURRENT, ()), self._expected.get(Capability.CURRENT)]
        return [each.setting.amps for each in under_way if each is not None and isinstance(each.setting, SetCurrent)]

    def clear_queue(self) -> None:
        """Drop all queued settings. Their callers were notified already."""
        self._queue.clear()

    def marks(self) -> list[float]:
        """Return the monotonic times at which a sent setting becomes overdue."""
        return [expected.sent_at + EXPECT_WITHIN for expected in self._expected.values()]

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
            self._permit(setting.amps, self.lowest_current, room)

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
        known = replace(limits.Limits.of(self._snapshot().readings), charging_current=self.highest_current)
        known = limits.with_room(known, room)
        if (amps := limits.safe_start(known)) is None:
            return
        self._permit(amps, known.charging_current, room)
        if Capability.CURRENT not in transport.capabilities:
            raise UnsafeRequest("cannot_lower", f"{amps}")
        sent = _SentCommand(SetCurrent(amps), self._clock.monotonic())
        try:
            await self._router.send(transport, sent.setting, hurried=hurried)
        except ChargerError as err:
            if not err.surely_not_sent:
                self._note_unacknowledged(sent)
            raise
        self._expect(sent)

    def _require_group_share(self) -> None:
        """Raise UnsafeRequest if the load group allots too little for a start."""
        share = self._context.group_share
        if share is not None and share < limits.MINIMUM_CURRENT:
            raise UnsafeRequest("no_group_share")

    def check_timeouts(self) -> None:
        """Check which sent settings a report shows by now, which became overdue, and which arrived late."""
        now = self._clock.monotonic()
        for capability, expected in list(self._expected.items()):
            answered = self._answered_since(expected.sent_at)
            if answered and self._is_shown(expected.setting):
                outcome = Outcome.VERIFIED
            elif now >= expected.sent_at + EXPECT_WITHIN:
                outcome = Outcome.FAILED if answered else Outcome.UNVERIFIED
            else:
                continue
            del self._expected[capability]
            self._record(expected.setting, outcome)
            if outcome is Outcome.FAILED:
                # An automatic setting is sent again if it is still needed; a share may have risen meanwhile.
                level = logging.INFO if expected.automatic else logging.WARNING
                name = type(expected.setting).__name__
                LOGGER.log(level, "A command (%s) was sent but never showed at the charger", name)
        for capability in list(self._unacknowledged):
            self._correct_late_arrival(capability, now)
        if Capability.CHARGING not in self._expected and self._live_value(STATUS) in PAUSE_OVER:
            self._context.group_pause_sent = False

    async def _carry_out(self, capability: Capability) -> Outcome:
        async with self._context.lock:
            queued = self._queue.pop(capability)
            setting = queued.setting
            if self._clock.monotonic() > queued.queued_at + TIME_TO_LIVE:
                self._record(setting, Outcome.FAILED)
                raise NoConnection("expired")
            self.admit(setting)
            if queued.automatic:
                self._require_cooldown(setting)
            else:
                await self.before_user_command(setting)
            if self._is_in_force(setting):
                if not queued.automatic and self._context.paused_by_group:
                    await self.after_user_command(setting, None)  # now the pause is the user's as well
                return Outcome.VERIFIED
            base = self._live_value(STATUS)
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
        async with self._context.lock:
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
        present = self.highest_current
        sent = _SentCommand(setting, self._clock.monotonic(), automatic)
        lowers = isinstance(setting, SetCurrent) and present is not None and setting.amps < present
        prepare = self.lower_for_start if setting == START else None
        delivery = await self._router.deliver(setting, prepare, everywhere=lowers)
        if delivery.in_doubt:
            self._note_unacknowledged(sent)
        if delivery.may_have_arrived:
            self._expect(sent)
        delivery.require()
        self._record(setting, Outcome.ACCEPTED)
        self._context.publish()
        if automatic:
            self._start_cooldown(setting)
        if setting == STOP:
            self._context.group_pause_sent = automatic and self._context.intents.entries.pause is None
        for transport in delivery.acknowledged_by:
            if setting.capability is Capability.CHARGING or transport.source is not Source.CLOUD:
                self._router.read_back(transport, lambda: self._expected.get(setting.capability) is not sent)

    def _expect(self, sent: _SentCommand) -> None:
        self._expected[sent.setting.capability] = sent
        self._latest[sent.setting.capability] = sent

    def _note_unacknowledged(self, sent: _SentCommand) -> None:
        self._unacknowledged.setdefault(sent.setting.capability, []).append(sent)

    def _correct_late_arrival(self, capability: Capability, now: float) -> None:
        """Send the latest setting once more if an older one arrived late.

        The setting is sent again only once: any other setting that appears afterwards is an external change. A lower
        setting than the latest stays, because somebody may have chosen it meanwhile.
        """
        unacknowledged = [late for late in self._unacknowledged.pop(capability) if now <= late.sent_at + TIME_TO_LIVE]
        if not unacknowledged:
            return
        latest = self._latest.get(capability)
        arrived = capability not in self._expected and any(
            latest is not None and _is_below(latest.setting, late.setting) and self._is_shown(late.setting)
            for late in unacknowledged
        )
        if not arrived or latest is None or self._context.stopping:
            self._unacknowledged[capability] = unacknowledged
        elif capability not in self._queue:  # otherwise the queued setting corrects it
            LOGGER.info(
                "A command (%s) arrived late; the latest setting is sent once more", type(latest.setting).__name__
            )
            self._context.spawn(self.command(latest.setting, automatic=latest.automatic))

    def _answered_since(self, since: float) -> bool:
        """Return True if a transport that can reach the charger received its status after `since`."""
        answers = (transport.status_received_at for transport in self._router if transport.breaker.usable)
        return any(at is not None and at > since for at in answers)

    def _is_in_force(self, setting: Setting) -> bool:
        """Return True if the charger shows the setting already and no other setting is on its way."""
        under_way = [*self._unacknowledged.get(setting.capability, ()), self._expected.get(setting.capability)]
        others = any(sent is not None and sent.setting != setting for sent in under_way)
        return not others and self._is_shown(setting)

    def _is_shown(self, setting: Setting) -> bool:
        """Return True if a live reading shows the setting in force."""
        match setting:
            case SetCurrent(amps):
                return self._live_value(CHARGING_CURRENT) == amps
            case SetEcoMode(mode):
                return self._live_value(ECO_MODE) is mode
            case SetLock(locked):
                return self._snapshot().connection_path is not None and self._live_value(LOCKED) is locked
        status = self._live_value(STATUS)
        return status in ALLOWED_TO_CHARGE if setting.on else status is Status.PAUSED

    def _live_value[T](self, prop: Property[T]) -> T | None:
        """Return the unexpired value that a transport showed in this run; None if it is only cached."""
        reading = self._snapshot().readings.get(prop)
        return (
            None
            if reading is None or reading.source is Source.CACHE or reading.observed_mono == -inf
            else reading.value
        )

    def _require_cooldown(self, setting: Setting) -> None:
        """Refuse an automatic setting that comes too soon, or against a pause of the user.

        Raises:
            TransportBusy: `too_soon`.
            NotApplicable: `paused`.
        """
        now = self._clock.monotonic()
        cooldown = self._context.cooldown
        free_at = now
        if isinstance(setting, SetCurrent) and setting.amps > (self.live_current or 0.0):
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
        elif isinstance(setting, SetCurrent) and setting.amps > (self.live_current or 0.0):
            self._context.cooldown.raised()

    def _record(self, setting: Setting, outcome: Outcome) -> None:
        self.outcomes.append((self._clock.now(), type(setting).__name__, outcome))


def _is_below(latest: Setting, late: Setting) -> bool:
    """Return True if `latest` differs from `late` and lets the charger draw no more."""
    if isinstance(latest, SetCurrent) and isinstance(late, SetCurrent):
        return latest.amps < late.amps
    return latest not in {late, START}


async def _do_nothing(*_: object) -> None:
    """Do nothing: the default hook."""
