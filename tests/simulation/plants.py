"""Known defects that a test can switch on, at least one per invariant: the simulation must catch each of them."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
import logging
from math import inf
from typing import Any
from unittest.mock import patch

from custom_components.chargekeeper.core import limits
from custom_components.chargekeeper.core.charger import Charger, restart_service, sent_commands
from custom_components.chargekeeper.core.charger.danger import DangerWatch
from custom_components.chargekeeper.core.charger.evidence import Verdict
from custom_components.chargekeeper.core.charger.intents import Intents, IntentStore
from custom_components.chargekeeper.core.charger.readings import ReadingsStore
from custom_components.chargekeeper.core.charger.router import Router
from custom_components.chargekeeper.core.errors import ChargerError
from custom_components.chargekeeper.core.load_group import group
from custom_components.chargekeeper.core.model import (
    Reading,
    ReadingClass,
    Readings,
    RestartAvailability,
    Source,
)
from custom_components.chargekeeper.core.reading_builder import Timestamp
from custom_components.chargekeeper.core.transport import STOP, Command, Restart, SetCurrent, Transport
from custom_components.chargekeeper.wallbox.account import WallboxAccount
from custom_components.chargekeeper.wallbox.rate_limit import RequestBudgets
from custom_components.chargekeeper.wallbox.transport import WallboxCloudTransport
from tests.simulation.boxes.plants import PLANTS as BOX_PLANTS
from tests.simulation.parts import Part

LOGGER = logging.getLogger("custom_components.chargekeeper.planted")
LATE_ROUNDS = 200
QUEUED = 15.0
"""Seconds."""

type Planter = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Plant:
    """A defect: the invariant that must catch it, its description, the patch, and the house that shows it."""

    invariant: str
    what: str
    put: Planter
    boxes: bool = False
    parts: frozenset[Part] = frozenset()
    """The parts of the simulation that show it; without them it cannot be caught."""


def _instead(stack: ExitStack, owner: object, name: str, replacement: object) -> None:
    stack.enter_context(patch.object(owner, name, replacement))


def _ceiling_without_load_group(stack: ExitStack) -> None:
    real = limits.ceiling
    _instead(stack, limits, "ceiling", lambda known: real(replace(known, load_group_limit=None)))


def _raise_always(stack: ExitStack) -> None:
    _instead(stack, limits, "permit", lambda *_args, **_options: None)


def _config_expires(stack: ExitStack) -> None:
    real = ReadingsStore.visible

    def visible(self: ReadingsStore, now: float, usable: Collection[Source]) -> tuple[Readings, float]:
        shown, until = real(self, now, usable)
        for prop, reading in shown.items():
            cached = prop.kind is ReadingClass.CONFIG and reading.source is Source.CACHE
            if cached and -inf < reading.observed_mono < now - 3600:  # readings just restored from the disk stay
                shown.remove(prop)
        return shown, until

    _instead(stack, ReadingsStore, "visible", visible)


def _evidence_is_request_time(stack: ExitStack) -> None:
    def record_sync(self: WallboxCloudTransport, _text: str | None) -> None:
        self._evidence = Timestamp.of(self._clock)
        self._charger_reported_at = self._evidence.observed_mono

    _instead(stack, WallboxCloudTransport, "_record_sync", record_sync)


def _live_never_expires(stack: ExitStack) -> None:
    _instead(stack, Reading, "expires_at", property(lambda _reading: float("inf")))


def _saved_after_send(stack: ExitStack) -> None:
    real = IntentStore.write

    async def write(self: IntentStore, **changes: Any) -> None:
        save, self._save = self._save, _nothing_saved
        try:
            await real(self, **changes)
        finally:
            self._save = save
        asyncio.get_running_loop().create_task(late(self))

    async def late(self: IntentStore) -> None:
        for _ in range(LATE_ROUNDS):
            await asyncio.sleep(0)
        await self._save(self.export())

    _instead(stack, IntentStore, "write", write)


async def _nothing_saved(_intents: dict[str, object]) -> None:
    """Save nothing."""


def _journal_not_restored(stack: ExitStack) -> None:
    def restore(self: IntentStore, _stored: object) -> None:
        self.entries = Intents()

    _instead(stack, IntentStore, "restore", restore)


def _guard_skipped(stack: ExitStack) -> None:
    for name in ("guard", "availability"):
        _instead(stack, restart_service, name, lambda _facts: RestartAvailability.AVAILABLE)


def _restart_sent_twice(stack: ExitStack) -> None:
    real = Router.send

    async def send(self: Router, transport: Transport, command: Command, **options: Any) -> None:
        await real(self, transport, command, **options)
        if isinstance(command, Restart):
            await real(self, transport, command, **options)

    _instead(stack, Router, "send", send)


def _purses_not_restored(stack: ExitStack) -> None:
    _instead(stack, RequestBudgets, "restore", lambda _budgets, _stored: None)


def _login_asked_at_once(stack: ExitStack) -> None:
    real = WallboxAccount._perform_login

    async def perform_login(self: WallboxAccount, call: Any) -> Any:
        try:
            return await real(self, call)
        except ChargerError:
            self._needs_login = True
            self._notify()
            raise

    _instead(stack, WallboxAccount, "_perform_login", perform_login)


def _start_awaits_network(stack: ExitStack) -> None:
    restore, read = Charger.restore, Charger.readings_received
    waiting: dict[int, tuple[object, object]] = {}

    def restore_later(self: Charger, stored: object, intents: object) -> None:
        waiting[id(self)] = (stored, intents)
        restore(self, None, intents)

    def readings_received(self: Charger, transport: Transport, readings: Readings) -> None:
        if (stored := waiting.pop(id(self), None)) is not None:
            restore(self, *stored)
        read(self, transport, readings)

    _instead(stack, Charger, "restore", restore_later)
    _instead(stack, Charger, "readings_received", readings_received)


def _email_logged(stack: ExitStack) -> None:
    real = WallboxAccount._sign_in

    async def sign_in(self: WallboxAccount) -> None:
        LOGGER.debug("Signing in as %s", self._email)
        await real(self)

    _instead(stack, WallboxAccount, "_sign_in", sign_in)


def _serial_in_diagnostics(stack: ExitStack) -> None:
    real = Charger.diagnostics
    _instead(stack, Charger, "diagnostics", lambda self: real(self) | {"serial": self.identity.serial})


def _timer_left(stack: ExitStack) -> None:
    real = Charger.stop

    async def stop(self: Charger) -> None:
        await real(self)
        self._clock.call_later(3600, lambda: None)

    _instead(stack, Charger, "stop", stop)


def _task_left(stack: ExitStack) -> None:
    real = WallboxAccount.stop

    async def stop(self: WallboxAccount) -> None:
        await real(self)
        self.start()

    _instead(stack, WallboxAccount, "stop", stop)


def _acknowledged_is_verified(stack: ExitStack) -> None:
    _instead(stack, sent_commands, "judge", lambda *_args, **_options: Verdict.CONFIRMED)


def _one_way_asked(stack: ExitStack) -> None:
    for name in ("updating", "flowing"):
        _instead(stack, DangerWatch, name, property(lambda _watch: None))


def _room_is_limit(stack: ExitStack) -> None:
    _instead(stack, group.LoadGroup, "_room", lambda self, _state: self.spec.limit)
    _instead(stack, group, "allocate", lambda limit, claims: [int(limit)] * len(claims))


def _reductions_queued(stack: ExitStack) -> None:
    real = WallboxCloudTransport.execute

    async def execute(self: WallboxCloudTransport, command: Command, **options: Any) -> None:
        if command == STOP or isinstance(command, SetCurrent):
            await self._clock.sleep(QUEUED)
        await real(self, command, **options)

    _instead(stack, WallboxCloudTransport, "execute", execute)


PLANTS: dict[str, Plant] = {
    "ceiling-without-load-group": Plant("I1", "the ceiling ignores the load group limit", _ceiling_without_load_group),
    "raise-always": Plant("I1", "every current is permitted", _raise_always),
    "config-expires": Plant("I2", "cached configuration leaves after an hour", _config_expires),
    "evidence-is-request-time": Plant("I3", "an answer counts as a sign of life", _evidence_is_request_time),
    "live-never-expires": Plant("I3", "live values have no age", _live_never_expires),
    "saved-after-send": Plant("I4", "the journal is saved after sending", _saved_after_send),
    "journal-not-restored": Plant("I4", "the journal is not read at the start", _journal_not_restored),
    "guard-skipped": Plant("I5", "a restart is sent whatever the charger does", _guard_skipped),
    "restart-sent-twice": Plant("I5", "a restart is sent twice", _restart_sent_twice),
    "purses-not-restored": Plant("I6", "a restart of Home Assistant fills the purses", _purses_not_restored),
    "login-asked-at-once": Plant("I7", "any failed sign-in asks for the password", _login_asked_at_once),
    "start-awaits-network": Plant("I8", "stored values show only with the first answer", _start_awaits_network),
    "email-logged": Plant("I12", "the e-mail address is logged", _email_logged),
    "serial-in-diagnostics": Plant("I12", "diagnostics name the charger", _serial_in_diagnostics),
    "timer-left": Plant("I13", "a timer is left running after a stop", _timer_left),
    "task-left": Plant("I13", "a task is left running after a stop", _task_left),
    "acknowledged-is-verified": Plant(
        "evidence", "an acknowledgment verifies a command", _acknowledged_is_verified, parts=frozenset({Part.EVIDENCE})
    ),
    "one-way-asked": Plant(
        "any danger",
        "only the way that carries a restart is asked",
        _one_way_asked,
        parts=frozenset({Part.ANY_DANGER}),
    ),
    "room-is-limit": Plant(
        "circuit",
        "each member of a load group gets all of its limit",
        _room_is_limit,
        parts=frozenset({Part.LOAD_GROUP, Part.CIRCUIT}),
    ),
    "reductions-queued": Plant(
        "safe direction",
        "a reduction waits its turn",
        _reductions_queued,
        parts=frozenset({Part.SAFE_DIRECTION}),
    ),
} | {name: Plant(*plant, boxes=True) for name, plant in BOX_PLANTS.items()}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Switch this defect on within the block; None switches nothing on."""
    with ExitStack() as stack:
        if name is not None:
            PLANTS[name].put(stack)
        yield
