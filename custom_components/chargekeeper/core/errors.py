"""All errors of requests to a charger, as one tree: why a request was not carried out."""

from collections.abc import Sequence
from datetime import datetime

from .model import Source


class ChargerError(Exception):
    """A request was not carried out. `reason` is a slug that selects the text for the user."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    surely_not_sent = True
    """True if the request cannot have taken effect, since it was not sent, or was answered and refused."""


class TransportDown(ChargerError):
    """The transport failed: unreachable, timed out or answering garbage. Counts as a failure for the breaker."""

    surely_not_sent = False


class NoConnection(TransportDown):
    """No connection was made (refused, name not found, ChargeKeeper is stopping): nothing was sent."""

    surely_not_sent = True


class TransportsFailed(TransportDown):
    """All transports failed. `failures` holds each transport with its error, in the order of the attempts."""

    def __init__(self, failures: Sequence[tuple[Source, ChargerError]]) -> None:
        super().__init__("paths_failed", ", ".join(f"{source}: {error}" for source, error in failures))
        self.failures = tuple(failures)
        self.surely_not_sent = all(error.surely_not_sent for _, error in failures)


class TransportBusy(ChargerError):
    """The transport works but accepts no request now; `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: float, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.retry_after = retry_after


class GaveWay(TransportBusy):
    """A request waited, and a reduction of the same charger came first. The request may be made again after that."""

    def __init__(self) -> None:
        super().__init__("no_room", 0.0)


class LoginRejected(ChargerError):
    """The credentials were refused."""


class NotAllowed(ChargerError):
    """The charger or its cloud refuses the request: role, plan, lock, OCPP mode or not shared."""


class NotApplicable(ChargerError):
    """The request does not fit the present state of the charger."""


class Unsupported(ChargerError):
    """The charger or the transport does not support the request."""


class UnsafeRequest(ChargerError):
    """ChargeKeeper refuses the request, since it could do harm."""


class Dangerous(UnsafeRequest):
    """A restart or an install could do harm. `source` reported the reason, valid until `until` (None: unknown)."""

    def __init__(self, reason: str, source: Source, until: datetime | None = None) -> None:
        super().__init__(reason)
        self.source = source
        self.until = until


class NotSaved(ChargerError):
    """Data that must survive a power failure could not be saved: nothing was sent."""
