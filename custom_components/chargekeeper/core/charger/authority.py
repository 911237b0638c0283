"""Whose word on the charger counts, and since when: after an outage nothing from before it does."""

from math import inf

from ..model import POWER_FLOWS, Capability, Source, Status
from ..transport import ChargerPath, Word
from .router import Router, usable

DISTURBING = frozenset({Status.UPDATING, Status.RESTARTING, Status.ERROR})
"""After these the charger may have forgotten what it was told."""


def asked_at(path: ChargerPath | None) -> float:
    """The monotonic moment of a path's last word on the charger; minus infinity before the first."""
    return -inf if path is None or path.asked_at is None else path.asked_at


class Witness:
    """What the paths of one charger say of it."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._lost_on: dict[Source, float] = {}  # moment of a path's last word before its outage: not valid any more
        self._in_cloud: bool | None = None

    def disturbed(self, path: ChargerPath) -> bool:
        """Note what a path brought. Whether the charger may have forgotten since what it was told.

        That is so where nobody saw it for a while, where it says so, and where the cloud lost it or has it again: what
        it was told is then compared with what it does.
        """
        if not path.breaker.usable:
            self._lost_on[path.source] = asked_at(path)
        before = self._in_cloud
        if path.source is Source.CLOUD:
            self._in_cloud = usable(path)
        unseen = not any(usable(each) for each in self._router)
        return unseen or self._in_cloud is not before or (path.said is not None and path.said.status in DISTURBING)

    def path(self, capability: Capability) -> ChargerPath | None:
        """The path whose word counts for such commands: the one that would carry them.

        What the cloud repeats from before an outage yields to a local path that heard the charger since and sees power
        flow.
        """
        first = self._router.first(capability)
        if first is None or first.source is not Source.CLOUD:
            return first
        heard_at = -inf if first.synced_at is None else first.synced_at
        for path in self._router:
            later = path.synced_at is not None and path.synced_at > heard_at
            if later and usable(path) and path.said is not None and path.said.status in POWER_FLOWS:
                return path
        return first

    def said(self, capability: Capability) -> Word | None:
        """The last word on the charger; None where that was before the last outage."""
        path = self.path(capability)
        return None if path is None or asked_at(path) <= self._lost_on.get(path.source, -inf) else path.said

    def asked_at(self, capability: Capability) -> float:
        """The monotonic moment of that word."""
        return asked_at(self.path(capability))

    @property
    def latest(self) -> float:
        """The monotonic moment of the last word of any path."""
        return max((asked_at(path) for path in self._router), default=-inf)
