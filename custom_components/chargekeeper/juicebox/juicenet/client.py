"""Client of the JuiceNet HTTPS API, for servers that still run it at an address that the user entered.

It parses payloads tolerantly and raises the common errors; its callers decide when to ask and whether to retry.
Protocol facts are from docs/protocols/juicebox.md; sections are named where they matter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from enum import Enum, IntEnum, StrEnum, auto
import json
import logging
import re
from urllib.parse import urlsplit

import aiohttp
from mashumaro import DataClassDictMixin, field_options
from mashumaro.exceptions import InvalidFieldValue, MissingField

from ...core.clock import Clock
from ...core.coerce import optional_float, optional_int, optional_str
from ...core.errors import ChargerError, LoginRejected, NoConnection, NotAllowed, TransportBusy, TransportDown
from ...core.limits import HIGHEST_CURRENT, MINIMUM_CURRENT
from ...core.model import Schedule, Window

REQUEST_TIMEOUT = 10.0
"""Seconds for one request, connecting and reading included."""

MAX_BODY_BYTES = 1024 * 1024
MAX_RETRY_AFTER = 3600.0
WEEKDAYS = frozenset(range(5))
WEEKEND = frozenset({5, 6})
DAY_MINUTES = 1440

_LOGGER = logging.getLogger(__name__)
_EARLIEST = 1_420_070_400
_LATEST = 4_102_444_800  # the years 2015 to 2099; other times are errors
_LATEST_OVERRIDE = 2**31 - 1  # a client's "never", far in the future
_SERIAL = re.compile(r"\d{9,30}", re.ASCII)
_SECRET = re.compile(r"[\x21-\x7e]{1,256}")
_DIGITS = re.compile(r"\d{1,6}", re.ASCII)


class Override(StrEnum):
    """What the override of a unit does (section 1.4)."""

    NONE = "none"
    """The schedule applies."""
    CHARGE_NOW = "charge_now"
    NOT_BEFORE = "not_before"
    """Charging is blocked until a future time."""


class Blocking(IntEnum):
    """`triggers_blocking`: what blocks a unit (section 1.4)."""

    NOTHING = 0
    SCHEDULE = 1
    SWITCHED_OFF = 8


# Tolerant fields like those of `core.coerce`, needed for JuiceNet only.


def _optional_moment(raw: object) -> datetime | None:
    """Parse seconds since 1970 into an aware datetime."""
    seconds = optional_float(_EARLIEST, _LATEST)(raw)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _required_serial(raw: object) -> str:
    """Parse a serial number. Raises ValueError for anything else: a box without a serial number is unusable."""
    if not isinstance(raw, str) or not _SERIAL.fullmatch(raw):
        raise ValueError("no unit id")
    return raw


def _required_token(raw: object) -> str:
    """Parse a token. Raises ValueError for anything else: requests for a box need its token."""
    if not isinstance(raw, str) or not _SECRET.fullmatch(raw):
        raise ValueError("no token")
    return raw


def _required_word(raw: object) -> str:
    """Parse a state. Raises ValueError for anything else: an answer without a state is unusable."""
    if (word := optional_str(raw)) is None:
        raise ValueError("no state")
    return word


def _required_minute(raw: object) -> int:
    """Parse a minute of a day. Raises ValueError for anything else, so that no window is invented."""
    if (minute := optional_int(0, DAY_MINUTES)(raw)) is None:
        raise ValueError("no minute of a day")
    return minute


def _blocking(raw: object) -> Blocking | None:
    code = optional_int(0, max(Blocking))(raw)
    return Blocking(code) if code in set(Blocking) else None


def _optional[T](key: str, parse: Callable[[object], T | None]) -> T | None:
    """Return a field that is None if it is missing, null, of the wrong type or out of range."""
    return field(default=None, metadata=field_options(alias=key, deserialize=parse))


_amperes = optional_float(0, 200)
_watt_hours = optional_float(0, 1e10)


@dataclass(frozen=True, slots=True)
class Unit(DataClassDictMixin):
    """Box of the account (section 1.3). `token` gives access to the box and is a secret."""

    serial: str = field(metadata=field_options(alias="unit_id", deserialize=_required_serial))
    token: str = field(repr=False, metadata=field_options(alias="token", deserialize=_required_token))
    name: str | None = _optional("name", optional_str)


@dataclass(frozen=True, slots=True)
class Charging(DataClassDictMixin):
    """`charging` of a state (section 1.4): A, V, W, Wh and s; energy and time count from plugging in."""

    amps_limit: float | None = _optional("amps_limit", _amperes)
    amps_current: float | None = _optional("amps_current", _amperes)
    voltage: float | None = _optional("voltage", optional_float(0, 1000))
    watt_power: float | None = _optional("watt_power", optional_float(0, 100_000))
    wh_energy: float | None = _optional("wh_energy", _watt_hours)
    wh_energy_to_add: int | None = _optional("wh_energy_to_add", optional_int(0, 10**9))
    seconds_charging: float | None = _optional("seconds_charging", optional_float(0, 1e9))


def _charging(raw: object) -> Charging:
    return Charging.from_dict(raw) if isinstance(raw, dict) else Charging()


def _lifetime(raw: object) -> float | None:
    return _watt_hours(raw.get("wh_energy")) if isinstance(raw, dict) else None


@dataclass(frozen=True, slots=True)
class State(DataClassDictMixin):
    """State of a unit (section 1.4).

    `word` is `standby`, `plugged`, `charging`, `error` or `disconnect`, or any other text of the server. `seen_at` is
    when the box last checked in, by the clock of the server, which reports `server_now`. `unit_time` and
    `override_time` are seconds in the *unit's local time*, comparable with each other only; `override_time` is 0
    without an override. `lifetime` is in Wh, `frequency` in Hz, `temperature` in °C.
    """

    word: str = field(metadata=field_options(alias="state", deserialize=_required_word))
    charging: Charging = field(
        default=Charging(),
        metadata=field_options(alias="charging", deserialize=_charging),
    )
    lifetime: float | None = _optional("lifetime", _lifetime)
    override_time: int | None = _optional("override_time", optional_int(0, _LATEST_OVERRIDE))
    unit_time: int | None = _optional("unit_time", optional_int(_EARLIEST, _LATEST))
    seen_at: datetime | None = _optional("time_last_ping", _optional_moment)  # noqa: RUF009 - a field
    server_now: datetime | None = _optional("utc_time", _optional_moment)  # noqa: RUF009 - a field
    temperature: float | None = _optional("temperature", optional_float(-60, 150))
    frequency: float | None = _optional(
        "frequency", lambda raw: None if (f := optional_float(1000, 10_000)(raw)) is None else f / 100
    )
    blocking: Blocking | None = _optional("triggers_blocking", _blocking)  # noqa: RUF009 - a field

    @property
    def silence(self) -> float | None:
        """Seconds since the box last checked in, by the server's clock; None if the answer lacks them."""
        if self.seen_at is None or self.server_now is None:
            return None
        return max((self.server_now - self.seen_at).total_seconds(), 0.0)

    @property
    def override(self) -> Override | None:
        """Present effect of the override; None if the answer lacks it."""
        if self.override_time is None:
            return None
        if self.override_time == 0:
            return Override.NONE
        if self.unit_time is None:
            return None
        return Override.CHARGE_NOW if self.override_time <= self.unit_time else Override.NOT_BEFORE


@dataclass(frozen=True, slots=True)
class Info(DataClassDictMixin):
    """Installation of a unit (section 1.6), without personal data; ratings in A.

    `wire_rating` is of the installation, `unit_rating` of the hardware.
    """

    wire_rating: float | None = _optional("amps_wire_rating", optional_float(1, 200))
    unit_rating: float | None = _optional("amps_unit_rating", optional_float(1, 200))
    load_group: str | None = _optional("load_group_id", optional_str)


@dataclass(frozen=True, slots=True)
class Day(DataClassDictMixin):
    """Window of a day, in minutes 0 to 1440 of local time."""

    start: int = field(metadata=field_options(deserialize=_required_minute))
    end: int = field(metadata=field_options(deserialize=_required_minute))


@dataclass(frozen=True, slots=True)
class Tou(DataClassDictMixin):
    """When a unit may charge (section 1.5): at any time, or in a window on weekdays and one on the weekend."""

    enabled: bool
    weekday: Day
    weekend: Day

    def windows(self, zone: str) -> Schedule:
        """Return the schedule as windows of `core`; `zone` is the IANA name of the unit's time zone.

        A window whose end is not after its start consists of two parts of the *same* day: from the start to midnight,
        and from midnight to the end. So there are up to four windows, of slots 0 and 1 (weekdays), 2 and 3 (weekend).
        """
        found = []
        for first_slot, days, day in ((0, WEEKDAYS, self.weekday), (2, WEEKEND, self.weekend)):
            whole = [(day.start, day.end)] if day.start < day.end else [(day.start, DAY_MINUTES), (0, day.end)]
            parts = ((slot, part) for slot, part in enumerate(whole, first_slot) if part[0] < part[1])
            found += [Window(slot, self.enabled, days, _time(start), _time(end), zone) for slot, (start, end) in parts]
        return tuple(found)


def _time(minute: int) -> time:
    """Return the time of day; minute 1440 is midnight."""
    return time(minute // 60 % 24, minute % 60)


class _Kind(Enum):
    """What a request concerns: the meaning of a refusal depends on it."""

    ACCOUNT = auto()
    UNIT = auto()


class JuiceNetClient:
    """Client of a JuiceNet server for one account (sections 1.2 and 1.3).

    All calls raise common errors:

    - `NoConnection("unreachable")`, `TransportDown("timeout" | "broken_answer" | "server_error" | "bad_answer")`;
    - `TransportBusy("throttled", retry_after)` on 429; `retry_after` is 1 to 3600 s, or 0.0 if the server named none;
    - `LoginRejected("invalid_auth")` if the server refuses to list the account's units;
    - `NotAllowed("refused")` if the server refuses a request about one unit.

    Clients of the old server asked at most every 30 s. No error or log line holds a token, an address or a serial
    number.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        server_url: str,
        account_token: str,
        *,
        device_id: str,
        version: str | None = None,
    ) -> None:
        """Create a client. `device_id` names it to the server: any lasting text, such as a random UUID.

        Raises:
            ValueError: `server_url` is not the address of a web server.
        """
        self._session = session
        self._clock = clock
        self._server_url = normalize_server_url(server_url)
        self._account_token = account_token
        self._device_id = device_id
        self._user_agent = f"ChargeKeeper/{version}" if version else "ChargeKeeper"
        self._dropped_logged = False

    async def units(self) -> tuple[Unit, ...]:
        """Return the account's boxes, by serial number.

        Entries without a usable serial number or token are left out.
        """
        entries = (await self._call(_Kind.ACCOUNT, "get_account_units")).get("units")
        if not isinstance(entries, list):
            raise _bad_answer("no units")
        found: dict[str, Unit] = {}
        for entry in entries:
            if (unit := _unit(entry)) is not None:
                found.setdefault(unit.serial, unit)
            elif not self._dropped_logged:
                self._dropped_logged = True
                _LOGGER.warning("Unusable entries in the account's list of JuiceNet units are ignored")
        if entries and not found:
            raise _bad_answer("no unit with a serial number and a token")
        return tuple(found[serial] for serial in sorted(found))

    async def state(self, unit: Unit) -> State:
        """Return the state of a box (section 1.4)."""
        try:
            return State.from_dict(await self._call(_Kind.UNIT, "get_state", unit))
        except InvalidFieldValue, MissingField:
            raise _bad_answer("no state") from None

    async def info(self, unit: Unit) -> Info:
        """Return the installation of a box (section 1.6)."""
        return Info.from_dict(await self._call(_Kind.UNIT, "get_info", unit))

    async def schedule(self, unit: Unit) -> Tou:
        """Return when the box may charge (section 1.5)."""
        answer = await self._call(_Kind.UNIT, "get_schedule", unit)
        if answer.get("type") not in {"custom", "disabled"}:
            raise _bad_answer("no schedule")
        try:
            return Tou.from_dict({**answer, "enabled": answer["type"] == "custom"})
        except InvalidFieldValue, MissingField:
            raise _bad_answer("no windows") from None

    async def set_limit(self, unit: Unit, amps: int) -> None:
        """Let the box charge with at most `amps` (6 to 80 A), or not at all with 0 (section 1.6).

        Some servers reverted any limit but 0 after seconds.

        Raises:
            ValueError: for any other current, before a request is sent.
        """
        if amps != 0 and not MINIMUM_CURRENT <= amps <= HIGHEST_CURRENT:
            raise ValueError(f"no limit: {amps} A")
        await self._call(_Kind.UNIT, "set_limit", unit, {"amperage": amps})

    async def charge_now(self, unit: Unit) -> None:
        """Let the box charge now and ignore its schedule (section 1.4), with two requests.

        `override_time` must lie in the past by the clock of the box. The first request therefore reads that clock. The
        time 0 would end the override.
        """
        state = await self.state(unit)
        if state.unit_time is None or state.charging.wh_energy_to_add is None:
            raise _bad_answer("no time of the unit, or no energy to add")
        await self._override(unit, state.unit_time, state.charging.wh_energy_to_add)

    async def end_override(self, unit: Unit) -> None:
        """Let the box follow its schedule again (section 1.4)."""
        await self._override(unit, 0, 0)

    async def _override(self, unit: Unit, override_time: int, energy: int) -> None:
        fields = {"override_time": override_time, "energy_at_plugin": 0, "energy_to_add": energy}
        await self._call(_Kind.UNIT, "set_override", unit, fields)

    async def _call(
        self, kind: _Kind, command: str, unit: Unit | None = None, fields: Mapping[str, object] | None = None
    ) -> dict[object, object]:
        """Send one request and return its answer if it reports `success`."""
        body: dict[str, object] = {
            "cmd": command,
            "device_id": self._device_id,
            "account_token": self._account_token,
            **(fields or {}),
        }
        if unit is not None:
            body["token"] = unit.token
        url = f"{self._server_url}/{'box_pin' if kind is _Kind.ACCOUNT else 'box_api_secure'}"
        answer = _object(await self._request(kind, url, body))
        if answer.get("success") is True:
            return answer
        if answer.get("success") is not False:
            raise _bad_answer("no word of success")
        code = optional_int(-(10**9), 10**9)(answer.get("error_code"))
        raise _refusal(kind, "" if code is None else f"code {code}")

    async def _request(self, kind: _Kind, url: str, body: Mapping[str, object]) -> bytes:
        try:
            async with self._clock.timeout(REQUEST_TIMEOUT):
                return await self._exchange(kind, url, body)
        except TimeoutError:
            raise TransportDown("timeout") from None
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as err:
            raise NoConnection("unreachable", type(err).__name__) from None
        except (aiohttp.ClientError, OSError) as err:
            raise TransportDown("broken_answer", type(err).__name__) from None

    async def _exchange(self, kind: _Kind, url: str, body: Mapping[str, object]) -> bytes:
        headers = {
            "Accept": "application/json",
            "User-Agent": self._user_agent,
            # Requests are half a minute apart: the next one would often find the idle connection closed.
            "Connection": "close",
        }
        async with self._session.post(
            url, headers=headers, json=body, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=None)
        ) as response:
            detail = f"HTTP {response.status}"
            match response.status:
                case 200:
                    return await _read(response)
                case 401 | 403:
                    raise _refusal(kind, detail)
                case 429:
                    raise TransportBusy("throttled", _retry_after(response.headers.get("Retry-After", "")), detail)
                case status if status >= 400:
                    raise TransportDown("server_error", detail)
                case _:
                    raise _bad_answer(detail)


def normalize_server_url(text: str) -> str:
    """Return a server's address as it is used and stored: scheme, host, port and path, without a final slash.

    Raises:
        ValueError: the text is no http or https address, or contains a name, a password, a query or a fragment.
    """
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("no address of a web server")
    if parts.query or parts.fragment or parts.port == 0:
        raise ValueError("more than the address of a web server")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}".rstrip("/")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise _bad_answer("too long")
    return bytes(content)


def _object(content: bytes) -> dict[object, object]:
    try:
        answer: object = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise _bad_answer(type(err).__name__) from None
    if not isinstance(answer, dict):
        raise _bad_answer("no object")
    return answer


def _unit(entry: object) -> Unit | None:
    if not isinstance(entry, dict):
        return None
    try:
        return Unit.from_dict(entry)
    except InvalidFieldValue, MissingField:
        return None


def _bad_answer(detail: str) -> TransportDown:
    return TransportDown("bad_answer", detail)


def _refusal(kind: _Kind, detail: str) -> ChargerError:
    return LoginRejected("invalid_auth", detail) if kind is _Kind.ACCOUNT else NotAllowed("refused", detail)


def _retry_after(text: str) -> float:
    """Return the seconds to wait, 1 to 3600; 0.0 if the header is missing or no number of seconds."""
    text = text.strip()
    return min(max(float(text), 1.0), MAX_RETRY_AFTER) if _DIGITS.fullmatch(text) else 0.0
