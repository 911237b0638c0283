"""The one tree of errors: why a request was not carried out."""

from collections.abc import Sequence
from datetime import datetime

from .model import Source


class ChargerError(Exception):
    """A request was not carried out. `reason` is a slug from which the user's text is chosen."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    surely_not_sent = True
    """Whether the request cannot have taken effect: it was not sent, or it was answered and refused."""


class TransportDown(ChargerError):
    """The path does not carry: unreachable, timed out, answering nonsense. Counts against the breaker."""

    surely_not_sent = False


class NoConnection(TransportDown):
    """No connection came about (refused, name not found, ChargeKeeper ends): nothing was sent."""

    surely_not_sent = True


class TransportsFailed(TransportDown):
    """Several paths were tried and none carried: `failures` says which failed why, in the order of trying."""

    def __init__(self, failures: Sequence[tuple[Source, ChargerError]]) -> None:
        super().__init__("paths_failed", ", ".join(f"{source}: {error}" for source, error in failures))
        self.failures = tuple(failures)
        self.surely_not_sent = all(error.surely_not_sent for _, error in failures)


class TransportBusy(ChargerError):
    """The path is there but has no room for us now; `retry_after` in seconds."""

    def __init__(self, reason: str, retry_after: float, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.retry_after = retry_after


class LoginRejected(ChargerError):
    """The credentials were refused."""


class NotAllowed(ChargerError):
    """The charger or its cloud refuses us: role, plan, lock, OCPP mode, not shared."""


class NotApplicable(ChargerError):
    """Not in this state of the charger."""


class Unsupported(ChargerError):
    """Not with this charger or path."""


class UnsafeRequest(ChargerError):
    """Our own refusal: it could do harm."""


class Dangerous(UnsafeRequest):
    """A restart or an install would do harm: `source` reported why, which counts until `until` where that is known."""

    def __init__(self, reason: str, source: Source, until: datetime | None = None) -> None:
        super().__init__(reason)
        self.source = source
        self.until = until


class NotSaved(ChargerError):
    """What must outlive a power cut could not be put on the disk: nothing was sent."""
