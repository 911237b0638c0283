"""Power cycle of a box: off for 20 s and on again, by a power switch that the user linked.

The obligation to switch on again is on the disk before the power is switched off. Only proof that the power is back
ends the obligation. It survives reloads, a restart of Home Assistant and the removal of the link. After `CYCLE` seconds
ChargeKeeper only raises an issue and switches nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf

from homeassistant.const import ATTR_ASSUMED_STATE, SERVICE_TURN_OFF, SERVICE_TURN_ON, STATE_OFF, STATE_ON
from homeassistant.core import HomeAssistant, State, callback
from homeassistant.helpers import entity_registry as er

from ..core.clock import Clock, monotonic_of
from ..core.coerce import moment
from ..core.errors import ChargerError, NoConnection, NotSaved
from ..core.signal import subscribe
from .entity_transport import async_call_entity

OFF_FOR = 20.0
"""Seconds without power after which a box has lost its schedule (docs/protocols/juicebox.md, section 4)."""

PROVES_AFTER = 60.0
"""Seconds after which a sign of life proves power. Until then the switch may still go off late."""

STUCK_AFTER = 90.0
"""Seconds after which an issue tells the user that a box may be without power. A box with power reports every 30 s."""

CYCLE = 600.0
"""Seconds between two power cycles. An older obligation is not carried out: somebody may work on the box."""

TRY_AGAIN = 5.0
"""Seconds between two attempts to switch on while nothing proves that the power is back."""

SAVE_AGAIN = 60.0
"""Seconds between two attempts to save a record."""

PATIENCE = 5.0
"""Maximum seconds for a call to the integration of the switch."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One power cycle.

    Attributes:
        switch: the registry id of the power switch.
        began_at: when it began.
        on: power is proved to be back.
        spent: the box has not reported after the power cycle. A further power cycle then needs the user.
        name: the name of the box, for issues after the box was removed.
    """

    switch: str
    began_at: datetime
    on: bool = False
    spent: bool = True
    name: str = ""

    def export(self) -> dict[str, object]:
        """Return the cycle as JSON."""
        return {
            "switch": self.switch,
            "began_at": self.began_at.isoformat(),
            "on": self.on,
            "spent": self.spent,
            "name": self.name,
        }

    @classmethod
    def restored(cls, stored: object) -> Cycle | None:
        """Return the cycle that `export` gave, or None. Damaged fields count as power still off."""
        if not isinstance(stored, Mapping):
            return None
        switch = stored.get("switch")
        began_at = moment(stored.get("began_at"))
        if not isinstance(switch, str) or began_at is None:
            return None
        is_on = stored.get("on") is True
        is_spent = stored.get("spent") is not False
        return cls(switch, began_at, is_on, is_spent, str(stored.get("name", "")))


class PowerCycle:
    """Switch the power of one box off and on again.

    Args:
        hass: the Home Assistant that has the switch.
        clock: the source of time.
        save: saves the record; it is on the disk when this returns. Raises NotSaved.
        stored: the record that was saved last.
    """

    def __init__(
        self, hass: HomeAssistant, clock: Clock, save: Callable[[dict[str, object]], Awaitable[None]], stored: object
    ) -> None:
        self._hass = hass
        self._clock = clock
        self._save = save
        self.last = Cycle.restored(stored)
        self._began_mono = -inf if self.last is None else _beginning(clock, self.last)
        self._to_save = self.last
        self._is_saved = True
        self._write_lock = asyncio.Lock()
        self._boots: int | None = None
        self._closed = False
        self._is_beginning = False
        self._task: asyncio.Task[None] | None = None
        self._saver: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []
        self.went_off = False
        """True if the switch has reported the state off since ChargeKeeper switched the power off."""
        self._start_restoring()

    @property
    def active(self) -> bool:
        """True while the power may be off: nothing has proved that it is back."""
        return self.last is not None and not self.last.on

    @property
    def trying(self) -> bool:
        """True while ChargeKeeper tries to switch the box on without asking the user."""
        return self.active and self._age < CYCLE

    @property
    def stuck(self) -> bool:
        """True if the power should be back by now and nothing proves it."""
        return self.active and self._age >= STUCK_AFTER

    @property
    def since_last(self) -> float | None:
        """Return the seconds since the last power cycle; None if there was none."""
        return None if self.last is None else self._age

    @property
    def _age(self) -> float:
        return self._clock.monotonic() - self._began_mono

    @property
    def switch_name(self) -> str:
        """Return the name of the switch as the user knows it; a dash if the switch was deleted or is not set up."""
        state = self._state()
        return "-" if state is None else state.name

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back around each attempt to switch on, and when the power is back.

        Return a function that removes the listener.
        """
        return subscribe(self._listeners, callback)

    async def begin(self, switch: str, name: str, guard: Callable[[], None]) -> None:
        """Switch the power off; it is switched on again automatically.

        Args:
            switch: the registry id of the switch.
            name: the name of the box.
            guard: raises ChargerError while power must not be cut. Nothing is awaited between `guard` and the
                switching.

        Raises:
            NotSaved: nothing was sent.
            ChargerError: `guard` refused and nothing was sent; or the switch failed, and power is switched on all the
                same.
        """
        before = self.last
        began = self._began_mono
        cycle = Cycle(switch, self._clock.now(), name=name)
        sent = False

        def commit() -> None:
            nonlocal before, sent
            if self._closed:
                raise NoConnection("stopping")
            guard()
            sent = True
            before = self.last
            self.last = cycle
            self._began_mono = self._clock.monotonic()
            self.went_off = False

        self._to_save = cycle
        self._is_beginning = True
        try:
            await self._write()
            await self._call(cycle, SERVICE_TURN_OFF, commit)
        except ChargerError as err:
            sent = sent and not err.surely_not_sent
            raise
        finally:  # also if a reload cancels this
            self._is_beginning = False
            if not sent:
                self._began_mono = began
                self._set_record(before if self.last is cycle else self.last)
            self._start_restoring()

    @callback
    def box_reported(self, at: float, boots: int) -> None:
        """Record that the box reported at the monotonic time `at`, and had started `boots` times until that time."""
        has_started = self._boots is not None and boots > self._boots
        self._boots = boots
        if self.active and has_started:
            self._end_cycle()
        self.power_reported(at)
        if self.last is not None and self.last.on and self.last.spent and at - self._began_mono >= OFF_FOR:
            self._set_record(replace(self.last, spent=False))  # the next outage may cycle the power without the user

    @callback
    def power_reported(self, at: float) -> None:
        """Record that the box or a meter reported power at the monotonic time `at`."""
        if self.active and at - self._began_mono >= PROVES_AFTER:
            self._end_cycle()

    async def finish(self) -> None:
        """Switch the power on now, because nothing will switch it on later.

        After this call, never switch the power off.
        """
        self._closed = True
        self._stop_restoring()
        if self.trying:
            await self._try_switch_on()
        if not self._is_saved:
            with suppress(NotSaved):
                await self._write()

    def close(self) -> None:
        """Send nothing from now on. An open obligation stays on the disk."""
        self._closed = True
        self._stop_restoring()
        if self._saver is not None:
            self._saver.cancel()
            self._saver = None

    def _stop_restoring(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _start_restoring(self) -> None:
        self._stop_restoring()
        if self.active and not self._closed:
            self._task = self._hass.async_create_background_task(self._restore_power(), "chargekeeper power")

    async def _restore_power(self) -> None:
        await self._clock.sleep(max(OFF_FOR - self._age, 0.0))
        while self.active:
            await self._try_switch_on()
            await self._clock.sleep(TRY_AGAIN)

    async def _try_switch_on(self) -> None:
        """Switch on, unless the power is back already or the obligation is too old.

        Then check the state of the switch.
        """
        self.went_off |= self._state_is(STATE_OFF)
        self._notify()
        if self.last is not None and self.trying and not self._is_on_again:
            with suppress(ChargerError):
                await self._call(self.last, SERVICE_TURN_ON)
        if self.active and self._is_on_again:
            self._record_power_back()
        self._notify()

    @property
    def _is_on_again(self) -> bool:
        """True if the switch itself reported off, and now reports on."""
        return self.went_off and self._state_is(STATE_ON)

    def _end_cycle(self) -> None:
        self._stop_restoring()
        self._record_power_back()
        self._notify()

    def _record_power_back(self) -> None:
        assert self.last is not None
        self._set_record(replace(self.last, on=True))

    # The record

    def _set_record(self, cycle: Cycle | None) -> None:
        """Set the record and save it until it is on the disk.

        While a cycle begins, only the record of that cycle is saved.
        """
        self.last = cycle
        if self._is_beginning:
            return
        self._to_save = cycle
        self._is_saved = False
        if self._saver is None or self._saver.done():
            self._saver = self._hass.async_create_background_task(self._save_until_done(), "chargekeeper power record")

    async def _save_until_done(self) -> None:
        while not self._is_saved:
            try:
                await self._write()
            except NotSaved:
                await self._clock.sleep(SAVE_AGAIN)

    async def _write(self) -> None:
        """Save the record. Raises NotSaved."""
        async with self._write_lock:
            record = self._to_save
            await self._save({} if record is None else record.export())
            self._is_saved = record is self._to_save

    # The switch

    def _notify(self) -> None:
        for listener in list(self._listeners):
            listener()

    def _state(self) -> State | None:
        entity_id = None if self.last is None else self._entity_of(self.last)
        return None if entity_id is None else self._hass.states.get(entity_id)

    def _state_is(self, value: str) -> bool:
        """Return True if the switch reports this state. An assumed state is only its last command, no report."""
        state = self._state()
        return state is not None and state.state == value and not state.attributes.get(ATTR_ASSUMED_STATE)

    def _entity_of(self, cycle: Cycle) -> str | None:
        entry = er.async_get(self._hass).entities.get_entry(cycle.switch)
        return None if entry is None else entry.entity_id

    async def _call(self, cycle: Cycle, service: str, guard: Callable[[], None] | None = None) -> None:
        """Command the switch. Raises ChargerError, including an error that `guard` raises right before the call."""
        entity_id = self._entity_of(cycle)
        if entity_id is None:
            raise NoConnection("linked_unavailable")
        call = entity_id.partition(".")[0], service, dict[str, object]()
        await async_call_entity(self._hass, self._clock, PATIENCE, entity_id, call, guard)


def _beginning(clock: Clock, cycle: Cycle) -> float:
    """Return the monotonic time at which a restored cycle began.

    An open obligation from the future has an unknown age, since the wall clock was set back. It counts as too old.
    """
    if not cycle.on and cycle.began_at > clock.now():
        return -inf
    return monotonic_of(clock, cycle.began_at)
