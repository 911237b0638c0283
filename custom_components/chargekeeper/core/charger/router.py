"""Which path carries a command, and in which order they are tried."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
import logging

from ..errors import (
    ChargerError,
    LoginRejected,
    NoConnection,
    TransportBusy,
    TransportDown,
    TransportsFailed,
    UnsafeRequest,
    Unsupported,
)
from ..model import Capability, Prefer, Source
from ..transport import Command, Presence, Transport
from .context import Context

LOGGER = logging.getLogger(__name__)

PRESENCES = (Presence.ONLINE, Presence.UNKNOWN, Presence.OFFLINE)
"""Best first."""

PATIENCE = 5.0
"""Seconds that a command has on a path whose breaker is closed, `PATIENCE_IN_DOUBT` where it is not."""
PATIENCE_IN_DOUBT = 3.0

GRACE = 0.5
"""Seconds beyond that, after which a path that says nothing itself is given up for another one."""

TRY_NEXT_TRANSPORT = (TransportDown, TransportBusy, LoginRejected, UnsafeRequest)
"""What fails like this on one path may work on another; the rest is the charger's own answer."""

type Prepare = Callable[[Transport, bool], Awaitable[None]]
"""Does on a path what must come first; told whether it has to hurry. Raises ChargerError."""


@dataclass(slots=True)
class Delivery:
    """What became of a command on the paths that were tried: who acknowledged it, and who failed why."""

    acknowledged_by: list[Transport] = field(default_factory=list)
    failures: list[tuple[Source, ChargerError]] = field(default_factory=list)
    in_doubt: bool = False
    """Whether it may have arrived, or may still, on a path that did not acknowledge it."""

    @property
    def last_source(self) -> Source:
        """The path that carried it, else the one that was tried last."""
        return self.acknowledged_by[0].source if self.acknowledged_by else self.failures[-1][0]

    @property
    def may_have_arrived(self) -> bool:
        """Whether the charger may have got it."""
        return bool(self.acknowledged_by) or self.in_doubt

    @property
    def refusal(self) -> ChargerError | None:
        """The charger's own no, which is not taken to another path."""
        error = None if self.acknowledged_by else self.failures[-1][1]
        return None if isinstance(error, TRY_NEXT_TRANSPORT) else error

    def require(self) -> None:
        """Raise why no path carried it, if none did: ChargerError, of several paths TransportsFailed."""
        if self.acknowledged_by:
            return
        unsafe = all(isinstance(error, UnsafeRequest) for _, error in self.failures)
        if len(self.failures) == 1 or unsafe or self.refusal is not None:
            raise self.failures[-1][1]
        raise TransportsFailed(self.failures)


def usable(transport: Transport) -> bool:
    """Whether the path reaches the charger, as far as is known: worth trying, and the charger was there."""
    return transport.breaker.usable and transport.presence is Presence.ONLINE


class Router:
    """The paths of one charger."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.transports: dict[Source, Transport] = {}

    def __iter__(self) -> Iterator[Transport]:
        return iter(self.transports.values())

    def ordered(self) -> list[Transport]:
        """The paths that the user's preference admits, best first."""
        prefer = self._context.options.prefer
        local_first = prefer in {Prefer.LOCAL_FIRST, Prefer.LOCAL_ONLY}
        admitted = [
            transport
            for transport in self
            if prefer not in {Prefer.CLOUD_ONLY, Prefer.LOCAL_ONLY}
            or (transport.source is Source.CLOUD) is (prefer is Prefer.CLOUD_ONLY)
        ]

        def rank(transport: Transport) -> tuple[int, bool, bool]:
            is_cloud = transport.source is Source.CLOUD
            return PRESENCES.index(transport.presence), transport.breaker.busy, is_cloud is local_first

        return sorted(admitted, key=rank)

    def route(self, capability: Capability) -> list[Transport]:
        """The paths that may carry such a command now, best first; one of unknown presence is better than none."""
        return [
            transport
            for transport in self.ordered()
            if capability in transport.capabilities
            and transport.breaker.usable
            and transport.presence is not Presence.OFFLINE
        ]

    def first(self, capability: Capability) -> Transport | None:
        """The best path for such a command, or None."""
        return next(iter(self.route(capability)), None)

    def require(self, capability: Capability) -> list[Transport]:
        """As `route`, but not empty.

        Raises:
            Unsupported: no path can do that with this charger.
            TransportDown: `no_admitted_path` as `admit` raises it; `charger_offline` in the cloud, or where nothing is
                heard of a box; `local_lost` where only another local path is admitted; else `no_path`, with the ISO
                time since when the cloud is lost as detail.
        """
        if route := self.route(capability):
            return route
        for transport in self:
            transport.breaker.probe_now()
        self.admit(capability)
        capable = {transport.source: transport for transport in self.ordered() if capability in transport.capabilities}
        if not capable and any(transport.last_report is not None for transport in self):
            raise Unsupported("unsupported", capability)
        cloud = capable.get(Source.CLOUD)
        if cloud is not None and cloud.breaker.usable:
            raise TransportDown("charger_offline")
        if cloud is None and capable:
            raise TransportDown("charger_offline" if Source.UDP in capable else "local_lost")
        since = None if cloud is None else cloud.breaker.opened_at
        raise TransportDown("no_path", "" if since is None else since.isoformat())

    def admit(self, capability: Capability) -> None:
        """Refuse what only paths can do that the user's preference does not admit. Raises TransportDown."""
        able = [transport for transport in self if capability in transport.capabilities]
        if able and not any(transport in able for transport in self.ordered()):
            raise TransportDown("no_admitted_path")

    async def send(self, transport: Transport, command: Command, *, hurried: bool = False) -> None:
        """Send a command on one path; returning means acknowledged.

        It may wait for room on the path first, unless it is `hurried` since another path can take it.

        Raises:
            ChargerError: it was not acknowledged; TransportDown `timeout` where the path had no room in time, too.
        """
        if self._context.stopping:
            raise NoConnection("stopping")
        patience = PATIENCE if transport.breaker.closed else PATIENCE_IN_DOUBT
        if not hurried:
            await transport.execute(command, patience=patience)
            return
        try:
            async with self._context.clock.timeout(patience + GRACE):
                await transport.execute(command, patience=patience)
        except TimeoutError:
            raise TransportDown("timeout") from None

    async def deliver(self, command: Command, prepare: Prepare | None = None, *, everywhere: bool = False) -> Delivery:
        """Send a command that does no harm when it arrives twice: on the best path, on the next where that one fails.

        Args:
            command: what to send.
            prepare: what must come before it on the same path.
            everywhere: send it on all paths instead, whatever becomes of it on another.

        Raises:
            ChargerError: there is no path at all.
        """
        delivery = Delivery()
        route = self.require(command.capability)
        for transport in route:
            hurried = transport is not route[-1]
            sending = False
            try:
                if prepare is not None:
                    await prepare(transport, hurried)
                sending = True
                await self.send(transport, command, hurried=hurried)
            except ChargerError as err:
                delivery.failures.append((transport.source, err))
                delivery.in_doubt |= sending and not err.surely_not_sent
                if not everywhere and not delivery.acknowledged_by and not isinstance(err, TRY_NEXT_TRANSPORT):
                    break
            else:
                delivery.acknowledged_by.append(transport)
                if not everywhere:
                    break
        return delivery

    def read_back(self, transport: Transport, done: Callable[[], bool] = lambda: False) -> None:
        """Look for the effect of what was sent, in the background, as far as the path allows reading out of turn.

        Args:
            transport: where to look.
            done: whether nothing needs to be looked for any more.
        """
        self._context.spawn(self._read_back(transport, done))

    async def _read_back(self, transport: Transport, done: Callable[[], bool]) -> None:
        clock = self._context.clock
        begun = clock.monotonic()
        for delay in transport.read_back_delays:
            await clock.sleep(begun + delay - clock.monotonic())
            if done():
                break
            await self.read_status(transport)

    async def read_status(self, transport: Transport) -> None:
        """Read the status out of turn if the path allows it now; the next regular answer serves as well."""
        try:
            await transport.check()
        except ChargerError as err:
            LOGGER.debug("No reading out of turn: %s", err)


class Handover:
    """Tells when a local path takes the commands over from the cloud, and when the cloud has them again.

    Only where the user leaves the choice to us, and not for what is found at a start.
    """

    def __init__(self, context: Context, router: Router) -> None:
        self._context = context
        self._router = router
        self._taken_over: bool | None = None  # None: before the cloud's first word

    def check(self) -> None:
        """Compare what is now with what was told last."""
        before = self._taken_over
        self._taken_over = self._judge()
        if before is not None and self._taken_over is not None and before is not self._taken_over:
            self._context.emit("connection", "taken_over" if self._taken_over else "handed_back")

    def _judge(self) -> bool | None:
        cloud = self._router.transports.get(Source.CLOUD)
        if cloud is None or self._context.options.prefer is not Prefer.AUTO:
            return None
        if cloud.last_report is None and cloud.breaker.usable:
            return None
        if usable(cloud):
            return False
        # Without any path nobody commands, and nobody has handed anything back.
        return self._taken_over is True or any(usable(transport) for transport in self._router)
