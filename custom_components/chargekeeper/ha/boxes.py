"""The JuiceBoxes of this Home Assistant: the hub with its sockets, the chargers, the transports and the stored state.

All these objects outlive reloads: no status is lost during a reload, and no box notices it.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from homeassistant.core import HomeAssistant, callback

from ..core.charger import Charger, ChargerOptions, IntentStore
from ..core.clock import Clock
from ..core.model import CHARGING_CURRENT, Identity, Maker, Readings
from ..core.reading_builder import Timestamp
from ..juicebox.box import Box, BoxConfig
from ..juicebox.hub import BoxHub
from ..juicebox.juicenet.account import JuiceNetAccount, JuiceNetTransport
from ..juicebox.juicenet.client import JuiceNetClient
from ..juicebox.mapping import limit_readings
from ..juicebox.resolver import NameServer, Resolver, SystemResolver
from ..juicebox.transport import JuiceBoxTransport, ServerTransport
from ..juicebox.upstream import UpstreamConfig
from ..linked.power_cycle import PowerCycle
from .storage import EntryStores

POWER_RECORD = "power_"
"""Prefix of the serial for the record of a power cycle in the intent store."""

SAVE_INTERVAL = 15 * 60.0
"""Seconds between two saves of state that is not vital. After a power cut this state may be that old. Vital state is
saved when it changes."""

RELOAD_PATIENCE = 60.0
"""Seconds for which boxes are served while their entry is not set up. A reload takes less."""


@dataclass(frozen=True, slots=True)
class ManagedBox:
    """A box with its charger and transports. The transports receive its statuses also during a reload."""

    box: Box
    charger: Charger
    udp: JuiceBoxTransport
    server: ServerTransport


@dataclass(frozen=True, slots=True)
class ManagedUnit:
    """A box that only a JuiceNet server reaches, with its charger; without an account it has no transport."""

    charger: Charger
    transport: JuiceNetTransport | None


class Boxes:
    """All boxes.

    Args:
        hass: Home Assistant.
        clock: the source of time.
        stores: loaded; gives the stored state of the boxes and saves it.
    """

    def __init__(self, hass: HomeAssistant, clock: Clock, stores: EntryStores) -> None:
        self._hass = hass
        self._clock = clock
        self.stores = stores
        self.server = BoxHub(clock, stores.boxes)
        self.managed: dict[str, ManagedBox] = {}
        self.units: dict[str, ManagedUnit] = {}
        self.account: JuiceNetAccount | None = None
        self._account_settings: Mapping[str, str] = {}
        self.power_cycles: dict[str, PowerCycle] = {}
        """Power cycles by serial. Removed boxes stay here until their power is back."""
        self._upstream: tuple[object, UpstreamConfig | None] = (None, None)
        self._vital: dict[str, tuple[object, ...]] = {}
        self._unsaved = self._saving = False
        self._cancel_save = clock.call_later(SAVE_INTERVAL, self._save_due)
        self._cancel_close: Callable[[], None] | None = None
        self.server.on_change = self._on_hub_change
        for key in list(stores.intents_by_serial):
            if key.startswith(POWER_RECORD):
                self.power_cycle_of(key.removeprefix(POWER_RECORD))

    @callback
    def set_upstream(self, upstream: Mapping[str, object]) -> None:
        """Set the manufacturer's server that the user chose. The same server keeps its connection state."""
        if self._upstream[0] != upstream:
            self._upstream = upstream, upstream_config(self._clock, upstream)
            self.server.set_upstream(self._upstream[1])

    @callback
    def set_juicenet_account(self, settings: Mapping[str, str], make: Callable[[], JuiceNetClient]) -> None:
        """Set the account at a JuiceNet server that the user entered, if any. The same account stays."""
        if self._account_settings != settings:
            self._account_settings = settings
            self.account = JuiceNetAccount(make(), self._clock) if settings else None

    @callback
    def add_unit(self, config: BoxConfig, chargers: Mapping[tuple[Maker, str], Charger]) -> ManagedUnit:
        """Add a box that only a JuiceNet server reaches, or apply its new settings. Start nothing yet."""
        identity = Identity(Maker.JUICEBOX, config.serial, config.name)
        # Without an account there is no transport that reports these readings.
        entered = limit_readings(config, Timestamp.of(self._clock))
        charger = chargers.get(identity.key) or self._charger(identity, entered)
        charger.identity = identity
        transport = self.configure_unit(config)
        if transport is not None:
            transport.restore_current(charger.snapshot.value(CHARGING_CURRENT))
            charger.add_transport(transport)
        managed = self.units[config.serial] = ManagedUnit(charger, transport)
        return managed

    @callback
    def configure_unit(self, config: BoxConfig) -> JuiceNetTransport | None:
        """Apply the settings of a box that only a JuiceNet server reaches.

        Return its transport if there is an account.
        """
        return None if self.account is None else self.account.transport(config)

    @callback
    def add_box(self, config: BoxConfig, chargers: Mapping[tuple[Maker, str], Charger]) -> ManagedBox:
        """Add a box, or apply its new settings.

        Reuse its charger from `chargers` if there is one. Start nothing yet.
        """
        serial = config.serial
        managed = self.managed.get(config.serial)
        box = self.server.add(config)
        if managed is None:
            udp = JuiceBoxTransport(box, self._clock)
            server = ServerTransport(box, self._clock)
            charger = chargers.get(udp.identity.key) or self._charger(udp.identity)
            managed = self.managed[serial] = ManagedBox(box, charger, udp, server)
            box.listen(partial(self._on_box_report, managed))
        managed.charger.identity = managed.udp.identity
        managed.charger.add_transport(managed.udp)
        if self._upstream[1] is not None:
            managed.charger.add_transport(managed.server)
        return managed

    def _charger(self, identity: Identity, entered: Readings | None = None) -> Charger:
        """Return a new charger with the stored state of a box and the readings that the user entered.

        No store has the entered readings.
        """
        serial = identity.serial
        stores = self.stores
        charger = Charger(identity, self._clock, ChargerOptions(), partial(stores.save_intents, serial))
        snapshot = stores.snapshots.get(serial)
        known = {**snapshot} if isinstance(snapshot, Mapping) else {}
        for prop, reading in (entered or Readings()).items():
            observed_at = reading.observed_at.isoformat()
            known[prop.key] = {"value": reading.value, "source": reading.source, "observed_at": observed_at}
        charger.restore(known, stores.intents_by_serial.get(serial))
        return charger

    @callback
    def power_cycle_of(self, serial: str) -> PowerCycle:
        """Return the power cycle of a box. An open obligation to switch on again is resumed."""
        if (cycle := self.power_cycles.get(serial)) is None:
            key = f"{POWER_RECORD}{serial}"
            stores = self.stores
            save = partial(stores.save_intents, key)
            cycle = self.power_cycles[serial] = PowerCycle(
                self._hass, self._clock, save, stores.intents_by_serial.get(key)
            )
        return cycle

    def _on_box_report(self, managed: ManagedBox) -> None:
        """Pass a report of a box to its power cycle: the box has power."""
        cycle = self.power_cycles.get(managed.box.config.serial)
        reported_at = managed.udp.charger_reported_at
        if cycle is not None and reported_at is not None:
            cycle.box_reported(reported_at, managed.box.counts["boots"])

    @property
    def without_power(self) -> list[str]:
        """Return the serials of all boxes that were switched off and whose power is not proved to be back."""
        return [serial for serial, cycle in self.power_cycles.items() if cycle.active]

    async def finish(self) -> None:
        """Switch the power of all boxes on, because nothing will switch it on later."""
        await asyncio.gather(*(cycle.finish() for cycle in self.power_cycles.values()))

    async def forget(self, serial: str) -> None:
        """Remove a box and its stored state."""
        managed = self.managed.pop(serial, None)
        if managed is not None:
            managed.udp.close()
            managed.server.close()
        self.server.remove(serial)
        self.forget_unit(serial)
        if (cycle := self.power_cycles.get(serial)) is not None and not cycle.active:
            cycle.close()
            del self.power_cycles[serial]
            self.stores.intents_by_serial.pop(f"{POWER_RECORD}{serial}", None)
        await self.stores.forget(serial)

    @property
    def known_serials(self) -> set[str]:
        """Return the serials of all boxes that have any state, in memory or stored."""
        serials_with_intents = {key for key in self.stores.intents_by_serial if not key.startswith(POWER_RECORD)}
        return {*self.server.export(), *self.units, *serials_with_intents, *self.stores.snapshots}

    def is_paused(self, serial: str) -> bool:
        """Return True if the intent store of a box holds a pause that the user requested."""
        intents = IntentStore(partial(self.stores.save_intents, serial))
        intents.restore(self.stores.intents_by_serial.get(serial))
        return intents.entries.pause is not None

    @callback
    def forget_unit(self, serial: str) -> None:
        """Stop asking a JuiceNet server for a box."""
        self.units.pop(serial, None)
        if self.account is not None:
            self.account.forget(serial)

    @callback
    def close_later(self, close: Callable[[], None]) -> None:
        """Call `close` unless the entry is set up again within `RELOAD_PATIENCE` seconds."""
        self._cancel_close = self._clock.call_later(RELOAD_PATIENCE, close)

    @callback
    def cancel_close(self) -> None:
        """Cancel `close_later`: the entry is set up again."""
        if self._cancel_close is not None:
            self._cancel_close()
            self._cancel_close = None

    async def close(self) -> None:
        """Send nothing from now on. The boxes keep their last command."""
        self.cancel_close()
        self._cancel_save()
        for cycle in self.power_cycles.values():
            cycle.close()
        for managed in self.managed.values():
            managed.udp.close()
            managed.server.close()
        if self.account is not None:
            await self.account.stop()
        await self.server.close()

    # Saving

    async def save(self) -> None:
        """Save the state of all boxes."""
        self._unsaved = False
        await self.stores.save_boxes(self.server.export())

    def _on_hub_change(self) -> None:
        vital = {serial: box.state.vital for serial, box in self.server.boxes.items()}
        if vital != self._vital:
            self._vital = vital
            self._save_soon()

    def _save_due(self) -> None:
        self._cancel_save = self._clock.call_later(SAVE_INTERVAL, self._save_due)
        self._save_soon()

    def _save_soon(self) -> None:
        self._unsaved = True
        if not self._saving:
            self._saving = True
            self._hass.async_create_task(self._save(), "chargekeeper boxes")

    async def _save(self) -> None:
        try:
            while self._unsaved:
                await self.save()
        finally:
            self._saving = False


def upstream_config(clock: Clock, upstream: Mapping[str, object]) -> UpstreamConfig | None:
    """Return the manufacturer's server that the user chose; None if there is none."""
    host = upstream.get("host")
    port = upstream.get("port")
    if not host or not isinstance(port, int):
        return None
    return UpstreamConfig(host=str(host), port=port, resolver=resolver(clock, upstream))


def resolver(clock: Clock, upstream: Mapping[str, object]) -> Resolver:
    """Return the resolver for the manufacturer's server: the name server that the user chose, else the system's."""
    chosen = upstream.get("resolver")
    return NameServer(clock, str(chosen)) if chosen else SystemResolver()
