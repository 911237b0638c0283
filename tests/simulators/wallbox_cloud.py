"""The Wallbox cloud on the loopback interface: user-api and api on one port, over the chargers of a `World`.

It follows docs/protocols/wallbox-cloud.md (sections in parentheses). Where the page is silent it is strict: a refresh
token serves once, a command to a charger that the cloud cannot reach is accepted and lost, refusals have no body.
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
from typing import override

from aiohttp import hdrs, web

from custom_components.chargekeeper.core.clock import Clock
from tests.simulators import wallbox_payloads as payloads
from tests.simulators.http_server import Authorization, Fault, FaultyServer, Json, Request
from tests.simulators.wallbox_payloads import DAYS, OFFLINE, STATUS_IDS, Account, Group, JsonObject, Shown
from tests.simulators.world import Eco, Manual, SimulatedCharger, State, Window, World

__all__ = ["Account", "Authorization", "Fault", "Limits", "Request", "Resume", "Schedules", "Violation", "WallboxCloud"]

HOME = "Home"
FIRST_GROUP = 42001
FIRST_ACCOUNT = 90001
SIGN_IN_PATHS = "/users/"
LOWEST_CURRENT = 6
MINUTE = 60.0
STALE_AFTER = 60
"""Seconds after which an entry of a schedule is no longer "newer than now" (7.2). The app dates its own writes by the
phone, so each is a little old on arrival: a cloud without any tolerance would drop them all. The figure is invented."""
SLACK = 1e-6  # seconds; a request exactly one spacing later is in time


class Action(IntEnum):
    """Remote actions (6.4). The factory reset is known only to be refused and recorded."""

    RESUME = 1
    PAUSE = 2
    RESTART = 3
    FACTORY_RESET = 4
    UPDATE = 5
    RESUME_SCHEDULE = 9


ADMIN_ACTIONS = frozenset({Action.RESTART, Action.UPDATE})


class Resume(StrEnum):
    """What action 1 does to a charger that waits for its schedule; the sources disagree (7.3)."""

    WORKS = "works"
    CONFLICT = "conflict"
    NO_EFFECT = "no_effect"


class Schedules(StrEnum):
    """What `POST /chargers/{id}/schedules` does; it changed by August 2026 (7.2)."""

    MERGED = "merged"
    """Entries are created or replaced by their `id`, whatever else they hold."""
    REPLACED = "replaced"
    """The list replaces all entries. What carries a `uid`, is not newer, or has no day is dropped without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often an account may ask for data (11)."""

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
    """A bearer token; it ends at monotonic time `ends_at`."""

    account: Account
    refreshes: bool
    ends_at: float


class WallboxCloud(FaultyServer):
    """The cloud. Give `url` to a client both as user-api and as api address."""

    def __init__(self, world: World, clock: Clock) -> None:
        super().__init__(clock)
        self.world = world
        self.accounts: list[Account] = []
        self.access_lifetime = 900.0
        """Seconds that a new access token lives (2.3)."""
        self.refresh_lifetime = 15 * 86400.0
        """Seconds that a new refresh token lives."""
        self.group_of: dict[str, str] = {}
        """Charger serial to name of its group; "Home" for all others."""
        self.resume: dict[str, Resume] = {}
        """Charger serial to what action 1 does while it waits for its schedule; works for all others."""
        self.schedules = Schedules.REPLACED
        """What writing schedules does."""
        self.schedules_of: dict[str, Schedules] = {}
        """Charger serial to what writing its schedules does; `schedules` for all others."""
        self.drops_schedules: set[str] = set()
        """Serials of chargers whose schedules stay as they are, whatever is written and acknowledged."""
        self.first_id: dict[str, int] = {}
        """Charger serial to the `id` of its first schedule; 0 before the first write, it moves with each (7.2)."""
        self.last_schedule: dict[str, int] = {}
        """Charger serial to the epoch seconds of its newest schedule ever taken."""
        self.shown_status: dict[str, int | None] = {}
        """Charger serial to a status code shown instead of the true one."""
        self.restart_needs_plan = False
        """Whether the cloud refuses a restart to accounts with the Basic plan (4.5)."""
        self.limits = Limits()
        self.enforce_limits = False
        """Whether what comes too soon is answered 429."""
        self.violations: list[Violation] = []
        self.factory_resets: list[str] = []
        """Serials for which a factory reset was asked; it is always refused."""
        self._tokens: dict[str, Token] = {}
        self._numbers = count(1)
        self._groups: dict[str, Group] = {}
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
        """Register somebody who sees the chargers `serials`, or all."""
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
        """End all access tokens now, of everybody or of one account; their `ttl` has promised more."""
        self._end_tokens(account, refreshes=False)

    def revoke_refresh(self, account: Account | None = None) -> None:
        """End all refresh tokens now, of everybody or of one account."""
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
        """Basic credentials in UTF-8, with the `Partner` header (2.1, 2.4)."""
        _require_partner(request)
        email, password = _credentials(request)
        account = next((a for a in self.accounts if (a.email, a.password) == (email, password)), None)
        if account is None:
            raise web.HTTPForbidden
        return self._new_tokens(account)

    async def _refresh(self, request: web.Request) -> web.Response:
        """A refresh token as bearer; the answer brings a new one of each kind (2.2)."""
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
        """Who asks for data; 401 for strangers, 429 for the impatient. The world comes up to date."""
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
        """Find the charger in the path: 404 for none, 403 for one that the account does not share (10)."""

        async def handle(request: web.Request) -> web.Response:
            account = self._admit(request)
            charger = self.world.chargers.get(request.match_info["id"])
            if charger is None:
                raise web.HTTPNotFound
            if not account.sees(charger.serial):
                raise web.HTTPForbidden
            call = Call(account=account, charger=charger, body=_body_of(await request.text()))
            if request.method != hdrs.METH_GET and charger.serial in account.look_only:
                raise web.HTTPForbidden
            answered = answer(call)
            if request.method != hdrs.METH_GET and call.reaches:
                charger.answer_command()
            return web.json_response(answered)

        return handle

    def _show(self, charger: SimulatedCharger) -> Shown:
        status_id: int | None = OFFLINE if charger.shown_offline else STATUS_IDS[charger.report.state]
        return Shown(
            charger=charger,
            group=self._group(self.group_of.get(charger.serial, HOME)),
            status_id=self.shown_status.get(charger.serial, status_id),
            last_sync=charger.report.at + timedelta(seconds=self.clock_offset),
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
        """Plain users see only themselves (4.2)."""
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
        """Lock, current, name (6.1); an empty body changes nothing (4.2)."""
        charger = call.charger
        if (current := call.whole("maxChargingCurrent")) is not None:
            call.set_current(current)
        if (name := call.body.get("name")) is not None:
            call.require_admin()
            if call.reaches:
                charger.name = str(name)
        # With OCPP active the cloud says yes to unlocking, and the lock stays (6.4).
        locked = call.whole("locked")
        if locked is not None and call.reaches and not (charger.ocpp and not locked):
            charger.locked = bool(locked)
        return self._charger(call)

    def _post_config(self, call: Call) -> JsonObject:
        """House limit, price, current (6.2)."""
        call.require_admin()
        charger = call.charger
        current, icp, sharing = (call.whole(key) for key in ("max_charging_current", "icp_max_current", "home_sharing"))
        price = call.number("energyCost", "energy_price")
        if current is not None:
            call.set_current(current)
        if call.reaches:
            charger.icp_max_current = charger.icp_max_current if icp is None else icp
            charger.home_sharing = charger.home_sharing if sharing is None else bool(sharing)
            charger.energy_price = charger.energy_price if price is None else price
        return self._config(call)

    def _put_eco_smart(self, call: Call) -> JsonObject:
        """Solar mode (6.3); older models have none. The page knows no fields of the answer."""
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
        """Write schedules, as the cloud did before 2026 or does since (7.2)."""
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
        """The new list; None where all of it is dropped."""
        if any("uid" in item for item, _ in entries):
            return None
        known = [window.created_at for window in self.world.chargers[serial].schedules]
        newest = max([int(self.now().timestamp()) - STALE_AFTER, self.last_schedule.get(serial, 0), *known])
        return tuple(
            # An integer is no boolean, so it is not `false`.
            replace(window, enabled=item["enable"] is not False)
            for item, window in entries
            if window.days and window.created_at > newest
        )

    def _remote_action(self, call: Call) -> JsonObject:
        """Actions 1, 2, 3, 5 and 9; the answer echoes the action (6.4)."""
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
        """409 when locked or when nothing is held back; against the schedule as `resume` says (6.4, 7.3)."""
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
    """A request of a known account for one charger."""

    account: Account
    charger: SimulatedCharger
    body: JsonObject

    @property
    def is_plain_user(self) -> bool:
        """Neither admin nor super-admin."""
        return self.account.role == "user"

    @property
    def reaches(self) -> bool:
        """The charger gets the command; otherwise it is lost, since nothing says that the cloud keeps it."""
        return self.charger.reaches_cloud

    def require_admin(self) -> None:
        """403 where the role is too low (6.4)."""
        if self.is_plain_user:
            raise web.HTTPForbidden

    def whole(self, key: str) -> int | None:
        """A whole number of the body, `None` where it is absent; 400 for anything else."""
        value = self.body.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise web.HTTPBadRequest
        return value

    def number(self, *keys: str) -> float | None:
        """The first of these numbers in the body, `None` where all are absent; 400 for anything else."""
        value = next((self.body[key] for key in keys if key in self.body), None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise web.HTTPBadRequest
        return value

    def set_current(self, amperes: int) -> None:
        """6 A to what the installation bears; 400 outside of it."""
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
    """The JSON object sent, empty for an empty body; 400 for anything else."""
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
    """403 while locked, 409 without a car (6.4)."""
    if charger.locked:
        raise web.HTTPForbidden
    if charger.car is None:
        raise web.HTTPConflict
    charger.manual = Manual.PAUSE


type Entry = tuple[JsonObject, Window]
"""A schedule as it was sent, and the window that it means."""

KEPT = frozenset({"uid", "id", "chargerId", "enable", "start", "stop", "max_current", "max_energy", "days"}) | {
    "created_at",
    "user_uid",
}
"""What `Window` or the charger tells of an entry; the cloud keeps the rest of what was sent as it is."""


def _window(item: JsonObject, usual: JsonObject) -> Window:
    """A schedule as sent: all seven days, a flag, no null for `max_energy` (7.2); 400 otherwise."""
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
    """The list after each entry has taken the place that its `id` names; 400 for one beyond the end."""
    windows = list(charger.schedules)
    for item, window in entries:
        place = int(str(item["id"]))
        if place > len(windows):
            raise web.HTTPBadRequest
        windows[place : place + 1] = [window]
    return tuple(windows)


def _is_count(value: Json) -> bool:
    """A whole number that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: Json) -> bool:
    """`HHMM`."""
    return isinstance(value, str) and len(value) == 4 and value.isdecimal() and value[:2] < "24" and value[2:] < "60"
