"""Look for the effect of the settings that were sent to a charger, by the charger's own reports (see `evidence`)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
import logging
from typing import Any

from ..model import (
    ALLOWED_TO_CHARGE,
    CHARGING_CURRENT,
    ECO_MODE,
    LOCKED,
    OVERRIDE_IN_EFFECT,
    STATUS,
    Capability,
    Commanded,
    Outcome,
    Property,
    Snapshot,
    Status,
)
from ..transport import START, SetCharging, SetCurrent, SetEcoMode, SetLock, Setting
from .context import Context
from .evidence import UNVERIFIED_AFTER, Report, Verdict, judge, report_time
from .refuted import RefutedCommands
from .router import Router

LOGGER = logging.getLogger(__name__)

TIME_TO_LIVE = 300.0
"""Seconds for which a setting may wait in the queue, and for which an unacknowledged one may still arrive."""

NOT_STARTED = frozenset({Status.PAUSED, Status.WAITING_SCHEDULE, Status.PLUGGED_IN})
"""Statuses that refute a start."""


@dataclass(frozen=True, slots=True)
class SentCommand:
    """A setting that was sent. `sent_at` is the monotonic time after the last attempt; `acknowledged` if one counts."""

    setting: Setting
    sent_at: float
    automatic: bool = False
    acknowledged: bool = True


class SentCommands:
    """The settings of one charger that were sent. `snapshot` returns the charger's current snapshot."""

    def __init__(self, context: Context, router: Router, snapshot: Callable[[], Snapshot]) -> None:
        self._context = context
        self._clock = context.clock
        self._router = router
        self._snapshot = snapshot
        self._expected: dict[Capability, SentCommand] = {}  # sent, not confirmed and not refuted yet
        self._latest: dict[Capability, SentCommand] = {}  # the last setting that was sent, and should hold
        self._unacknowledged: dict[Capability, list[SentCommand]] = {}  # may still arrive late
        self.refuted = RefutedCommands(context)
        self.outcomes: deque[tuple[datetime, str, Outcome]] = deque(maxlen=20)

    # What was sent

    def expect(self, sent: SentCommand) -> None:
        """Look for the effect of a setting that arrived, or may have."""
        self._expected[sent.setting.capability] = sent
        self._latest[sent.setting.capability] = sent

    def note_unacknowledged(self, sent: SentCommand) -> None:
        """Remember a setting that may still arrive."""
        self._unacknowledged.setdefault(sent.setting.capability, []).append(sent)

    def record(self, setting: Setting, outcome: Outcome) -> None:
        """Record the outcome of a setting for the diagnostics."""
        self.outcomes.append((self._clock.now(), type(setting).__name__, outcome))

    @property
    def pending(self) -> bool:
        """True while a setting is not judged yet, or may still take effect late."""
        return bool(self._expected or self._unacknowledged)

    def is_pending(self, sent: SentCommand) -> bool:
        """Return True while this setting is not judged yet, and no other of its kind was sent."""
        return self._expected.get(sent.setting.capability) is sent

    @property
    def commands_charging(self) -> bool:
        """True while a start or a pause is not judged yet."""
        return Capability.CHARGING in self._expected

    def may_arrive_late(self, setting: Setting) -> bool:
        """Return True if this setting was sent not long ago, not acknowledged, and may still arrive."""
        return any(late.setting == setting for late in self._unacknowledged.get(setting.capability, ()))

    def marks(self) -> list[float]:
        """Return the monotonic times at which a change is due without a report."""
        return [expected.sent_at + UNVERIFIED_AFTER for expected in self._expected.values()]

    @property
    def commanded(self) -> Commanded:
        """The settings that a transport acknowledged and no report has confirmed or refuted yet."""
        values: dict[str, Any] = {}
        for expected in self._expected.values():
            match expected.setting:
                case _ if not expected.acknowledged:
                    continue
                case SetCurrent(amps):
                    values["current"] = float(amps)
                case SetEcoMode(mode):
                    values["eco_mode"] = mode
                case SetLock(locked):
                    values["locked"] = locked
                case SetCharging(on):
                    values["charging"] = on
        return Commanded(**values)

    # What the charger shows

    def is_in_force(self, setting: Setting) -> bool:
        """Return True if the charger has reported the setting since the last one was sent, and none may arrive late."""
        capability = setting.capability
        others = any(late.setting != setting for late in self._unacknowledged.get(capability, ()))
        latest = self._latest.get(capability)
        decided = latest is None or self._is_decided(latest)
        if isinstance(setting, SetLock) and self._snapshot().connection_path is None:
            return False  # the lock may have been used at the charger meanwhile
        return decided and not others and _shows(setting, self.live_value(_property(setting))) is True

    def live_value[T](self, prop: Property[T]) -> T | None:
        """Return the unexpired value that a transport showed in this run; None if it is only cached."""
        reading = self._snapshot().readings.get(prop)
        return reading.value if reading is not None and reading.is_reported else None

    @property
    def live_current(self) -> float | None:
        """Current setting that the charger reports, in A; None if there is no live value."""
        return self.live_value(CHARGING_CURRENT)

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
        """Currents in A that were sent, or may still arrive, and that no report has decided yet."""
        latest = self._latest.get(Capability.CURRENT)
        under_way = [*self._unacknowledged.get(Capability.CURRENT, ()), self._expected.get(Capability.CURRENT)]
        under_way += [] if latest is None or self._is_decided(latest) else [latest]
        return [each.setting.amps for each in under_way if each is not None and isinstance(each.setting, SetCurrent)]

    # Outcomes

    def check(self) -> None:
        """Check which settings the charger has confirmed or refuted by now, and which nobody saw in time."""
        now = self._clock.monotonic()
        before = len(self._expected)
        for capability, expected in list(self._expected.items()):
            verdict = judge(expected.sent_at, [self._report(expected.setting)])
            if verdict is Verdict.CONFIRMED:
                self._end(capability, expected, Outcome.VERIFIED)
            elif verdict is Verdict.REFUTED:
                self._end(capability, expected, Outcome.FAILED)
            elif now >= expected.sent_at + UNVERIFIED_AFTER:
                self._end(capability, expected, Outcome.UNVERIFIED)
        if len(self._expected) < before:
            self._context.publish()

    def late_arrivals(self) -> list[SentCommand]:
        """Return the latest settings that must be sent once more, because an older one arrived late.

        Each is sent again only once: any other setting that appears afterwards is an external change. Nothing is raised
        or started: a lower current or a pause cannot be told from one that somebody chose meanwhile.
        """
        now = self._clock.monotonic()
        found = []
        for capability, sent in list(self._unacknowledged.items()):
            waiting = [late for late in sent if now <= late.sent_at + TIME_TO_LIVE]
            latest = self._latest.get(capability)
            arrived = [late for late in waiting if latest is not None and self._has_arrived(late, latest)]
            if arrived and latest is not None and not self._context.stopping:
                waiting = []
                if any(_is_below(latest.setting, late.setting) for late in arrived):
                    found.append(latest)
            self._unacknowledged[capability] = waiting
            if not waiting:
                del self._unacknowledged[capability]
        return found

    def _has_arrived(self, late: SentCommand, latest: SentCommand) -> bool:
        """Return True if the charger reports a setting that was replaced by another one."""
        if late.setting.capability in self._expected or late.setting == latest.setting:
            return False
        return judge(late.sent_at, [self._report(late.setting)]) is Verdict.CONFIRMED

    def _end(self, capability: Capability, expected: SentCommand, outcome: Outcome) -> None:
        del self._expected[capability]
        self.record(expected.setting, outcome)
        if outcome is Outcome.VERIFIED:
            self.refuted.confirmed()
            return
        # An automatic setting is sent again if it is still needed; a share may have risen meanwhile.
        if outcome is Outcome.FAILED:
            level = logging.INFO if expected.automatic else logging.WARNING
            name = type(expected.setting).__name__
            LOGGER.log(level, "A command (%s) was sent but never showed at the charger", name)
            self.refuted.refuted()
        event = "command_failed" if outcome is Outcome.FAILED else "command_unverified"
        self._context.emit("connection", event, {"command": capability})

    def _is_decided(self, sent: SentCommand) -> bool:
        """Return True if the charger has reported the property of a setting since it was sent."""
        report = self._report(sent.setting)
        return judge(sent.sent_at, [Report(report.reported_at, report.shows is not None)]) is Verdict.CONFIRMED

    def _report(self, setting: Setting) -> Report:
        """Return what the charger last reported of the property that a setting changes."""
        reading = self._context.readings_store.get(_property(setting))
        transport = None if reading is None else self._router.transports.get(reading.source)
        if reading is None or transport is None:
            return Report(None, None)
        return Report(
            reported_at=report_time(transport, reading.observed_mono),
            shows=_shows(setting, reading.value),
            proves=transport.proves(setting.capability),
        )


def _property(setting: Setting) -> Property[Any]:
    """Return the property that shows a setting."""
    match setting:
        case SetCurrent():
            return CHARGING_CURRENT
        case SetEcoMode():
            return ECO_MODE
        case SetLock():
            return LOCKED
        case SetCharging():
            return STATUS


def _shows(setting: Setting, value: object) -> bool | None:
    """Return True if a value shows a setting in force, False if it shows something else, None if it shows neither."""
    if value is None:
        return None
    match setting:
        case SetCurrent(amps):
            return value == amps
        case SetEcoMode(mode):
            return value == mode
        case SetLock(locked):
            return value is locked
        case SetCharging(on):
            in_force = ALLOWED_TO_CHARGE if on else {Status.PAUSED}
            refuting = NOT_STARTED if on else OVERRIDE_IN_EFFECT
            if value in in_force:
                return True
            return False if value in refuting else None


def _is_below(latest: Setting, late: Setting) -> bool:
    """Return True if `latest` differs from `late` and lets the charger draw no more."""
    if isinstance(latest, SetCurrent) and isinstance(late, SetCurrent):
        return latest.amps < late.amps
    return latest not in {late, START}
