"""The Wallbox cloud on the loopback interface: user-api and api on one port, with the chargers of a `World`.

The simulator follows docs/protocols/wallbox-cloud.md (sections in parentheses) and is strict where the page is silent.
A refresh token works once. A command to a charger without a cloud link is accepted and lost. Refusals have no body.
"""

from base64 import b64decode
import binascii
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum, StrEnum
from itertools import count
import json
from math import inf
from typing import override

from aiohttp import hdrs, web

from custom_components.chargekeeper.core.clock import Clock
from tests.simulators import wallbox_payloads as payloads
from tests.simulators.http_server import Authorization, Fault, FaultyServer, Json, Request
from tests.simulators.wallbox_payloads import DAYS, OFFLINE, STATUS_IDS, Account, Group, JsonObject, Shown
from tests.simulators.world import Eco, Manual, Report, SimulatedCharger, State, Window, World

__all__ = ["Account", "Authorization", "Fault", "Limits", "Request", "Resume", "Schedules", "Violation", "WallboxCloud"]

HOME = "Home"
FIRST_GROUP = 42001
FIRST_ACCOUNT = 90001
SIGN_IN_PATHS = "/users/"
LOWEST_CURRENT = 6
MINUTE = 60.0
STALE_AFTER = 60
"""Seconds after which a schedule entry is no longer "newer than now" (7.2).

The app takes the time from the phone, so each of its writes is a little old on arrival. A cloud without any tolerance
would drop all of them. The figure is invented.
"""
SLACK = 1e-6  # seconds; a request exactly one spacing later is in time


class Action(IntEnum):
    """Remote actions (6.4). The simulator refuses and records the factory reset."""

    RESUME = 1
    PAUSE = 2
    RESTART = 3
    FACTORY_RESET = 4
    UPDATE = 5
    RESUME_SCHEDULE = 9


ADMIN_ACTIONS = frozenset({Action.RESTART, Action.UPDATE})


class Resume(StrEnum):
    """Effect of action 1 on a charger that waits for its schedule; the sources disagree (7.3)."""

    WORKS = "works"
    CONFLICT = "conflict"
    NO_EFFECT = "no_effect"


class Schedules(StrEnum):
    """Effect of `POST /chargers/{id}/schedules`, which changed by August 2026 (7.2)."""

    MERGED = "merged"
    """Each entry is created or replaced by its `id` alone."""
    REPLACED = "replaced"
    """The list replaces all entries. The cloud silently drops entries with a `uid`, too old, or without a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of an account on data requests (11)."""

    get_spacing: float = 60.0
    """Seconds from one GET to the next."""
    writes_per_minute: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A request that came too soon, at monotonic time `at`."""

    at: float
    email: str
    method: str
    path: str


@dataclass(slots=True, kw_only=True)
class Token:
    """A bearer token that ends at monotonic time `ends_at`."""

    account: Account
    refreshes: bool
    ends_at: float


class WallboxCloud(FaultyServer):
    """The simulated cloud, whose `url` is both the user-api and the api address."""

    def __init__(self, world: World, clock: Clock) -> None:
        super().__init__(clock)
        self.world = world
        self.accounts: list[Account] = []
        self.access_lifetime = 900.0
        """Lifetime of a new access token in seconds (2.3)."""
        self.refresh_lifetime = 15 * 86400.0
        """Lifetime of a new refresh token in seconds."""
        self.group_of: dict[str, str] = {}
        """Charger serial to group name; "Home" for all other chargers."""
        self.resume: dict[str, Resume] = {}
        """Charger serial to the effect of action 1 while waiting for the schedule; `WORKS` for all other chargers."""
        self.schedules = Schedules.REPLACED
        """Effect of a schedule write."""
        self.schedules_of: dict[str, Schedules] = {}
        """Charger serial to the effect of a schedule write; `schedules` for all other chargers."""
        self.drops_schedules: set[str] = set()
        """Serials of chargers for which the cloud acknowledges schedule writes and drops them."""
        self.first_id: dict[str, int] = {}
        """Charger serial to the `id` of its first schedule: 0 at first, one more after each write (7.2)."""
        self.last_schedule: dict[str, int] = {}
        """Charger serial to the epoch seconds of the newest schedule ever accepted."""
        self.shown_status: dict[str, int | None] = {}
        """Charger serial to a status code that replaces the true one."""
        self.lag = 0.0
        """Seconds until the cloud shows a report of a charger."""
        self.shows_written = False
        """True if the cloud shows the current and the lock that it accepted, whether or not the charger got them."""
        self.refuses_current: set[str] = set()
        """Serials of chargers whose current the account may not set: 403."""
        self.plain_users: set[str] = set()
        """Serials of chargers of which every account is only a plain user."""
        self.restart_needs_plan = False
        """True if the cloud refuses a restart to accounts with the Basic plan (4.5)."""
        self.limits = Limits()
        self.enforce_limits = False
        """True if the cloud answers 429 to requests that come too soon."""
        self.violations: list[Violation] = []
        self.factory_resets: list[str] = []
        """Serials for which a client requested a factory reset, which is always refused."""
        self._tokens: dict[str, Token] = {}
        self._numbers = count(1)
        self._groups: dict[str, Group] = {}
        self._written: dict[str, tuple[float, dict[str, object]]] = {}  # when, and what
        self._last_get: dict[str, float] = {}
        self._writes: dict[str, deque[float]] = {}

    def add_account(
        self,
        email: str,
        password: str,
        *,
        role: str | None = "super-admin",
        plan: str = "Basic",
        serials: Iterable[str] | None = None,
    ) -> Account:
        """Register a user with access to the chargers `serials`, or to all."""
        number = FIRST_ACCOUNT + len(self.accounts)
        account = Account(
            email=email,
            password=password,
            number=number,
            uuid=f"11111111-2222-4333-8444-{number:012}",
            role=role,
            plan=plan,
            serials=None if serials is None else frozenset(serials),
        )
        self.accounts.append(account)
        return account

    def expire_access(self, account: Account | None = None) -> None:
        """End the access tokens of one account or of all accounts now, before their `ttl`."""
        self._end_tokens(account, refreshes=False)

    def revoke_refresh(self, account: Account | None = None) -> None:
        """End the refresh tokens of one account or of all accounts now."""
        self._end_tokens(account, refreshes=True)

    def _end_tokens(self, account: Account | None, *, refreshes: bool) -> None:
        for token in self._tokens.values():
            if token.refreshes is refreshes and account in {None, token.account}:
                token.ends_at = self.clock.monotonic()

    @override
    def is_data(self, path: str) -> bool:
        return not path.startswith(SIGN_IN_PATHS)

    @override
    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get("/users/signin", self._sign_in),
            web.get("/users/refresh-token", self._refresh),
            web.get("/v3/chargers/groups", self._groups_list),
            web.get("/chargers/status/{id}", self._on_charger(self._status)),
            web.get("/v2/charger/{id}", self._on_charger(self._charger)),
            web.put("/v2/charger/{id}", self._on_charger(self._put_charger)),
            web.get("/chargers/config/{id}", self._on_charger(self._config)),
            web.post("/chargers/config/{id}", self._on_charger(self._post_config)),
            web.post("/v3/chargers/{id}/remote-action", self._on_charger(self._remote_action)),
            web.get("/chargers/{id}/schedules", self._on_charger(self._schedules)),
            web.post("/chargers/{id}/schedules", self._on_charger(self._post_schedules)),
            web.put("/v4/chargers/{id}/eco-smart", self._on_charger(self._put_eco_smart)),
        ]

    async def _sign_in(self, request: web.Request) -> web.Response:
        """Require basic credentials in UTF-8 and the `Partner` header (2.1, 2.4)."""
        _require_partner(request)
        email, password = _credentials(request)
        account = next((a for a in self.accounts if (a.email, a.password) == (email, password)), None)
        if account is None:
            raise web.HTTPForbidden
        return self._new_tokens(account)

    async def _refresh(self, request: web.Request) -> web.Response:
        """Exchange a refresh token for a new access token and a new refresh token (2.2)."""
        _require_partner(request)
        token = self._token(request, refreshes=True)
        token.ends_at = self.clock.monotonic()
        return self._new_tokens(token.account)

    def _new_tokens(self, account: Account) -> web.Response:
        access = self._new_token(account, self.access_lifetime, refreshes=False)
        refresh = self._new_token(account, self.refresh_lifetime, refreshes=True)
        return web.json_response(payloads.tokens(account, access, refresh))

    def _new_token(self, account: Account, lifetime: float, *, refreshes: bool) -> tuple[str, int]:
        name = f"{'refresh' if refreshes else 'access'}-{account.number}-{next(self._numbers)}"
        self._tokens[name] = Token(account=account, refreshes=refreshes, ends_at=self.clock.monotonic() + lifetime)
        return name, int((self.now() + timedelta(seconds=lifetime)).timestamp() * 1000)

    def _token(self, request: web.Request, *, refreshes: bool) -> Token:
        name = request.headers.get(hdrs.AUTHORIZATION, "").removeprefix("Bearer ")
        token = self._tokens.get(name)
        if token is None or token.refreshes is not refreshes or self.clock.monotonic() >= token.ends_at:
            raise web.HTTPUnauthorized
        return token

    def _admit(self, request: web.Request) -> Account:
        """Return the account of a data request and advance the world. Raise 401 or 429 for a request refused."""
        account = self._token(request, refreshes=False).account
        if not self._in_time(account, request.method):
            self.violations.append(
                Violation(at=self.clock.monotonic(), email=account.email, method=request.method, path=request.path)
            )
            if self.enforce_limits:
                raise web.HTTPTooManyRequests
        self._take_slot(account, request.method)
        self.world.advance()
        return account

    def _in_time(self, account: Account, method: str) -> bool:
        now = self.clock.monotonic() + SLACK
        if method == hdrs.METH_GET:
            last = self._last_get.get(account.email)
            return last is None or now - last >= self.limits.get_spacing
        recent = [at for at in self._writes.get(account.email, ()) if now - at < MINUTE]
        return len(recent) < self.limits.writes_per_minute

    def _take_slot(self, account: Account, method: str) -> None:
        if method == hdrs.METH_GET:
            self._last_get[account.email] = self.clock.monotonic()
        else:
            writes = self._writes.setdefault(account.email, deque(maxlen=self.limits.writes_per_minute))
            writes.append(self.clock.monotonic())

    def _on_charger(self, answer: ChargerHandler) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Wrap `answer` to find the charger of the URL: 404 if unknown, 403 if not shared with the account (10)."""

        async def handle(request: web.Request) -> web.Response:
            account = self._admit(request)
            charger = self.world.chargers.get(request.match_info["id"])
            if charger is None:
                raise web.HTTPNotFound
            if not account.sees(charger.serial):
                raise web.HTTPForbidden
            if charger.serial in self.plain_users:
                account = replace(account, role="user")
            call = Call(account=account, charger=charger, body=_body_of(await request.text()))
            if request.method != hdrs.METH_GET and charger.serial in account.look_only:
                raise web.HTTPForbidden
            answered = answer(call)
            if request.method != hdrs.METH_GET and call.reaches:
                charger.answer_command()
            return web.json_response(answered)

        return handle

    def reported(self, charger: SimulatedCharger) -> tuple[float, Report]:
        """Return the report of a charger that the cloud has by now, and its monotonic time."""
        return charger.report_before(self.clock.monotonic() - self.lag)

    def _show(self, charger: SimulatedCharger) -> Shown:
        reported_at, report = self.reported(charger)
        status_id: int | None = OFFLINE if charger.shown_offline else STATUS_IDS[report.state]
        written_at, values = self._written.get(charger.serial, (-inf, {}))
        shown = replace(report, **values) if reported_at < written_at else report  # type: ignore[arg-type]
        return Shown(
            charger=charger,
            report=shown,
            group=self._group(self.group_of.get(charger.serial, HOME)),
            status_id=self.shown_status.get(charger.serial, status_id),
            last_sync=report.at + timedelta(seconds=self.clock_offset),
        )

    def _group(self, name: str) -> Group:
        return self._groups.setdefault(name, Group(FIRST_GROUP + len(self._groups), name))

    async def _groups_list(self, request: web.Request) -> web.Response:
        account = self._admit(request)
        shown = [self._show(charger) for charger in self.world.chargers.values() if account.sees(charger.serial)]
        return web.json_response(payloads.groups(shown, account))

    def _status(self, call: Call) -> JsonObject:
        return payloads.status(self._show(call.charger), call.account)

    def _charger(self, call: Call) -> JsonObject:
        """Show all users, or to a plain user only the entry of that user (4.2)."""
        users = [account for account in self.accounts if account.sees(call.charger.serial)]
        return payloads.charger_object(self._show(call.charger), [call.account] if call.is_plain_user else users)

    def _config(self, call: Call) -> JsonObject:
        return payloads.config(self._show(call.charger), call.account)

    def _schedules(self, call: Call) -> JsonObject:
        serial = call.charger.serial
        return payloads.schedules(
            self._show(call.charger),
            self.accounts[0],
            self._usual(serial),
            first_id=self.first_id.get(serial, 0),
            last=self.last_schedule.get(serial, 0),
        )

    def _replaces(self, serial: str) -> bool:
        return self.schedules_of.get(serial, self.schedules) is Schedules.REPLACED

    def _usual(self, serial: str) -> JsonObject:
        return payloads.USUAL_2026 if self._replaces(serial) else payloads.USUAL

    def _put_charger(self, call: Call) -> JsonObject:
        """Set lock, current and name (6.1); an empty body changes nothing (4.2)."""
        charger = call.charger
        if (current := call.whole("maxChargingCurrent")) is not None:
            self._set_current(call, current)
        if (name := call.body.get("name")) is not None:
            call.require_admin()
            if call.reaches:
                charger.name = str(name)
        # With OCPP active, the cloud accepts the unlock command, but the charger stays locked (6.4).
        locked = call.whole("locked")
        if locked is not None and call.reaches and not (charger.ocpp and not locked):
            charger.locked = bool(locked)
        if locked is not None:
            self._write_down(charger.serial, locked=bool(locked))
        return self._charger(call)

    def _set_current(self, call: Call, amperes: int) -> None:
        if call.charger.serial in self.refuses_current:
            raise web.HTTPForbidden
        call.set_current(amperes)
        self._write_down(call.charger.serial, max_charging_current=amperes)

    def _write_down(self, serial: str, **values: object) -> None:
        """Remember what was accepted, to show until the next report of the charger."""
        if self.shows_written:
            written_at, before = self._written.get(serial, (-inf, {}))
            kept = before if written_at > self.reported(self.world.chargers[serial])[0] else {}
            self._written[serial] = (self.clock.monotonic(), kept | values)

    def _post_config(self, call: Call) -> JsonObject:
        """Set house limit, price and current (6.2)."""
        call.require_admin()
        charger = call.charger
        current, icp, sharing = (call.whole(key) for key in ("max_charging_current", "icp_max_current", "home_sharing"))
        price = call.number("energyCost", "energy_price")
        if current is not None:
            self._set_current(call, current)
        if call.reaches:
            charger.icp_max_current = charger.icp_max_current if icp is None else icp
            charger.home_sharing = charger.home_sharing if sharing is None else bool(sharing)
            charger.energy_price = charger.energy_price if price is None else price
        return self._config(call)

    def _put_eco_smart(self, call: Call) -> JsonObject:
        """Set the solar mode (6.3), which older models do not have. The page lists no fields of the answer."""
        call.require_admin()
        data = call.body.get("data")
        attributes = data.get("attributes") if isinstance(data, dict) else None
        if not isinstance(attributes, dict) or call.charger.eco is None:
            raise web.HTTPBadRequest
        enabled, mode, percentage = (attributes.get(key) for key in ("enabled", "mode", "percentage"))
        if enabled not in (0, 1) or mode not in (0, 1) or not isinstance(percentage, int | None):
            raise web.HTTPBadRequest
        if call.reaches:
            call.charger.eco = Eco(
                enabled=bool(enabled),
                mode=int(bool(mode)),
                percentage=call.charger.eco.percentage if percentage is None else percentage,
            )
        return {}

    def _post_schedules(self, call: Call) -> JsonObject:
        """Write schedules in the manner before 2026 or in the present one (7.2)."""
        call.require_admin()
        sent, serial = call.body.get("schedules"), call.charger.serial
        if not isinstance(sent, list):
            raise web.HTTPBadRequest
        usual = self._usual(serial)
        replaces = self._replaces(serial)
        left_out = dict.fromkeys(usual) if replaces else usual
        entries = [(item, _window(left_out | item, usual)) for item in sent if isinstance(item, dict)]
        if len(entries) != len(sent):
            raise web.HTTPBadRequest
        windows = self._replaced(serial, entries) if replaces else _merged(call.charger, entries)
        if windows is not None and call.reaches and serial not in self.drops_schedules:
            call.charger.schedules = windows
            if replaces:
                self.first_id[serial] = self.first_id.get(serial, 0) + 1
                newest = max((window.created_at for window in windows), default=0)
                self.last_schedule[serial] = max(self.last_schedule.get(serial, 0), newest)
        return {"sync_timestamp": int(self.now().timestamp()), "error": False} if replaces else {}

    def _replaced(self, serial: str, entries: Sequence[Entry]) -> tuple[Window, ...] | None:
        """Return the new list, or None if the cloud drops all of the list."""
        if any("uid" in item for item, _ in entries):
            return None
        known = [window.created_at for window in self.world.chargers[serial].schedules]
        newest = max([int(self.now().timestamp()) - STALE_AFTER, self.last_schedule.get(serial, 0), *known])
        return tuple(
            # Only the boolean `false` disables an entry; the integer 0 does not.
            replace(window, enabled=item["enable"] is not False)
            for item, window in entries
            if window.days and window.created_at > newest
        )

    def _remote_action(self, call: Call) -> JsonObject:
        """Carry out action 1, 2, 3, 5 or 9, and echo the action (6.4)."""
        number = call.whole("action")
        if number not in set(Action):
            raise web.HTTPBadRequest
        action = Action(number)
        if action is Action.FACTORY_RESET:
            self.factory_resets.append(call.charger.serial)
            raise web.HTTPForbidden
        if action in ADMIN_ACTIONS:
            call.require_admin()
        if action is Action.RESTART and self.restart_needs_plan and call.account.plan == "Basic":
            raise web.HTTPForbidden
        if call.reaches:
            self._carry_out(action, call.charger)
        return {"action": int(action)}

    def _carry_out(self, action: Action, charger: SimulatedCharger) -> None:
        match action:
            case Action.RESTART:
                charger.restart()
            case Action.UPDATE:
                charger.update_firmware()
            case Action.PAUSE:
                _refuse_under_ocpp(charger)
                _pause(charger)
            case Action.RESUME:
                _refuse_under_ocpp(charger)
                self._resume(charger)
            case Action.RESUME_SCHEDULE:
                _refuse_under_ocpp(charger)
                charger.manual = Manual.NONE

    def _resume(self, charger: SimulatedCharger) -> None:
        """Resume charging, or raise 409 if the charger neither pauses nor waits for its schedule (6.4, 7.3)."""
        waits = charger.state is State.WAITING_SCHEDULE
        how = self.resume.get(charger.serial, Resume.WORKS)
        if charger.state is not State.PAUSED and not waits:
            raise web.HTTPConflict
        if waits and how is Resume.CONFLICT:
            raise web.HTTPConflict
        if not waits or how is Resume.WORKS:
            charger.manual = Manual.CHARGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request of a signed-in account for one charger."""

    account: Account
    charger: SimulatedCharger
    body: JsonObject

    @property
    def is_plain_user(self) -> bool:
        """True if the account is neither admin nor super-admin."""
        return self.account.role == "user"

    @property
    def reaches(self) -> bool:
        """True if the charger receives the command. Otherwise the command is lost: no source mentions a queue."""
        return self.charger.reaches_cloud

    def require_admin(self) -> None:
        """Raise 403 if the role is too low (6.4)."""
        if self.is_plain_user:
            raise web.HTTPForbidden

    def whole(self, key: str) -> int | None:
        """Return a whole number of the body, or `None` if absent. Raise 400 for any other value."""
        value = self.body.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise web.HTTPBadRequest
        return value

    def number(self, *keys: str) -> float | None:
        """Return the first of these numbers in the body, or `None` if all are absent. Raise 400 for other values."""
        value = next((self.body[key] for key in keys if key in self.body), None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise web.HTTPBadRequest
        return value

    def set_current(self, amperes: int) -> None:
        """Set the current, or raise 400 outside the range from 6 A to the limit of the wiring."""
        self.require_admin()
        if not LOWEST_CURRENT <= amperes <= self.charger.max_available_current:
            raise web.HTTPBadRequest
        if self.reaches:
            self.charger.max_charging_current = amperes


type ChargerHandler = Callable[[Call], JsonObject]


def _require_partner(request: web.Request) -> None:
    if request.headers.get("Partner") != "wallbox":
        raise web.HTTPBadRequest


def _credentials(request: web.Request) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme != "Basic":
        raise web.HTTPUnauthorized
    try:
        email, _, password = b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise web.HTTPForbidden from error
    return email, password


def _body_of(text: str) -> JsonObject:
    """Return the JSON object of the body, empty for an empty body. Raise 400 for any other body."""
    try:
        body = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise web.HTTPBadRequest from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest
    return body


def _refuse_under_ocpp(charger: SimulatedCharger) -> None:
    if charger.ocpp:
        raise web.HTTPForbidden


def _pause(charger: SimulatedCharger) -> None:
    """Pause charging, or raise 403 while locked and 409 without a car (6.4)."""
    if charger.locked:
        raise web.HTTPForbidden
    if charger.car is None:
        raise web.HTTPConflict
    charger.manual = Manual.PAUSE


type Entry = tuple[JsonObject, Window]
"""A schedule entry as sent, and its window."""

KEPT = frozenset({"uid", "id", "chargerId", "enable", "start", "stop", "max_current", "max_energy", "days"}) | {
    "created_at",
    "user_uid",
}
"""The fields of an entry that come from `Window` or from the charger; the cloud keeps all other fields as sent."""


def _window(item: JsonObject, usual: JsonObject) -> Window:
    """Return the window of an entry. Raise 400 without all seven days, for a bad flag, or for a null limit (7.2)."""
    days, start, stop = item.get("days"), item.get("start"), item.get("stop")
    if item.get("enable") not in (0, 1) or not _is_count(item.get("id")):
        raise web.HTTPBadRequest
    limits = [item.get(key, 0) for key in ("max_current", "max_energy")]
    if not all(map(_is_count, limits)) or not _is_count(item.get("created_at", 0)):
        raise web.HTTPBadRequest
    if not isinstance(days, dict) or set(days) != set(DAYS) or not (_is_time(start) and _is_time(stop)):
        raise web.HTTPBadRequest
    current, energy, created_at = (int(str(number)) for number in (*limits, item.get("created_at", 0)))
    return Window(
        start=str(start),
        stop=str(stop),
        days=frozenset(day for day, name in enumerate(DAYS) if days[name]),
        enabled=bool(item["enable"]),
        max_current=current,
        max_energy=energy,
        created_at=created_at,
        extra={
            key: value for key, value in item.items() if key not in KEPT and (key not in usual or value != usual[key])
        },
    )


def _merged(charger: SimulatedCharger, entries: Iterable[Entry]) -> tuple[Window, ...]:
    """Return the list with each entry at the position of its `id`. Raise 400 for a position beyond the end."""
    windows = list(charger.schedules)
    for item, window in entries:
        place = int(str(item["id"]))
        if place > len(windows):
            raise web.HTTPBadRequest
        windows[place : place + 1] = [window]
    return tuple(windows)


def _is_count(value: Json) -> bool:
    """Return True for a whole number that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: Json) -> bool:
    """Return True for a time of day as `HHMM`."""
    return isinstance(value, str) and len(value) == 4 and value.isdecimal() and value[:2] < "24" and value[2:] < "60"
