"""The cloud transport of one Wallbox charger.

The cloud repeats old values of a charger that is no longer connected. Its values therefore count as live only with
evidence of life: a newer `last_sync`, or a change between two answers (docs/protocols/wallbox-cloud.md, section 9;
docs/design.md, section 4.2).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
import logging
from math import inf
from typing import Protocol, override

from ..core.breaker import Breaker
from ..core.caching_transport import CachingTransport
from ..core.clock import Clock
from ..core.errors import ChargerError
from ..core.model import (
    CAR_CONNECTED,
    IDLE_STATUS_AGE,
    LIVE_AGE,
    LOCKED,
    OCPP,
    POWER_FLOWS,
    PROBLEM,
    ROLE,
    STATUS,
    Capability,
    Identity,
    Maker,
    ReadingClass,
    Readings,
    Role,
    Schedule,
    Source,
    Status,
)
from ..core.reading_builder import Timestamp
from ..core.transport import Command, Presence, SetCharging, SetOverride, StatusReport
from .client import UNREADABLE, ChargerDetails, ChargerStatus, GroupCharger, ScheduleList
from .command_queue import RightOfWay
from .mapping import (
    STATUS_BY_CODE,
    capabilities,
    details_readings,
    group_readings,
    identity,
    last_sync,
    local_timestamp,
    schedule_readings,
    shows_effect,
    status_facts,
    status_readings,
    written_properties,
    written_statuses,
)

LOGGER = logging.getLogger(__name__)

STATUS_GETS_PER_HOUR = 17
"""Number of status reads per hour that the slow round has for all chargers of an account.

The slow round has 30 slots per hour. Token renewals use about 4, and status reads use two thirds of the rest.
"""

GONE_AFTER = 3
"""A charger counts as removed after this number of consecutive answers to the groups poll without it."""

CHANGE_WITHIN = 5 * 60.0
"""Maximum seconds between two answers to the groups poll for a change to be evidence of life. After a longer gap, the
change may be old."""

RETRY_EVERY = 5 * 60.0
"""Seconds after a failed read before the slow round tries again."""

AWAITED_FOR = 10 * 60.0
"""Seconds after a write during which the slow round often looks for the effect in a report of the charger."""

NEVER = -inf


@dataclass(slots=True)
class RefreshSchedule:
    """When a status, role or schedule was last requested, and when it was last read (monotonic seconds)."""

    tried_at: float = NEVER
    read_at: float = NEVER

    def due_at(self, wanted_at: float) -> float:
        """Return when to read again: at `wanted_at`, but not before `RETRY_EVERY` after the last request."""
        return max(wanted_at, self.tried_at + RETRY_EVERY)

    def expire(self) -> None:
        """Mark the last read as outdated, so that the next read is due now."""
        self.tried_at = self.read_at = NEVER


@dataclass(slots=True)
class _Write:
    """A write of ours whose effect the charger has not reported yet.

    `sent_at` is the monotonic time before the request. `answered_at` is the `Date` of the answer, by the cloud's clock,
    or the cloud's time when the answer was lost; None while the request is under way. `reported` is True once the
    charger has reported after the write, with or without the effect.
    """

    command: Command
    sent_at: float
    answered_at: datetime | None = None
    reported: bool = False


class CloudAccount(Protocol):
    """Interface of the account for its transports."""

    breaker: Breaker

    @property
    def endpoint_contact_at(self) -> datetime | None:
        """The time of the last answer of the cloud."""

    @property
    def cloud_now(self) -> datetime:
        """The current time on the cloud's clock."""

    async def execute(self, transport: WallboxCloudTransport, command: Command, patience: float, urgent: float) -> None:
        """Send a command; `urgent` is as in `Transport.execute`. Raise ChargerError if that fails."""

    async def check(self, transport: WallboxCloudTransport) -> None:
        """Read the status with an extra read. Raise ChargerError if that fails."""

    async def read_schedule(self, transport: WallboxCloudTransport) -> Schedule:
        """Return the schedule from an extra read. Raise ChargerError if that fails."""

    async def write_schedule(self, transport: WallboxCloudTransport, windows: Schedule) -> None:
        """Enable or disable windows of the schedule. Raise ChargerError if that fails."""

    def watch(self) -> Callable[[], None]:
        """Poll as often as the read budget allows. Return a function that ends this."""


class WallboxCloudTransport(CachingTransport):
    """The cloud transport of one charger.

    The transport exists as long as its account. It replays the known readings to a new listener.
    """

    source = Source.CLOUD
    meters_lifetime = False
    frees_schedule = True
    read_back_delays = (20.0,)  # one extra read; the next groups poll shows any later effect

    def __init__(self, account: CloudAccount, clock: Clock, initial: Identity) -> None:
        super().__init__(clock)
        self.breaker = account.breaker
        self._account = account
        self._identity = initial
        self._evidence: Timestamp | None = None
        self._charger_reported_at: float | None = None
        self._listing: GroupCharger | None = None
        self._listed_at = NEVER
        self._has_eco_mode = False
        self._missed_listings = 0
        self._refused = False
        self._unknown_codes: set[int] = set()
        self.idle_age: float = IDLE_STATUS_AGE
        self.eco_percentage: int | None = None
        self.way = RightOfWay()
        self.status_refresh = RefreshSchedule()
        self.details_refresh = RefreshSchedule()
        self.schedule_refresh = RefreshSchedule()
        self._schedule: ScheduleList | None = None
        self._writes: dict[Capability, _Write] = {}

    # Interface of the charger

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
    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        await self._account.execute(self, command, patience, urgent)

    @override
    def make_way(self) -> Callable[[], None]:
        return self.way.claim()

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

    # Interface of the account

    @property
    def evidence_at(self) -> float:
        """The monotonic time of the last evidence of life; minus infinity if there was none yet."""
        return NEVER if self._evidence is None else self._evidence.observed_mono

    @property
    def in_account(self) -> bool:
        """True while fewer than `GONE_AFTER` consecutive answers to the groups poll have omitted this charger."""
        return self._missed_listings < GONE_AFTER

    @property
    def power_flows(self) -> bool:
        """True if the cloud reports that the charger is charging or discharging."""
        return self._last_report is not None and self._last_report.status in POWER_FLOWS

    def record_listing(self, charger: GroupCharger) -> None:
        """Process the entry of this charger in an answer to the groups poll."""
        self._forget_after_divergence()
        before = self._listing
        self._listing = charger
        before_at = self._listed_at
        self._listed_at = self._clock.monotonic()
        if before is not None and before_at >= self._listed_at - CHANGE_WITHIN and self._shows_life(before, charger):
            self._evidence = Timestamp.of(self._clock)
        if self._missed_listings:
            self._missed_listings = 0
            self._refused = False
        self._update_identity(charger)
        self._record_code(charger.status)
        self._publish_proven(
            group_readings(charger, seen=self._seen_at(), now=Timestamp.of(self._clock), idle_age=self.idle_age)
        )

    @override
    def _forget_live(self) -> None:
        """Forget the evidence of life too: a change since the last listing may be hours old."""
        super()._forget_live()
        self._evidence = self._charger_reported_at = None
        self._listed_at = NEVER
        self.status_refresh.expire()

    def record_missing(self) -> None:
        """Count an answer to the groups poll without this charger."""
        self._missed_listings += 1
        if self._missed_listings == GONE_AFTER:
            self._notify_change()

    @property
    def refused(self) -> bool:
        """True while the cloud lists this charger but refuses reads. The slow round still tries about once a day."""
        return self._refused

    def record_refusal(self) -> None:
        """Record that the cloud no longer allows access to this charger."""
        self._refused = True
        self._notify_change()

    def record_status(self, status: ChargerStatus) -> None:
        """Process the status of this charger."""
        self._forget_after_divergence()
        self.status_refresh.read_at = self._clock.monotonic()
        self._refused = False
        self._record_sync(status.last_sync)
        config = status.config
        if config.part_number is not None:
            self._identity = replace(self._identity, part_number=config.part_number)
        # A known value remains until the cloud reports another: any field may be missing from a single answer.
        if config.eco_smart is not None and config.eco_smart.enabled is not None:
            self._has_eco_mode = True
        if config.eco_smart is not None and config.eco_smart.percentage is not None:
            self.eco_percentage = config.eco_smart.percentage
        self._record_code(status.status)
        readings = status_readings(status, seen=self._seen_at(), now=Timestamp.of(self._clock), idle_age=self.idle_age)
        self._writes = {key: write for key, write in self._writes.items() if not self._is_decided(write, readings)}
        self._publish_proven(readings)

    def record_details(self, details: ChargerDetails) -> None:
        """Process the details of this charger, which include the role of the account."""
        self._forget_after_divergence()
        self.details_refresh.read_at = self._clock.monotonic()
        self._record_sync(details.last_sync)
        self._publish_proven(details_readings(details, seen=self._seen_at(), now=Timestamp.of(self._clock)))

    def record_schedule(self, listed: ScheduleList) -> None:
        """Process the schedule of this charger."""
        self.schedule_refresh.read_at = self._clock.monotonic()
        self._schedule = listed
        self._publish_proven(schedule_readings(listed, seen=Timestamp.of(self._clock)))

    def recent_schedule(self, since: float) -> ScheduleList | None:
        """Return the last schedule if it was read at or after the monotonic time `since` and not written afterwards."""
        return self._schedule if self.schedule_refresh.read_at >= since else None

    @contextmanager
    def writing(self, command: Command) -> Iterator[None]:
        """Send a command in the block. What it changes is no reading from then on, until the charger has reported.

        The cloud shows what it wrote down, whether or not the charger received the command.
        """
        key = _written_by(command)
        before = self._writes.get(key)
        self._writes[key] = write = _Write(command, self._clock.monotonic())
        try:
            yield
        except ChargerError as err:
            if err.surely_not_sent and self._writes.get(key) is write:
                del self._writes[key]
                self._writes |= {} if before is None else {key: before}
            raise
        finally:
            write.answered_at = self._account.cloud_now.replace(microsecond=0)

    @property
    def written_at(self) -> float:
        """The monotonic time of the last write without an effect in a report yet; minus infinity if there is none."""
        return max((write.sent_at for write in self._writes.values()), default=NEVER)

    def refusal_reason(self, command: Command | None) -> str:
        """Return the likely reason why the cloud refused a write with 403 (section 10).

        `command` is None for a schedule.
        """
        if self._known.value(OCPP):
            return "ocpp_active"
        if self._known.value(LOCKED) and isinstance(command, SetCharging | SetOverride):
            return "locked"
        if self._known.value(ROLE) is Role.USER:
            return "role_too_low"
        return "refused"

    def _publish_proven(self, readings: Readings) -> None:
        """Publish the readings, without what we wrote, and without live values if there is no evidence of life."""
        for write in self._unreported():
            for prop in written_properties(write.command, readings.value(STATUS)):
                readings.discard(prop.key)
        if self._evidence is None:
            # The cloud repeats old values: without evidence of life no value may be shown as live.
            for prop, reading in readings.items():
                if prop.kind is ReadingClass.LIVE and reading.value is not Status.OFFLINE:
                    readings.remove(prop)
        if self._last_report is not None and self._last_report.status is None:
            for prop in (STATUS, CAR_CONNECTED, PROBLEM):
                readings.retract(prop, self._clock.monotonic())
        self._publish(readings)

    def _unreported(self) -> list[_Write]:
        """Return the writes that no report of the charger has followed: the cloud may only show what it wrote."""
        return [write for write in self._writes.values() if not write.reported]

    def _is_decided(self, write: _Write, readings: Readings) -> bool:
        """Return True if the readings of a status show the effect of a write, or come too late to."""
        late = self.status_refresh.read_at >= write.sent_at + AWAITED_FOR
        return write.reported and (late or shows_effect(write.command, readings))

    def _update_identity(self, charger: GroupCharger) -> None:
        """Update the identity from an answer to the groups poll. Fields that the answer omits remain."""
        before = self._identity
        self._identity = identity(charger, before.part_number)
        if charger.name is None:
            self._identity = replace(self._identity, name=before.name)
        if charger.charger_type is None and before.model is not None:
            self._identity = replace(self._identity, model=before.model)

    def _shows_life(self, before: GroupCharger, after: GroupCharger) -> bool:
        """Return True if a value changed that changes only when the charger itself reports.

        No evidence is the status "offline", which the cloud itself determines, and a status that a command of ours may
        have written. The charging time alone is none either, since it goes on without the charger (docs/design.md,
        section 4.2). A value that one of the answers omits is no change.
        """
        status = status_facts(after.status).status
        if status is Status.OFFLINE:
            return False
        changed = before.status != after.status and UNREADABLE not in {before.status, after.status}
        written = any(status in written_statuses(write.command) for write in self._unreported())
        counters = ((before.charging_power, after.charging_power), (before.added_energy, after.added_energy))
        return (changed and not written) or any(
            old != new for old, new in counters if old is not None and new is not None
        )

    def _record_code(self, code: int | None) -> None:
        facts = status_facts(code)
        self._last_report = StatusReport(facts.status, facts.car_connected)
        self._status_received_at = self._clock.monotonic()
        if code is not None and code not in STATUS_BY_CODE and code != UNREADABLE and code not in self._unknown_codes:
            self._unknown_codes.add(code)
            LOGGER.warning("A charger reports the unknown status code %d; its status is shown as unknown", code)

    def _record_sync(self, text: str | None) -> None:
        synced = last_sync(text, self._account.cloud_now)
        if synced is None:
            return
        reported = local_timestamp(synced, Timestamp.of(self._clock), self._account.cloud_now - self._clock.now())
        for write in self._writes.values():
            write.reported |= write.answered_at is not None and synced > write.answered_at
        for write in self._unreported():  # the report is from before the write, by the cloud's own clock
            reported = reported.earlier(max(reported.observed_mono - write.sent_at, 0.0))
        if self._charger_reported_at is None or reported.observed_mono > self._charger_reported_at:
            self._charger_reported_at = reported.observed_mono
        if self._evidence is None or reported.observed_mono > self._evidence.observed_mono:
            self._evidence = reported

    def _seen_at(self) -> Timestamp:
        """Return the time to date readings with: the last evidence of life.

        Without any evidence, the monotonic time is minus infinity, so that the readings count as old.
        """
        return Timestamp(self._clock.now(), NEVER) if self._evidence is None else self._evidence

    def _status_age(self) -> float:
        return LIVE_AGE[Source.CLOUD] if self.power_flows else self.idle_age

    def diagnostics(self) -> dict[str, object]:
        """Return the state of the transport, without data that identifies the charger."""
        now = self._clock.monotonic()
        return {
            "raw_status": None if self._listing is None else self._listing.status,
            "unknown_codes": sorted(self._unknown_codes),
            "evidence_age": None if self._evidence is None else round(now - self._evidence.observed_mono),
            "synced_age": None if self._charger_reported_at is None else round(now - self._charger_reported_at),
            "listed": self._missed_listings == 0,
        }


def placeholder(serial: str) -> Identity:
    """Return the identity of a charger that the cloud has not listed yet."""
    return Identity(Maker.WALLBOX, serial, f"Wallbox {serial}")


def _written_by(command: Command) -> Capability:
    """Return the key of what a command changes. The override changes the same as the charging switch."""
    return Capability.CHARGING if isinstance(command, SetOverride) else command.capability
