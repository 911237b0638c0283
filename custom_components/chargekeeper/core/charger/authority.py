"""Choose the transport whose status is authoritative. Reports from before an outage are ignored."""

from math import inf

from ..model import POWER_FLOWS, Capability, Source, Status
from ..transport import StatusReport, Transport
from .evidence import reported_at, reported_since
from .router import Router, usable

UNCONFIRMING = frozenset({Status.UPDATING, Status.RESTARTING, Status.ERROR})
"""Statuses after which the charger may have forgotten what was sent to it."""


def status_received_at(transport: Transport | None) -> float:
    """Return the monotonic time of a transport's last status; minus infinity before the first one."""
    return -inf if transport is None or transport.status_received_at is None else transport.status_received_at


class Authority:
    """The authoritative status of one charger."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._ignored_until: dict[Source, float] = {}  # monotonic time of the last report before an outage
        self._cloud_usable: bool | None = None

    def observe(self, transport: Transport) -> bool:
        """Record the state of a transport. Return True if the charger may have forgotten what was sent to it.

        The result is True while no transport reaches the charger, and while the charger reports a status of
        `UNCONFIRMING`. The result is also True when the cloud loses or regains the charger. The caller then compares
        what was sent with what the charger does.
        """
        if not transport.breaker.usable:
            self._ignored_until[transport.source] = status_received_at(transport)
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
        """Return the authoritative transport: the transport that would carry commands of this capability.

        A local transport replaces the cloud if the charger's report over that transport is later and shows that power
        flows.
        """
        first = self._router.first(capability)
        if first is None or first.source is not Source.CLOUD:
            return first
        first_reported_at = reported_at(first)
        for transport in self._router:
            if (
                reported_since(transport, first_reported_at)
                and usable(transport)
                and transport.last_report is not None
                and transport.last_report.status in POWER_FLOWS
            ):
                return transport
        return first

    def last_report(self, capability: Capability) -> StatusReport | None:
        """Return the last status report of the authoritative transport; None if it is from before its last outage."""
        transport = self.transport(capability)
        return (
            None
            if transport is None or status_received_at(transport) <= self._ignored_until.get(transport.source, -inf)
            else transport.last_report
        )

    def status_received_at(self, capability: Capability) -> float:
        """Return the monotonic time of the authoritative transport's last status."""
        return status_received_at(self.transport(capability))

    @property
    def latest(self) -> float:
        """Monotonic time of the last status of any transport."""
        return max((status_received_at(transport) for transport in self._router), default=-inf)
