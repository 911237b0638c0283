"""Whose word on the charger counts, and since when: after an outage nothing from before it does."""

from math import inf

from ..model import POWER_FLOWS, Capability, Source, Status
from ..transport import StatusReport, Transport
from .router import Router, usable

UNCONFIRMING = frozenset({Status.UPDATING, Status.RESTARTING, Status.ERROR})
"""After these the charger may have forgotten what it was told."""


def status_received_at(transport: Transport | None) -> float:
    """The monotonic moment of a path's last word on the charger; minus infinity before the first."""
    return -inf if transport is None or transport.status_received_at is None else transport.status_received_at


class Authority:
    """What the paths of one charger say of it."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._last_report_before_outage: dict[
            Source, float
        ] = {}  # moment of a path's last word before its outage: not valid any more
        self._cloud_usable: bool | None = None

    def observe(self, transport: Transport) -> bool:
        """Note what a path brought. Whether the charger may have forgotten since what it was told.

        That is so where nobody saw it for a while, where it says so, and where the cloud lost it or has it again: what
        it was told is then compared with what it does.
        """
        if not transport.breaker.usable:
            self._last_report_before_outage[transport.source] = status_received_at(transport)
        before = self._cloud_usable
        if transport.source is Source.CLOUD:
            self._cloud_usable = usable(transport)
        unseen = not any(usable(each) for each in self._router)
        return (
            unseen
            or self._cloud_usable is not before
            or (transport.last_report is not None and transport.last_report.status in UNCONFIRMING)
        )

    def transport(self, capability: Capability) -> Transport | None:
        """The path whose word counts for such commands: the one that would carry them.

        What the cloud repeats from before an outage yields to a local path that heard the charger since and sees power
        flow.
        """
        first = self._router.first(capability)
        if first is None or first.source is not Source.CLOUD:
            return first
        first_reported_at = -inf if first.charger_reported_at is None else first.charger_reported_at
        for transport in self._router:
            later = transport.charger_reported_at is not None and transport.charger_reported_at > first_reported_at
            if (
                later
                and usable(transport)
                and transport.last_report is not None
                and transport.last_report.status in POWER_FLOWS
            ):
                return transport
        return first

    def last_report(self, capability: Capability) -> StatusReport | None:
        """The last word on the charger; None where that was before the last outage."""
        transport = self.transport(capability)
        return (
            None
            if transport is None
            or status_received_at(transport) <= self._last_report_before_outage.get(transport.source, -inf)
            else transport.last_report
        )

    def status_received_at(self, capability: Capability) -> float:
        """The monotonic moment of that word."""
        return status_received_at(self.transport(capability))

    @property
    def latest(self) -> float:
        """The monotonic moment of the last word of any path."""
        return max((status_received_at(transport) for transport in self._router), default=-inf)
