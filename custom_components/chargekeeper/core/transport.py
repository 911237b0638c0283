"""One way to reach a charger: what every path offers to the keeper, the commands, and the one tree of errors."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Protocol

from .breaker import Breaker
from .errors import Unsupported
from .model import Capability, EcoMode, Identity, Readings, Schedule, Source, Status


@dataclass(frozen=True, slots=True)
class SetCurrent:
    """Charge with at most `amps` (A, whole, at least the charger's minimum)."""

    amps: int
    capability: ClassVar = Capability.CURRENT


@dataclass(frozen=True, slots=True)
class SetCharging:
    """Let the car charge, or pause it."""

    on: bool
    capability: ClassVar = Capability.CHARGING


START = SetCharging(on=True)
STOP = SetCharging(on=False)


@dataclass(frozen=True, slots=True)
class SetOverride:
    """Charge whatever the schedule says, or let the schedule rule again."""

    on: bool
    capability: ClassVar = Capability.OVERRIDE


@dataclass(frozen=True, slots=True)
class SetLock:
    """Lock or unlock the charger for its users."""

    locked: bool
    capability: ClassVar = Capability.LOCK


@dataclass(frozen=True, slots=True)
class SetEcoMode:
    """Choose how much must come from the sun."""

    mode: EcoMode
    capability: ClassVar = Capability.ECO_MODE


@dataclass(frozen=True, slots=True)
class Restart:
    """Reboot the charger. Never queued, repeated or replayed."""

    capability: ClassVar = Capability.RESTART


@dataclass(frozen=True, slots=True)
class Install:
    """Install the newest firmware. Never queued, repeated or replayed."""

    capability: ClassVar = Capability.INSTALL


type Setting = SetCurrent | SetCharging | SetLock | SetEcoMode
"""A command that is sent and done with; it may be sent twice without harm."""
type Command = Setting | SetOverride | Restart | Install


LOCAL_READ_BACK = (2.0, 7.0, 15.0, 60.0)
"""Seconds after an acknowledged command at which its effect is looked for on a local path."""


class Presence(StrEnum):
    """The last word of a path on its charger."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"  # not heard yet, or too long ago


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What the last answer of a path said of the charger, however old the charger's own sign of life is."""

    status: Status | None = None
    car_connected: bool | None = None


class TransportListener(Protocol):
    """What a path tells its keeper. Called in the event loop; never raises."""

    def readings_received(self, transport: Transport, readings: Readings) -> None:
        """An answer came; called for each one, whether or not it shows anything new."""

    def transport_changed(self, transport: Transport) -> None:
        """The breaker, the presence or what the path can do changed."""


class Transport(Protocol):
    """One way to reach one charger.

    `source` names it. `breaker` says whether it is worth trying (shared by all chargers of an account).
    `frees_schedule` is false where the end of an override can only pause the charger, or let it charge in a window:
    then its own schedule does not rule again before another path, or we, see to that.
    `meters_lifetime` is true where the path reads a real lifetime meter, false where the keeper adds up sessions.
    `read_back_delays` are the seconds after an acknowledged command at which its effect is looked for.
    """

    source: Source
    breaker: Breaker
    meters_lifetime: bool
    frees_schedule: bool
    read_back_delays: tuple[float, ...]

    @property
    def identity(self) -> Identity:
        """What this path says of the charger."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do with this charger."""

    @property
    def presence(self) -> Presence:
        """Its last word on whether the charger is there, with the same age as the status."""

    @property
    def removed_from_account(self) -> bool:
        """Whether the far end no longer knows the charger: it left the account."""
        return False

    @property
    def last_report(self) -> StatusReport | None:
        """The last answer's word on the charger; None before the first answer of this run."""

    @property
    def charger_reported_at(self) -> float | None:
        """Monotonic moment at which the charger itself last reported over this path, as far as the path can tell."""

    @property
    def status_received_at(self) -> float | None:
        """Monotonic moment of the last answer that told this charger's status."""

    @property
    def at_rest(self) -> bool:
        """Whether this path sees by itself, and has for a while, that no power flows, even if the charger is silent."""
        return False

    @property
    def endpoint_contact_at(self) -> datetime | None:
        """When the far end of this path (the cloud, the link) last answered."""

    @property
    def restart_needs_link(self) -> bool:
        """Whether no charger can be restarted over such a path, but over an entity that the user may link to it."""
        return False

    @property
    def pause_outlasts_session(self) -> bool:
        """Whether a pause sent over it holds for the next car too, unless it is taken back when this one leaves."""
        return False

    def listen(self, listener: TransportListener) -> Callable[[], None]:
        """Be told of readings and changes; the answer ends it."""

    async def execute(self, command: Command, *, patience: float) -> None:
        """Send a command; returning means acknowledged, not done.

        It may first wait for room (a request budget), at most for the command's time to live; the request itself
        then has `patience` seconds.

        Raises:
            ChargerError: any of the tree; `NotApplicable` where the state of the charger forbids it.
        """

    async def check(self) -> None:
        """Read the status now, out of turn; what it shows goes to the listeners before this returns.

        Raises:
            TransportBusy: where the path allows no reading out of turn now.
            ChargerError: any other of the tree.
        """

    async def read_schedule(self) -> Schedule:
        """Read the charger's schedule.

        Raises:
            NotApplicable: `schedule_unreadable` where not all of it can be understood; then nothing may be written.
            ChargerError: any other of the tree; `Unsupported` where the path has no schedule.
        """
        raise Unsupported("unsupported", Capability.SCHEDULES)

    async def write_schedule(self, windows: Schedule) -> None:
        """Enable or disable these windows, found by their content, and leave everything else as it is.

        Returning means acknowledged, not done: only reading the schedule again shows the effect. Call it right after
        `read_schedule`: what somebody changes in between may be lost. Raises ChargerError, as `read_schedule`.
        """
        raise Unsupported("unsupported", Capability.SCHEDULES)

    def watch(self) -> Callable[[], None]:
        """Look at the charger as often as the path allows until the answer is called; most cannot do so at will."""
        return lambda: None
