"""Choose which transports carry a command, and in which order they are tried."""

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
"""Presences, best first."""

PATIENCE = 5.0
"""Seconds for a command on a transport whose breaker is closed; otherwise `PATIENCE_IN_DOUBT`."""
PATIENCE_IN_DOUBT = 3.0

GRACE = 0.5
"""Seconds beyond the patience after which a silent transport is abandoned for another one."""

TRY_NEXT_TRANSPORT = (TransportDown, TransportBusy, LoginRejected, UnsafeRequest)
"""Errors after which another transport may succeed. Any other error is the charger's own answer."""

type Prepare = Callable[[Transport, bool], Awaitable[None]]
"""Does on a transport what must come before a command. The flag is True if the preparation must be
quick. Raises ChargerError."""


@dataclass(slots=True)
class Delivery:
    """Outcome of a command: the transports that acknowledged it, and those that failed with the reason."""

    acknowledged_by: list[Transport] = field(default_factory=list)
    failures: list[tuple[Source, ChargerError]] = field(default_factory=list)
    in_doubt: bool = False
    """True if a transport did not acknowledge the command, but the command may have arrived or may still arrive."""

    @property
    def last_source(self) -> Source:
        """Source of the transport that acknowledged the command, else of the one that was tried last."""
        return self.acknowledged_by[0].source if self.acknowledged_by else self.failures[-1][0]

    @property
    def may_have_arrived(self) -> bool:
        """True if the charger may have received the command."""
        return bool(self.acknowledged_by) or self.in_doubt

    @property
    def refusal(self) -> ChargerError | None:
        """The charger's own refusal; the command is not sent over another transport after it."""
        error = None if self.acknowledged_by else self.failures[-1][1]
        return None if isinstance(error, TRY_NEXT_TRANSPORT) else error

    def require(self) -> None:
        """Raise an error if no transport acknowledged the command.

        Raises:
            TransportsFailed: several transports failed.
            ChargerError: the only transport failed, the charger refused, or the command is unsafe.
        """
        if self.acknowledged_by:
            return
        unsafe = all(isinstance(error, UnsafeRequest) for _, error in self.failures)
        if len(self.failures) == 1 or unsafe or self.refusal is not None:
            raise self.failures[-1][1]
        raise TransportsFailed(self.failures)


def usable(transport: Transport) -> bool:
    """Return True if the transport works and, as far as known, reaches the charger."""
    return transport.breaker.usable and transport.presence is Presence.ONLINE


class Router:
    """The transports of one charger."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.transports: dict[Source, Transport] = {}

    def __iter__(self) -> Iterator[Transport]:
        return iter(self.transports.values())

    def ordered(self) -> list[Transport]:
        """Return the transports that the user's preference admits, best first."""
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
        """Return the transports that may carry such a command now, best first.

        A transport of unknown presence is better than none.
        """
        return [
            transport
            for transport in self.ordered()
            if capability in transport.capabilities
            and transport.breaker.usable
            and transport.presence is not Presence.OFFLINE
        ]

    def first(self, capability: Capability) -> Transport | None:
        """Return the best transport for such a command, or None."""
        return next(iter(self.route(capability)), None)

    def require(self, capability: Capability) -> list[Transport]:
        """Return the transports that may carry such a command now, best first, at least one.

        Raises:
            Unsupported: no transport of this charger has the capability.
            TransportDown: `no_admitted_path` as in `admit`; `charger_offline` if the cloud shows the charger offline,
                or a box is silent; `local_lost` if only another local transport is admitted; else `no_path`. The detail
                of `no_path` is the ISO time since when the cloud is lost.
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
        """Raise TransportDown if transports have this capability, but the user's preference excludes all of them."""
        able = [transport for transport in self if capability in transport.capabilities]
        if able and not any(transport in able for transport in self.ordered()):
            raise TransportDown("no_admitted_path")

    async def send(self, transport: Transport, command: Command, *, hurried: bool = False) -> None:
        """Send a command on one transport. Returning means acknowledged.

        The transport may first wait for room in its request budget. A `hurried` command, which another transport can
        take, does not wait longer than the patience.

        Raises:
            TransportDown: `timeout`, if the transport had no room in time.
            ChargerError: the command was not acknowledged, and why.
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
        """Send a command on the best transport, and on the next one if the best transport fails.

        Args:
            command: what to send. The command must do no harm if it arrives twice.
            prepare: what must come before the command on the same transport.
            everywhere: send the command on all transports, whatever happens on the others.

        Raises:
            ChargerError: there is no transport at all.
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
        """Look for the effect of a command in the background, as far as the transport allows extra reads.

        Args:
            transport: where to look.
            done: returns True once no further read is needed.
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
        """Make an extra read of the status if the transport allows one now. The next regular answer would also do."""
        try:
            await transport.check()
        except ChargerError as err:
            LOGGER.debug("The status was not read out of turn: %s", err)


class Handover:
    """Emits an event when a local transport takes over from the cloud, and when the cloud is in charge again.

    The events are emitted only if the user leaves the choice to ChargeKeeper, and not for the state found at a start.
    """

    def __init__(self, context: Context, router: Router) -> None:
        self._context = context
        self._router = router
        self._taken_over: bool | None = None  # None: before the cloud's first report

    def check(self) -> None:
        """Compare the transport in charge with the one at the last check, and emit an event on a change."""
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
        # Without a usable transport none is in charge, and nothing was handed back.
        return self._taken_over is True or any(usable(transport) for transport in self._router)
