"""One Wallbox account: sign-in, polling of all its chargers, and their commands, all within the request budgets.

The account sends one GET at a time. The groups poll shows all chargers and runs every two minutes. Between two groups
polls, the slow round reads one charger's status, role or schedule. While the breaker is not closed, the groups poll is
the probe. An extra read is a GET outside this order, for example to read back a command.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
import logging
from math import inf
from typing import override

import aiohttp

from ..core.breaker import Breaker, Failure
from ..core.clock import Clock
from ..core.errors import ChargerError, LoginRejected, NoConnection, NotAllowed, TransportBusy, TransportDown
from ..core.model import DOUBT_CHARGING_AFTER, IDLE_STATUS_AGE, Identity, Schedule, Status
from ..core.poller import Poller
from ..core.transport import Command, Install, Restart, SetCharging, SetCurrent, SetEcoMode, SetLock, SetOverride
from .client import REQUEST_TIMEOUT, RemoteAction, ScheduleList, TokenRefused, Tokens, WallboxCloudClient
from .command_queue import CommandQueue, RightOfWay
from .mapping import eco_smart, schedule_bodies, whole_schedule
from .rate_limit import READ_EVERY, RequestBudgets, SlidingWindow
from .transport import (
    AWAITED_FOR,
    NEVER,
    RETRY_EVERY,
    STATUS_GETS_PER_HOUR,
    CloudAccount,
    WallboxCloudTransport,
    placeholder,
)

LOGGER = logging.getLogger(__name__)

GROUPS_EVERY = 120.0
"""Seconds between two groups polls; `READ_EVERY` applies while a restart is watched."""

STATUS_EVERY = 20 * 60.0
"""Seconds since the last evidence of life, and since the last status GET, until the slow round reads the status."""

AWAITED_EVERY = 100.0
"""Seconds between two status reads of the slow round while a command waits for a report of the charger."""

DAILY = 24 * 3600.0
"""Seconds between two reads of the role, and between two reads of the schedule.

The status is read at least as often, even if the groups polls give evidence of life.
"""

TOKEN_MARGIN = 90.0
"""Seconds before an access token expires at which the account renews it."""

REFUSED_AGAIN_AFTER = 10 * 60.0
"""Seconds to wait after a refused sign-in. A second refusal after this time asks the user for the password."""
LOGIN_RETRY = 3600.0
"""Seconds between sign-ins while the user is asked for the password: the cloud may have refused by mistake."""

READS_BEFORE_LOGIN_CHARGE = 3
"""Number of status reads allowed before a sign-in is charged to the slow round."""

BACK_TO_BACK = 10.0
"""Maximum age, in seconds, of a schedule list that is written back. A change made elsewhere meanwhile is lost."""

COMMAND_TTL = 300.0
"""Maximum seconds that a command waits for a free slot in the command budget."""

UNSHARED_REFUSALS = 3
"""Number of refused reads after which a charger counts as no longer shared with this account."""
UNSHARED_WITHIN = 30 * 60.0
"""Seconds within which these refusals must occur."""


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """State of the account.

    `cloud` is True while the cloud is reachable, and None before the first answer or failure. The time of the last
    contact is ignored when two snapshots are compared.
    """

    cloud: bool | None = None
    needs_login: bool = False
    chargers: tuple[Identity, ...] = ()
    endpoint_contact_at: datetime | None = field(default=None, compare=False)


class _PatienceExpired(TransportDown):
    """No answer within the patience of a command, which may be shorter than the time-out of a request."""


class WallboxAccount(CloudAccount):
    """One account of the Wallbox cloud.

    The account can be stopped and started again. Its budgets and transports persist.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        email: str,
        password: str,
        user_api_url: str,
        api_url: str,
        save_budgets: Callable[[dict[str, object]], Awaitable[None]] | None = None,
    ) -> None:
        self.breaker = Breaker(clock)
        self.user_id: str | None = None
        self.server = (user_api_url, api_url)
        self._clock = clock
        self._email = email
        self._password = password
        self._new_client = partial(WallboxCloudClient, session, clock, user_api_url=user_api_url, api_url=api_url)
        self._client = self._new_client()
        self._budgets = RequestBudgets(clock, save_budgets)
        self._transports: dict[str, WallboxCloudTransport] = {}
        self._snapshot = AccountSnapshot()
        self._listeners: list[Callable[[AccountSnapshot], None]] = []
        self._outage_listeners: list[Callable[[str], None]] = []
        self._poller = Poller(clock, "the Wallbox cloud", self._due_at, self._poll_if_due)
        self._get_lock = asyncio.Lock()
        self._commands = CommandQueue(clock, self._budgets)
        self._login_lock = asyncio.Lock()
        self._endpoint_contact_at: datetime | None = None
        self._groups_at = NEVER
        self._slow_reads = 0
        self._watchers = 0
        self._extra_reads_waiting = 0  # extra reads that wait for a slot
        # Reads that were refused recently, with their time; None stands for the groups poll.
        self._refusals: list[tuple[float, WallboxCloudTransport | None]] = []
        self._refused_at: float | None = None
        self._login_blocked_until = NEVER
        self._renewal_answer_lost = False
        self._refused_tokens: Tokens | None = None  # refused, and not renewed yet
        self._needs_login = False
        self._was_usable = True
        self._is_blocked = False
        self._stop_listening: Callable[[], None] = lambda: None

    # Interface of the integration

    @property
    def snapshot(self) -> AccountSnapshot:
        """The current state of the account."""
        return self._snapshot

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return self._endpoint_contact_at

    @property
    @override
    def cloud_now(self) -> datetime:
        return self._clock.now() + self._client.cloud_skew

    @property
    def transports(self) -> dict[str, WallboxCloudTransport]:
        """The transports of all chargers that were requested or listed so far, by serial number."""
        return self._transports

    def transport(self, serial: str, initial: Identity | None = None) -> WallboxCloudTransport:
        """Return the transport of a charger, creating it if needed.

        Args:
            serial: The serial number of the charger.
            initial: The identity to use until the cloud lists the charger.
        """
        if serial not in self._transports:
            self._transports[serial] = WallboxCloudTransport(self, self._clock, initial or placeholder(serial))
            self._update_idle_ages()
        return self._transports[serial]

    def identity(self, serial: str) -> Identity | None:
        """Return the identity of a charger, or None for an unknown serial number."""
        transport = self._transports.get(serial)
        return None if transport is None else transport.identity

    def listen(self, callback: Callable[[AccountSnapshot], None]) -> Callable[[], None]:
        """Call `callback` with each snapshot, even if only the time of the last contact changed.

        Return a function that removes the listener.
        """
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def listen_outage(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback` with `cloud_lost` and `cloud_back`. Return a function that removes the listener."""
        self._outage_listeners.append(callback)
        return lambda: self._outage_listeners.remove(callback)

    def diagnostics(self) -> dict[str, object]:
        """Return the internal state, without data that identifies the account or its chargers."""
        now = self._clock.monotonic()
        return {
            "breaker": self.breaker.state,
            "busy_for": None if self.breaker.busy_until is None else round(self.breaker.busy_until - now),
            "needs_login": self._needs_login,
            "cloud_clock_ahead": round(self._client.cloud_skew.total_seconds()),
            "reserve_open": self._budgets.reserve_free_at(now) < inf,
            "chargers": [transport.diagnostics() for transport in self._transports.values()],
        }

    # Life cycle

    def restore_budgets(self, stored: object) -> None:
        """Restore the persisted budgets. Call this before the first request."""
        self._budgets.restore(stored)

    def start(self) -> None:
        """Start polling."""
        if not self._poller.running:
            self._budgets.start_run()
            self._stop_listening = self.breaker.listen(self._breaker_changed)
            self._poller.start()

    async def stop(self) -> None:
        """Stop polling and persist the budgets."""
        self._stop_listening()
        await self._poller.stop()
        await self._budgets.close()

    async def list_chargers(self) -> tuple[Identity, ...]:
        """Sign in and return the chargers, for the config flow. The requests are charged to the budgets.

        Raises:
            ChargerError: `LoginRejected`, `TransportDown`, or `TransportBusy` if the budgets have no free slot now.
        """
        async with self._get_lock:
            now = self._clock.monotonic()
            if self.breaker.busy_until is not None:
                raise TransportBusy("throttled", self._seconds_until(self.breaker.busy_until))
            if (free_at := self._budgets.reads.free_at(now)) > now:
                raise TransportBusy("no_room", free_at - now)
            await self._poll_groups(self._budgets.reads)
        return self._snapshot.chargers

    async def verify_credentials(self, email: str, password: str) -> str:
        """Sign in with these credentials, for reauthentication, and return the user's UUID.

        If the credentials belong to this account's user, the account uses them from now on. Otherwise nothing changes.

        Raises:
            ChargerError: `LoginRejected`, `TransportDown`, or `TransportBusy` if the last sign-in is too recent.
        """
        async with self._login_lock:
            budget = await self._take_login_slot()
            client = self._new_client()
            try:
                tokens = await self._perform_login(lambda: client.sign_in(email, password))
            except NoConnection:
                self._refund_login(budget)
                raise
            if tokens.user_id == self.user_id:
                self._client = client
                self._use_credentials(email, password)
            return tokens.user_id

    def set_credentials(self, email: str, password: str) -> None:
        """Use these credentials from now on."""
        if (email, password) == (self._email, self._password):
            return
        self._client.tokens = None
        self._use_credentials(email, password)

    def forget(self, serial: str) -> None:
        """Drop the transport of a charger that left the account permanently."""
        self._transports.pop(serial, None)
        self._update_idle_ages()
        self._notify()

    def _use_credentials(self, email: str, password: str) -> None:
        """Use verified or changed credentials from now on, and clear all earlier refusals of a sign-in."""
        self._email = email
        self._password = password
        self._refused_at = None
        self._login_blocked_until = NEVER
        self._needs_login = False
        self._poller.wake()
        self._notify()

    # Polling

    def _due_at(self) -> float:
        """Return when the next poll is due (monotonic seconds)."""
        now = self._clock.monotonic()
        earliest = max(self.breaker.busy_until or NEVER, self._login_free_at(now))
        if self.breaker.due is not None:
            slot_at = self._budgets.probes.free_at(now)
            if self.breaker.usable:
                slot_at = min(slot_at, self._budgets.reads.free_at(now))
            return max(earliest, self.breaker.due, slot_at)
        slot_at = max(earliest, self._budgets.reads.free_at(now))
        groups_at = self._groups_at + (READ_EVERY if self._watchers else GROUPS_EVERY)
        if self._extra_reads_waiting:  # an extra read gets the next slot; the groups poll runs one slot later at most
            return max(slot_at, groups_at + READ_EVERY)
        is_wanted = self._budgets.owed_slots or self._renewal_at(now) <= slot_at or self._next_slow_read() is not None
        return slot_at if is_wanted else max(slot_at, groups_at)

    async def _poll_if_due(self) -> None:
        """Poll if a poll is still due once the GET lock is free: another read may have used the slot."""
        async with self._get_lock:
            if self._due_at() <= self._clock.monotonic():
                await self._use_read_slot()

    async def _use_read_slot(self) -> None:
        now = self._clock.monotonic()
        if self.breaker.due is not None:
            has_probe_slot = self._budgets.probes.free_at(now) <= now
            await self._poll_groups(self._budgets.probes if has_probe_slot else self._budgets.reads)
        elif now >= self._groups_at + (READ_EVERY if self._watchers else GROUPS_EVERY):
            await self._poll_groups(self._budgets.reads)
        elif now >= self._renewal_at(now):
            await self._sign_in_if_needed(READ_EVERY)  # adds an owed slot, which the next poll takes
        elif self._budgets.owed_slots and (
            self._slow_reads >= READS_BEFORE_LOGIN_CHARGE or not self._has_unread_status
        ):
            self._budgets.owed_slots -= 1
            self._budgets.reads.take(now)
        elif (job := self._next_slow_read()) is not None:
            self._slow_reads += 1
            await job()

    def _next_slow_read(self) -> Callable[[], Awaitable[None]] | None:
        """Return the next read of the slow round, or None if none is due.

        Two status reads are followed by one read of a role or schedule. Until the status of each charger was requested
        once, only status reads run: without a status, no entity has a value. A status that may prove a recent command
        comes first too: a load group pauses a charger that does not show a reduction in time.
        """
        status = self._next_status_read()
        daily = self._next_daily_read()
        daily_first = self._slow_reads % 3 == 2 and not self._has_unread_status and not self._awaits_report
        return daily or status if daily_first else status or daily

    @property
    def _has_unread_status(self) -> bool:
        """True if the status of a charger was not requested yet, or not since it became outdated."""
        return any(
            transport.status_refresh.tried_at == NEVER
            for transport in self._transports.values()
            if not transport.removed_from_account
        )

    @property
    def _awaits_report(self) -> bool:
        """True while the effect of a recent command was not reported yet."""
        awaited_since = self._clock.monotonic() - AWAITED_FOR
        return any(transport.written_at > awaited_since for transport in self._transports.values())

    def _next_status_read(self) -> Callable[[], Awaitable[None]] | None:
        now = self._clock.monotonic()

        def due_at(transport: WallboxCloudTransport) -> float:
            refresh = transport.status_refresh
            if transport.refused:
                return refresh.tried_at + DAILY
            quiet_for = DOUBT_CHARGING_AFTER if transport.power_flows else STATUS_EVERY
            if transport.last_report is not None and transport.last_report.status is Status.OFFLINE:
                quiet_for = DAILY
            elif refresh.tried_at < transport.written_at:  # only the status has the `last_sync` that proves a command
                return transport.written_at
            elif transport.written_at > NEVER:
                recent = now < transport.written_at + AWAITED_FOR
                return refresh.tried_at + (AWAITED_EVERY if recent else RETRY_EVERY)
            return refresh.due_at(min(max(transport.evidence_at, refresh.read_at) + quiet_for, refresh.read_at + DAILY))

        due = [
            transport for transport in self._transports.values() if transport.in_account and due_at(transport) <= now
        ]
        if not due:
            return None
        transport = min(
            due, key=lambda p: (p.written_at == NEVER, not p.power_flows, max(p.evidence_at, p.status_refresh.tried_at))
        )
        return lambda: self._read_status(transport, self._budgets.reads)

    def _next_daily_read(self) -> Callable[[], Awaitable[None]] | None:
        now = self._clock.monotonic()
        daily_reads = [
            (refresh.read_at, number, partial(job, transport))
            for number, transport in enumerate(self._transports.values())
            if not transport.removed_from_account
            for refresh, job in (
                (transport.schedule_refresh, self._refresh_schedule),
                (transport.details_refresh, self._read_details),
            )
            if refresh.due_at(refresh.read_at + DAILY) <= now
        ]
        return min(daily_reads, key=lambda read: read[:2])[2] if daily_reads else None

    def _update_idle_ages(self) -> None:
        """Extend the age limit of an idle charger's status when there are many chargers.

        With many chargers, a round of status reads takes hours.
        """
        status_round = len(self._transports) / STATUS_GETS_PER_HOUR * 3600.0
        for transport in self._transports.values():
            transport.idle_age = max(IDLE_STATUS_AGE, 1.5 * status_round)

    # Requests

    async def _poll_groups(self, budget: SlidingWindow) -> None:
        """Send the groups poll, whose answer shows every charger of the account."""
        try:
            chargers = await self._get(budget, self._client.groups)
        except TransportBusy as err:
            if err.reason == "forbidden":
                self._record_refusal(None)
            raise
        self._groups_at = self._clock.monotonic()
        for charger in chargers:
            self.transport(charger.serial)
        listed = {charger.serial: charger for charger in chargers}
        for serial, transport in list(self._transports.items()):
            if serial in listed:
                transport.record_listing(listed[serial])
            else:
                transport.record_missing()
        self._notify()

    async def _read_status(self, transport: WallboxCloudTransport, budget: SlidingWindow) -> None:
        transport.status_refresh.tried_at = self._clock.monotonic()
        status = await self._get_for(transport, budget, lambda: self._client.status(transport.identity.serial))
        transport.record_status(status)

    async def _read_details(self, transport: WallboxCloudTransport) -> None:
        transport.details_refresh.tried_at = self._clock.monotonic()
        details = await self._get_for(
            transport, self._budgets.reads, lambda: self._client.details(transport.identity.serial)
        )
        transport.record_details(details)

    async def _refresh_schedule(self, transport: WallboxCloudTransport) -> None:
        await self._read_schedule(transport, self._budgets.reads)

    async def _read_schedule(self, transport: WallboxCloudTransport, budget: SlidingWindow) -> ScheduleList:
        transport.schedule_refresh.tried_at = self._clock.monotonic()
        listed = await self._get_for(transport, budget, lambda: self._client.schedules(transport.identity.serial))
        transport.record_schedule(listed)
        return listed

    async def _get_for[T](
        self, transport: WallboxCloudTransport, budget: SlidingWindow, call: Callable[[], Awaitable[T]]
    ) -> T:
        """Send a GET for one charger. Repeated refusals show that the charger is no longer shared with this account."""
        try:
            answer = await self._get(budget, call)
        except (TransportBusy, NotAllowed) as err:
            if err.reason in {"forbidden", "not_shared"}:
                self._record_refusal(transport)
            raise
        self._refusals = [(at, refused) for at, refused in self._refusals if refused is not transport]
        return answer

    def _record_refusal(self, transport: WallboxCloudTransport | None) -> None:
        """Record a refused read of a charger, or of the groups if `transport` is None.

        If only the reads of one charger are refused, the cause is not throttling.
        """
        now = self._clock.monotonic()
        self._refusals = [(at, refused) for at, refused in self._refusals if at > now - UNSHARED_WITHIN]
        self._refusals.append((now, transport))
        if (
            transport is not None
            and len(self._refusals) >= UNSHARED_REFUSALS
            and {p for _, p in self._refusals} == {transport}
        ):
            transport.record_refusal()
            self._notify()

    async def _get[T](self, budget: SlidingWindow, call: Callable[[], Awaitable[T]]) -> T:
        """Sign in if needed, take a slot of a budget and send a GET.

        An extra read also takes a slot of the read budget, so that the next regular read waits. If the cloud refuses an
        old token, the one retry uses the same slot.
        """
        await self._budgets.prepare_request()
        await self._sign_in_if_needed()
        budgets = self._budgets
        now = self._clock.monotonic()
        charged = {budget, budgets.reads}
        for window in charged:
            window.take(now)
        budgets.last_get = now
        if budget is not budgets.reads:
            await budgets.save()
        used = self._client.tokens
        try:
            return await self._perform(call)
        except NoConnection:
            for window in charged:
                window.refund()
            raise
        except TokenRefused:
            await self._replace_tokens(used)
        return await self._retry(call)

    async def _replace_tokens(self, used: Tokens | None, *, urgent: bool = False) -> None:
        """Replace refused tokens, unless another request renewed the tokens meanwhile.

        `urgent` is True for a reduction.
        """
        LOGGER.debug("The cloud refused an access token before its end")
        async with self._login_lock:
            if self._client.tokens is not used:
                return
            try:
                await self._renew(used is not None, urgent=urgent)
            except TransportBusy as err:
                if err.reason == "signing_in":
                    self._block_until_renewal(used, err.retry_after)
                raise

    def _block_until_renewal(self, used: Tokens | None, seconds: float) -> None:
        """Block all reads for `seconds`, because no new token is available before. Commands need a new token first.

        If the answer to a renewal was lost, the renewal may have made the old token invalid. During an outage, the
        refusal of such a token does not prove that the cloud is back: the token is only marked as expired.
        """
        self._refused_tokens = used
        if used is not None and self._renewal_answer_lost and not self.breaker.usable:
            self._client.tokens = used.expired
        else:
            self.breaker.throttled(seconds)

    async def _retry[T](self, call: Callable[[], Awaitable[T]], *, write: bool = False) -> T:
        """Retry a request once with a fresh token."""
        try:
            return await self._perform(call, write=write)
        except TokenRefused as err:
            # The cloud refused a token that it just issued: sign in again later, not immediately.
            self._client.tokens = None
            self.breaker.throttled(None)
            self.breaker.throttled(None, write=True)
            raise TransportBusy("signing_in", self._seconds_until(self.breaker.busy_until)) from err

    async def _perform[T](self, call: Callable[[], Awaitable[T]], *, write: bool = False) -> T:
        """Send a request and report its outcome to the breaker. A refused token is not reported."""
        try:
            answer = await call()
        except TokenRefused:
            raise
        except ChargerError as err:
            raise await self._record_failure(err, write=write) from None
        self.breaker.good(write=write)
        self._endpoint_contact_at = self._clock.now()
        self._notify()
        return answer

    async def _record_failure(self, err: ChargerError, *, write: bool = False) -> ChargerError:
        """Report a failure to the breaker and return the error to raise."""
        match err:
            case NoConnection():
                self.breaker.bad(Failure.CONNECT)
            case _PatienceExpired():
                self.breaker.slow()
            case TransportDown():
                self.breaker.bad(Failure.OTHER)
            case TransportBusy():
                self.breaker.throttled(err.retry_after or None, write=write)
                if err.reason == "throttled":
                    self._budgets.close_reserve()
                    await self._budgets.save()
                until = self.breaker.writes_busy_until if write else self.breaker.busy_until
                return TransportBusy(err.reason, self._seconds_until(until))
            case LoginRejected():
                pass
            case _:  # the cloud answered, and refused only this request
                self.breaker.good(write=write)
        return err

    def _seconds_until(self, until: float | None) -> float:
        return 0.0 if until is None else until - self._clock.monotonic()

    # Sign-in

    def _login_free_at(self, now: float) -> float:
        """Return the monotonic time from which the next GET may sign in; `now` if it needs no sign-in."""
        if not self._has_no_usable_token():
            return now
        return max(self._login_blocked_until, self._budgets.logins.free_at(now))

    def _has_no_usable_token(self) -> bool:
        return self._client.tokens is None or self._token_seconds_left() <= 0

    def _token_seconds_left(self) -> float:
        """Return the seconds until the access token expires; infinity if that is unknown."""
        tokens = self._client.tokens
        if tokens is None or tokens.access_expires_at is None:
            return inf
        return (tokens.access_expires_at - self.cloud_now).total_seconds()

    def _renewal_at(self, now: float) -> float:
        """Return when the slow round should renew the tokens, so that they are valid for the next GET."""
        return max(now + self._token_seconds_left() - TOKEN_MARGIN - READ_EVERY, self._budgets.logins.free_at(now))

    async def _sign_in_if_needed(self, ahead: float = 0.0) -> None:
        """Renew the tokens if less than `TOKEN_MARGIN` will remain until their end in `ahead` seconds.

        Without a free sign-in slot, a valid token stays in use until it expires: a probe must not wait for the renewal.
        """
        async with self._login_lock:
            now = self._clock.monotonic()
            is_due = self._token_seconds_left() <= TOKEN_MARGIN + ahead and self._budgets.logins.free_at(now) <= now
            if is_due or self._has_no_usable_token():
                await self._renew(self._client.tokens is not None)

    async def _sign_in_for_command(self, *, urgent: bool) -> None:
        """Renew the tokens if a command needs that. A reduction does not wait for the renewal of a valid token."""
        if self._client.tokens is not None and self._client.tokens is self._refused_tokens:
            await self._replace_tokens(self._client.tokens, urgent=urgent)
        elif not urgent:
            await self._sign_in_if_needed()
        elif self._has_no_usable_token():
            async with self._login_lock:
                if self._has_no_usable_token():
                    await self._renew(self._client.tokens is not None, urgent=True)

    async def _renew(self, refreshable: bool, *, urgent: bool = False) -> None:
        """Get new tokens with the refresh token, or with the password if there is no refresh token or it is refused.

        `urgent` is True for a reduction.
        """
        if (blocked_for := self._login_blocked_until - self._clock.monotonic()) > 0:
            if self._needs_login:
                raise LoginRejected("invalid_auth")
            raise TransportBusy("signing_in", blocked_for)
        budget = await self._take_login_slot(urgent=urgent and refreshable)
        try:
            if refreshable and await self._refresh():
                return
            await self._sign_in()
        except NoConnection:
            # The sign-in after a refused refresh takes no slot, so there is none to refund.
            if self._client.tokens is not None or not refreshable:
                self._refund_login(budget)
            raise

    async def _take_login_slot(self, *, urgent: bool = False) -> SlidingWindow:
        """Take a slot for a sign-in or refresh and return its budget. Raise TransportBusy if no slot is free.

        `urgent` is True for a refresh that a reduction needs: it has one more slot of its own.
        """
        await self._budgets.prepare_request(urgent=urgent)
        now = self._clock.monotonic()
        budget = self._budgets.logins
        if urgent and budget.free_at(now) > now and self._budgets.urgent_logins.free_at(now) <= now:
            budget = self._budgets.urgent_logins
        if (free_at := budget.free_at(now)) > now:
            raise TransportBusy("signing_in", free_at - now)
        budget.take(now)
        self._budgets.owed_slots += 1
        await self._budgets.save(urgent=urgent)
        return budget

    def _refund_login(self, budget: SlidingWindow) -> None:
        """Refund the slot of a sign-in or refresh that was not sent."""
        budget.refund()
        self._budgets.owed_slots -= 1

    async def _refresh(self) -> bool:
        """Get new tokens with the refresh token. Return False if the cloud refuses it: a sign-in is needed."""
        try:
            await self._perform_login(self._client.refresh)
        except TokenRefused:
            LOGGER.debug("The cloud refused the refresh token; signing in")
            self._client.tokens = None
            self._budgets.owed_slots += 1
            return False
        return True

    async def _sign_in(self) -> None:
        """Sign in with the password.

        Only a second refusal, at least `REFUSED_AGAIN_AFTER` after the first, asks the user for the password.
        """
        now = self._clock.monotonic()
        try:
            tokens = await self._perform_login(lambda: self._client.sign_in(self._email, self._password))
        except LoginRejected:
            if self._refused_at is None:
                self._refused_at = now
            elif now >= self._refused_at + REFUSED_AGAIN_AFTER:
                self._needs_login = True
            if self._poller.running:  # otherwise a config flow runs, and the user may enter another password
                self._login_blocked_until = now + (LOGIN_RETRY if self._needs_login else REFUSED_AGAIN_AFTER)
            self._notify()
            raise
        self.user_id = self.user_id or tokens.user_id
        self._use_credentials(self._email, self._password)

    async def _perform_login[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """Sign in or refresh, and report only failures to the breaker.

        A success does not prove that the cloud is back, because sign-in and data have different hosts.
        """
        self._renewal_answer_lost = True
        try:
            answer = await call()
        except TokenRefused:
            raise
        except ChargerError as err:
            failed = await self._record_failure(err)
            if isinstance(failed, TransportBusy):  # commands with a valid token go on
                self._login_blocked_until = max(self._login_blocked_until, self._clock.monotonic() + failed.retry_after)
            failed.surely_not_sent = True  # applies to the request that needed the tokens
            raise failed from None
        self._renewal_answer_lost = False
        return answer

    # Commands

    @override
    async def execute(self, transport: WallboxCloudTransport, command: Command, patience: float, urgent: float) -> None:
        may_wait = not _is_never_queued(command)
        with _explain_refusal(transport, command):

            async def send() -> None:
                with nullcontext() if isinstance(command, Restart | Install) else transport.writing(command):
                    await self._send(transport, command)

            try:
                await self._write(send, transport.way, patience, may_wait=may_wait, urgent=urgent)
            finally:
                now = self._clock.monotonic()
                if self._budgets.reads.free_at(now) > now:  # a status read at once would come too early
                    self._poller.wake()  # the next slot is for the status that proves the command

    @override
    async def write_schedule(self, transport: WallboxCloudTransport, windows: Schedule) -> None:
        await self._commands.turn(transport.way, deadline=self._clock.monotonic() + COMMAND_TTL)
        # The write replaces the whole list, so read the list as late as possible, unless the last read is recent.
        listed = transport.recent_schedule(self._clock.monotonic() - BACK_TO_BACK) or await self._read_list(transport)
        if not schedule_bodies(listed, windows, self.cloud_now):
            return

        async def post() -> None:
            """Date the entries with the time at which they are sent."""
            bodies = schedule_bodies(listed, windows, self.cloud_now)
            await self._client.write_schedules(transport.identity.serial, bodies)

        transport.schedule_refresh.expire()  # also if the answer is lost
        with _explain_refusal(transport, None):
            await self._write(post, transport.way, REQUEST_TIMEOUT, may_wait=False)

    @override
    async def read_schedule(self, transport: WallboxCloudTransport) -> Schedule:
        return whole_schedule(await self._read_list(transport))

    async def _read_list(self, transport: WallboxCloudTransport) -> ScheduleList:
        return await self._read_extra(transport, lambda budget: self._read_schedule(transport, budget))

    @override
    async def check(self, transport: WallboxCloudTransport) -> None:
        await self._read_extra(transport, lambda budget: self._read_status(transport, budget))

    @override
    def watch(self) -> Callable[[], None]:
        self._watchers += 1
        self._poller.wake()
        ended = False

        def end() -> None:
            nonlocal ended
            self._watchers -= not ended
            ended = True

        return end

    async def _read_extra[T](
        self, transport: WallboxCloudTransport, read: Callable[[SlidingWindow], Awaitable[T]]
    ) -> T:
        """Send an extra GET in a free regular slot, otherwise from the reserve, otherwise in the next regular slot."""
        self._extra_reads_waiting += 1
        try:
            while True:
                async with self._get_lock:
                    now = self._clock.monotonic()
                    if self.breaker.busy_until is not None:
                        raise TransportBusy("throttled", self._seconds_until(self.breaker.busy_until))
                    if not self.breaker.usable:
                        raise TransportDown("unreachable")
                    regular_at = self._budgets.reads.free_at(now)
                    reserve_at = self._budgets.reserve_free_at(now)
                    if regular_at <= now:
                        return await read(self._budgets.reads)
                    if reserve_at <= now:
                        return await read(self._budgets.reserve)
                await transport.way.sleep(self._clock, min(regular_at, reserve_at) - now)
        finally:
            self._extra_reads_waiting -= 1
            self._poller.wake()

    async def _write[T](
        self,
        call: Callable[[], Awaitable[T]],
        way: RightOfWay,
        patience: float,
        *,
        may_wait: bool,
        urgent: float = 0.0,
    ) -> T:
        """Send a command when the command budget has a free slot.

        The request itself, without the wait, may take `patience` seconds. `urgent` is as in `Transport.execute`.
        """
        take_slot = partial(
            self._take_command_slot, way, self._clock.monotonic() + COMMAND_TTL, may_wait=may_wait, urgent=urgent
        )
        await self._budgets.prepare_request(urgent=urgent > 0)
        self._admit_command()
        await self._sign_in_for_command(urgent=urgent > 0)
        await take_slot()
        used = self._client.tokens
        try:
            return await self._perform(lambda: self._with_patience(call, patience), write=True)
        except TokenRefused:
            await self._replace_tokens(used, urgent=urgent > 0)
        await take_slot()
        return await self._retry(lambda: self._with_patience(call, patience), write=True)

    def _admit_command(self) -> None:
        """Raise TransportBusy or NoConnection if no command may be sent now."""
        if self.breaker.writes_busy_until is not None:
            raise TransportBusy("throttled", self._seconds_until(self.breaker.writes_busy_until))
        if not self.breaker.usable:
            raise NoConnection("unreachable")

    async def _take_command_slot(self, way: RightOfWay, deadline: float, *, may_wait: bool, urgent: float) -> None:
        """Take a slot for a command. See `CommandQueue.turn`. Raise ChargerError if the wait was in vain."""
        budget = await self._commands.turn(way, relief=urgent, deadline=deadline, may_wait=may_wait)
        self._admit_command()
        budget.take(self._clock.monotonic())

    async def _with_patience[T](self, call: Callable[[], Awaitable[T]], patience: float) -> T:
        try:
            async with self._clock.timeout(patience):
                return await call()
        except TimeoutError:
            raise _PatienceExpired("timeout") from None

    async def _send(self, transport: WallboxCloudTransport, command: Command) -> None:
        """Send the request that corresponds to a command."""
        serial = transport.identity.serial
        match command:
            case SetCurrent(amps):
                await self._client.set_max_charging_current(serial, amps)
            case SetLock(locked):
                await self._client.set_locked(serial, locked)
            case SetEcoMode(mode):
                percentage = 100 if transport.eco_percentage is None else transport.eco_percentage
                await self._client.set_eco_smart(serial, *eco_smart(mode), percentage)
            case SetCharging(on):
                await self._client.remote_action(serial, RemoteAction.RESUME if on else RemoteAction.PAUSE)
            case SetOverride(on):
                await self._client.remote_action(serial, RemoteAction.RESUME if on else RemoteAction.AUTOMATIC)
            case Restart():
                await self._client.remote_action(serial, RemoteAction.RESTART)
            case Install():
                await self._client.remote_action(serial, RemoteAction.INSTALL)

    # Notification

    def _breaker_changed(self) -> None:
        self._poller.wake()
        usable = self.breaker.usable
        was_blocked = self._is_blocked
        self._is_blocked = not usable or self.breaker.busy
        if was_blocked and not self._is_blocked:
            self._budgets.owed_slots = 0  # unused slots during the block made up for the sign-ins
        if usable is not self._was_usable:
            self._was_usable = usable
            LOGGER.info("The Wallbox cloud is %s", "reachable again" if usable else "not reachable")
            for listener in list(self._outage_listeners):
                listener("cloud_back" if usable else "cloud_lost")
        self._notify()

    def _notify(self) -> None:
        is_known = self._endpoint_contact_at is not None or not self.breaker.usable
        self._snapshot = AccountSnapshot(
            cloud=self.breaker.usable if is_known else None,
            needs_login=self._needs_login,
            chargers=tuple(
                transport.identity
                for _, transport in sorted(self._transports.items())
                if transport.last_report is not None and not transport.removed_from_account
            ),
            endpoint_contact_at=self._endpoint_contact_at,
        )
        for listener in list(self._listeners):
            listener(self._snapshot)


@contextmanager
def _explain_refusal(transport: WallboxCloudTransport, command: Command | None) -> Iterator[None]:
    """Replace the reason of a write that the cloud refused with 403 by a more specific one, if known."""
    try:
        yield
    except NotAllowed as err:
        if err.reason != "refused":
            raise
        raise NotAllowed(transport.refusal_reason(command), err.detail) from None


def _is_never_queued(command: Command) -> bool:
    """Return True if a command must be sent immediately or not at all."""
    return isinstance(command, Restart | Install)
