"""One run of Home Assistant with JuiceBoxes: boxes, chargers and their load group, from start to stop or kill."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
import json
from typing import Any, cast, override

from homeassistant.core import HomeAssistant

from custom_components.chargekeeper.core.load_group.group import LoadGroup
from custom_components.chargekeeper.core.load_group.shares import GroupSpec
from custom_components.chargekeeper.core.model import Maker
from custom_components.chargekeeper.entries.juicebox import _sync_box
from custom_components.chargekeeper.ha.boxes import Boxes
from custom_components.chargekeeper.ha.shared_state import SharedState
from custom_components.chargekeeper.ha.storage import EntryStores
from custom_components.chargekeeper.juicebox.box import Box, BoxConfig
from tests.simulation.boxes.network import HOME
from tests.simulation.clocks import RunClock
from tests.simulation.home import Disk, Observer, Run, Told

PORTS = (8042, 8047)
GROUP = "group"


class Loop:
    """The part of Home Assistant that our boxes use: it runs tasks."""

    def async_create_task(self, work: Coroutine[Any, Any, Any], _name: str) -> asyncio.Task[Any]:
        """Run a coroutine as a task."""
        return asyncio.get_running_loop().create_task(work)


class BoxHome(Run):
    """Our objects between two starts of Home Assistant, for boxes."""

    def __init__(self, disk: Disk, clock: RunClock, observer: Observer) -> None:
        super().__init__(disk, clock, observer)
        self.shared_state = SharedState(clock)
        self.intents_by_serial: dict[str, object] = {
            serial: json.loads(text) for serial, text in disk.intents_by_serial.items()
        }
        self.snapshots: dict[str, object] = {serial: json.loads(text) for serial, text in disk.snapshots.items()}
        stored = None if disk.boxes is None else json.loads(disk.boxes)
        self.stored = stored
        hass, stores = cast("HomeAssistant", Loop()), cast("EntryStores", _Stores(self))
        self.boxes = self.shared_state.boxes = Boxes(hass, clock, stores)
        self.group: LoadGroup | None = None
        self._ends: list[Callable[[], None]] = []

    @property
    def served(self) -> Mapping[str, Box]:
        """The boxes that get answers, by serial number."""
        return self.boxes.server.boxes

    def start(self, configs: Mapping[str, BoxConfig], spec: GroupSpec, upstream: Mapping[str, object]) -> None:
        """Restore everything from the disk, and start, in the order of the integration."""
        self._open_group(spec)
        self._set_up(configs, upstream)
        for serial, charger in self.chargers.items():
            charger.listen_events(lambda event, serial=serial: self._observer.keeper_event(serial, event))  # type: ignore[misc]
        self._start_group()
        self._saving()

    async def reload(self, configs: Mapping[str, BoxConfig], upstream: Mapping[str, object], unloaded: Told) -> None:
        """Set up the entry of the boxes again; the boxes get answers meanwhile."""
        while self._ends:
            self._ends.pop()()
        for charger in self.chargers.values():
            await self.shared_state.end(charger)
        if self.dead:
            return
        self._save_snapshots()
        self._stop_saving()
        unloaded()
        self._set_up(configs, upstream)
        self._saving()

    async def reload_group(self, spec: GroupSpec) -> None:
        """Set up the entry of the load group again."""
        await self.shared_state.close_group(GROUP)
        if not self.dead:
            self._open_group(spec)
            self._start_group()

    @override
    async def stop(self) -> None:
        await self.shared_state.stop()
        self._save_snapshots()
        self._stop_saving()
        await self.boxes.save()
        await self.end_commands()

    @override
    def kill(self) -> None:
        # The operating system closes the sockets of a killed process.
        self.boxes.server.listener.close()
        for upstream in self.boxes.server._upstreams.values():
            upstream._close_socket()
        super().kill()

    async def save_boxes(self, boxes: Mapping[str, object]) -> None:
        """Save the states of the boxes to the disk."""
        text = json.dumps(boxes)
        await self._reach("boxes not saved yet")
        self._disk.boxes = text
        await self._reach("boxes saved")

    def _set_up(self, configs: Mapping[str, BoxConfig], upstream: Mapping[str, object]) -> None:
        self.boxes.set_upstream(upstream)
        for serial, config in configs.items():
            kept = self.boxes.add_box(config, self.shared_state.chargers)
            self.chargers[serial] = self.shared_state.chargers[kept.charger.identity.key] = kept.charger
            self.shared_state.begin(kept.charger)
            self._ends.append(_sync_box(kept))
        self.boxes.server.listener.open(HOME, PORTS)

    def _open_group(self, spec: GroupSpec) -> None:
        self.group = LoadGroup(self.clock, spec, self._save_group)
        self.group.restore(None if self._disk.group is None else json.loads(self._disk.group))
        self.shared_state.open_group(GROUP, self.group)

    def _start_group(self) -> None:
        assert self.group is not None
        self.group.start()

    async def _save_group(self, record: dict[str, object]) -> None:
        text = json.dumps(record)
        await self._reach("group not saved yet")
        self._disk.group = text
        await self._reach("group saved")


class _Stores:
    """The stores of the entry, on the disk of the house."""

    def __init__(self, home: BoxHome) -> None:
        self._home = home
        self.boxes = home.stored
        self.snapshots, self.intents_by_serial = home.snapshots, home.intents_by_serial

    async def save_intents(self, serial: str, intents: dict[str, object]) -> None:
        await self._home._save_journal(serial, intents)

    async def save_boxes(self, boxes: Mapping[str, object]) -> None:
        await self._home.save_boxes(boxes)


def key_of(serial: str) -> tuple[Maker, str]:
    """Return the key of a box in a load group."""
    return Maker.JUICEBOX, serial
