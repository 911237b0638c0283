"""Boxes of a JuiceNet account that send ChargeKeeper no datagrams: one poller, and a transport for each box.

The poller reads the state of all boxes twice a minute; while the breaker is open, only as its probes allow.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
import logging
from math import floor, inf
from typing import override

from ...core.breaker import Breaker, Failure
from ...core.caching_transport import CachingTransport
from ...core.clock import Clock
from ...core.errors import (
    ChargerError,
    LoginRejected,
    NoConnection,
    NotAllowed,
    NotApplicable,
    TransportBusy,
    TransportDown,
    UnsafeRequest,
    Unsupported,
)
from ...core.limits import MINIMUM_CURRENT
from ...core.model import LIVE_AGE, Identity, Maker, Source, Status
from ...core.poller import Poller
from ...core.reading_builder import Timestamp
from ...core.signal import subscribe
from ...core.transport import STOP, Command, Presence, SetCharging, SetOverride, StatusReport
from ..box import FULL_BELOW, BoxConfig
from ..mapping import (
    FULL_AFTER,
    UNIT_CAPABILITIES,
    installation_readings,
    limit_readings,
    unit_connected,
    unit_readings,
    unit_status,
)
from .client import Info, JuiceNetClient, State, Tou, Unit

LOGGER = logging.getLogger(__name__)

ASK_EVERY = 30.0
"""Seconds between two reads of the state of a box; clients of the old server read no more often
(docs/protocols/juicebox.md, section 1.2)."""

LIST_EVERY = 600.0
"""Seconds between two requests for the account's list while it lacks a box, or the account is refused. Two refusals so
far apart mean that the token is wrong."""

INSTALLATION_EVERY = 24 * 3600.0
INSTALLATION_RETRY = 3600.0
"""Seconds between two reads of a box's installation and schedule, and seconds until a failed read is repeated."""


@dataclass(slots=True)
class RefreshSchedule:
    """Monotonic times of the last attempt to read a box's installation, and of the last successful attempt."""

    tried_at: float = -inf
    read_at: float = -inf

    @property
    def due_at(self) -> float:
        """Monotonic time of the next attempt."""
        return max(self.tried_at + INSTALLATION_RETRY, self.read_at + INSTALLATION_EVERY)


class JuiceNetAccount:
    """One account at one server. The account can be restarted; the breaker and the transports stay."""

    def __init__(self, client: JuiceNetClient, clock: Clock) -> None:
        self.breaker = Breaker(clock)
        self.endpoint_contact_at: datetime | None = None
        self.token_refused = False
        """True if the user must enter another token."""
        self._client = client
        self._clock = clock
        self._transports: dict[str, JuiceNetTransport] = {}
        self._units: dict[str, Unit] = {}
        self._poller = Poller(clock, "the JuiceNet server", self._due_at, self._refresh_all)
        self._stop_listening: Callable[[], None] = lambda: None
        self._next_at = self._listed_at = -inf
        self._refused_at: float | None = None
        self._listeners: list[Callable[[], None]] = []

    def transport(self, config: BoxConfig) -> JuiceNetTransport:
        """Return the transport of a box, with these settings of the user applied."""
        transport = self._transports.get(config.serial)
        if transport is None:
            transport = self._transports[config.serial] = JuiceNetTransport(self, self._clock, config)
        transport.configure(config)
        return transport

    def forget(self, serial: str) -> None:
        """Forget a removed box."""
        self._transports.pop(serial, None)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when `token_refused` changes. Return a function that removes the listener."""
        return subscribe(self._listeners, callback)

    def start(self) -> None:
        """Start the poller."""
        if not self._poller.running:
            self._stop_listening = self.breaker.listen(self._poller.wake)
            self._poller.start()

    async def stop(self) -> None:
        """Stop the poller."""
        self._stop_listening()
        await self._poller.stop()

    # Polling

    def _due_at(self) -> float:
        due = self._next_at if self.breaker.due is None or not self._transports else self.breaker.due
        return max(due, self.breaker.busy_until or due)

    async def _refresh_all(self) -> None:
        """Read the state of every box; a failure of the whole server ends the round.

        An unusable answer about one box does not count against the server, unless no request succeeded.
        """
        now = self._clock.monotonic()
        self._next_at = now + ASK_EVERY
        missing = not self._units.keys() >= self._transports.keys()
        if missing and (now >= self._listed_at + LIST_EVERY or not self.breaker.closed):
            await self._list()
        before = self.endpoint_contact_at
        bad_answer = None
        for serial, transport in list(self._transports.items()):
            if (unit := self._units.get(serial)) is not None:
                try:
                    await self.refresh(transport, unit)
                except TransportDown as err:
                    if err.reason != "bad_answer":
                        raise
                    bad_answer = err
        if bad_answer is not None and self.endpoint_contact_at is before:
            self.breaker.bad(Failure.OTHER)
            raise bad_answer

    async def _list(self) -> None:
        """Read the units of the account. Only a second refusal, well after the first, blames the token (I7)."""
        now = self._clock.monotonic()
        try:
            units = await self._tracked(self._client.units)
        except LoginRejected:
            self._units.clear()
            self._listed_at = now
            if self._refused_at is None:
                self._refused_at = now
            elif now >= self._refused_at + LIST_EVERY:
                self._set_token_refused(refused=True)
            return
        self._listed_at = now
        self._refused_at = None
        self._units = {unit.serial: unit for unit in units}
        self._set_token_refused(refused=False)

    def _set_token_refused(self, *, refused: bool) -> None:
        if refused is not self.token_refused:
            self.token_refused = refused
            for listener in list(self._listeners):
                listener()

    async def refresh(self, transport: JuiceNetTransport, unit: Unit) -> None:
        """Read the state of a box, and once a day its installation. Raises ChargerError."""
        try:
            transport.show_state(await self._tracked(lambda: self._client.state(unit), of_one=True))
        except NotAllowed as err:
            LOGGER.debug("The JuiceNet server refused a request for a box: %s", err)
            self._units.pop(unit.serial, None)  # the unit may have another token by now
            return
        if transport.installation.due_at <= self._clock.monotonic():
            transport.installation.tried_at = self._clock.monotonic()
            info = await self._tracked(lambda: self._client.info(unit), of_one=True)
            transport.show_installation(info, await self._tracked(lambda: self._client.schedule(unit), of_one=True))

    async def _tracked[T](self, call: Callable[[], Awaitable[T]], *, of_one: bool = False) -> T:
        """Send one request and report its outcome to the breaker.

        An unusable answer `of_one` box is not reported: the round judges it.
        """
        try:
            answer = await call()
        except NoConnection:
            self.breaker.bad(Failure.CONNECT)
            raise
        except TransportDown as err:
            if not (of_one and err.reason == "bad_answer"):
                self.breaker.bad(Failure.OTHER)
            raise
        except TransportBusy as err:
            self.breaker.throttled(err.retry_after or None)
            raise
        except ChargerError:
            self._record_contact()
            raise
        self._record_contact()
        return answer

    def _record_contact(self) -> None:
        self.endpoint_contact_at = self._clock.now()
        self.breaker.good()

    # Commands

    def unit(self, serial: str) -> Unit:
        """Return the unit for a request about a box.

        Raises:
            TransportBusy: `throttled`.
            NoConnection: `unreachable`; `charger_offline`, the account does not have the box.
        """
        if (until := self.breaker.busy_until) is not None:
            raise TransportBusy("throttled", until - self._clock.monotonic())
        if not self.breaker.usable:
            raise NoConnection("unreachable")
        if serial not in self._units:
            raise NoConnection("charger_offline")
        return self._units[serial]

    async def carry_out(self, transport: JuiceNetTransport, command: Command, patience: float) -> None:
        """Send a command; the request may take `patience` seconds. Raises ChargerError."""
        unit = self.unit(transport.identity.serial)
        try:
            async with self._clock.timeout(patience):
                await self._tracked(lambda: self._send(transport, unit, command))
        except TimeoutError:
            self.breaker.slow()
            raise TransportDown("timeout") from None

    async def _send(self, transport: JuiceNetTransport, unit: Unit, command: Command) -> None:
        """Send the requests of a command that such a server supports."""
        match command:
            case SetOverride(on=True):
                if transport.paused:
                    await self._client.set_limit(unit, transport.resume_current)
                await self._client.charge_now(unit)
            case SetOverride():
                if transport.paused:  # otherwise it would stay at 0 A in its windows
                    await self._client.set_limit(unit, transport.resume_current)
                await self._client.end_override(unit)
            case SetCharging(on):
                await self._client.set_limit(unit, transport.resume_current if on else 0)
            case _:
                raise Unsupported("unsupported", command.capability)


class JuiceNetTransport(CachingTransport):
    """Cloud transport of a box, over the account of a JuiceNet server."""

    source = Source.CLOUD
    capabilities = UNIT_CAPABILITIES
    meters_lifetime = True
    frees_schedule = True
    read_back_delays = ()  # the poller reads the state

    def __init__(self, account: JuiceNetAccount, clock: Clock, config: BoxConfig) -> None:
        super().__init__(clock)
        self.breaker = account.breaker
        self.config = config
        self.share: float | None = None
        """A; share of the box in its load group of ChargeKeeper, None outside such a group."""
        self._account = account
        self._reported_at: Timestamp | None = None
        self._idle_since: float | None = None
        self._last_current: int | None = None
        self._unit_rating: float | None = None
        self.installation = RefreshSchedule()
        self._unknown_words: set[str] = set()

    # For the charger

    @property
    @override
    def identity(self) -> Identity:
        config = self.config
        return Identity(Maker.JUICEBOX, config.serial, config.name)

    @property
    @override
    def presence(self) -> Presence:
        if self._last_report is not None and self._last_report.status is Status.OFFLINE:
            return Presence.OFFLINE
        if (
            self._reported_at is None
            or self._reported_at.observed_mono + LIVE_AGE[Source.CLOUD] <= self._clock.monotonic()
        ):
            return Presence.UNKNOWN
        return Presence.ONLINE

    @property
    @override
    def charger_reported_at(self) -> float | None:
        return None if self._reported_at is None else self._reported_at.observed_mono

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return self._account.endpoint_contact_at

    @property
    @override
    def pause_outlasts_session(self) -> bool:
        return True

    @override
    async def execute(self, command: Command, *, patience: float) -> None:
        no_car = self._last_report is not None and self._last_report.car_connected is False
        if no_car and command == STOP:
            raise NotApplicable("no_car")
        await self._account.carry_out(self, command, patience)

    @override
    async def check(self) -> None:
        now = self._clock.monotonic()
        if self._status_received_at is not None and now < self._status_received_at + ASK_EVERY:
            raise TransportBusy("too_soon", self._status_received_at + ASK_EVERY - now)
        await self._account.refresh(self, self._account.unit(self.config.serial))

    # For the account

    @property
    def paused(self) -> bool:
        """True if the last limit of the box was too low for any car."""
        return self._last_report is not None and self._last_report.status is Status.PAUSED

    @property
    def resume_current(self) -> int:
        """The current in A with which a pause ends: the current before the pause, reduced to all limits (I1).

        Raises:
            UnsafeRequest: `wire_rating_unknown`; `no_group_share`, the limits leave too little for any car.
        """
        if self.config.wire_rating is None:
            raise UnsafeRequest("wire_rating_unknown")
        if (amps := self._bounded_current) < MINIMUM_CURRENT:
            raise UnsafeRequest("no_group_share")
        return amps

    @property
    def _bounded_current(self) -> int:
        """The last limit that let the box charge, reduced to all other limits, in A."""
        config = self.config
        bounds = (config.wire_rating, self._unit_rating, config.load_group_limit, self.share, self._last_current)
        return floor(min((bound for bound in bounds if bound is not None), default=0))

    def configure(self, config: BoxConfig) -> None:
        """Apply settings of the user."""
        if config.zone != self.config.zone:
            self.installation = RefreshSchedule()  # the known windows belong to the old zone
        self.config = config
        self._publish(limit_readings(config, Timestamp.of(self._clock)))

    def restore_current(self, amps: float | None) -> None:
        """Restore the last known current in A, for a pause from before a start.

        During a pause, the server reports only 0 A. A limit that the box has shown since the start takes precedence.
        """
        if self._last_current is None and amps is not None and amps >= MINIMUM_CURRENT:
            self._last_current = floor(amps)

    def show_state(self, state: State) -> None:
        """Publish the state of the box."""
        now = Timestamp.of(self._clock)
        if state.silence is not None:
            self._reported_at = now.earlier(state.silence)
        power = state.charging.watt_power
        if state.word != "charging" or power is None or power >= FULL_BELOW:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now.observed_mono
        idle = self._idle_since is not None and now.observed_mono - self._idle_since >= FULL_AFTER
        limit = state.charging.amps_limit
        if limit is not None and limit >= MINIMUM_CURRENT:
            self._last_current = floor(limit)
        shown = unit_status(state, idle=idle)
        if shown is None and state.word not in self._unknown_words:
            self._unknown_words.add(state.word)
            LOGGER.warning("A JuiceNet server reports an unknown state of a box; its status is shown as unknown")
        self._last_report = StatusReport(shown, unit_connected(state))
        self._status_received_at = now.observed_mono
        seen = Timestamp(now.observed_at, -inf) if self._reported_at is None else self._reported_at
        self._publish(unit_readings(state, shown, self._setting(limit), seen=seen, now=now))

    def _setting(self, limit: float | None) -> int | None:
        """Return the current to which the box is set, in A; None if unknown or too low for any car.

        While the box is paused, return the current with which the pause would end.
        """
        if limit is None or limit >= MINIMUM_CURRENT:
            return None if limit is None else floor(limit)
        return self._bounded_current if self._bounded_current >= MINIMUM_CURRENT else None

    def show_installation(self, info: Info, tou: Tou) -> None:
        """Publish the installation and the schedule of the box."""
        self.installation.read_at = self._clock.monotonic()
        self._unit_rating = info.unit_rating
        self._publish(installation_readings(info, tou.windows(self.config.zone), Timestamp.of(self._clock)))

    def diagnostics(self) -> dict[str, object]:
        """Return the state of the transport, without anything that identifies the box."""
        now = self._clock.monotonic()
        return {
            "unknown_words": len(self._unknown_words),
            "silence": None if self._reported_at is None else round(now - self._reported_at.observed_mono),
            "token_refused": self._account.token_refused,
        }
