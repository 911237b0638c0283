"""One Wallbox charger as its account's cloud shows it: the cloud path of a keeper.

The cloud repeats old values when a charger is gone, so what it says counts as seen only with evidence of life: a newer
`last_sync`, or a change between two answers (docs/protocols/wallbox-cloud.md, section 9; docs/design.md, section 4.2).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
import logging
from math import inf
from typing import Protocol, override

from ..core.breaker import Breaker
from ..core.caching_transport import CachingTransport
from ..core.clock import Clock
from ..core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    ECO_MODE,
    HOUSE_LIMIT,
    IDLE_STATUS_AGE,
    LIVE_AGE,
    LOCKED,
    OCPP,
    POWER_FLOWS,
    PROBLEM,
    ROLE,
    STATUS,
    Capability,
    EcoMode,
    Identity,
    Maker,
    ReadingClass,
    Readings,
    Role,
    Schedule,
    Source,
    Status,
)
from ..core.reading_builder import ReadingBuilder, Timestamp
from ..core.transport import Command, Presence, SetCharging, SetOverride, StatusReport
from .client import UNREADABLE, ChargerDetails, ChargerEcho, ChargerStatus, GroupCharger, ScheduleList
from .mapping import (
    STATUS_BY_CODE,
    capabilities,
    details_readings,
    group_readings,
    identity,
    last_sync,
    moment_of,
    schedule_readings,
    status_facts,
    status_readings,
)

LOGGER = logging.getLogger(__name__)

STATUS_GETS_PER_HOUR = 17
"""Status GETs that the slow round has for all chargers of an account: 30 slots, less about 4 that renew the tokens,
two thirds of the rest."""

GONE_AFTER = 3
"""Groups answers in a row without a charger after which it is no longer in the account."""

CHANGE_WITHIN = 5 * 60.0
"""Seconds between two groups answers up to which a change is a sign of life now; after a longer gap it may be old."""

RETRY_EVERY = 5 * 60.0
"""Seconds after which the slow round asks again for what it did not get."""

NEVER = -inf


@dataclass(slots=True)
class RefreshSchedule:
    """When the slow round last asked for one thing of a charger, and when it was last read (monotonic seconds)."""

    tried_at: float = NEVER
    read_at: float = NEVER

    def due_at(self, wanted_at: float) -> float:
        """When to ask again for what is wanted from `wanted_at` on; what fails is not asked for all the time."""
        return max(wanted_at, self.tried_at + RETRY_EVERY)

    def expire(self) -> None:
        """What was read no longer holds: it is due now."""
        self.tried_at = self.read_at = NEVER


class CloudAccount(Protocol):
    """What a path asks of its account."""

    breaker: Breaker

    @property
    def endpoint_contact_at(self) -> datetime | None:
        """When the cloud last answered."""

    @property
    def cloud_now(self) -> datetime:
        """The cloud's clock."""

    async def carry_out(self, transport: WallboxCloudTransport, command: Command, patience: float) -> None:
        """Send a command. Raises ChargerError."""

    async def check(self, transport: WallboxCloudTransport) -> None:
        """Read the status out of turn. Raises ChargerError."""

    async def read_schedule(self, transport: WallboxCloudTransport) -> Schedule:
        """Read the schedule out of turn. Raises ChargerError."""

    async def write_schedule(self, transport: WallboxCloudTransport, windows: Schedule) -> None:
        """Enable or disable windows of the schedule. Raises ChargerError."""

    def watch(self) -> Callable[[], None]:
        """Poll as often as allowed until the answer is called."""


class WallboxCloudTransport(CachingTransport):
    """The cloud path of one charger. It lives as long as its account, and replays what it knows to whoever joins."""

    source = Source.CLOUD
    meters_lifetime = False
    frees_schedule = True
    read_back_delays = (20.0,)  # one GET out of turn; after that the next poll shows

    def __init__(self, account: CloudAccount, clock: Clock, who: Identity) -> None:
        super().__init__(clock)
        self.breaker = account.breaker
        self._account = account
        self._identity = who
        self._evidence: Timestamp | None = None
        self._charger_reported_at: float | None = None
        self._shown: GroupCharger | None = None
        self._shown_at = NEVER
        self._has_eco_mode = False
        self._unlisted = 0
        self._refused = False
        self._odd_codes: set[int] = set()
        self.idle_age: float = IDLE_STATUS_AGE
        self.eco_percentage: int | None = None
        self.status_turn = RefreshSchedule()
        self.details_turn = RefreshSchedule()
        self.schedule_turn = RefreshSchedule()
        self._schedule: ScheduleList | None = None

    # What the keeper sees

    @property
    @override
    def identity(self) -> Identity:
        return self._identity

    @property
    @override
    def capabilities(self) -> frozenset[Capability]:
        return capabilities(self._identity, has_eco_mode=self._has_eco_mode)

    @property
    @override
    def presence(self) -> Presence:
        if self.removed_from_account or (self._last_report is not None and self._last_report.status is Status.OFFLINE):
            return Presence.OFFLINE
        if self._evidence is None or self._evidence.observed_mono + self._status_age() <= self._clock.monotonic():
            return Presence.UNKNOWN
        return Presence.ONLINE

    @property
    @override
    def removed_from_account(self) -> bool:
        return self._refused or not self.in_account

    @property
    @override
    def charger_reported_at(self) -> float | None:
        return self._charger_reported_at

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return self._account.endpoint_contact_at

    @override
    async def execute(self, command: Command, *, patience: float) -> None:
        await self._account.carry_out(self, command, patience)

    @override
    async def check(self) -> None:
        await self._account.check(self)

    @override
    async def read_schedule(self) -> Schedule:
        return await self._account.read_schedule(self)

    @override
    async def write_schedule(self, windows: Schedule) -> None:
        await self._account.write_schedule(self, windows)

    @override
    def watch(self) -> Callable[[], None]:
        return self._account.watch()

    # What the account sees

    @property
    def evidence_at(self) -> float:
        """When the charger last gave a sign of life; minus infinity before the first."""
        return NEVER if self._evidence is None else self._evidence.observed_mono

    @property
    def in_account(self) -> bool:
        """Whether the groups answers tell of this charger, or did until just now."""
        return self._unlisted < GONE_AFTER

    @property
    def power_flows(self) -> bool:
        """Whether the cloud says that the charger is charging or discharging."""
        return self._last_report is not None and self._last_report.status in POWER_FLOWS

    def listed(self, charger: GroupCharger) -> None:
        """The groups answer told of this charger."""
        before = self._shown
        self._shown = charger
        since = self._shown_at
        self._shown_at = self._clock.monotonic()
        if before is not None and since >= self._shown_at - CHANGE_WITHIN and _shows_life(before, charger):
            self._evidence = Timestamp.of(self._clock)
        if self._unlisted:
            self._unlisted = 0
            self._refused = False
        self._identify(charger)
        self._note_word(charger.status)
        self._take(group_readings(charger, seen=self._seen(), now=Timestamp.of(self._clock), idle_age=self.idle_age))

    def unlisted(self) -> None:
        """The groups answer did not tell of this charger."""
        self._unlisted += 1
        if self._unlisted == GONE_AFTER:
            self._notify_change()

    @property
    def refused(self) -> bool:
        """Whether the cloud lists this charger but refuses to show it: asked again now and then."""
        return self._refused

    def refuse(self) -> None:
        """The cloud does not let us at this charger any more."""
        self._refused = True
        self._notify_change()

    def showed_status(self, status: ChargerStatus) -> None:
        """The status of this charger was read."""
        self.status_turn.read_at = self._clock.monotonic()
        self._refused = False
        self._note_sync(status.last_sync)
        config = status.config
        if config.part_number is not None:
            self._identity = replace(self._identity, part_number=config.part_number)
        # What was shown once is believed until the contrary is: any field may be missing now and then.
        if config.eco_smart is not None and config.eco_smart.enabled is not None:
            self._has_eco_mode = True
        if config.eco_smart is not None and config.eco_smart.percentage is not None:
            self.eco_percentage = config.eco_smart.percentage
        self._note_word(status.status)
        readings = status_readings(status, seen=self._seen(), now=Timestamp.of(self._clock), idle_age=self.idle_age)
        if config.home_sharing is False or config.icp_max_current == 0:
            readings.retract(HOUSE_LIMIT, self._clock.monotonic())
        self._take(readings)

    def showed_details(self, details: ChargerDetails) -> None:
        """The charger object with the account's role was read."""
        self.details_turn.read_at = self._clock.monotonic()
        self._note_sync(details.last_sync)
        self._take(details_readings(details, seen=self._seen(), now=Timestamp.of(self._clock)))

    def showed_schedule(self, listed: ScheduleList) -> None:
        """The schedule was read."""
        self.schedule_turn.read_at = self._clock.monotonic()
        self._schedule = listed
        self._take(schedule_readings(listed, seen=Timestamp.of(self._clock)))

    def schedule_since(self, moment: float) -> ScheduleList | None:
        """The schedule as it was read last, if that was at or after a monotonic moment and it was not written since."""
        return self._schedule if self.schedule_turn.read_at >= moment else None

    def echoed(self, echo: ChargerEcho) -> None:
        """A write answered with the new values: the cloud's word, not yet the charger's."""
        builder = ReadingBuilder(Source.CLOUD, self._seen())
        builder.put(CHARGING_CURRENT, echo.max_charging_current)
        locked = self._known.get(LOCKED)
        if echo.locked is not None and locked is not None:
            builder.readings.put(LOCKED, replace(locked, value=echo.locked))
        self._take(builder.readings)

    def wrote_eco_mode(self, mode: EcoMode) -> None:
        """The eco mode was acknowledged; the answer has no echo, so the next status tells."""
        self.status_turn.expire()
        builder = ReadingBuilder(Source.CLOUD, self._seen())
        builder.put(ECO_MODE, mode)
        self._take(builder.readings)

    def refusal(self, command: Command | None) -> str:
        """Why the cloud may have refused a write with 403 (section 10); `command` is None for a schedule."""
        if self._known.value(OCPP):
            return "ocpp_active"
        if self._known.value(LOCKED) and isinstance(command, SetCharging | SetOverride):
            return "locked"
        if self._known.value(ROLE) is Role.USER:
            return "role_too_low"
        return "refused"

    def _take(self, readings: Readings) -> None:
        """Keep what was shown for whoever joins later, and tell the keeper."""
        if self._evidence is None:
            # The cloud repeats what it once heard: without any sign of life nothing of it may be shown as live.
            for prop, reading in readings.items():
                if prop.kind is ReadingClass.LIVE and reading.value is not Status.OFFLINE:
                    readings.remove(prop)
        if self._last_report is not None and self._last_report.status is None:
            for prop in (STATUS, CAR_CONNECTED, PROBLEM):
                readings.retract(prop, self._clock.monotonic())
        self._publish(readings)

    def _identify(self, charger: GroupCharger) -> None:
        """Who the charger is, by the groups answer; what that leaves out stays."""
        before = self._identity
        self._identity = identity(charger, before.part_number)
        if charger.name is None:
            self._identity = replace(self._identity, name=before.name)
        if charger.charger_type is None and before.model is not None:
            self._identity = replace(self._identity, model=before.model)

    def _note_word(self, code: int | None) -> None:
        facts = status_facts(code)
        self._last_report = StatusReport(facts.status, facts.car_connected)
        self._status_received_at = self._clock.monotonic()
        if code is not None and code not in STATUS_BY_CODE and code != UNREADABLE and code not in self._odd_codes:
            self._odd_codes.add(code)
            LOGGER.warning("A charger reports the unknown status code %d; its status is shown as unknown", code)

    def _note_sync(self, text: str | None) -> None:
        synced = last_sync(text, self._account.cloud_now)
        if synced is None:
            return
        moment = moment_of(synced, Timestamp.of(self._clock), self._account.cloud_now - self._clock.now())
        if self._charger_reported_at is None or moment.observed_mono > self._charger_reported_at:
            self._charger_reported_at = moment.observed_mono
        if self._evidence is None or moment.observed_mono > self._evidence.observed_mono:
            self._evidence = moment

    def _seen(self) -> Timestamp:
        """When the charger showed what the cloud says: its last sign of life, before the first one some time ago."""
        return Timestamp(self._clock.now(), NEVER) if self._evidence is None else self._evidence

    def _status_age(self) -> float:
        return LIVE_AGE[Source.CLOUD] if self.power_flows else self.idle_age

    def diagnostics(self) -> dict[str, object]:
        """The state of the path, without anything that names the charger."""
        now = self._clock.monotonic()
        return {
            "raw_status": None if self._shown is None else self._shown.status,
            "unknown_codes": sorted(self._odd_codes),
            "evidence_age": None if self._evidence is None else round(now - self._evidence.observed_mono),
            "synced_age": None if self._charger_reported_at is None else round(now - self._charger_reported_at),
            "listed": self._unlisted == 0,
        }


def placeholder(serial: str) -> Identity:
    """Who a charger is before anything told."""
    return Identity(Maker.WALLBOX, serial, f"Wallbox {serial}")


def _shows_life(before: GroupCharger, after: GroupCharger) -> bool:
    """Whether something changed that changes only when the charger itself reports (docs/design.md, section 4.2).

    That a charger went offline is the cloud's own word, and what one of two answers leaves out is no change.
    """
    if status_facts(after.status).status is Status.OFFLINE:
        return False
    changed = before.status != after.status and UNREADABLE not in {before.status, after.status}
    counters = (
        (before.charging_power, after.charging_power),
        (before.added_energy, after.added_energy),
        (before.charging_time, after.charging_time),
    )
    return changed or any(old != new for old, new in counters if old is not None and new is not None)
