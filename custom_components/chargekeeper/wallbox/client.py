"""Client of the Wallbox cloud: one HTTP request per call, tolerant payloads, and the tree of errors.

It neither repeats, waits nor signs in by itself: when to ask, and how often, is decided in account.py. Protocol facts
are those of docs/protocols/wallbox-cloud.md; the sections are named where they matter.
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
"""Seconds for one request, connecting and reading included: the cloud sometimes never answers (section 10)."""

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_RETRY_AFTER = 3600.0
UNREADABLE = -1
"""Status code of an answer that told none that can be read; null is no such code, it means disconnected (section 8)."""

LATEST_STAMP = 10**15
"""No moment in a schedule is later, whether the cloud counts in seconds or milliseconds."""

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_LOGGER = logging.getLogger(__name__)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_SERIAL = re.compile(r"[1-9]\d{0,19}", re.ASCII)
_END_OF_IDS = 10**20
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,8000}")
_FIRST_SANE_YEAR = 2015
_LAST_SANE_YEAR = 2200


class TokenRefused(ChargerError):
    """There is no token, or the cloud does not accept it (any more)."""


class RemoteAction(IntEnum):
    """The remote actions that can be expressed (section 6.4); the others are unknown or destroy the settings."""

    RESUME = 1
    PAUSE = 2
    RESTART = 3
    INSTALL = 5
    AUTOMATIC = 9


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a sign-in or refresh gave; `refresh` is empty where none was given, the moment is of the cloud's clock."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_expires_at: datetime | None
    user_id: str = field(repr=False)

    @property
    def ended(self) -> Tokens:
        """These, with an access token that is known to be of no use any more."""
        return replace(self, access_expires_at=datetime.fromtimestamp(0, UTC))


# Tolerant fields, as those of `core.coerce`, that only this maker needs.


def _optional_flag(raw: object) -> bool | None:
    """True and false, also as 1 and 0."""
    return bool(raw) if isinstance(raw, int | float) and raw in {0, 1} else None


def _optional_epoch_ms(raw: object) -> datetime | None:
    """Milliseconds since 1970 as an aware datetime; years that cannot be meant are None."""
    milliseconds = optional_float(0, 1e13)(raw)
    moment = None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment if moment is not None and _is_sane(moment) else None


def _status_code(raw: object) -> int | None:
    code = optional_int(0, 10**6)(raw)
    return UNREADABLE if code is None else code


def _bound(raw: object) -> int:
    """A bound of a schedule: 0 for null, -1 for what cannot be read."""
    number = optional_int(0, 10**6)(raw)
    if raw is None:
        return 0
    return -1 if number is None else number


def _stamp(raw: object) -> int | None:
    """Epoch seconds at which a schedule was made: 0 for none, None for what cannot be read."""
    return 0 if raw is None else optional_int(0, LATEST_STAMP)(raw)


def _days(raw: object) -> frozenset[int] | None:
    """The weekdays (0 is Monday) that are true; None where one of them is not a flag."""
    if not isinstance(raw, dict):
        return None
    flags = [_optional_flag(raw.get(name, False)) for name in WEEKDAYS]
    return None if None in flags else frozenset(day for day, flag in enumerate(flags) if flag)


def _serial(raw: object) -> str:
    """The id of a charger as digits. Raises ValueError: without it the entry is of no use."""
    serial = str(raw) if isinstance(raw, int | str) else ""
    if not _SERIAL.fullmatch(serial):
        raise ValueError("no charger id")
    return serial


def _sync_date(raw: object) -> str | None:
    """The text of a PHP date object, where it is in UTC (section 4.2)."""
    if not isinstance(raw, dict) or raw.get("timezone", "UTC") != "UTC":
        return None
    return optional_str(raw.get("date"))


def _total_energy(raw: object) -> float | None:
    """`resume.totalEnergy`: Wh, as a string, whatever `energyUnit` says (section 4.2)."""
    total = raw.get("totalEnergy") if isinstance(raw, dict) else None
    if isinstance(total, str) and len(total) < 32 and _NUMBER.fullmatch(total):
        total = float(total)
    return optional_float(0, 1e10)(total)


def _currency_code(raw: object) -> str | None:
    code = raw.get("code") if isinstance(raw, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"[A-Z]{3}", code) else None


def _optional[T](key: str, parse: Callable[[object], T | None]) -> T | None:
    """A field that is None when it is missing, null, of the wrong type or absurd."""
    return field(default=None, metadata=field_options(alias=key, deserialize=parse))


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

    `status` is None where the cloud says null (disconnected) and `UNREADABLE` where it says nothing that can be read.
    """

    serial: str = field(metadata=field_options(alias="id", deserialize=_serial))
    name: str | None = _optional("name", optional_str)
    charger_type: str | None = _optional("chargerType", optional_str)
    status: int | None = field(default=UNREADABLE, metadata=field_options(alias="status", deserialize=_status_code))
    locked: bool | None = _optional("locked", _optional_flag)
    access: bool | None = _optional("access", _optional_flag)
    operation_mode: str | None = _optional("operationMode", optional_str)
    max_charging_current: float | None = _optional("maxChargingCurrent", _amperes)
    added_energy: float | None = _optional("addedEnergy", _energy)
    charging_power: float | None = _optional("chargingPower", _kilowatts)
    charging_time: float | None = _optional("chargingTime", _seconds)
    software: Software = field(
        default=Software(),
        metadata=field_options(alias="software", deserialize=_software),
    )


@dataclass(frozen=True, slots=True)
class ChargerStatus(DataClassDictMixin):
    """The full status of a charger (section 5.2): power in kW, energy in kWh, time in s.

    `last_sync` is the text of the cloud, UTC without a zone; `max_available_power` is in amperes despite its name.
    """

    status: int | None = field(default=UNREADABLE, metadata=field_options(alias="status_id", deserialize=_status_code))
    last_sync: str | None = _optional("last_sync", optional_str)
    charging_power: float | None = _optional("charging_power", _kilowatts)
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

    `total_energy` is in Wh; `last_sync` is the text of a moment, UTC without a zone.
    """

    software_version: str | None = _optional("softwareVersion", optional_str)
    max_charging_current: float | None = _optional("maxChargingCurrent", _amperes)
    max_available_current: float | None = _optional("maxAvailableCurrent", _amperes)
    last_sync: str | None = _optional("lastSync", _sync_date)
    total_energy: float | None = _optional("resume", _total_energy)
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class ChargerEcho(DataClassDictMixin):
    """The new values in the answer to a write (section 6.1); an echo is not yet an effect."""

    locked: bool | None = _optional("locked", _optional_flag)
    max_charging_current: float | None = _optional("maxChargingCurrent", _amperes)


@dataclass(frozen=True, slots=True)
class CloudSchedule(DataClassDictMixin):
    """One weekly schedule (section 7.1): `start` and `stop` are `HHMM` in UTC.

    `max_current` (A) and `max_energy` (Wh) are 0 where there is no such bound and -1 where it cannot be read.
    """

    slot: int | None = _optional("id", optional_int(0, 1000))
    enabled: bool | None = _optional("enable", _optional_flag)
    days: frozenset[int] | None = _optional("days", _days)
    start: str | None = _optional("start", optional_str)
    stop: str | None = _optional("stop", optional_str)
    max_current: int = field(default=0, metadata=field_options(alias="max_current", deserialize=_bound))
    max_energy: int = field(default=0, metadata=field_options(alias="max_energy", deserialize=_bound))


@dataclass(frozen=True, slots=True)
class ScheduleList:
    """All schedules of a charger (section 7.1): `entries` as they are understood, `raw` as the cloud wrote them.

    `newest` is the newest `created_at` or `lastSchedule`. `is_whole` is false where something in the list is no
    entry, or such a moment cannot be read. `took` is the number of seconds that the answer took.
    """

    entries: tuple[CloudSchedule, ...] = ()
    raw: tuple[Mapping[str, object], ...] = ()
    newest: int = 0
    is_whole: bool = True
    took: float = 0.0


class _Kind(Enum):
    """What a request is for; refusals mean different things."""

    SIGN_IN = auto()
    REFRESH = auto()
    LIST = auto()
    READ = auto()  # of one charger
    WRITE = auto()  # to one charger


class WallboxCloudClient:
    """Talks to the cloud for one account. Each call is exactly one HTTP request, of at most 10 s.

    All calls raise errors of the one tree:

    - `NoConnection("unreachable")`, `TransportDown("timeout" | "broken_answer" | "server_error" | "bad_answer")`;
    - `TransportBusy("throttled" | "forbidden", retry_after)`: 429, and 403 on reading. `retry_after` is 1 to 3600 s, or
      0.0 where the cloud did not say;
    - `TokenRefused`: 401 on data, 401 or 403 on refreshing, or no token at all (then nothing is sent);
    - `LoginRejected("invalid_auth")`: 401 or 403 on signing in;
    - for one charger `NotAllowed("not_shared")` on 404, `NotAllowed("refused")` on a 403 to a write,
      `NotApplicable("wrong_state")` on 409, `Unsupported("rejected")` on any other refusal.

    No error or log line holds a token, an address, an e-mail or a serial number.
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
        self._known_as: frozenset[str] = frozenset()
        self._dropped_logged = False
        self.tokens: Tokens | None = None
        self.cloud_skew = timedelta()
        """The cloud's clock minus ours, by the `Date` of its last answer that had a sane one."""

    async def sign_in(self, email: str, password: str) -> Tokens:
        """Sign in with the password and keep the tokens (section 2.1)."""
        credentials = base64.b64encode(f"{email}:{password}".encode()).decode("ascii")
        url = f"{self._user_api_url}/users/signin"
        answer = await self._request(_Kind.SIGN_IN, "GET", url, f"Basic {credentials}")
        self.tokens = _tokens(answer, None)
        self._known_as = frozenset({email.strip().casefold(), self.tokens.user_id.casefold()})
        return self.tokens

    async def refresh(self) -> Tokens:
        """Trade the refresh token for new tokens and keep them (section 2.2)."""
        if self.tokens is None or not self.tokens.refresh:
            raise TokenRefused("token_refused", "no refresh token")
        url = f"{self._user_api_url}/users/refresh-token"
        answer = await self._request(_Kind.REFRESH, "GET", url, f"Bearer {self.tokens.refresh}")
        self.tokens = _tokens(answer, self.tokens)
        return self.tokens

    async def groups(self) -> tuple[GroupCharger, ...]:
        """All chargers of the account with their basic state (section 4.1), by serial number.

        Entries without a usable id are left out, so that they do no harm to the others.
        """
        groups = _dig(await self._data(_Kind.LIST, "GET", "/v3/chargers/groups"), "result", "groups")
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
            _LOGGER.warning("%d entries in the account's list of chargers have no usable id and are left out", dropped)
        return tuple(sorted(found.values(), key=lambda charger: int(charger.serial)))

    async def status(self, serial: str) -> ChargerStatus:
        """The full status of a charger (section 5)."""
        answer = await self._data(_Kind.READ, "GET", f"/chargers/status/{serial}")
        if not isinstance(answer, dict) or "status_id" not in answer:
            raise _bad_answer("no status")
        return ChargerStatus.from_dict(answer)

    async def details(self, serial: str) -> ChargerDetails:
        """Role of this account, lifetime energy and last connection of a charger (section 4.2)."""
        answer = await self._data(_Kind.READ, "GET", f"/v2/charger/{serial}")
        charger = _dig(answer, "data", "chargerData")
        if not isinstance(charger, dict):
            raise _bad_answer("no charger data")
        return replace(ChargerDetails.from_dict(charger), profile=self._own_profile(_dig(answer, "data", "users")))

    async def schedules(self, serial: str) -> ScheduleList:
        """The weekly schedules of a charger (section 7.1)."""
        begun = self._clock.monotonic()
        answer = await self._data(_Kind.READ, "GET", f"/chargers/{serial}/schedules")
        if not isinstance(answer, dict) or "schedules" not in answer:
            raise _bad_answer("no schedules")
        listed = answer["schedules"]
        entries = listed if isinstance(listed, list) else []
        if entries and all(value is None for value in _values(entries)):
            raise _bad_answer("nothing in the schedules")
        raw = tuple(entry for entry in entries if isinstance(entry, dict))
        stamps = [_stamp(answer.get("lastSchedule")), *(_stamp(entry.get("created_at")) for entry in raw)]
        return ScheduleList(
            entries=tuple(map(CloudSchedule.from_dict, raw)),
            raw=raw,
            newest=max(stamp or 0 for stamp in stamps),
            is_whole=isinstance(listed, list) and len(raw) == len(entries) and None not in stamps,
            took=self._clock.monotonic() - begun,
        )

    async def write_schedules(self, serial: str, schedules: Sequence[Mapping[str, object]]) -> None:
        """Replace all schedules of a charger by these (section 7.2); a good answer does not prove that they were taken.

        Raises:
            NotApplicable: `schedule_not_taken` where the answer itself says so.
        """
        body = {"schedules": list(schedules)}
        answer = await self._data(_Kind.WRITE, "POST", f"/chargers/{serial}/schedules", body)
        if _dig(answer, "error") is True:
            raise NotApplicable("schedule_not_taken", "the answer says error")

    async def set_locked(self, serial: str, locked: bool) -> ChargerEcho | None:
        """Lock or unlock a charger (section 6.1). The echo is None where the answer has none."""
        return _echo(await self._data(_Kind.WRITE, "PUT", f"/v2/charger/{serial}", {"locked": int(locked)}))

    async def set_max_charging_current(self, serial: str, amps: int) -> ChargerEcho | None:
        """Set the user's limit in whole A (section 6.1). The echo is None where the answer has none."""
        return _echo(await self._data(_Kind.WRITE, "PUT", f"/v2/charger/{serial}", {"maxChargingCurrent": amps}))

    async def set_eco_smart(self, serial: str, enabled: bool, mode: int, percentage: int = 100) -> None:
        """Set solar charging (section 6.3): `mode` 0 is eco, 1 full solar; `percentage` 0 to 100."""
        attributes = {"enabled": int(enabled), "mode": mode, "percentage": percentage}
        body = {"data": {"type": "eco_smart", "attributes": attributes}}
        await self._data(_Kind.WRITE, "PUT", f"/v4/chargers/{serial}/eco-smart", body)

    async def remote_action(self, serial: str, action: RemoteAction) -> None:
        """Send a remote action (section 6.4); returning means accepted by the cloud, not done.

        Raises:
            ValueError: for a number that is no `RemoteAction`, before anything is sent.
        """
        body = {"action": RemoteAction(action).value}
        answer = await self._data(_Kind.WRITE, "POST", f"/v3/chargers/{serial}/remote-action", body)
        if optional_int(0, 1000)(_dig(answer, "action")) not in {None, action}:
            raise _bad_answer("another action was echoed")

    def _own_profile(self, users: object) -> str | None:
        """The profile of the signed-in account; None where the list does not show it."""
        for user in users if isinstance(users, list) else ():
            names = (_dig(user, "email"), _dig(user, "id"))
            if any(isinstance(name, str) and name.strip().casefold() in self._known_as for name in names):
                return optional_str(_dig(user, "profile"))
        return None

    async def _data(self, kind: _Kind, method: str, path: str, body: Mapping[str, object] | None = None) -> object:
        if self.tokens is None:
            raise TokenRefused("token_refused", "not signed in")
        return await self._request(kind, method, f"{self._api_url}{path}", f"Bearer {self.tokens.access}", body)

    async def _request(
        self, kind: _Kind, method: str, url: str, authorization: str, body: Mapping[str, object] | None = None
    ) -> object:
        """One request; the JSON of a good answer, None for an empty one to a write."""
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
        if kind is not _Kind.WRITE and _is_hollow(answer):
            raise _bad_answer("nothing but null")
        return answer

    async def _exchange(
        self, kind: _Kind, method: str, url: str, authorization: str, body: Mapping[str, object] | None
    ) -> bytes:
        """Send, judge the head of the answer, and read its body."""
        headers = {
            "Authorization": authorization,
            "Accept": "application/json",
            "Content-Type": "application/json;charset=UTF-8",
            "User-Agent": self._user_agent,
            # Requests are a minute apart: an idle connection would only be found dead by the next one.
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
            middlewares=(_never_repeated,),
        ) as response:
            dated = _http_date(response.headers.get("Date", ""))
            if dated is not None:
                self.cloud_skew = dated - self._clock.now()
            if not 200 <= response.status < 300:
                cloud_now = self._clock.now() + self.cloud_skew
                raise _refusal(kind, response.status, _retry_after(response.headers.get("Retry-After", ""), cloud_now))
            content = await _read(response)
            if content and not _is_json(response.content_type):
                raise _bad_answer("not JSON")
            return content


async def _never_repeated(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET or PUT again by itself when the connection breaks: each request is counted."""
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
    """What a status other than 2xx means for a request (sections 2.4 and 10)."""
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
        case _ if status >= 400:  # also a 4xx that has nothing to do with one charger: the service itself is ill
            return TransportDown("server_error", detail)
        case _:
            return _bad_answer(detail)


def _http_date(text: str) -> datetime | None:
    """The moment in a header, or None where it cannot be meant."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError, OverflowError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment if _is_sane(moment) else None


def _is_sane(moment: datetime) -> bool:
    return _FIRST_SANE_YEAR <= moment.year < _LAST_SANE_YEAR


def _retry_after(text: str, cloud_now: datetime) -> float:
    """Seconds to wait, 1 to 3600; 0.0 where the header is missing or says nothing that can be understood."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif (until := _http_date(text)) is not None:
        seconds = (until - cloud_now).total_seconds()
    else:
        return 0.0
    return float(math.ceil(min(max(seconds, 1.0), MAX_RETRY_AFTER)))


def _dig(value: object, *keys: str) -> object:
    """The value under nested keys, None where something on the way is no object."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_hollow(answer: object) -> bool:
    """Whether all values of an answer are null: such a null says nothing of a charger. Empty lists are no values."""
    values = set(map(type, _values(answer)))
    return values == {type(None)}


def _values(answer: object) -> Iterator[object]:
    """All values in an answer that are neither object nor list."""
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
    """The tokens in an answer to sign-in or refresh; what a refresh leaves out stays as before."""
    attributes = _dig(answer, "data", "attributes")
    access = _header_safe(_dig(attributes, "token"))
    ids = (_dig(attributes, "user_id"), _dig(answer, "data", "id"))
    # A text wins wherever it stands, so that no account gets another id than it had before numbers were accepted.
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
    return str(raw) if 0 < raw < _END_OF_IDS else None


def _header_safe(raw: object) -> str | None:
    return raw if isinstance(raw, str) and _HEADER_SAFE.fullmatch(raw) else None


def _group_charger(entry: object) -> GroupCharger | None:
    if not isinstance(entry, dict):
        return None
    try:
        return GroupCharger.from_dict(entry)
    except InvalidFieldValue, MissingField:
        return None


def _echo(answer: object) -> ChargerEcho | None:
    charger = _dig(answer, "data", "chargerData")
    return ChargerEcho.from_dict(charger) if isinstance(charger, dict) else None
