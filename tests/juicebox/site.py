"""A simulated box, its maker's server and the hub between them, on loopback and virtual time."""

from dataclasses import dataclass, field

from custom_components.chargekeeper.juicebox.box import Box, BoxConfig, Mode
from custom_components.chargekeeper.juicebox.datagram import CommandMessage, StatusMessage, parse, parse_command
from custom_components.chargekeeper.juicebox.hub import BoxHub
from custom_components.chargekeeper.juicebox.resolver import SystemResolver
from custom_components.chargekeeper.juicebox.upstream import UpstreamConfig
from tests.simulators.clock import VirtualClock
from tests.simulators.juicebox import JuiceBox, Shows
from tests.simulators.juicebox_server import BoxHub as MakersServer, Unit
from tests.simulators.juicebox_wire import Wire

from .rig import HERE, free_ports
from .vectors import SERIAL

WIRE_RATING = 32


@dataclass
class Site:
    """The box, the server and the hub of one test. `served`: True if the maker has a server."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    served: bool = True
    stored: object = None
    wire: Wire = Wire.V09U
    state_key: Shows = Shows.M_IN_FORCE
    config: BoxConfig = field(
        default_factory=lambda: BoxConfig(serial=SERIAL, host=HERE, wire_rating=WIRE_RATING, load_group_limit=None)
    )

    def __post_init__(self) -> None:
        self.port = free_ports(1)[0]
        self.unit = Unit(serial=SERIAL, wire_rating=WIRE_RATING, stored=16)
        self.maker = MakersServer(self.clock, [self.unit])
        self.sim = JuiceBox(
            clock=self.clock,
            serial=SERIAL,
            server=("127.0.0.1", self.port),
            host=HERE,
            wire=self.wire,
            state_key=self.state_key,
            stored=16,
        )
        self.ours = BoxHub(self.clock, self.stored)
        self.box: Box

    async def start(self, *, plugged: bool = True) -> None:
        """Start the maker's server, the hub and the box."""
        if self.served:
            await self.maker.start()
        self.begin_ours()
        if plugged:
            self.sim.plug_in()
        self.sim.start()
        await self.clock.settle()

    def begin_ours(self) -> None:
        self.box = self.ours.add(self.config)
        self.ours.open("127.0.0.1", [self.port], self.upstream())

    def upstream(self) -> UpstreamConfig | None:
        if not self.served:
            return None
        host, port = self.maker.address
        return UpstreamConfig(host=host, port=port, resolver=SystemResolver())

    async def restart(self, *, down_for: float = 10.0) -> None:
        """Stop the hub, and start a new hub from the exported state."""
        stored = self.ours.export()
        await self.ours.close()
        await self.clock.advance(down_for)
        self.ours = BoxHub(self.clock, stored)
        self.begin_ours()
        await self.clock.settle()

    async def stop(self) -> None:
        self.sim.stop()
        await self.ours.close()
        await self.maker.stop()

    @property
    def mode(self) -> Mode:
        return self.box.mode

    def candidate(self) -> int | None:
        return self.box.offline_candidate

    @property
    def last(self) -> CommandMessage:
        """The last command that the box obeyed, as the hub built or relayed it."""
        return self.commands()[-1]

    def commands(self) -> list[CommandMessage]:
        """Return all commands that the box obeyed."""
        return [
            CommandMessage(
                weekday=taken.command.weekday,
                hour=taken.command.hour,
                minute=taken.command.minute,
                online=taken.command.online,
                offline=taken.command.stored,
                flags=taken.command.flags,
                index=taken.command.index,
                wide=self.wire is Wire.V09U,
            )
            for taken in self.sim.commands
        ]

    def statuses(self) -> list[float]:
        """Return the monotonic times of the statuses that the box sent."""
        return [at for at, data in self.sim.sent if isinstance(parse(data), StatusMessage)]

    def masters(self) -> set[str]:
        """Return who answered since the last `mark`: `server` for relayed commands, `us` for commands of the hub."""
        theirs = {data for _, _, data in self.maker.sent}
        return {"server" if each.encode() in theirs else "us" for each in self.commands()}

    def mark(self) -> None:
        """Clear the logs and counters of the box and the server."""
        self.sim.commands.clear()
        self.sim.sent.clear()
        self.maker.sent.clear()
        self.sim.unanswered = self.sim.fallbacks = self.sim.writes = 0
        self.sim.slowest_answer = 0.0

    def servers_commands(self) -> list[CommandMessage]:
        return [command for _, _, data in self.maker.sent if isinstance(command := parse_command(data), CommandMessage)]
