"""The interface of all transports: commands, status reports, and the `Transport` and `TransportListener` protocols."""

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
    """Charge with at most `amps` (whole A, at least the charger's minimum)."""

    amps: int
    capability: ClassVar = Capability.CURRENT


@dataclass(frozen=True, slots=True)
class SetCharging:
    """Allow charging, or pause the charger."""

    on: bool
    capability: ClassVar = Capability.CHARGING


START = SetCharging(on=True)
STOP = SetCharging(on=False)


@dataclass(frozen=True, slots=True)
class SetOverride:
    """Charge regardless of the schedule, or follow the schedule again."""

    on: bool
    capability: ClassVar = Capability.OVERRIDE


@dataclass(frozen=True, slots=True)
class SetLock:
    """Lock or unlock the charger."""

    locked: bool
    capability: ClassVar = Capability.LOCK


@dataclass(frozen=True, slots=True)
class SetEcoMode:
    """Choose how much of the energy must be solar."""

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
"""A command with a single effect. Sending it twice does no harm."""
type Command = Setting | SetOverride | Restart | Install


LOCAL_READ_BACK = (2.0, 7.0, 15.0, 60.0)
"""Seconds after an acknowledged command at which a local transport reads back the effect."""


SAVE_WITHIN = 1.0
"""Seconds that a reduction waits for its record to be saved: a slow disk holds up no reduction."""

EFFECT_SHOWS_AFTER = 150.0
"""Seconds after sending from which a report without the effect refutes a command. A cloud lags 40 s
and more, and a box may lose one of its statuses."""


class Presence(StrEnum):
    """What a transport last reported about the presence of its charger."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"  # no report yet, or the last report is too old


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The status in the last answer of a transport, however old the charger's own evidence of life is."""

    status: Status | None = None
    car_connected: bool | None = None


class TransportListener(Protocol):
    """The receiver of a transport's readings and changes. Called in the event loop; never raises."""

    def readings_received(self, transport: Transport, readings: Readings) -> None:
        """Take the readings of an answer. Called for each answer, even if nothing is new."""

    def transport_changed(self, transport: Transport) -> None:
        """Record that the breaker, the presence or the capabilities of the transport changed."""


class Transport(Protocol):
    """One way to reach one charger.

    Attributes:
        source: the source of the readings; it identifies the transport.
        breaker: tells whether the transport is worth trying. All chargers of an account share it.
        meters_lifetime: True if the transport reads a real lifetime meter. Otherwise the readings store adds up
            sessions.
        frees_schedule: False if the end of an override can only pause the charger, or let it charge in a window. Then
            another transport or ChargeKeeper must make the charger follow its own schedule again.
        read_back_delays: seconds after an acknowledged command at which the effect is read back.
    """

    source: Source
    breaker: Breaker
    meters_lifetime: bool
    frees_schedule: bool
    read_back_delays: tuple[float, ...]

    @property
    def identity(self) -> Identity:
        """The charger's identity as this transport reports it."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this transport can do with the charger."""

    @property
    def presence(self) -> Presence:
        """The last reported presence of the charger; it expires like the status."""

    @property
    def removed_from_account(self) -> bool:
        """True if the endpoint no longer knows the charger, since it was removed from the account."""
        return False

    @property
    def last_report(self) -> StatusReport | None:
        """The status report of the last answer; None before the first answer since the start."""

    @property
    def charger_reported_at(self) -> float | None:
        """Monotonic time at which the charger itself made its last report over this transport; None if unknown.

        For the cloud this is `last_sync` by the cloud's own clock, over UDP the last status, for linked entities the
        last report of a measuring entity. Never the time of our request, and never a cached or restored value. Only
        `charger.evidence` compares this time: a report proves the effect of a command that was sent earlier.
        """

    def proves(self, capability: Capability) -> bool:
        """Return True if reports of this transport show what the charger does, not what it was told.

        False for a transport that repeats the command: an `assumed_state` entity, a field that cannot distinguish.
        """
        return True

    @property
    def status_received_at(self) -> float | None:
        """Monotonic time of the last answer that contained the status of this charger."""

    @property
    def booted_at(self) -> float | None:
        """Monotonic time of the charger's last boot, if a report over this transport proved that boot; else None."""
        return None

    @property
    def at_rest(self) -> bool:
        """True if this transport itself has measured for a while that no power flows, even if the charger is silent."""
        return False

    @property
    def endpoint_contact_at(self) -> datetime | None:
        """Wall clock time at which the endpoint (the cloud, the link) last answered."""

    @property
    def restart_needs_link(self) -> bool:
        """True if the transport can never restart a charger, but an entity that the user links can."""
        return False

    @property
    def pause_outlasts_session(self) -> bool:
        """True if a pause over this transport also blocks the next car unless it is undone when this car leaves."""
        return False

    def listen(self, listener: TransportListener) -> Callable[[], None]:
        """Add a listener for readings and changes. Return a function that removes the listener."""

    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        """Send a command. A return means that the command was acknowledged, not that it took effect.

        The transport may first wait for its request budget, at most for the command's time to live. The request itself
        then has `patience` seconds.

        Args:
            command: what to send.
            patience: seconds for the request itself.
            urgent: current in A that a reduction relieves; 0 for any other command. The transport sends reductions
                before anything else, the largest relief first (docs/design.md, section 0.4).

        Raises:
            ChargerError: any subclass; `NotApplicable` if the state of the charger forbids the command; `GaveWay` if a
                reduction of the same charger comes first.
        """

    def make_way(self) -> Callable[[], None]:
        """Let no other request of this charger wait for the request budget: each ends with `GaveWay`.

        Return a function that ends this. The default does nothing, since most transports have no budget.
        """
        return lambda: None

    async def check(self) -> None:
        """Read the status now, outside the regular polls. Listeners receive the readings before the return.

        Raises:
            TransportBusy: if the transport allows no extra read now.
            ChargerError: any other subclass.
        """

    async def read_schedule(self) -> Schedule:
        """Read the charger's schedule.

        Raises:
            NotApplicable: `schedule_unreadable` if any part cannot be parsed. Then no schedule may be written.
            ChargerError: any other subclass; `Unsupported` if the transport has no schedule.
        """
        raise Unsupported("unsupported", Capability.SCHEDULES)

    async def write_schedule(self, windows: Schedule) -> None:
        """Enable or disable these windows, found by their content, and leave everything else unchanged.

        A return means that the write was acknowledged: only another `read_schedule` shows the effect. Call this right
        after `read_schedule`, since external changes in between may be lost. Raises ChargerError, as `read_schedule`.
        """
        raise Unsupported("unsupported", Capability.SCHEDULES)

    def watch(self) -> Callable[[], None]:
        """Read the status as often as the transport allows. Return a function that ends these reads.

        The default does nothing, since most transports cannot be polled on demand.
        """
        return lambda: None
