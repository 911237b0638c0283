"""Settings on their way to a charger: admitted, queued, sent by the best path, and looked for at the charger."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
import logging
from math import inf

from . import limits
from .context import Context, result_of
from .model import (
    ALLOWED_TO_CHARGE,
    CHARGING_CURRENT,
    ECO_MODE,
    LOCKED,
    OCPP,
    STATUS,
    Capability,
    Outcome,
    Property,
    Snapshot,
    Source,
    Status,
)
from .paths import (
    ChargerError,
    ChargerPath,
    LoginRejected,
    NotAllowed,
    PathBusy,
    PathDown,
    SetCharging,
    SetCurrent,
    SetEcoMode,
    SetLock,
    Setting,
    UnsafeRequest,
)
from .routing import Router

LOGGER = logging.getLogger(__name__)

EXPECT_WITHIN = 150.0
"""Seconds within which a setting must show: one groups poll of the Wallbox cloud and some."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """A setting that was sent, acknowledged or perhaps, and whose effect is looked for."""

    setting: Setting
    sent_at: float


class Commands:
    """The settings of one charger. `snapshot` tells what the keeper shows now."""

    def __init__(self, context: Context, router: Router, snapshot: Callable[[], Snapshot]) -> None:
        self._context = context
        self._clock = context.clock
        self._router = router
        self._snapshot = snapshot
        self._wanted: dict[Capability, Setting] = {}  # what waits to be sent; a newer wish takes its place
        self._carriers: dict[Capability, asyncio.Task[Outcome]] = {}
        self._expected: dict[Capability, _Expected] = {}
        self.outcomes: deque[tuple[datetime, str, Outcome]] = deque(maxlen=20)

    async def command(self, setting: Setting) -> Outcome:
        """As `Keeper.command`."""
        self.admit(setting)
        capability = setting.capability
        waits = capability in self._wanted
        self._wanted[capability] = setting
        if not waits:
            self._carriers[capability] = self._context.spawn(self._carry_out(capability))
        return await result_of(self._carriers[capability])

    def forget_queue(self) -> None:
        """Nothing waits any more: who waited was told."""
        self._wanted.clear()

    def marks(self) -> list[float]:
        """Monotonic moments at which something falls due without anything being heard."""
        return [expected.sent_at + EXPECT_WITHIN for expected in self._expected.values()]

    def admit(self, setting: Setting | None) -> None:
        """Refuse what may not be sent at all. Raises ChargerError."""
        if self._context.stopping:
            raise PathDown("stopping")
        if self._context.options.read_only:
            raise NotAllowed("read_only")
        if self._snapshot().value(OCPP):
            raise NotAllowed("ocpp_active")
        if isinstance(setting, SetCurrent):
            known = limits.Limits.of(self._snapshot().readings)
            limits.permit(setting.amps, replace(known, charging_current=self._present_current()))

    async def _carry_out(self, capability: Capability) -> Outcome:
        async with self._context.lock:
            setting = self._wanted.pop(capability)
            self.admit(setting)
            if self._holds(setting):
                return Outcome.VERIFIED
            path = await self._deliver(setting)
            self._record(setting, Outcome.ACCEPTED)
            self._context.publish()
            if setting.capability is Capability.CHARGING:
                self._router.read_back(path)
            return Outcome.ACCEPTED

    def _holds(self, setting: Setting) -> bool:
        """Whether the charger shows the setting already, and nothing else of ours is on its way to it."""
        expected = self._expected.get(setting.capability)
        return (expected is None or expected.setting == setting) and self._shows(setting)

    def _shows(self, setting: Setting) -> bool:
        """Whether a reading of a usable path shows the setting in force."""
        match setting:
            case SetCurrent(amps):
                return self._shown(CHARGING_CURRENT) == amps
            case SetEcoMode(mode):
                return self._shown(ECO_MODE) is mode
            case SetLock(locked):
                return self._snapshot().connection_path is not None and self._shown(LOCKED) is locked
        status = self._shown(STATUS)
        return status in ALLOWED_TO_CHARGE if setting.on else status is Status.PAUSED

    def _shown[T](self, prop: Property[T]) -> T | None:
        """What the charger showed over a path in this run, as far as it may be shown; None for what is only cached."""
        reading = self._snapshot().readings.get(prop)
        return None if reading is None or reading.source is Source.CACHE or reading.at == -inf else reading.value

    async def _deliver(self, setting: Setting) -> ChargerPath:
        """Send a setting on the best path, and on the next where that one fails; a lower current goes out on all."""
        present, sent_at = self._snapshot().value(CHARGING_CURRENT), self._clock.monotonic()
        lowering = isinstance(setting, SetCurrent) and present is not None and setting.amps < present
        carried: list[ChargerPath] = []
        failures: list[ChargerError] = []
        for path in self._router.require(setting.capability):
            try:
                if isinstance(setting, SetCharging) and setting.on:
                    await self.lower_for_start(path)
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

    async def lower_for_start(self, path: ChargerPath) -> None:
        """Before a charge is started over a path: bring a setting above the ceiling down to it, over the same (I1).

        Over another path the start could overtake it. Raises ChargerError; UnsafeRequest where the path cannot do that.
        """
        known = limits.Limits.of(self._snapshot().readings)
        if (amps := limits.safe_start(known)) is None:
            return
        limits.permit(amps, known)
        if Capability.CURRENT not in path.capabilities:
            raise UnsafeRequest("above_ceiling", f"{amps}")
        setting, sent_at = SetCurrent(amps), self._clock.monotonic()
        await self._router.send(path, setting)
        self._expected[Capability.CURRENT] = _Expected(setting, sent_at)

    def settle(self) -> None:
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

    def _record(self, setting: Setting, outcome: Outcome) -> None:
        self.outcomes.append((self._clock.now(), type(setting).__name__, outcome))
        if outcome is Outcome.FAILED:
            LOGGER.warning("A command (%s) was sent but never showed at the charger", type(setting).__name__)
