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
            PathDown: `no_admitted_path` as `admit` raises it; `charger_offline` in the cloud, `local_lost` where only a
                local path is admitted; else `no_path`, with the ISO time since when the cloud is lost as detail.
        """
        if route := self.route(capability):
            return route
        for path in self:
            path.breaker.hurry()
        self.admit(capability)
        capable = {path.source: path for path in self.ordered() if capability in path.capabilities}
        if not capable and any(path.said is not None for path in self):
            raise Unsupported("unsupported", capability)
        cloud = capable.get(Source.CLOUD)
        if cloud is not None and cloud.breaker.usable:
            raise PathDown("charger_offline")
        if cloud is None and capable:
            raise PathDown("local_lost")
        since = None if cloud is None else cloud.breaker.opened_at
        raise PathDown("no_path", "" if since is None else since.isoformat())

    def admit(self, capability: Capability) -> None:
        """Refuse what only paths can do that the user's preference does not admit. Raises PathDown."""
        able = [path for path in self if capability in path.capabilities]
        if able and not any(path in able for path in self.ordered()):
            raise PathDown("no_admitted_path")

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
