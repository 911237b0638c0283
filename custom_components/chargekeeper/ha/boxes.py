"""The JuiceBoxes of this Home Assistant: their server with its sockets, their keepers and paths, what is stored.

All of it outlives reloads: between two statuses nothing is lost, and a box does not notice.
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
"""Before the serial: under what the journal store keeps when a box was switched off, and whether it is on again."""

SAVE_INTERVAL = 15 * 60.0
"""Seconds between two savings of what may be that old after a power cut; what may not is saved when it changes."""

RELOAD_PATIENCE = 60.0
"""Seconds for which boxes are served while their entry is not set up: a reload takes less."""


@dataclass(frozen=True, slots=True)
class ManagedBox:
    """A box with what keeps it; the paths hear of it also while its entry is reloaded."""

    box: Box
    charger: Charger
    udp: JuiceBoxTransport
    server: ServerTransport


@dataclass(frozen=True, slots=True)
class ManagedUnit:
    """A box that sends us nothing, with what keeps it; its path is that of a JuiceNet server's account, if any."""

    charger: Charger
    transport: JuiceNetTransport | None


class Boxes:
    """All boxes.

    Args:
        hass: Home Assistant.
        clock: time.
        stores: loaded; what was known of the boxes, and where it is saved.
    """

    def __init__(self, hass: HomeAssistant, clock: Clock, stores: EntryStores) -> None:
        self._hass = hass
        self._clock = clock
        self.stores = stores
        self.server = BoxHub(clock, stores.boxes)
        self.managed: dict[str, ManagedBox] = {}
        self.units: dict[str, ManagedUnit] = {}
        self.account: JuiceNetAccount | None = None
        self._account_of: Mapping[str, str] = {}
        self.power: dict[str, PowerCycle] = {}
        """By serial; also of boxes that are gone, while they are to be switched on again."""
        self._upstream: tuple[object, UpstreamConfig | None] = (None, None)
        self._vital: dict[str, tuple[object, ...]] = {}
        self._unsaved = self._saving = False
        self._cancel_save = clock.call_later(SAVE_INTERVAL, self._save_due)
        self._cancel_close: Callable[[], None] | None = None
        self.server.on_change = self._changed
        for key in list(stores.intents_by_serial):
            if key.startswith(POWER_RECORD):
                self.power_of(key.removeprefix(POWER_RECORD))

    @callback
    def serve(self, upstream: Mapping[str, object]) -> None:
        """Have the maker's server that the user named; one that is the same is not judged anew."""
        if self._upstream[0] != upstream:
            self._upstream = upstream, upstream_config(self._clock, upstream)
            self.server.set_upstream(self._upstream[1])

    @callback
    def consult(self, settings: Mapping[str, str], make: Callable[[], JuiceNetClient]) -> None:
        """Have the account at a JuiceNet server that the user entered, if any; one that is the same stays."""
        if self._account_of != settings:
            self._account_of = settings
            self.account = JuiceNetAccount(make(), self._clock) if settings else None

    @callback
    def take_unit(self, config: BoxConfig, chargers: Mapping[tuple[Maker, str], Charger]) -> ManagedUnit:
        """Take a box that sends us nothing, or its new settings. Nothing begins yet."""
        identity = Identity(Maker.JUICEBOX, config.serial, config.name)
        last_report = limit_readings(
            config, Timestamp.of(self._clock)
        )  # also where no account has a path that shows it
        charger = chargers.get(identity.key) or self._charger(identity, last_report)
        charger.identity = identity
        transport = self.configure_unit(config)
        if transport is not None:
            transport.restore_current(charger.snapshot.value(CHARGING_CURRENT))
            charger.add_transport(transport)
        managed = self.units[config.serial] = ManagedUnit(charger, transport)
        return managed

    @callback
    def configure_unit(self, config: BoxConfig) -> JuiceNetTransport | None:
        """Let a box that sends us nothing go by these settings; its path, if there is an account."""
        return None if self.account is None else self.account.transport(config)

    @callback
    def take(self, config: BoxConfig, chargers: Mapping[tuple[Maker, str], Charger]) -> ManagedBox:
        """Take a box, or its new settings. Reuse its charger from `chargers` if there is one. Nothing begins yet."""
        serial = config.serial
        managed = self.managed.get(config.serial)
        box = self.server.add(config)
        if managed is None:
            udp = JuiceBoxTransport(box, self._clock)
            server = ServerTransport(box, self._clock)
            charger = chargers.get(udp.identity.key) or self._charger(udp.identity)
            managed = self.managed[serial] = ManagedBox(box, charger, udp, server)
            box.listen(partial(self._heard, managed))
        managed.charger.identity = managed.udp.identity
        managed.charger.add_transport(managed.udp)
        if self._upstream[1] is not None:
            managed.charger.add_transport(managed.server)
        return managed

    def _charger(self, identity: Identity, last_report: Readings | None = None) -> Charger:
        """A keeper with what was saved of a box, and what the user `last_report` of it, which is in no store."""
        serial = identity.serial
        stores = self.stores
        charger = Charger(identity, self._clock, ChargerOptions(), partial(stores.save_intents, serial))
        snapshot = stores.snapshots.get(serial)
        known = {**snapshot} if isinstance(snapshot, Mapping) else {}
        for prop, reading in (last_report or Readings()).items():
            observed_at = reading.observed_at.isoformat()
            known[prop.key] = {"value": reading.value, "source": reading.source, "observed_at": observed_at}
        charger.restore(known, stores.intents_by_serial.get(serial))
        return charger

    @callback
    def power_of(self, serial: str) -> PowerCycle:
        """What switches the power of a box; a duty to switch it on again that is left is taken up."""
        if (cycle := self.power.get(serial)) is None:
            key = f"{POWER_RECORD}{serial}"
            stores = self.stores
            save = partial(stores.save_intents, key)
            cycle = self.power[serial] = PowerCycle(self._hass, self._clock, save, stores.intents_by_serial.get(key))
        return cycle

    def _heard(self, managed: ManagedBox) -> None:
        """A box was heard or commanded: let what switches its power know that the box has power."""
        cycle = self.power.get(managed.box.config.serial)
        heard_at = managed.udp.charger_reported_at
        if cycle is not None and heard_at is not None:
            cycle.heard(heard_at, managed.box.counts["boots"])

    @property
    def unpowered(self) -> list[str]:
        """The serials of all boxes that were switched off and whose power is not proved to be back."""
        return [serial for serial, cycle in self.power.items() if cycle.active]

    async def finish(self) -> None:
        """Nobody will see to the boxes any more: none is left without power."""
        await asyncio.gather(*(cycle.finish() for cycle in self.power.values()))

    async def forget(self, serial: str) -> None:
        """Give a box up for good."""
        managed = self.managed.pop(serial, None)
        if managed is not None:
            managed.udp.close()
            managed.server.close()
        self.server.remove(serial)
        self.forget_unit(serial)
        if (cycle := self.power.get(serial)) is not None and not cycle.active:
            cycle.close()
            del self.power[serial]
            self.stores.intents_by_serial.pop(f"{POWER_RECORD}{serial}", None)
        await self.stores.forget(serial)

    @property
    def known(self) -> set[str]:
        """The serials of all boxes of which anything is kept, here or on the disk."""
        intents_by_serial = {key for key in self.stores.intents_by_serial if not key.startswith(POWER_RECORD)}
        return {*self.server.export(), *self.units, *intents_by_serial, *self.stores.snapshots}

    def is_paused(self, serial: str) -> bool:
        """Whether a pause that the user asked for is in the journal of a box."""
        intents = IntentStore(partial(self.stores.save_intents, serial))
        intents.restore(self.stores.intents_by_serial.get(serial))
        return intents.entries.pause is not None

    @callback
    def forget_unit(self, serial: str) -> None:
        """Do not ask a JuiceNet server for a box any more."""
        self.units.pop(serial, None)
        if self.account is not None:
            self.account.forget(serial)

    @callback
    def close_later(self, close: Callable[[], None]) -> None:
        """The entry is not set up now: `close` unless it is again soon."""
        self._cancel_close = self._clock.call_later(RELOAD_PATIENCE, close)

    @callback
    def stay(self) -> None:
        """The entry is set up again."""
        if self._cancel_close is not None:
            self._cancel_close()
            self._cancel_close = None

    async def close(self) -> None:
        """Send nothing any more; boxes go on as they were told last."""
        self.stay()
        self._cancel_save()
        for cycle in self.power.values():
            cycle.close()
        for managed in self.managed.values():
            managed.udp.close()
            managed.server.close()
        if self.account is not None:
            await self.account.stop()
        await self.server.close()

    # What is saved

    async def save(self) -> None:
        """Save all that is known of the boxes."""
        self._unsaved = False
        await self.stores.save_boxes(self.server.export())

    def _changed(self) -> None:
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
    """The maker's server as the user named it; None where he named none."""
    host = upstream.get("host")
    port = upstream.get("port")
    if not host or not isinstance(port, int):
        return None
    return UpstreamConfig(host=str(host), port=port, resolver=resolver(clock, upstream))


def resolver(clock: Clock, upstream: Mapping[str, object]) -> Resolver:
    """Who is asked for the address of the maker's server: the name server that the user chose, else the system."""
    chosen = upstream.get("resolver")
    return NameServer(clock, str(chosen)) if chosen else SystemResolver()
