"""Switches the power of a box off for 20 s and on again, over a switch of the user's.

That it must be on again is on the disk before it is switched off, and is seen to until the switch shows that it is on:
through reloads, after a restart, also if the link is taken away meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from homeassistant.const import SERVICE_TURN_OFF, SERVICE_TURN_ON, STATE_OFF, STATE_ON
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er

from .core.clock import Clock
from .core.context import subscribe
from .core.paths import ChargerError, NoConnection, NotSaved
from .core.stored import moment
from .linked import async_call_entity

OFF_FOR = 20.0
"""Seconds without power after which a box has forgotten its schedule (fact sheet juicebox.md, 4)."""

STUCK_AFTER = 60.0
"""Seconds after which the user is told that a box may be without power."""

TRY_AGAIN = 5.0
"""Seconds after which it is switched on once more where it does not show."""

PATIENCE = 5.0
"""Seconds that the integration of the switch has."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One time: by which switch (registry id), since when, and whether it was seen to be on again.

    `spent` is true until the box is heard after it: so often only may it be done without the user.
    """

    switch: str
    began_at: datetime
    on: bool = False
    spent: bool = True

    def export(self) -> dict[str, object]:
        """As JSON."""
        began_at = self.began_at.isoformat()
        return {"switch": self.switch, "began_at": began_at, "on": self.on, "spent": self.spent}

    @classmethod
    def restored(cls, stored: object) -> Cycle | None:
        """What `export` gave. What is damaged in it counts as still to be switched on."""
        if not isinstance(stored, Mapping):
            return None
        switch, began_at = stored.get("switch"), moment(stored.get("began_at"))
        if not isinstance(switch, str) or began_at is None:
            return None
        return cls(switch, began_at, stored.get("on") is True, stored.get("spent") is not False)


class PowerCycle:
    """The power of one box.

    Args:
        hass: where the switch is.
        clock: time.
        save: keeps the record; on the disk when it returns. Raises NotSaved.
        stored: what it kept last.
    """

    def __init__(
        self, hass: HomeAssistant, clock: Clock, save: Callable[[dict[str, object]], Awaitable[None]], stored: object
    ) -> None:
        self._hass = hass
        self._clock = clock
        self._save = save
        self.last = Cycle.restored(stored)
        self._task: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []
        self.went_off = False
        """Whether the switch was seen off before it was switched on again."""
        if self.active:
            self._begin()

    @property
    def active(self) -> bool:
        """Whether the power is off, or may be."""
        return self.last is not None and not self.last.on

    @property
    def stuck(self) -> bool:
        """Whether it should be on again by now, and does not show that."""
        return self.active and (self.since_last or 0.0) >= STUCK_AFTER

    @property
    def since_last(self) -> float | None:
        """Seconds since the last time; None where there was none."""
        if self.last is None:
            return None
        return max((self._clock.now() - self.last.began_at).total_seconds(), 0.0)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Be called when it is to be switched on again, and when it is on; the answer ends it."""
        return subscribe(self._listeners, callback)

    async def begin(self, switch: str) -> None:
        """Switch off by the switch with this registry id; it is switched on again by itself.

        Raises:
            NotSaved: nothing was sent.
            ChargerError: the switch refused, or did not answer; then it is switched on all the same.
        """
        before, cycle = self.last, Cycle(switch, self._clock.now())
        await self._save(cycle.export())
        self.last, self.went_off = cycle, False
        try:
            await self._call(SERVICE_TURN_OFF)
        except ChargerError as err:
            if err.surely_not_sent:
                self.last = before
                with suppress(NotSaved):  # else it is switched on once more after a start
                    await self._save({} if before is None else before.export())
                raise
            self._begin()
            raise
        except asyncio.CancelledError:  # by a reload: the switch was told already, or may have been
            self._begin()
            raise
        self._begin()

    async def heard(self) -> None:
        """The box is heard again after it: what was done without the user may be done again in the next outage."""
        assert self.last is not None
        await self._note(replace(self.last, spent=False))

    async def finish(self) -> None:
        """Nobody will see to it any more: switch on now."""
        if self.active:
            self.close()
            await self._is_switched_on()

    def close(self) -> None:
        """Send nothing any more; a duty that is left is on the disk."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _begin(self) -> None:
        self._task = self._hass.async_create_background_task(self._see_to_it(), "chargekeeper power")

    async def _see_to_it(self) -> None:
        assert self.last is not None
        await self._clock.sleep(max(OFF_FOR - (self.since_last or 0.0), 0.0))
        self._look()
        while not await self._is_switched_on():
            await self._clock.sleep(TRY_AGAIN)
            self._look()
        self._tell()

    def _look(self) -> None:
        """It is about to be switched on."""
        self.went_off |= self._state() == STATE_OFF
        self._tell()

    async def _is_switched_on(self) -> bool:
        """Switch on; whether that shows."""
        try:
            await self._call(SERVICE_TURN_ON)
        except ChargerError:
            return False
        if self._state() != STATE_ON:
            return False
        assert self.last is not None
        await self._note(replace(self.last, on=True))
        return True

    async def _note(self, cycle: Cycle) -> None:
        self.last = cycle
        with suppress(NotSaved):  # it is switched on once more after a start
            await self._save(cycle.export())

    def _tell(self) -> None:
        for callback in list(self._listeners):
            callback()

    def _entity_id(self) -> str | None:
        entry = None if self.last is None else er.async_get(self._hass).entities.get_entry(self.last.switch)
        return None if entry is None else entry.entity_id

    def _state(self) -> str | None:
        state = self._hass.states.get(self._entity_id() or "")
        return None if state is None else state.state

    async def _call(self, service: str) -> None:
        """Command the switch. Raises ChargerError."""
        entity_id = self._entity_id()
        if entity_id is None:
            raise NoConnection("linked_unavailable")
        domain = entity_id.partition(".")[0]
        await async_call_entity(self._hass, self._clock, PATIENCE, entity_id, (domain, service, {}))
