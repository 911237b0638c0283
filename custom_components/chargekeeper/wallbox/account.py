"""One Wallbox account: signs in, polls for all its chargers within its purses, and carries their commands.

One GET at a time: the groups answer, which shows all chargers, every two minutes; between, the slow round asks for one
charger's status, role or schedule. While the breaker is not closed the groups GET is the probe.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
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
from .mapping import eco_smart, schedule_bodies, whole_schedule
from .rate_limit import READ_EVERY, RequestBudgets, SlidingWindow
from .transport import NEVER, STATUS_GETS_PER_HOUR, CloudAccount, WallboxCloudTransport, placeholder

LOGGER = logging.getLogger(__name__)

GROUPS_EVERY = 120.0
"""Seconds between two groups polls, `READ_EVERY` while a restart is watched."""

STATUS_EVERY = 20 * 60.0
"""Seconds without a sign of life, and since the last status GET, after which the slow round asks for the status."""

DAILY = 24 * 3600.0
"""Seconds between two readings of role, of schedule, and of the status even where groups answers show signs of life."""

TOKEN_MARGIN = 90.0
"""Seconds before its end at which an access token is renewed."""

REFUSED_AGAIN_AFTER = 10 * 60.0
"""Seconds between two refused sign-ins after which the password is asked for; also the wait before the second."""
LOGIN_RETRY = 3600.0
"""Seconds between sign-ins while the user is asked for the password: the refusal may have been the cloud's fault."""

FIRST_READS = 3
"""So many chargers show their status before the slow round pays for the first sign-in."""

BACK_TO_BACK = 10.0
"""Seconds for which a schedule that was read may be written back; what somebody changes meanwhile is lost."""

COMMAND_TTL = 300.0
"""Seconds for which a command waits for room in its purse."""

UNSHARED_REFUSALS = 3
UNSHARED_WITHIN = 30 * 60.0
"""So many refused reads of one charger within so many seconds: it is not shared with this account any more."""


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """All that is seen of the account. `cloud` is None before the first word; moments do not count for equality."""

    cloud: bool | None = None
    needs_login: bool = False
    chargers: tuple[Identity, ...] = ()
    endpoint_contact_at: datetime | None = field(default=None, compare=False)


class _OutOfPatience(TransportDown):
    """No answer within the patience of a command, which is shorter than the time-out of a request."""


class WallboxAccount(CloudAccount):
    """One account of the Wallbox cloud. It may be stopped and started again; purses and paths stay."""

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
        self._poller = Poller(clock, "the Wallbox cloud", self._due_at, self._take_turn)
        self._get_lock = asyncio.Lock()
        self._command_lock = asyncio.Lock()
        self._login_lock = asyncio.Lock()
        self._endpoint_contact_at: datetime | None = None
        self._groups_at = NEVER
        self._slow_turns = 0
        self._watchers = 0
        self._out_of_turn = 0  # reads out of turn that wait for a slot
        self._refusals: list[
            tuple[float, WallboxCloudTransport | None]
        ] = []  # reads refused lately, None: of the groups
        self._refused_at: float | None = None
        self._login_blocked_until = NEVER
        self._renewal_was_lost = False
        self._needs_login = False
        self._was_usable = True
        self._stands_still = False
        self._unlisten: Callable[[], None] = lambda: None

    # What the integration sees

    @property
    def snapshot(self) -> AccountSnapshot:
        """The account as of now."""
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
        """The cloud paths of the chargers that were ever asked for or listed, by serial."""
        return self._transports

    def transport(self, serial: str, who: Identity | None = None) -> WallboxCloudTransport:
        """The cloud path of a charger; `who` is what was known of it before the cloud told anything."""
        if serial not in self._transports:
            self._transports[serial] = WallboxCloudTransport(self, self._clock, who or placeholder(serial))
            self._spread_round()
        return self._transports[serial]

    def identity(self, serial: str) -> Identity | None:
        """Who a charger is, or None if it was never heard of."""
        transport = self._transports.get(serial)
        return None if transport is None else transport.identity

    def listen(self, callback: Callable[[AccountSnapshot], None]) -> Callable[[], None]:
        """Be given each snapshot, also where only the last contact moved; the answer ends it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def listen_outage(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Be told `cloud_lost` and `cloud_back`; the answer ends it."""
        self._outage_listeners.append(callback)
        return lambda: self._outage_listeners.remove(callback)

    def diagnostics(self) -> dict[str, object]:
        """The inner state, without anything that names the account or its chargers."""
        now = self._clock.monotonic()
        return {
            "breaker": self.breaker.state,
            "busy_for": None if self.breaker.busy_until is None else round(self.breaker.busy_until - now),
            "needs_login": self._needs_login,
            "cloud_clock_ahead": round(self._client.cloud_skew.total_seconds()),
            "reserve_open": self._budgets.reserve_free_at(now) < inf,
            "chargers": [transport.diagnostics() for transport in self._transports.values()],
        }

    # Life

    def restore_budgets(self, stored: object) -> None:
        """Take what was saved of the purses, before the first request."""
        self._budgets.restore(stored)

    def start(self) -> None:
        """Begin the rounds."""
        if not self._poller.running:
            self._budgets.reopen()
            self._unlisten = self.breaker.listen(self._breaker_changed)
            self._poller.start()

    async def stop(self) -> None:
        """End the rounds; what the purses have spent is saved."""
        self._unlisten()
        await self._poller.stop()
        await self._budgets.close()

    async def first_look(self) -> tuple[Identity, ...]:
        """Sign in and list the chargers, for the config flow. Spends from the purses.

        Raises:
            ChargerError: `LoginRejected`, `TransportDown`, or `TransportBusy` where the purses have no room now.
        """
        async with self._get_lock:
            now = self._clock.monotonic()
            if self.breaker.busy_until is not None:
                raise TransportBusy("throttled", self.breaker.busy_until - now)
            if (free_at := self._budgets.reads.free_at(now)) > now:
                raise TransportBusy("no_room", free_at - now)
            await self._poll(self._budgets.reads)
        return self._snapshot.chargers

    async def verify_credentials(self, email: str, password: str) -> str:
        """Sign in with these credentials, for reauthentication; the answer is the user's uuid.

        Those of this account's user are used from now on; those of another change nothing.

        Raises:
            ChargerError: `LoginRejected`, `TransportDown`, or `TransportBusy` where there was a sign-in just now.
        """
        async with self._login_lock:
            await self._login_room()
            client = self._new_client()
            try:
                tokens = await self._counted_login(lambda: client.sign_in(email, password))
            except NoConnection:
                self._refund_login()
                raise
            if tokens.user_id == self.user_id:
                self._client = client
                self._accept(email, password)
            return tokens.user_id

    def set_credentials(self, email: str, password: str) -> None:
        """Sign in with these from now on."""
        if (email, password) == (self._email, self._password):
            return
        self._client.tokens = None
        self._accept(email, password)

    def forget(self, serial: str) -> None:
        """A charger left the account for good."""
        self._transports.pop(serial, None)
        self._spread_round()
        self._tell()

    def _accept(self, email: str, password: str) -> None:
        """Credentials that are good, or new: nothing stands against signing in with them."""
        self._email = email
        self._password = password
        self._refused_at = None
        self._login_blocked_until = NEVER
        self._needs_login = False
        self._poller.wake()
        self._tell()

    # The rounds

    def _due_at(self) -> float:
        """When the next GET of the rounds is due (monotonic seconds)."""
        now = self._clock.monotonic()
        earliest = max(self.breaker.busy_until or NEVER, self._login_free_at(now))
        if self.breaker.due is not None:
            room = self._budgets.probes.free_at(now)
            if self.breaker.usable:
                room = min(room, self._budgets.reads.free_at(now))
            return max(earliest, self.breaker.due, room)
        slot = max(earliest, self._budgets.reads.free_at(now))
        groups_at = self._groups_at + (READ_EVERY if self._watchers else GROUPS_EVERY)
        if self._out_of_turn:  # the next slot is for whoever waits; the groups poll comes a slot later at most
            return max(slot, groups_at + READ_EVERY)
        is_wanted = self._budgets.owed_slots or self._renewal_at(now) <= slot or self._next_slow() is not None
        return slot if is_wanted else max(slot, groups_at)

    async def _take_turn(self) -> None:
        """Use the slot that is due, unless somebody else did meanwhile."""
        async with self._get_lock:
            if self._due_at() <= self._clock.monotonic():
                await self._use_slot()

    async def _use_slot(self) -> None:
        now = self._clock.monotonic()
        if self.breaker.due is not None:
            has_room = self._budgets.probes.free_at(now) <= now
            await self._poll(self._budgets.probes if has_room else self._budgets.reads)
        elif now >= self._groups_at + (READ_EVERY if self._watchers else GROUPS_EVERY):
            await self._poll(self._budgets.reads)
        elif now >= self._renewal_at(now):
            await self._sign_in_if_needed(READ_EVERY)  # owes the slot that is taken for it next
        elif self._budgets.owed_slots and (self._slow_turns >= FIRST_READS or not self._unread):
            self._budgets.owed_slots -= 1
            self._budgets.reads.take(now)
        elif (job := self._next_slow()) is not None:
            self._slow_turns += 1
            await job()

    def _next_slow(self) -> Callable[[], Awaitable[None]] | None:
        """The next job of the slow round: two status GETs, then one of role or schedule, as far as any is due.

        Until the status of each charger was read once, nothing else has a turn: without it nothing can be shown.
        """
        status = self._next_status()
        chore = self._next_chore()
        chore_first = self._slow_turns % 3 == 2 and not self._unread
        return chore or status if chore_first else status or chore

    @property
    def _unread(self) -> bool:
        """Whether the status of some charger was never asked for since it was needed."""
        return any(
            transport.status_turn.tried_at == NEVER
            for transport in self._transports.values()
            if not transport.removed_from_account
        )

    def _next_status(self) -> Callable[[], Awaitable[None]] | None:
        now = self._clock.monotonic()

        def due_at(transport: WallboxCloudTransport) -> float:
            """When this charger's status falls due."""
            turn = transport.status_turn
            if transport.refused:
                return turn.tried_at + DAILY
            quiet_for = DOUBT_CHARGING_AFTER if transport.power_flows else STATUS_EVERY
            if transport.last_report is not None and transport.last_report.status is Status.OFFLINE:
                quiet_for = DAILY
            return turn.due_at(min(max(transport.evidence_at, turn.read_at) + quiet_for, turn.read_at + DAILY))

        due = [
            transport for transport in self._transports.values() if transport.in_account and due_at(transport) <= now
        ]
        if not due:
            return None
        transport = min(due, key=lambda p: (not p.power_flows, max(p.evidence_at, p.status_turn.tried_at)))
        return lambda: self._read_status(transport, self._budgets.reads)

    def _next_chore(self) -> Callable[[], Awaitable[None]] | None:
        now = self._clock.monotonic()
        chores = [
            (turn.read_at, number, partial(job, transport))
            for number, transport in enumerate(self._transports.values())
            if not transport.removed_from_account
            for turn, job in (
                (transport.schedule_turn, self._refresh_schedule),
                (transport.details_turn, self._read_details),
            )
            if turn.due_at(turn.read_at + DAILY) <= now
        ]
        return min(chores, key=lambda chore: chore[:2])[2] if chores else None

    def _spread_round(self) -> None:
        """With many chargers a round of status GETs takes hours: their statuses may be shown for as long."""
        status_round = len(self._transports) / STATUS_GETS_PER_HOUR * 3600.0
        for transport in self._transports.values():
            transport.idle_age = max(IDLE_STATUS_AGE, 1.5 * status_round)

    # Requests

    async def _poll(self, budget: SlidingWindow) -> None:
        """The groups GET: shows every charger of the account."""
        try:
            chargers = await self._get(budget, self._client.groups)
        except TransportBusy as err:
            if err.reason == "forbidden":
                self._note_refusal(None)
            raise
        self._groups_at = self._clock.monotonic()
        for charger in chargers:
            self.transport(charger.serial)
        listed = {charger.serial: charger for charger in chargers}
        for serial, transport in list(self._transports.items()):
            if serial in listed:
                transport.listed(listed[serial])
            else:
                transport.unlisted()
        self._tell()

    async def _read_status(self, transport: WallboxCloudTransport, budget: SlidingWindow) -> None:
        transport.status_turn.tried_at = self._clock.monotonic()
        status = await self._get_of(transport, budget, lambda: self._client.status(transport.identity.serial))
        transport.showed_status(status)

    async def _read_details(self, transport: WallboxCloudTransport) -> None:
        transport.details_turn.tried_at = self._clock.monotonic()
        details = await self._get_of(
            transport, self._budgets.reads, lambda: self._client.details(transport.identity.serial)
        )
        transport.showed_details(details)

    async def _refresh_schedule(self, transport: WallboxCloudTransport) -> None:
        await self._read_schedule(transport, self._budgets.reads)

    async def _read_schedule(self, transport: WallboxCloudTransport, budget: SlidingWindow) -> ScheduleList:
        transport.schedule_turn.tried_at = self._clock.monotonic()
        listed = await self._get_of(transport, budget, lambda: self._client.schedules(transport.identity.serial))
        transport.showed_schedule(listed)
        return listed

    async def _get_of[T](
        self, transport: WallboxCloudTransport, budget: SlidingWindow, call: Callable[[], Awaitable[T]]
    ) -> T:
        """A GET for one charger: refused again and again, it is not shared with us any more."""
        try:
            answer = await self._get(budget, call)
        except (TransportBusy, NotAllowed) as err:
            if err.reason in {"forbidden", "not_shared"}:
                self._note_refusal(transport)
            raise
        self._refusals = [(at, refused) for at, refused in self._refusals if refused is not transport]
        return answer

    def _note_refusal(self, transport: WallboxCloudTransport | None) -> None:
        """A read was refused: where only this charger's are, it is not throttling. None: the groups poll was."""
        now = self._clock.monotonic()
        self._refusals = [(at, refused) for at, refused in self._refusals if at > now - UNSHARED_WITHIN]
        self._refusals.append((now, transport))
        if (
            transport is not None
            and len(self._refusals) >= UNSHARED_REFUSALS
            and {p for _, p in self._refusals} == {transport}
        ):
            transport.refuse()
            self._tell()

    async def _get[T](self, budget: SlidingWindow, call: Callable[[], Awaitable[T]]) -> T:
        """One GET from a purse, signed in; one that meets an old token passes its slot to its one repetition.

        Out of turn or not, the next regular one has to wait from here on.
        """
        await self._budgets.begin()
        await self._sign_in_if_needed()
        budgets = self._budgets
        now = self._clock.monotonic()
        used_up = {budget, budgets.reads}
        for each in used_up:
            each.take(now)
        budgets.last_get = now
        if budget is not budgets.reads:
            await budgets.save()
        used = self._client.tokens
        try:
            return await self._counted(call)
        except NoConnection:
            for each in used_up:
                each.refund()
            raise
        except TokenRefused:
            await self._replace(used)
        return await self._repeated(call)

    async def _replace(self, used: Tokens | None) -> None:
        """New tokens instead of those that were just refused, unless somebody else renewed them meanwhile."""
        LOGGER.debug("The access token was refused early")
        async with self._login_lock:
            if self._client.tokens is not used:
                return
            try:
                await self._renew(used is not None)
            except TransportBusy as err:
                if err.reason == "signing_in":
                    self._cannot_replace(used, err.retry_after)
                raise

    def _cannot_replace(self, used: Tokens | None, seconds: float) -> None:
        """No other token can be had for so many seconds, so that nothing can be asked until then.

        In an outage a refusal of one that a renewal may have ended, whose answer was lost, does not tell that the
        cloud is back.
        """
        if used is not None and self._renewal_was_lost and not self.breaker.usable:
            self._client.tokens = used.ended
        else:
            self.breaker.throttled(seconds)

    async def _repeated[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """The one repetition of a request whose token was refused."""
        try:
            return await self._counted(call)
        except TokenRefused as err:
            # Refused although just made: sign in afresh next time, but not at once again.
            self._client.tokens = None
            self.breaker.throttled(None)
            raise TransportBusy("signing_in", self._busy_for()) from err

    async def _counted[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """One request whose end is told to the breaker."""
        try:
            answer = await call()
        except TokenRefused:
            raise
        except ChargerError as err:
            raise await self._failed(err) from None
        self.breaker.good()
        self._endpoint_contact_at = self._clock.now()
        self._tell()
        return answer

    async def _failed(self, err: ChargerError) -> ChargerError:
        """Tell the breaker of a failure; the error to raise."""
        match err:
            case NoConnection():
                self.breaker.bad(Failure.CONNECT)
            case _OutOfPatience():
                self.breaker.slow()
            case TransportDown():
                self.breaker.bad(Failure.OTHER)
            case TransportBusy():
                self.breaker.throttled(err.retry_after or None)
                if err.reason == "throttled":
                    self._budgets.close_reserve()
                    await self._budgets.save()
                return TransportBusy(err.reason, self._busy_for())
            case LoginRejected():
                pass
            case _:  # an answer to this request only
                self.breaker.good()
        return err

    def _busy_for(self) -> float:
        until = self.breaker.busy_until
        return 0.0 if until is None else until - self._clock.monotonic()

    # Signing in

    def _login_free_at(self, now: float) -> float:
        """When a sign-in that the next GET needs may be made."""
        if not self._must_sign_in():
            return now
        return max(self._login_blocked_until, self._budgets.logins.free_at(now))

    def _must_sign_in(self) -> bool:
        """Whether there is no token that could serve."""
        return self._client.tokens is None or self._token_lasts() <= 0

    def _token_lasts(self) -> float:
        """Seconds until the access token ends; infinity where nobody knows."""
        tokens = self._client.tokens
        if tokens is None or tokens.access_expires_at is None:
            return inf
        return (tokens.access_expires_at - self.cloud_now).total_seconds()

    def _renewal_at(self, now: float) -> float:
        """From when on the slow round should renew the tokens, so that the next GET finds them good."""
        return max(now + self._token_lasts() - TOKEN_MARGIN - READ_EVERY, self._budgets.logins.free_at(now))

    async def _sign_in_if_needed(self, ahead: float = 0.0) -> None:
        """Get new tokens where those at hand end within the margin, `ahead` seconds from now.

        One that still serves is used to its end where there is no slot to renew it: a probe must not wait for that.
        """
        async with self._login_lock:
            now = self._clock.monotonic()
            is_due = self._token_lasts() <= TOKEN_MARGIN + ahead and self._budgets.logins.free_at(now) <= now
            if is_due or self._must_sign_in():
                await self._renew(self._client.tokens is not None)

    async def _renew(self, refreshable: bool) -> None:
        """Get new tokens: by the refresh token, or by the password where there is none or it is refused."""
        if (blocked_for := self._login_blocked_until - self._clock.monotonic()) > 0:
            if self._needs_login:
                raise LoginRejected("invalid_auth")
            raise TransportBusy("signing_in", blocked_for)
        await self._login_room()
        try:
            if refreshable and await self._refresh():
                return
            await self._sign_in()
        except NoConnection:
            # After a refused refresh its one sign-in costs no slot, and gives none back.
            if self._client.tokens is not None or not refreshable:
                self._refund_login()
            raise

    async def _login_room(self) -> None:
        """Take the slot of a sign-in or refresh. Raises TransportBusy where there is none."""
        await self._budgets.begin()
        now = self._clock.monotonic()
        if (free_at := self._budgets.logins.free_at(now)) > now:
            raise TransportBusy("signing_in", free_at - now)
        self._budgets.logins.take(now)
        self._budgets.owed_slots += 1
        await self._budgets.save()

    def _refund_login(self) -> None:
        """The sign-in or refresh never left."""
        self._budgets.logins.refund()
        self._budgets.owed_slots -= 1

    async def _refresh(self) -> bool:
        """Trade the refresh token; False where it is refused: then only the password helps."""
        try:
            await self._counted_login(self._client.refresh)
        except TokenRefused:
            LOGGER.debug("The refresh token was refused: signing in")
            self._client.tokens = None
            self._budgets.owed_slots += 1
            return False
        return True

    async def _sign_in(self) -> None:
        """Sign in with the password. Only a second refusal, well after the first, asks the user for another one."""
        now = self._clock.monotonic()
        try:
            tokens = await self._counted_login(lambda: self._client.sign_in(self._email, self._password))
        except LoginRejected:
            if self._refused_at is None:
                self._refused_at = now
            elif now >= self._refused_at + REFUSED_AGAIN_AFTER:
                self._needs_login = True
            if self._poller.running:  # else a config flow, which may try another password
                self._login_blocked_until = now + (LOGIN_RETRY if self._needs_login else REFUSED_AGAIN_AFTER)
            self._tell()
            raise
        self.user_id = self.user_id or tokens.user_id
        self._accept(self._email, self._password)

    async def _counted_login[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """A call that signs in or refreshes. Only data proves that the cloud is back: this has another host."""
        self._renewal_was_lost = True
        try:
            answer = await call()
        except TokenRefused:
            raise
        except ChargerError as err:
            failed = await self._failed(err)
            failed.surely_not_sent = True  # whatever needed the tokens
            raise failed from None
        self._renewal_was_lost = False
        return answer

    # Commands

    @override
    async def carry_out(self, transport: WallboxCloudTransport, command: Command, patience: float) -> None:
        with _explained(transport, command):
            await self._write(lambda: self._send(transport, command), patience, may_wait=not _once(command))

    @override
    async def write_schedule(self, transport: WallboxCloudTransport, windows: Schedule) -> None:
        begun = self._clock.monotonic()
        async with self._command_lock:
            await self._await_room(begun)
        # Only now is the list read, unless it was just before: the write replaces all of it.
        listed = transport.schedule_since(self._clock.monotonic() - BACK_TO_BACK) or await self._read_list(transport)
        if not schedule_bodies(listed, windows, self.cloud_now):
            return

        async def post() -> None:
            """Send it with the time at which it leaves."""
            bodies = schedule_bodies(listed, windows, self.cloud_now)
            await self._client.write_schedules(transport.identity.serial, bodies)

        transport.schedule_turn.expire()  # also where the answer is lost
        with _explained(transport, None):
            await self._write(post, REQUEST_TIMEOUT, may_wait=False)

    @override
    async def read_schedule(self, transport: WallboxCloudTransport) -> Schedule:
        return whole_schedule(await self._read_list(transport))

    async def _read_list(self, transport: WallboxCloudTransport) -> ScheduleList:
        return await self._read_out_of_turn(lambda budget: self._read_schedule(transport, budget))

    @override
    async def check(self, transport: WallboxCloudTransport) -> None:
        await self._read_out_of_turn(lambda budget: self._read_status(transport, budget))

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

    async def _read_out_of_turn[T](self, read: Callable[[SlidingWindow], Awaitable[T]]) -> T:
        """A GET out of turn: in a regular slot if one is free, else from the reserve, else in the next regular slot."""
        self._out_of_turn += 1
        try:
            while True:
                async with self._get_lock:
                    now = self._clock.monotonic()
                    if self.breaker.busy_until is not None:
                        raise TransportBusy("throttled", self._busy_for())
                    if not self.breaker.usable:
                        raise TransportDown("unreachable")
                    regular_at = self._budgets.reads.free_at(now)
                    reserve_at = self._budgets.reserve_free_at(now)
                    if regular_at <= now:
                        return await read(self._budgets.reads)
                    if reserve_at <= now:
                        return await read(self._budgets.reserve)
                await self._clock.sleep(min(regular_at, reserve_at) - now)
        finally:
            self._out_of_turn -= 1
            self._poller.wake()

    async def _write[T](self, call: Callable[[], Awaitable[T]], patience: float, *, may_wait: bool) -> T:
        """One command, when its purse has room; the request itself has `patience` seconds."""
        begun = self._clock.monotonic()
        await self._budgets.begin()
        self._admit_command()
        await self._sign_in_if_needed()
        await self._command_room(begun, may_wait=may_wait)
        used = self._client.tokens
        try:
            return await self._counted(lambda: self._within(call, patience))
        except TokenRefused:
            await self._replace(used)
        await self._command_room(begun, may_wait=may_wait)
        return await self._repeated(lambda: self._within(call, patience))

    def _admit_command(self) -> None:
        """Raise where no command may be sent now."""
        if self.breaker.busy_until is not None:
            raise TransportBusy("throttled", self._busy_for())
        if not self.breaker.usable:
            raise NoConnection("unreachable")

    async def _command_room(self, begun: float, *, may_wait: bool) -> None:
        """Take a slot for a command that came at `begun`, first come first served.

        Raises:
            TransportBusy: `no_room` where none comes within the command's time to live, or now if it may not wait.
            ChargerError: the path was lost while waiting.
        """
        now = self._clock.monotonic()
        commands = self._budgets.commands
        if not may_wait and (self._command_lock.locked() or commands.free_at(now) > now):
            raise TransportBusy("no_room", commands.free_at(now) - now)
        async with self._command_lock:
            await self._await_room(begun)
            self._admit_command()
            commands.take(self._clock.monotonic())

    async def _await_room(self, begun: float) -> None:
        """Wait for a slot for a command that came at `begun`. Raises TransportBusy, as `_command_room`."""
        commands = self._budgets.commands
        while (wait := commands.free_at(now := self._clock.monotonic()) - now) > 0:
            if now + wait > begun + COMMAND_TTL:
                raise TransportBusy("no_room", wait)
            await self._clock.sleep(wait)

    async def _within[T](self, call: Callable[[], Awaitable[T]], patience: float) -> T:
        try:
            async with self._clock.timeout(patience):
                return await call()
        except TimeoutError:
            raise _OutOfPatience("timeout") from None

    async def _send(self, transport: WallboxCloudTransport, command: Command) -> None:
        """The request that a command becomes: the map of what this cloud understands."""
        serial = transport.identity.serial
        match command:
            case SetCurrent(amps):
                if (echo := await self._client.set_max_charging_current(serial, amps)) is not None:
                    transport.echoed(echo)
            case SetLock(locked):
                if (echo := await self._client.set_locked(serial, locked)) is not None:
                    transport.echoed(echo)
            case SetEcoMode(mode):
                percentage = 100 if transport.eco_percentage is None else transport.eco_percentage
                await self._client.set_eco_smart(serial, *eco_smart(mode), percentage)
                transport.wrote_eco_mode(mode)
            case SetCharging(on):
                await self._client.remote_action(serial, RemoteAction.RESUME if on else RemoteAction.PAUSE)
            case SetOverride(on):
                await self._client.remote_action(serial, RemoteAction.RESUME if on else RemoteAction.AUTOMATIC)
            case Restart():
                await self._client.remote_action(serial, RemoteAction.RESTART)
            case Install():
                await self._client.remote_action(serial, RemoteAction.INSTALL)

    # Telling

    def _breaker_changed(self) -> None:
        self._poller.wake()
        usable = self.breaker.usable
        stood_still = self._stands_still
        self._stands_still = not usable or self.breaker.busy
        if stood_still and not self._stands_still:
            self._budgets.owed_slots = 0  # the slots that passed unused have paid for the sign-ins meanwhile
        if usable is not self._was_usable:
            self._was_usable = usable
            LOGGER.info("The Wallbox cloud is %s", "reachable again" if usable else "not reachable")
            for listener in list(self._outage_listeners):
                listener("cloud_back" if usable else "cloud_lost")
        self._tell()

    def _tell(self) -> None:
        heard = self._endpoint_contact_at is not None or not self.breaker.usable
        self._snapshot = AccountSnapshot(
            cloud=self.breaker.usable if heard else None,
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
def _explained(transport: WallboxCloudTransport, command: Command | None) -> Iterator[None]:
    """Say why the cloud may have refused a write with 403, as far as that is known."""
    try:
        yield
    except NotAllowed as err:
        if err.reason != "refused":
            raise
        raise NotAllowed(transport.refusal(command), err.detail) from None


def _once(command: Command) -> bool:
    """Commands that are sent at once or not at all."""
    return isinstance(command, Restart | Install)
