"""Client of the Wallbox cloud: one HTTP request per call, tolerant payloads, and the errors of `core.errors`.

The client never retries, waits or signs in on its own: account.py decides when to send requests. Section numbers are
those of docs/protocols/wallbox-cloud.md.
"""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, IntEnum, auto
import json
import logging
import math
import re

import aiohttp
from mashumaro import DataClassDictMixin, field_options
from mashumaro.exceptions import InvalidFieldValue, MissingField

from ..core.clock import Clock
from ..core.coerce import optional_float, optional_int, optional_str
from ..core.errors import (
    ChargerError,
    LoginRejected,
    NoConnection,
    NotAllowed,
    NotApplicable,
    TransportBusy,
    TransportDown,
    Unsupported,
)

DEFAULT_USER_API_URL = "https://user-api.wall-box.com"
DEFAULT_API_URL = "https://api.wall-box.com"

REQUEST_TIMEOUT = 10.0
"""Seconds for one request, including connect and read: the cloud sometimes never answers (section 10)."""

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_RETRY_AFTER = 3600.0
UNREADABLE = -1
"""Status code of an answer without a readable status. Null is readable: it means disconnected (section 8)."""

MAX_TIMESTAMP = 10**15
"""Highest plausible time in a schedule, in seconds or milliseconds since 1970."""

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_LOGGER = logging.getLogger(__name__)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_SERIAL = re.compile(r"[1-9]\d{0,19}", re.ASCII)
_ID_LIMIT = 10**20
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,8000}")
_FIRST_PLAUSIBLE_YEAR = 2015
_LAST_PLAUSIBLE_YEAR = 2200


class TokenRefused(ChargerError):
    """There is no token, or the cloud does not accept the token."""


class RemoteAction(IntEnum):
    """The remote actions that ChargeKeeper sends (section 6.4). The others are unknown or erase the settings."""

    RESUME = 1
    PAUSE = 2
    RESTART = 3
    INSTALL = 5
    AUTOMATIC = 9


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens from a sign-in or refresh.

    `refresh` is empty if the cloud sent no refresh token. `access_expires_at` is a time of the cloud's clock.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_expires_at: datetime | None
    user_id: str = field(repr=False)

    @property
    def expired(self) -> Tokens:
        """The same tokens, with an expired access token."""
        return replace(self, access_expires_at=datetime.fromtimestamp(0, UTC))


# Tolerant parsers like those in `core.coerce`, for this manufacturer only.


def _optional_flag(raw: object) -> bool | None:
    """Return a boolean, which may be sent as 1 or 0. Return None for anything else."""
    return bool(raw) if isinstance(raw, int | float) and raw in {0, 1} else None


def _optional_epoch_ms(raw: object) -> datetime | None:
    """Return milliseconds since 1970 as an aware datetime, or None if the year is implausible."""
    milliseconds = optional_float(0, 1e13)(raw)
    time = None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    return time if time is not None and _is_plausible(time) else None


def _status_code(raw: object) -> int | None:
    code = optional_int(0, 10**6)(raw)
    return UNREADABLE if code is None else code


def _limit(raw: object) -> int:
    """Return a limit of a schedule: 0 for null, -1 if the value is unreadable."""
    number = optional_int(0, 10**6)(raw)
    if raw is None:
        return 0
    return -1 if number is None else number


def _epoch_seconds(raw: object) -> int | None:
    """Return a time of a schedule in epoch seconds: 0 for null, None if the value is unreadable."""
    return 0 if raw is None else optional_int(0, MAX_TIMESTAMP)(raw)


def _days(raw: object) -> frozenset[int] | None:
    """Return the weekdays (0 is Monday) that are true, or None if one of the values is no flag."""
    if not isinstance(raw, dict):
        return None
    flags = [_optional_flag(raw.get(name, False)) for name in WEEKDAYS]
    return None if None in flags else frozenset(day for day, flag in enumerate(flags) if flag)


def _serial(raw: object) -> str:
    """Return the ID of a charger as digits. Raise ValueError for anything else: an entry without an ID is unusable."""
    serial = str(raw) if isinstance(raw, int | str) else ""
    if not _SERIAL.fullmatch(serial):
        raise ValueError("no charger id")
    return serial


def _sync_date(raw: object) -> str | None:
    """Return the text of a PHP date object, or None if its time zone is not UTC (section 4.2)."""
    if not isinstance(raw, dict) or raw.get("timezone", "UTC") != "UTC":
        return None
    return optional_str(raw.get("date"))


def _total_energy(raw: object) -> float | None:
    """Return `resume.totalEnergy`: always Wh, as a string, regardless of `energyUnit` (section 4.2)."""
    total = raw.get("totalEnergy") if isinstance(raw, dict) else None
    if isinstance(total, str) and len(total) < 32 and _NUMBER.fullmatch(total):
        total = float(total)
    return optional_float(0, 1e10)(total)


def _currency_code(raw: object) -> str | None:
    code = raw.get("code") if isinstance(raw, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"[A-Z]{3}", code) else None


def _optional[T](key: str, parse: Callable[[object], T | None]) -> T | None:
    """Return a field that is None if the value is missing, null, of the wrong type or implausible."""
    return field(default=None, metadata=field_options(alias=key, deserialize=parse))


def _unreadable(key: str, parse: Callable[[object], object]) -> bool:
    """Return a field that is True if the value is present, but null or not understood: it is unknown from then on."""
    return field(
        default=False, compare=False, metadata=field_options(alias=key, deserialize=lambda raw: parse(raw) is None)
    )


_kilowatts = optional_float(-100, 100)
_amperes = optional_float(1, 125)
_energy = optional_float(0, 10_000)
_seconds = optional_float(0, 1e8)


@dataclass(frozen=True, slots=True)
class Software(DataClassDictMixin):
    """Firmware versions."""

    current: str | None = _optional("currentVersion", optional_str)
    latest: str | None = _optional("latestVersion", optional_str)


@dataclass(frozen=True, slots=True)
class EcoSmart(DataClassDictMixin):
    """Solar charging; `mode` 0 is eco, 1 is full solar (section 5.3)."""

    enabled: bool | None = _optional("enabled", _optional_flag)
    mode: int | None = _optional("mode", optional_int(0, 100))
    percentage: int | None = _optional("percentage", optional_int(0, 100))


def _software(raw: object) -> Software:
    return Software.from_dict(raw) if isinstance(raw, dict) else Software()


def _eco_smart(raw: object) -> EcoSmart | None:
    return EcoSmart.from_dict(raw) if isinstance(raw, dict) else None


@dataclass(frozen=True, slots=True)
class ConfigData(DataClassDictMixin):
    """`config_data` of a status (section 5.3); currents in A."""

    locked: bool | None = _optional("locked", _optional_flag)
    max_charging_current: float | None = _optional("max_charging_current", _amperes)
    setting_is_unreadable: bool = _unreadable("max_charging_current", _amperes)
    max_available_current: float | None = _optional("max_available_current", _amperes)
    icp_max_current: float | None = _optional("icp_max_current", optional_float(0, 1000))
    home_sharing: bool | None = _optional("home_sharing", _optional_flag)
    currency: str | None = _optional("currency", _currency_code)
    time_zone: str | None = _optional("timezone", optional_str)
    part_number: str | None = _optional("part_number", optional_str)
    operation_mode: str | None = _optional("operation_mode", optional_str)
    eco_smart: EcoSmart | None = _optional("ecosmart", _eco_smart)  # noqa: RUF009 - a field
    software: Software = field(
        default=Software(),
        metadata=field_options(alias="software", deserialize=_software),
    )


def _config_data(raw: object) -> ConfigData:
    return ConfigData.from_dict(raw) if isinstance(raw, dict) else ConfigData()


@dataclass(frozen=True, slots=True)
class GroupCharger(DataClassDictMixin):
    """A charger in the list of groups (section 4.1): power in kW, energy in kWh, time in s, current in A.

    `status` is None if the cloud sends null (disconnected) and `UNREADABLE` if the status is missing or unreadable.
    """

    serial: str = field(metadata=field_options(alias="id", deserialize=_serial))
    name: str | None = _optional("name", optional_str)
    charger_type: str | None = _optional("chargerType", optional_str)
    status: int | None = field(default=UNREADABLE, metadata=field_options(alias="status", deserialize=_status_code))
    locked: bool | None = _optional("locked", _optional_flag)
    access: bool | None = _optional("access", _optional_flag)
    operation_mode: str | None = _optional("operationMode", optional_str)
    max_charging_current: float | None = _optional("maxChargingCurrent", _amperes)
    setting_is_unreadable: bool = _unreadable("maxChargingCurrent", _amperes)
    added_energy: float | None = _optional("addedEnergy", _energy)
    charging_power: float | None = _optional("chargingPower", _kilowatts)
    power_is_unreadable: bool = _unreadable("chargingPower", _kilowatts)
    charging_time: float | None = _optional("chargingTime", _seconds)
    software: Software = field(
        default=Software(),
        metadata=field_options(alias="software", deserialize=_software),
    )


@dataclass(frozen=True, slots=True)
class ChargerStatus(DataClassDictMixin):
    """The full status of a charger (section 5.2): power in kW, energy in kWh, time in s.

    `last_sync` is the text from the cloud, in UTC without a time zone. `max_available_power` is in A despite its name.
    """

    status: int | None = field(default=UNREADABLE, metadata=field_options(alias="status_id", deserialize=_status_code))
    last_sync: str | None = _optional("last_sync", optional_str)
    charging_power: float | None = _optional("charging_power", _kilowatts)
    power_is_unreadable: bool = _unreadable("charging_power", _kilowatts)
    phases: int | None = _optional("current_mode", optional_int(1, 3))
    max_available_power: float | None = _optional("max_available_power", _amperes)
    added_energy: float | None = _optional("added_energy", _energy)
    charging_time: float | None = _optional("charging_time", _seconds)
    cost: float | None = _optional("cost", optional_float(0, 1e6))
    config: ConfigData = field(
        default=ConfigData(),
        metadata=field_options(alias="config_data", deserialize=_config_data),
    )


@dataclass(frozen=True, slots=True)
class ChargerDetails(DataClassDictMixin):
    """`chargerData` of a charger (section 4.2), and the `profile` of the signed-in account in its list of users.

    `total_energy` is in Wh. `last_sync` is a time as text, in UTC without a time zone.
    """

    software_version: str | None = _optional("softwareVersion", optional_str)
    max_charging_current: float | None = _optional("maxChargingCurrent", _amperes)
    setting_is_unreadable: bool = _unreadable("maxChargingCurrent", _amperes)
    max_available_current: float | None = _optional("maxAvailableCurrent", _amperes)
    last_sync: str | None = _optional("lastSync", _sync_date)
    total_energy: float | None = _optional("resume", _total_energy)
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class CloudSchedule(DataClassDictMixin):
    """One weekly schedule (section 7.1): `start` and `stop` are `HHMM` in UTC.

    `max_current` (A) and `max_energy` (Wh) are 0 if there is no such limit and -1 if the limit is unreadable.
    """

    slot: int | None = _optional("id", optional_int(0, 1000))
    enabled: bool | None = _optional("enable", _optional_flag)
    days: frozenset[int] | None = _optional("days", _days)
    start: str | None = _optional("start", optional_str)
    stop: str | None = _optional("stop", optional_str)
    max_current: int = field(default=0, metadata=field_options(alias="max_current", deserialize=_limit))
    max_energy: int = field(default=0, metadata=field_options(alias="max_energy", deserialize=_limit))


@dataclass(frozen=True, slots=True)
class ScheduleList:
    """All schedules of a charger (section 7.1): `entries` as parsed, `raw` as sent by the cloud.

    `newest` is the newest `created_at` or `lastSchedule`. `is_whole` is False if an element of the list is no object,
    or if one of these times is unreadable.
    """

    entries: tuple[CloudSchedule, ...] = ()
    raw: tuple[Mapping[str, object], ...] = ()
    newest: int = 0
    is_whole: bool = True


class _Kind(Enum):
    """The purpose of a request. It determines the meaning of a refusal."""

    SIGN_IN = auto()
    REFRESH = auto()
    LIST = auto()
    READ = auto()  # of one charger
    WRITE = auto()  # to one charger


class WallboxCloudClient:
    """HTTP client of the cloud for one account. Each call sends one HTTP request, which takes at most 10 s.

    All calls raise a `ChargerError`:

    - `NoConnection("unreachable")`, `TransportDown("timeout" | "broken_answer" | "server_error" | "bad_answer")`;
    - `TransportBusy("throttled" | "forbidden", retry_after)`: 429, and 403 on reads. `retry_after` is 1 to 3600 s, or
      0.0 if the cloud sent no time;
    - `TokenRefused`: 401 on data, 401 or 403 on a refresh, or no token (then nothing is sent);
    - `LoginRejected("invalid_auth")`: 401 or 403 on a sign-in;
    - for one charger `NotAllowed("not_shared")` on 404, `NotAllowed("refused")` on a 403 to a write,
      `NotApplicable("wrong_state")` on 409, `Unsupported("rejected")` on any other refusal.

    No error or log line contains a token, a URL, an email address or a serial number.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        user_api_url: str = DEFAULT_USER_API_URL,
        api_url: str = DEFAULT_API_URL,
        version: str | None = None,
    ) -> None:
        self._session = session
        self._clock = clock
        self._user_api_url = user_api_url.rstrip("/")
        self._api_url = api_url.rstrip("/")
        self._user_agent = f"ChargeKeeper/{version}" if version else "ChargeKeeper"
        self._own_names: frozenset[str] = frozenset()
        self._dropped_logged = False
        self.tokens: Tokens | None = None
        self.cloud_skew = timedelta()
        """The cloud's clock minus the local clock, from the last answer with a plausible `Date`."""

    async def sign_in(self, email: str, password: str) -> Tokens:
        """Sign in with the password, and store and return the tokens (section 2.1)."""
        credentials = base64.b64encode(f"{email}:{password}".encode()).decode("ascii")
        url = f"{self._user_api_url}/users/signin"
        answer = await self._request(_Kind.SIGN_IN, "GET", url, f"Basic {credentials}")
        self.tokens = _tokens(answer, None)
        self._own_names = frozenset({email.strip().casefold(), self.tokens.user_id.casefold()})
        return self.tokens

    async def refresh(self) -> Tokens:
        """Get new tokens with the refresh token, and store and return them (section 2.2)."""
        if self.tokens is None or not self.tokens.refresh:
            raise TokenRefused("token_refused", "no refresh token")
        url = f"{self._user_api_url}/users/refresh-token"
        answer = await self._request(_Kind.REFRESH, "GET", url, f"Bearer {self.tokens.refresh}")
        self.tokens = _tokens(answer, self.tokens)
        return self.tokens

    async def groups(self) -> tuple[GroupCharger, ...]:
        """Return all chargers of the account with their basic state (section 4.1), sorted by serial number.

        An entry without a usable ID is skipped, so that the other entries remain available.
        """
        groups = _dig(await self._request_data(_Kind.LIST, "GET", "/v3/chargers/groups"), "result", "groups")
        if not isinstance(groups, list):
            raise _bad_answer("no groups")
        lists = [_dig(group, "chargers") for group in groups]
        entries = [entry for chargers in lists if isinstance(chargers, list) for entry in chargers]
        found: dict[str, GroupCharger] = {}
        dropped = 0
        for entry in entries:
            charger = _group_charger(entry)
            if charger is None:
                dropped += 1
            else:
                found.setdefault(charger.serial, charger)
        if dropped and not found:
            raise _bad_answer("no charger with an id")
        if dropped and not self._dropped_logged:
            self._dropped_logged = True
            _LOGGER.warning("%d entries in the account's list of chargers have no usable ID and are skipped", dropped)
        return tuple(sorted(found.values(), key=lambda charger: int(charger.serial)))

    async def status(self, serial: str) -> ChargerStatus:
        """Return the full status of a charger (section 5)."""
        answer = await self._request_data(_Kind.READ, "GET", f"/chargers/status/{serial}")
        if not isinstance(answer, dict) or "status_id" not in answer:
            raise _bad_answer("no status")
        return ChargerStatus.from_dict(answer)

    async def details(self, serial: str) -> ChargerDetails:
        """Return the role of this account, the lifetime energy and the last connection of a charger (section 4.2)."""
        answer = await self._request_data(_Kind.READ, "GET", f"/v2/charger/{serial}")
        charger = _dig(answer, "data", "chargerData")
        if not isinstance(charger, dict):
            raise _bad_answer("no charger data")
        return replace(ChargerDetails.from_dict(charger), profile=self._own_profile(_dig(answer, "data", "users")))

    async def schedules(self, serial: str) -> ScheduleList:
        """Return the weekly schedules of a charger (section 7.1)."""
        answer = await self._request_data(_Kind.READ, "GET", f"/chargers/{serial}/schedules")
        if not isinstance(answer, dict) or "schedules" not in answer:
            raise _bad_answer("no schedules")
        listed = answer["schedules"]
        entries = listed if isinstance(listed, list) else []
        if entries and all(value is None for value in _values(entries)):
            raise _bad_answer("nothing in the schedules")
        raw = tuple(entry for entry in entries if isinstance(entry, dict))
        stamps = [
            _epoch_seconds(answer.get("lastSchedule")),
            *(_epoch_seconds(entry.get("created_at")) for entry in raw),
        ]
        return ScheduleList(
            entries=tuple(map(CloudSchedule.from_dict, raw)),
            raw=raw,
            newest=max(stamp or 0 for stamp in stamps),
            is_whole=isinstance(listed, list) and len(raw) == len(entries) and None not in stamps,
        )

    async def write_schedules(self, serial: str, schedules: Sequence[Mapping[str, object]]) -> None:
        """Replace all schedules of a charger (section 7.2). A good answer does not prove that the cloud applied them.

        Raises:
            NotApplicable: `schedule_not_taken` if the answer reports an error.
        """
        body = {"schedules": list(schedules)}
        answer = await self._request_data(_Kind.WRITE, "POST", f"/chargers/{serial}/schedules", body)
        if _dig(answer, "error") is True:
            raise NotApplicable("schedule_not_taken", "the answer says error")

    async def set_locked(self, serial: str, locked: bool) -> None:
        """Lock or unlock a charger (section 6.1). The answer only repeats the new value, which proves nothing."""
        await self._request_data(_Kind.WRITE, "PUT", f"/v2/charger/{serial}", {"locked": int(locked)})

    async def set_max_charging_current(self, serial: str, amps: int) -> None:
        """Set the user's limit in whole A (section 6.1). The answer only repeats the new value."""
        await self._request_data(_Kind.WRITE, "PUT", f"/v2/charger/{serial}", {"maxChargingCurrent": amps})

    async def set_eco_smart(self, serial: str, enabled: bool, mode: int, percentage: int = 100) -> None:
        """Set solar charging (section 6.3). `mode` is 0 for eco and 1 for full solar; `percentage` is 0 to 100."""
        attributes = {"enabled": int(enabled), "mode": mode, "percentage": percentage}
        body = {"data": {"type": "eco_smart", "attributes": attributes}}
        await self._request_data(_Kind.WRITE, "PUT", f"/v4/chargers/{serial}/eco-smart", body)

    async def remote_action(self, serial: str, action: RemoteAction) -> None:
        """Send a remote action (section 6.4).

        After a return the cloud has accepted the action, but the charger may not have executed it.

        Raises:
            ValueError: `action` is no `RemoteAction`; nothing is sent.
        """
        body = {"action": RemoteAction(action).value}
        answer = await self._request_data(_Kind.WRITE, "POST", f"/v3/chargers/{serial}/remote-action", body)
        if optional_int(0, 1000)(_dig(answer, "action")) not in {None, action}:
            raise _bad_answer("another action was echoed")

    def _own_profile(self, users: object) -> str | None:
        """Return the profile of the signed-in account, or None if the list does not contain the account."""
        for user in users if isinstance(users, list) else ():
            names = (_dig(user, "email"), _dig(user, "id"))
            if any(isinstance(name, str) and name.strip().casefold() in self._own_names for name in names):
                return optional_str(_dig(user, "profile"))
        return None

    async def _request_data(
        self, kind: _Kind, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> object:
        if self.tokens is None:
            raise TokenRefused("token_refused", "not signed in")
        return await self._request(kind, method, f"{self._api_url}{path}", f"Bearer {self.tokens.access}", body)

    async def _request(
        self, kind: _Kind, method: str, url: str, authorization: str, body: Mapping[str, object] | None = None
    ) -> object:
        """Send one request. Return the JSON of the answer, or None for an empty answer to a write."""
        try:
            async with self._clock.timeout(REQUEST_TIMEOUT):
                content = await self._exchange(kind, method, url, authorization, body)
        except TimeoutError:
            raise TransportDown("timeout") from None
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as err:
            raise NoConnection("unreachable", type(err).__name__) from None
        except aiohttp.ClientResponseError as err:
            raise _bad_answer(type(err).__name__) from None
        except (aiohttp.ClientError, OSError) as err:
            raise TransportDown("broken_answer", type(err).__name__) from None
        if kind is _Kind.WRITE and not content:
            return None
        try:
            answer: object = json.loads(content)
        except (ValueError, RecursionError) as err:
            raise _bad_answer(type(err).__name__) from None
        if kind is not _Kind.WRITE and _has_only_nulls(answer):
            raise _bad_answer("nothing but null")
        return answer

    async def _exchange(
        self, kind: _Kind, method: str, url: str, authorization: str, body: Mapping[str, object] | None
    ) -> bytes:
        """Send a request, check the status and headers of the answer, and return its body."""
        headers = {
            "Authorization": authorization,
            "Accept": "application/json",
            "Content-Type": "application/json;charset=UTF-8",
            "User-Agent": self._user_agent,
            # Requests are a minute apart: by the next request, an idle connection would often be dead.
            "Connection": "close",
        }
        if kind in {_Kind.SIGN_IN, _Kind.REFRESH}:
            headers["Partner"] = "wallbox"
        async with self._session.request(
            method,
            url,
            headers=headers,
            json=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None),
            middlewares=(_prevent_repeat,),
        ) as response:
            date = _http_date(response.headers.get("Date", ""))
            if date is not None:
                self.cloud_skew = date - self._clock.now()
            if not 200 <= response.status < 300:
                cloud_now = self._clock.now() + self.cloud_skew
                raise _refusal(kind, response.status, _retry_after(response.headers.get("Retry-After", ""), cloud_now))
            content = await _read(response)
            if content and not _is_json(response.content_type):
                raise _bad_answer("not JSON")
            return content


async def _prevent_repeat(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Prevent aiohttp from resending a GET or PUT after a broken connection: the budgets count each request."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as err:
        raise TransportDown("broken_answer", type(err).__name__) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise _bad_answer("too long")
    return bytes(content)


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")


def _bad_answer(detail: str) -> TransportDown:
    return TransportDown("bad_answer", detail)


def _refusal(kind: _Kind, status: int, retry_after: float) -> ChargerError:
    """Return the error for an HTTP status other than 2xx (sections 2.4 and 10)."""
    detail = f"HTTP {status}"
    match kind, status:
        case _, 429:
            return TransportBusy("throttled", retry_after, detail)
        case _Kind.SIGN_IN, 401 | 403:
            return LoginRejected("invalid_auth", detail)
        case (_Kind.REFRESH, 401 | 403) | (_, 401):
            return TokenRefused("token_refused", detail)
        case _Kind.WRITE, 403:
            return NotAllowed("refused", detail)
        case (_, 403):
            return TransportBusy("forbidden", retry_after, detail)
        case (_Kind.READ | _Kind.WRITE, 404):
            return NotAllowed("not_shared", detail)
        case (_Kind.READ | _Kind.WRITE, 409):
            return NotApplicable("wrong_state", detail)
        case (_Kind.READ | _Kind.WRITE, _) if 400 <= status < 500:
            return Unsupported("rejected", detail)
        case _ if status >= 400:  # a 4xx that does not concern one charger is a fault of the server
            return TransportDown("server_error", detail)
        case _:
            return _bad_answer(detail)


def _http_date(text: str) -> datetime | None:
    """Return the time in a header, or None if the text is no date or the year is implausible."""
    try:
        time = parsedate_to_datetime(text)
    except ValueError, OverflowError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time if _is_plausible(time) else None


def _is_plausible(time: datetime) -> bool:
    return _FIRST_PLAUSIBLE_YEAR <= time.year < _LAST_PLAUSIBLE_YEAR


def _retry_after(text: str, cloud_now: datetime) -> float:
    """Return the seconds to wait, 1 to 3600, or 0.0 if the header is missing or unreadable."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif (until := _http_date(text)) is not None:
        seconds = (until - cloud_now).total_seconds()
    else:
        return 0.0
    return float(math.ceil(min(max(seconds, 1.0), MAX_RETRY_AFTER)))


def _dig(value: object, *keys: str) -> object:
    """Return the value under nested keys, or None if a key is missing or a parent is no object."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _has_only_nulls(answer: object) -> bool:
    """Return True if all values of an answer are null. Empty lists and objects are no values.

    A null in such an answer does not mean that a charger is disconnected.
    """
    values = set(map(type, _values(answer)))
    return values == {type(None)}


def _values(answer: object) -> Iterator[object]:
    """Yield all values in an answer that are neither object nor list."""
    rest = [answer]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)
        else:
            yield value


def _tokens(answer: object, before: Tokens | None) -> Tokens:
    """Return the tokens in an answer to a sign-in or refresh. Fields that a refresh omits are taken from `before`."""
    attributes = _dig(answer, "data", "attributes")
    access = _header_safe(_dig(attributes, "token"))
    ids = (_dig(attributes, "user_id"), _dig(answer, "data", "id"))
    # Prefer a text in either place: accounts from before numbers were accepted must keep their ID.
    user_id = next(filter(None, [*map(optional_str, ids), *map(_numeric_id, ids)]), None)
    refresh = _header_safe(_dig(attributes, "refresh_token"))
    if before is not None:
        user_id = user_id or before.user_id
        refresh = refresh or before.refresh
    if access is None or user_id is None:
        raise _bad_answer("no token")
    return Tokens(
        access=access,
        refresh=refresh or "",
        access_expires_at=_optional_epoch_ms(_dig(attributes, "ttl")),
        user_id=user_id,
    )


def _numeric_id(raw: object) -> str | None:
    if not isinstance(raw, int) or isinstance(raw, bool):
        return None
    return str(raw) if 0 < raw < _ID_LIMIT else None


def _header_safe(raw: object) -> str | None:
    return raw if isinstance(raw, str) and _HEADER_SAFE.fullmatch(raw) else None


def _group_charger(entry: object) -> GroupCharger | None:
    if not isinstance(entry, dict):
        return None
    try:
        return GroupCharger.from_dict(entry)
    except InvalidFieldValue, MissingField:
        return None
