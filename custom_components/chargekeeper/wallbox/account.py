"""One Wallbox account: signs in, polls for all its chargers within its purses, and carries their commands.

One GET at a time: the groups answer, which shows all chargers, every two minutes; between, the slow round asks for one
charger's status, role or schedule. While the breaker is not closed the groups GET is the probe.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
import logging
from math import inf
from typing import override

import aiohttp

from ..core.breaker import Breaker, Failure
from ..core.clock import Clock
from ..core.model import DOUBT_CHARGING_AFTER, IDLE_STATUS_AGE, Identity, Schedule, Status
from ..core.paths import (
    ChargerError,
    Command,
    Install,
    LoginRejected,
    NoConnection,
    NotAllowed,
    PathBusy,
    PathDown,
    Restart,
    SetCharging,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
)
from .cloud import RemoteAction, TokenRefused, WallboxCloudClient
from .mapping import cloud_schedules, eco_smart, windows
from .path import NEVER, STATUS_GETS_PER_HOUR, CloudAccount, WallboxCloudPath, placeholder
from .purses import READ_EVERY, Purse, Purses

LOGGER = logging.getLogger(__name__)

GROUPS_EVERY = 120.0
"""Seconds between two groups polls, `READ_EVERY` while a restart is watched."""

STATUS_EVERY = 20 * 60.0
"""Seconds without a sign of life, and since the last status GET, after which the slow round asks for the status."""

DAILY = 24 * 3600.0
"""Seconds between two readings of role, of schedule, and of the status even where groups answers show signs of life."""

TOKEN_MARGIN = timedelta(seconds=90)
"""How long before its end an access token is renewed."""

REFUSED_AGAIN_AFTER = 10 * 60.0
"""Seconds between two refused sign-ins after which the password is asked for; also the wait before the second."""
LOGIN_RETRY = 3600.0
"""Seconds between sign-ins while the user is asked for the password: the refusal may have been the cloud's fault."""

FIRST_READS = 3
"""So many chargers show their status before the slow round pays for the first sign-in."""

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
    last_contact: datetime | None = field(default=None, compare=False)


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
        save_purses: Callable[[dict[str, object]], Awaitable[None]] | None = None,
    ) -> None:
        self.breaker = Breaker(clock)
        self.user_id: str | None = None
        self._clock = clock
        self._email = email
        self._password = password
        self._client = WallboxCloudClient(session, clock, user_api_url=user_api_url, api_url=api_url)
        self._purses = Purses(clock, save_purses)
        self._paths: dict[str, WallboxCloudPath] = {}
        self._snapshot = AccountSnapshot()
        self._listeners: list[Callable[[AccountSnapshot], None]] = []
        self._outage_listeners: list[Callable[[str], None]] = []
        self._round: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._get_lock = asyncio.Lock()
        self._command_lock = asyncio.Lock()
        self._login_lock = asyncio.Lock()
        self._last_contact: datetime | None = None
        self._groups_at = NEVER
        self._slow_turns = 0
        self._watchers = 0
        self._refused_at: float | None = None
        self._login_blocked_until = NEVER
        self._needs_login = False
        self._was_usable = True
        self.breaker.listen(self._breaker_changed)

    # What the integration sees

    @property
    def snapshot(self) -> AccountSnapshot:
        """The account as of now."""
        return self._snapshot

    @property
    @override
    def last_contact(self) -> datetime | None:
        return self._last_contact

    @property
    @override
    def cloud_now(self) -> datetime:
        return self._clock.now() + self._client.cloud_skew

    @property
    def paths(self) -> dict[str, WallboxCloudPath]:
        """The cloud paths of the chargers that were ever asked for or listed, by serial."""
        return self._paths

    def path(self, serial: str, who: Identity | None = None) -> WallboxCloudPath:
        """The cloud path of a charger; `who` is what was known of it before the cloud told anything."""
        if serial not in self._paths:
            self._paths[serial] = WallboxCloudPath(self, self._clock, who or placeholder(serial))
            self._spread_round()
        return self._paths[serial]

    def identity(self, serial: str) -> Identity | None:
        """Who a charger is, or None if it was never heard of."""
        path = self._paths.get(serial)
        return None if path is None else path.identity

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
            "reserve_open": self._purses.reserve_free_at(now) < inf,
            "chargers": [path.diagnostics() for path in self._paths.values()],
        }

    # Life

    def restore_purses(self, stored: object) -> None:
        """Take what was saved of the purses, before the first request."""
        self._purses.restore(stored)

    def start(self) -> None:
        """Begin the rounds."""
        if self._round is None:
            self._round = asyncio.get_running_loop().create_task(self._run(), name="chargekeeper wallbox rounds")

    async def stop(self) -> None:
        """End the rounds; what the purses have spent is saved."""
        task, self._round = self._round, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._purses.close()

    async def first_look(self) -> tuple[Identity, ...]:
        """Sign in and list the chargers, for the config flow. Spends from the purses.

        Raises:
            ChargerError: `LoginRejected`, `PathDown`, or `PathBusy` where the purses have no room now.
        """
        async with self._get_lock:
            now = self._clock.monotonic()
            if self.breaker.busy_until is not None:
                raise PathBusy("throttled", self.breaker.busy_until - now)
            if (free_at := self._purses.reads.free_at(now)) > now:
                raise PathBusy("no_room", free_at - now)
            await self._poll(self._purses.reads)
        return self._snapshot.chargers

    async def verify_credentials(self, email: str, password: str) -> str:
        """Sign in with these credentials, for reauthentication; the answer is the user's uuid. Raises ChargerError."""
        async with self._login_lock:
            await self._login_room()
            before = self._client.tokens
            try:
                tokens = await self._counted_login(lambda: self._client.sign_in(email, password))
            except ChargerError:
                self._client.tokens = before
                raise
            if self.user_id not in {None, tokens.user_id}:
                self._client.tokens = before
            return tokens.user_id

    def set_credentials(self, email: str, password: str) -> None:
        """Sign in with these from now on."""
        if (email, password) == (self._email, self._password):
            return
        self._email, self._password = email, password
        self._client.tokens = None
        self._refused_at, self._login_blocked_until, self._needs_login = None, NEVER, False
        self._woken.set()
        self._tell()

    # The rounds

    async def _run(self) -> None:
        while True:
            wait = self._due_at() - self._clock.monotonic()
            if wait > 0:
                await self._pause(wait)
                continue
            try:
                async with self._get_lock:
                    if self._due_at() <= self._clock.monotonic():
                        await self._take_turn()
            except ChargerError as err:
                LOGGER.debug("A request to the Wallbox cloud failed: %s", err)

    async def _pause(self, seconds: float) -> None:
        """Wait, or less if something woke the rounds."""
        self._woken.clear()
        cancel = self._clock.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            cancel()

    def _due_at(self) -> float:
        """When the next GET of the rounds is due (monotonic seconds)."""
        now = self._clock.monotonic()
        earliest = max(self.breaker.busy_until or NEVER, self._login_free_at(now))
        if self.breaker.due is not None:
            return max(earliest, self.breaker.due, self._purses.probes.free_at(now))
        slot = max(earliest, self._purses.reads.free_at(now))
        groups_at = self._groups_at + (READ_EVERY if self._watchers else GROUPS_EVERY)
        return slot if self._purses.owed_slots or self._next_slow() is not None else max(slot, groups_at)

    async def _take_turn(self) -> None:
        """Use the slot that is due."""
        now = self._clock.monotonic()
        if not self.breaker.closed:
            await self._poll(self._purses.probes)
        elif now >= self._groups_at + (READ_EVERY if self._watchers else GROUPS_EVERY):
            await self._poll(self._purses.reads)
        elif self._purses.owed_slots and (self._slow_turns >= FIRST_READS or not self._unread):
            self._purses.owed_slots -= 1
            self._purses.reads.take(now)
        elif (job := self._next_slow()) is not None:
            self._slow_turns += 1
            await job()

    def _next_slow(self) -> Callable[[], Awaitable[None]] | None:
        """The next job of the slow round: two status GETs, then one of role or schedule, as far as any is due.

        Until the status of each charger was read once, nothing else has a turn: without it nothing can be shown.
        """
        status, chore = self._next_status(), self._next_chore()
        chore_first = self._slow_turns % 3 == 2 and not self._unread
        return chore or status if chore_first else status or chore

    @property
    def _unread(self) -> bool:
        """Whether the status of some charger was never read in this run."""
        return any(path.status_read_at == NEVER for path in self._paths.values() if not path.gone)

    def _next_status(self) -> Callable[[], Awaitable[None]] | None:
        now = self._clock.monotonic()

        def wait_until(path: WallboxCloudPath) -> float:
            """When this charger's status falls due."""
            heard_at = max(path.evidence_at, path.status_read_at)
            if path.status_read_at == NEVER:
                return NEVER
            if path.said is not None and path.said.status is Status.OFFLINE:
                return path.status_read_at + DAILY
            quiet_for = DOUBT_CHARGING_AFTER if path.power_flows else STATUS_EVERY
            return min(heard_at + quiet_for, path.status_read_at + DAILY)

        due = [path for path in self._paths.values() if not path.gone and wait_until(path) <= now]
        if not due:
            return None
        path = min(due, key=lambda p: (not p.power_flows, max(p.evidence_at, p.status_read_at)))
        return lambda: self._read_status(path, self._purses.reads)

    def _next_chore(self) -> Callable[[], Awaitable[None]] | None:
        now = self._clock.monotonic()
        chores = [
            (asked_at, number, partial(job, path))
            for number, path in enumerate(self._paths.values())
            if not path.gone
            for asked_at, job in (
                (path.schedule_read_at, self._refresh_schedule),
                (path.details_read_at, self._read_details),
            )
            if asked_at + DAILY <= now
        ]
        return min(chores, key=lambda chore: chore[:2])[2] if chores else None

    def _spread_round(self) -> None:
        """With many chargers a round of status GETs takes hours: their statuses may be shown for as long."""
        status_round = len(self._paths) / STATUS_GETS_PER_HOUR * 3600.0
        for path in self._paths.values():
            path.idle_age = max(IDLE_STATUS_AGE, 1.5 * status_round)

    # Requests

    async def _poll(self, purse: Purse) -> None:
        """The groups GET: shows every charger of the account."""
        chargers = await self._get(purse, self._client.groups)
        self._groups_at = self._clock.monotonic()
        for charger in chargers:
            self.path(charger.serial)
        self._tell()
        listed = {charger.serial: charger for charger in chargers}
        for serial, path in list(self._paths.items()):
            if serial in listed:
                path.listed(listed[serial])
            else:
                path.unlisted()
        self._tell()

    async def _read_status(self, path: WallboxCloudPath, purse: Purse) -> None:
        path.status_read_at = self._clock.monotonic()
        status = await self._get_of(path, purse, lambda: self._client.status(path.identity.serial))
        path.showed_status(status)

    async def _read_details(self, path: WallboxCloudPath) -> None:
        path.details_read_at = self._clock.monotonic()
        details = await self._get_of(path, self._purses.reads, lambda: self._client.details(path.identity.serial))
        path.showed_details(details)

    async def _refresh_schedule(self, path: WallboxCloudPath) -> None:
        await self._read_schedule(path, self._purses.reads)

    async def _read_schedule(self, path: WallboxCloudPath, purse: Purse) -> Schedule:
        path.schedule_read_at = self._clock.monotonic()
        schedules = await self._get_of(path, purse, lambda: self._client.schedules(path.identity.serial))
        path.showed_schedule(schedules)
        return windows(schedules)

    async def _get_of[T](self, path: WallboxCloudPath, purse: Purse, call: Callable[[], Awaitable[T]]) -> T:
        """A GET for one charger: refused again and again, it is not shared with us any more."""
        try:
            return await self._get(purse, call)
        except PathBusy as err:
            if err.reason == "forbidden":
                now = self._clock.monotonic()
                path.refusals = [at for at in path.refusals if at > now - UNSHARED_WITHIN] + [now]
                if len(path.refusals) >= UNSHARED_REFUSALS:
                    path.refused()
            raise
        except NotAllowed:
            path.refused()
            raise

    async def _get[T](self, purse: Purse, call: Callable[[], Awaitable[T]]) -> T:
        """One GET from a purse, signed in; one that meets an old token passes its slot to its one repetition."""
        await self._sign_in_if_needed()
        now = self._clock.monotonic()
        purse.take(now)
        if purse is self._purses.reserve:
            self._purses.reads.take(now)
        self._purses.last_get = now
        if purse is self._purses.reserve:
            await self._purses.save()
        try:
            return await self._with_token(call)
        except NoConnection:
            purse.give_back()
            raise

    async def _with_token[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """A data request; where its token is refused, once more with a new one."""
        used = self._client.tokens
        try:
            return await self._counted(call)
        except TokenRefused:
            LOGGER.debug("The access token was refused early")
        async with self._login_lock:
            if self._client.tokens is used:
                await self._renew(used is not None)
        try:
            return await self._counted(call)
        except TokenRefused as err:
            # Refused although just made: sign in afresh next time, but not at once again.
            self._client.tokens = None
            self.breaker.throttled(None)
            raise PathBusy("forbidden", self._busy_for()) from err

    async def _counted[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """One request whose end is told to the breaker."""
        try:
            answer = await call()
        except TokenRefused:
            raise
        except ChargerError as err:
            raise await self._failed(err) from err
        self.breaker.good()
        self._last_contact = self._clock.now()
        return answer

    async def _failed(self, err: ChargerError) -> ChargerError:
        """Tell the breaker of a failure; the error to raise."""
        match err:
            case NoConnection():
                self.breaker.bad(Failure.CONNECT)
            case PathDown():
                self.breaker.bad(Failure.OTHER)
            case PathBusy():
                self.breaker.throttled(err.retry_after or None)
                if err.reason == "throttled":
                    self._purses.close_reserve()
                    await self._purses.save()
                return PathBusy(err.reason, self._busy_for())
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
        return max(self._login_blocked_until, self._purses.logins.free_at(now))

    def _must_sign_in(self) -> bool:
        tokens = self._client.tokens
        if tokens is None:
            return True
        return tokens.access_expires_at is not None and tokens.access_expires_at - TOKEN_MARGIN <= self.cloud_now

    async def _sign_in_if_needed(self) -> None:
        async with self._login_lock:
            if self._must_sign_in():
                await self._renew(self._client.tokens is not None)

    async def _renew(self, refreshable: bool) -> None:
        """Get new tokens: by the refresh token, or by the password where there is none or it is refused."""
        await self._login_room()
        if refreshable:
            try:
                await self._counted_login(self._client.refresh)
            except TokenRefused:
                LOGGER.debug("The refresh token was refused: signing in")
                self._client.tokens = None
                self._purses.owed_slots += 1
            else:
                return
        await self._sign_in()

    async def _login_room(self) -> None:
        """Take the slot of a sign-in or refresh. Raises PathBusy where there is none."""
        await self._purses.begin()
        now = self._clock.monotonic()
        free_at = max(self._purses.logins.free_at(now), self._login_blocked_until)
        if free_at > now:
            if self._needs_login:
                raise LoginRejected("invalid_auth")
            raise PathBusy("signing_in", free_at - now)
        self._purses.logins.take(now)
        self._purses.owed_slots += 1
        await self._purses.save()

    async def _sign_in(self) -> None:
        """Sign in with the password. Only a second refusal, well after the first, asks the user for another one."""
        now = self._clock.monotonic()
        try:
            tokens = await self._counted_login(lambda: self._client.sign_in(self._email, self._password))
        except LoginRejected:
            if self._refused_at is None:
                self._refused_at = now
            elif now - self._refused_at >= REFUSED_AGAIN_AFTER:
                self._needs_login = True
            if self.user_id is not None:  # a config flow may try another password
                self._login_blocked_until = now + (LOGIN_RETRY if self._needs_login else REFUSED_AGAIN_AFTER)
            self._tell()
            raise
        self.user_id = self.user_id or tokens.user_id
        self._refused_at, self._login_blocked_until, self._needs_login = None, NEVER, False

    async def _counted_login[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """A call that signs in or refreshes. Only data proves that the cloud is back: this has another host."""
        try:
            return await call()
        except TokenRefused:
            raise
        except ChargerError as err:
            if isinstance(err, NoConnection):
                self._purses.logins.give_back()
                self._purses.owed_slots -= 1
            raise await self._failed(err) from err

    # Commands

    @override
    async def carry_out(self, path: WallboxCloudPath, command: Command, patience: float) -> None:
        try:
            await self._write(lambda: self._send(path, command), patience, may_wait=not _once(command))
        except NotAllowed as err:
            if err.reason == "refused":
                raise NotAllowed(path.refusal()) from err
            raise

    @override
    async def write_schedule(self, path: WallboxCloudPath, windows: Schedule) -> None:
        serial = path.identity.serial
        bodies = cloud_schedules(windows, serial)
        await self._write(lambda: self._client.write_schedules(serial, bodies), COMMAND_TTL, may_wait=True)
        path.schedule_read_at = NEVER

    @override
    async def read_schedule(self, path: WallboxCloudPath) -> Schedule:
        async with self._get_lock:
            return await self._read_schedule(path, await self._slot_out_of_turn())

    @override
    async def check(self, path: WallboxCloudPath) -> None:
        async with self._get_lock:
            await self._read_status(path, await self._slot_out_of_turn())

    @override
    def watch(self) -> Callable[[], None]:
        self._watchers += 1
        self._woken.set()
        ended = False

        def end() -> None:
            nonlocal ended
            self._watchers -= not ended
            ended = True

        return end

    async def _slot_out_of_turn(self) -> Purse:
        """Wait for a GET out of turn: a regular slot if one is free, else the reserve, else the next regular slot."""
        while True:
            now = self._clock.monotonic()
            if self.breaker.busy_until is not None:
                raise PathBusy("throttled", self._busy_for())
            if not self.breaker.usable:
                raise PathDown("unreachable")
            regular_at, reserve_at = self._purses.reads.free_at(now), self._purses.reserve_free_at(now)
            if regular_at <= now:
                return self._purses.reads
            if reserve_at <= now:
                return self._purses.reserve
            await self._clock.sleep(min(regular_at, reserve_at) - now)

    async def _write[T](self, call: Callable[[], Awaitable[T]], patience: float, *, may_wait: bool) -> T:
        """One command, when its purse has room; the request itself has `patience` seconds."""
        async with self._command_lock:
            if self.breaker.busy_until is not None:
                raise PathBusy("throttled", self._busy_for())
            begun = now = self._clock.monotonic()
            while (free_at := self._purses.commands.free_at(now)) > now:
                if not may_wait or free_at - begun > COMMAND_TTL:
                    raise PathBusy("no_room", free_at - now)
                await self._clock.sleep(free_at - now)
                now = self._clock.monotonic()
            await self._sign_in_if_needed()
            self._purses.commands.take(self._clock.monotonic())
            return await self._with_token(lambda: self._within(call, patience))

    async def _within[T](self, call: Callable[[], Awaitable[T]], patience: float) -> T:
        try:
            async with self._clock.timeout(patience):
                return await call()
        except TimeoutError:
            raise PathDown("timeout") from None

    async def _send(self, path: WallboxCloudPath, command: Command) -> None:
        """The request that a command becomes: the map of what this cloud understands."""
        serial = path.identity.serial
        match command:
            case SetCurrent(amps):
                if (echo := await self._client.set_max_charging_current(serial, amps)) is not None:
                    path.echoed(echo)
            case SetLock(locked):
                if (echo := await self._client.set_locked(serial, locked)) is not None:
                    path.echoed(echo)
            case SetEcoMode(mode):
                percentage = 100 if path.eco_percentage is None else path.eco_percentage
                await self._client.set_eco_smart(serial, *eco_smart(mode), percentage)
                path.wrote_eco_mode(mode)
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
        self._woken.set()
        usable = self.breaker.usable
        if usable is not self._was_usable:
            self._was_usable = usable
            LOGGER.info("The Wallbox cloud is %s", "reachable again" if usable else "not reachable")
            for listener in list(self._outage_listeners):
                listener("cloud_back" if usable else "cloud_lost")
        self._tell()

    def _tell(self) -> None:
        heard = self._last_contact is not None or not self.breaker.usable
        self._snapshot = AccountSnapshot(
            cloud=self.breaker.usable if heard else None,
            needs_login=self._needs_login,
            chargers=tuple(
                path.identity for _, path in sorted(self._paths.items()) if path.said is not None and not path.gone
            ),
            last_contact=self._last_contact,
        )
        for listener in list(self._listeners):
            listener(self._snapshot)


def _once(command: Command) -> bool:
    """Commands that are sent at once or not at all."""
    return isinstance(command, Restart | Install)
