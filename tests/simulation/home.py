"""One run of Home Assistant in the simulated house, from start to stop or kill: account, chargers, local transports."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
import json
import socket
from typing import Protocol, override

import aiohttp
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace

from custom_components.chargekeeper.core.charger import Charger, ChargerEvent, ChargerOptions
from custom_components.chargekeeper.core.errors import ChargerError
from custom_components.chargekeeper.core.load_group.group import LoadGroup
from custom_components.chargekeeper.core.load_group.shares import GroupSpec
from custom_components.chargekeeper.core.model import Identity, Maker
from custom_components.chargekeeper.wallbox.account import WallboxAccount
from tests.simulation.clocks import RunClock
from tests.simulators.local_transport import LocalLink, LocalTransport

OURS = "custom_components/chargekeeper/"
SAVE_EVERY = 60.0
"""Seconds between two checks for changes to save; a change waits for at least one check, as in storage.py."""
ENERGY_TURNS = 15
"""Number of checks after which the snapshots are saved in any case."""

type Text = str
type Told = Callable[[], None]


class Reachable(Protocol):
    """The interface of the cloud that a run uses."""

    @property
    def url(self) -> str:
        """The base URL of requests."""

    @property
    def server(self) -> web.Server | None:
        """The server of connections; None while nothing listens."""


class PairConnector(aiohttp.BaseConnector):
    """A connector over socket pairs: real HTTP through a real server, without ports, and equal in every run."""

    def __init__(self, cloud: Reachable) -> None:
        super().__init__()
        self._cloud = cloud

    @override
    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        server = self._cloud.server
        if server is None:
            raise aiohttp.ClientConnectorError(req.connection_key, ConnectionRefusedError())
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        await loop.connect_accepted_socket(server, theirs)
        _, protocol = await loop.create_connection(self._factory, sock=ours)
        return protocol


class Disk:
    """The storage that survives a power cut: texts, exactly as saved."""

    def __init__(self) -> None:
        self.intents_by_serial: dict[str, Text] = {}
        self.snapshots: dict[str, Text] = {}
        self.budgets: Text | None = None
        self.boxes: Text | None = None
        self.group: Text | None = None


class Observer:
    """The receiver of the events of a run, such as the house. `point` may kill the run."""

    def point(self, name: str) -> None:
        """Handle a point at which the run may be killed."""

    def journal_saved(self, serial: str, before: Text | None, after: Text) -> None:
        """Handle intents that reached the disk."""

    def keeper_event(self, serial: str, event: ChargerEvent) -> None:
        """Handle an event of a charger."""

    def outage(self, kind: str) -> None:
        """Handle the event `cloud_lost` or `cloud_back` of the account."""


class Run:
    """The common part of both kinds of runs: chargers, the user's commands, saving, and the kill."""

    def __init__(self, disk: Disk, clock: RunClock, observer: Observer) -> None:
        self.clock = clock
        self.dead = False
        self.chargers: dict[str, Charger] = {}
        self.commands: dict[asyncio.Task[object], float] = {}
        """The pending commands of the user, with their start on this run's clock."""
        self._disk = disk
        self._observer = observer
        self._saved: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._turns = 0
        self._cancel_saving: Callable[[], None] | None = None

    async def stop(self) -> None:
        """Stop cleanly, as at the end of Home Assistant."""

    async def end_commands(self) -> None:
        """Cancel the pending calls of the user: they end with the run."""
        for task in self.commands:
            task.cancel()
        await asyncio.gather(*self.commands, return_exceptions=True)

    def kill(self) -> None:
        """Cut the power: nothing is saved, sent or received any more. `bury` frees the remains."""
        self.dead = True
        self.clock.kill()
        for task in self.tasks():
            task.cancel()

    async def bury(self) -> None:
        """Clear away the remains of a killed run."""
        await asyncio.gather(*self.tasks(), return_exceptions=True)

    def tasks(self) -> list[asyncio.Task[object]]:
        """Return all of our tasks that are not done."""
        return [task for task in asyncio.all_tasks() if task in self.commands or _is_ours(task)]

    def act(self, serial: str, call: Callable[[Charger], Awaitable[object]], told: Callable[[object], None]) -> None:
        """Let the user act on a charger; `told` gets the answer or the error of the integration."""

        async def carry_out() -> object:
            try:
                answer = await call(self.chargers[serial])
            except ChargerError as err:
                answer = err
            if not self.dead:
                told(answer)
            return answer

        self._begin(carry_out())

    def _begin(self, work: Coroutine[object, object, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.commands[task] = self.clock.monotonic()
        task.add_done_callback(self.commands.pop)

    # The disk

    async def _save_journal(self, serial: str, intents: dict[str, object]) -> None:
        text = json.dumps(intents)
        await self._reach("journal not saved yet")
        before = self._disk.intents_by_serial.get(serial)
        self._disk.intents_by_serial[serial] = text
        self._observer.journal_saved(serial, before, text)
        await self._reach("journal saved")

    async def _reach(self, point: str) -> None:
        """Pass a point in a save; a run that is killed here never continues."""
        self._observer.point(point)
        await asyncio.sleep(0)
        if self.dead:
            raise asyncio.CancelledError

    def _saving(self) -> None:
        """Save data that changed a minute ago, and all data at intervals."""
        self._turns += 1
        seen = {serial: charger.revision for serial, charger in self.chargers.items()}
        if self._turns % ENERGY_TURNS == 0 or (self._seen != self._saved and self._turns > 1):
            self._save_snapshots()
        self._seen = seen
        self._cancel_saving = self.clock.call_later(SAVE_EVERY, self._saving)

    def _stop_saving(self) -> None:
        if self._cancel_saving is not None:
            self._cancel_saving()
            self._cancel_saving = None

    def _save_snapshots(self) -> None:
        self._saved = {serial: charger.revision for serial, charger in self.chargers.items()}
        for serial, charger in self.chargers.items():
            self._disk.snapshots[serial] = json.dumps(charger.export())


class Home(Run):
    """Our objects between two starts of Home Assistant, for the chargers of an account."""

    def __init__(
        self,
        disk: Disk,
        clock: RunClock,
        observer: Observer,
        *,
        cloud: Reachable,
        email: str,
        password: str,
        spec: GroupSpec | None = None,
    ) -> None:
        super().__init__(disk, clock, observer)
        self.group: LoadGroup | None = None
        self._spec = spec
        self.local: dict[str, LocalTransport] = {}
        self._session = aiohttp.ClientSession(connector=PairConnector(cloud))
        self.account = WallboxAccount(
            self._session,
            clock,
            email=email,
            password=password,
            user_api_url=cloud.url,
            api_url=cloud.url,
            save_budgets=self._save_purses,
        )

    def start(self, chargers: dict[str, ChargerOptions], links: dict[str, LocalLink]) -> None:
        """Restore everything from the disk, and start. Nothing is awaited, least of all a network."""
        if self._disk.budgets is not None:
            self.account.restore_budgets(json.loads(self._disk.budgets))
        self.account.listen_outage(self._observer.outage)
        self._open_group()
        for serial, options in chargers.items():
            self._start_keeper(serial, options, links.get(serial))
        self.account.start()
        self._start_group()
        self._saving()

    @override
    async def stop(self) -> None:
        for charger in self.chargers.values():
            charger.close()
        await self._close_group()
        for charger in self.chargers.values():
            await charger.stop()
        self._save_snapshots()
        self._stop_saving()
        await self.account.stop()
        self.unplug_links()
        await self.end_commands()
        await self._session.close()

    async def reload(self, chargers: dict[str, ChargerOptions], links: dict[str, LocalLink], stopped: Told) -> None:
        """Reload the entry: stop its objects, call `stopped`, and start again."""
        await self.account.stop()
        await self._close_group()
        for charger in self.chargers.values():
            await charger.stop()
        self.unplug_links()
        self._save_snapshots()
        self._stop_saving()
        stopped()
        self._open_group()
        for serial, charger in self.chargers.items():
            charger.options = chargers[serial]
            charger.add_transport(self.account.transport(serial))
            self._attach(charger)
            charger.start()
            if serial in links:
                self.plug_link(links[serial])
        self.account.start()
        self._start_group()
        self._saving()

    def plug_link(self, link: LocalLink) -> None:
        """Add a local transport."""
        transport = self.local[link.serial] = LocalTransport(link, self.clock)
        self.chargers[link.serial].add_transport(transport)
        transport.start()

    def unplug_link(self, serial: str) -> None:
        """Remove a local transport."""
        transport = self.local.pop(serial, None)
        if transport is not None:
            self.chargers[serial].remove_transport(transport.source)
            transport.stop()

    def unplug_links(self) -> None:
        """Remove all local transports."""
        for serial in list(self.local):
            self.unplug_link(serial)

    @override
    async def bury(self) -> None:
        """Free the sockets of a killed run."""
        await super().bury()
        await self._session.close()

    def _start_keeper(self, serial: str, options: ChargerOptions, link: LocalLink | None) -> None:
        def save(intents: dict[str, object]) -> Awaitable[None]:
            return self._save_journal(serial, intents)

        identity = Identity(Maker.WALLBOX, serial, f"Wallbox {serial}")
        charger = self.chargers[serial] = Charger(identity, self.clock, options, save)
        snapshot, intents = self._disk.snapshots.get(serial), self._disk.intents_by_serial.get(serial)
        charger.restore(
            None if snapshot is None else json.loads(snapshot), None if intents is None else json.loads(intents)
        )
        charger.listen_events(lambda event: self._observer.keeper_event(serial, event))
        charger.add_transport(self.account.transport(serial))
        self._attach(charger)
        charger.start()
        if link is not None:
            self.plug_link(link)

    # The load group

    def _open_group(self) -> None:
        if self._spec is not None:
            self.group = LoadGroup(self.clock, self._spec, self._save_group)
            self.group.restore(None if self._disk.group is None else json.loads(self._disk.group))

    def _attach(self, charger: Charger) -> None:
        if self.group is not None and self.group.has(charger.identity.key):
            self.group.attach(charger)

    def _start_group(self) -> None:
        if self.group is not None:
            self.group.start()

    async def _close_group(self) -> None:
        if self.group is not None:
            await self.group.stop()
            self.group = None

    # The disk

    async def _save_group(self, record: dict[str, object]) -> None:
        text = json.dumps(record)
        await self._reach("group not saved yet")
        self._disk.group = text
        await self._reach("group saved")

    async def _save_purses(self, budgets: dict[str, object]) -> None:
        text = json.dumps(budgets)
        await self._reach("budgets not saved yet")
        self._disk.budgets = text
        await self._reach("budgets saved")


def _is_ours(task: asyncio.Task[object]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and OURS in code.co_filename
