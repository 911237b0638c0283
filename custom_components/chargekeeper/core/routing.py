"""Which path carries a command, and in which order they are tried."""

from collections.abc import Iterator
import logging

from .context import Context
from .model import Capability, Prefer, Source
from .paths import ChargerError, ChargerPath, Command, NoConnection, PathDown, Presence, Unsupported

LOGGER = logging.getLogger(__name__)

PRESENCES = (Presence.ONLINE, Presence.UNKNOWN, Presence.OFFLINE)
"""Best first."""

PATIENCE = 5.0
"""Seconds that a command has on a path whose breaker is closed, `PATIENCE_IN_DOUBT` where it is not."""
PATIENCE_IN_DOUBT = 3.0


def usable(path: ChargerPath) -> bool:
    """Whether the path reaches the charger, as far as is known: worth trying, and the charger was there."""
    return path.breaker.usable and path.presence is Presence.ONLINE


class Router:
    """The paths of one charger."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.paths: dict[Source, ChargerPath] = {}

    def __iter__(self) -> Iterator[ChargerPath]:
        return iter(self.paths.values())

    def ordered(self) -> list[ChargerPath]:
        """The paths that the user's preference admits, best first."""
        prefer = self._context.options.prefer
        local_first = prefer in {Prefer.LOCAL_FIRST, Prefer.LOCAL_ONLY}
        admitted = [
            path
            for path in self
            if prefer not in {Prefer.CLOUD_ONLY, Prefer.LOCAL_ONLY}
            or (path.source is Source.CLOUD) is (prefer is Prefer.CLOUD_ONLY)
        ]

        def rank(path: ChargerPath) -> tuple[int, bool, bool]:
            is_cloud = path.source is Source.CLOUD
            return PRESENCES.index(path.presence), path.breaker.busy, is_cloud is local_first

        return sorted(admitted, key=rank)

    def route(self, capability: Capability) -> list[ChargerPath]:
        """The paths that may carry such a command now, best first; one of unknown presence is better than none."""
        return [
            path
            for path in self.ordered()
            if capability in path.capabilities and path.breaker.usable and path.presence is not Presence.OFFLINE
        ]

    def first(self, capability: Capability) -> ChargerPath | None:
        """The best path for such a command, or None."""
        return next(iter(self.route(capability)), None)

    def require(self, capability: Capability) -> list[ChargerPath]:
        """As `route`, but not empty.

        Raises:
            Unsupported: no path can do that with this charger.
            PathDown: `charger_offline`, or `no_path` with the ISO time since when the cloud is lost as detail.
        """
        if route := self.route(capability):
            return route
        capable = [path for path in self.ordered() if capability in path.capabilities]
        for path in self:
            path.breaker.hurry()
        if not capable and any(path.said is not None for path in self):
            raise Unsupported("unsupported", capability)
        if any(path.breaker.usable for path in capable):
            raise PathDown("charger_offline")
        since = next((path.breaker.opened_at for path in capable if path.breaker.opened_at is not None), None)
        raise PathDown("no_path", "" if since is None else since.isoformat())

    async def send(self, path: ChargerPath, command: Command) -> None:
        """Send a command on one path; returning means acknowledged. Raises ChargerError."""
        if self._context.stopping:
            raise NoConnection("stopping")
        await path.execute(command, patience=PATIENCE if path.breaker.closed else PATIENCE_IN_DOUBT)

    def read_back(self, path: ChargerPath) -> None:
        """Look for the effect of what was sent, in the background, as far as the path allows reading out of turn."""
        self._context.spawn(self._read_back(path))

    async def _read_back(self, path: ChargerPath) -> None:
        clock = self._context.clock
        begun = clock.monotonic()
        for delay in path.read_back_delays:
            await clock.sleep(begun + delay - clock.monotonic())
            await self.look(path)

    async def look(self, path: ChargerPath) -> None:
        """Read the status out of turn if the path allows it now; the next regular answer serves as well."""
        try:
            await path.check()
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

    def settle(self) -> None:
        """Compare what is now with what was told last."""
        before, self._taken_over = self._taken_over, self._judge()
        if before is not None and self._taken_over is not None and before is not self._taken_over:
            self._context.emit("connection", "taken_over" if self._taken_over else "handed_back")

    def _judge(self) -> bool | None:
        cloud = self._router.paths.get(Source.CLOUD)
        if cloud is None or self._context.options.prefer is not Prefer.AUTO:
            return None
        if cloud.said is None and cloud.breaker.usable:
            return None
        if usable(cloud):
            return False
        # Without any path nobody commands, and nobody has handed anything back.
        return self._taken_over is True or any(usable(path) for path in self._router)
