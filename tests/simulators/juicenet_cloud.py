"""The simulated JuiceNet HTTPS API on the loopback interface, for the units of the maker's simulated server.

The API follows docs/protocols/juicebox.md (sections in parentheses). `FIELDS` names the section of each sent field.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
import json
from typing import override

from aiohttp import web

from tests.simulators.http_server import FaultyServer, Json
from tests.simulators.juicebox import State
from tests.simulators.juicebox_server import BoxHub, Unit

SHEET = "docs/protocols/juicebox.md"
ACCOUNT_PATH, UNIT_PATH = "/box_pin", "/box_api_secure"
WORDS = {State.UNPLUGGED: "standby", State.PLUGGED: "plugged", State.CHARGING: "charging"}
"""The API's text for a state; every other state is an error (2.3.2)."""
ENERGY_TO_ADD = 60_000
"""Wh; the need of the car that the owner described (1.4)."""
UPDATE_INTERVAL = 30
GROUP_IDS = "group-"
WEEK_MINUTES = 10080

type JsonObject = dict[str, Json]


def _from(section: str, fields: str) -> dict[str, str]:
    return dict.fromkeys(fields.split(), f"{SHEET}, section {section}")


FIELDS: Mapping[str, Mapping[str, str]] = {
    "get_account_units": _from("1.2", "success") | _from("1.3", "units units.name units.token units.unit_id"),
    "get_state": _from("1.2", "success")
    | _from(
        "1.4",
        """
        ID info_timestamp show_override state charging charging.amps_limit charging.amps_current charging.voltage
        charging.wh_energy charging.savings charging.watt_power charging.seconds_charging
        charging.wh_energy_at_plugin charging.wh_energy_to_add charging.flags charging.co2 charging.co2.nonstop
        charging.co2.actual lifetime lifetime.wh_energy lifetime.savings lifetime.co2 lifetime.co2.nonstop
        lifetime.co2.actual charging_time_left plug_unplug_time target_time override_time default_target_time
        time_last_ping utc_time unit_time update_interval temperature frequency triggers_all triggers_blocking car_id
        """,
    ),
    "get_info": _from("1.2", "success")
    | _from("1.6", "name load_group_id timeZoneId amps_wire_rating amps_unit_rating info_timestamp"),
    "get_schedule": _from("1.2", "success")
    | _from(
        "1.5",
        """
        type weekday weekday.start weekday.end weekday.car_ready_by weekend weekend.start weekend.end
        weekend.car_ready_by info_timestamp ID
        """,
    ),
    "set_limit": _from("1.3", "success"),
    "set_override": _from("1.3", "success"),
    "refusal": _from("1.2", "success error_message error_code"),
}
"""Command, to field, to protocol page and section. Lists add no level."""


class JuiceNetCloud(FaultyServer):
    """A JuiceNet server with accounts by token, and the units that each account sees."""

    def __init__(self, server: BoxHub) -> None:
        super().__init__(server.clock)
        self.server = server
        self.accounts: dict[str, frozenset[str] | None] = {}
        """Account token, to the visible serial numbers; `None` means all."""
        self.error_code: int | None = 100
        """Code of each refusal; `None` omits the code. No list of codes is public (1.2)."""
        self.reverts_after: float | None = None
        """Seconds until the server reverts a limit other than 0, as on some boxes (1.6)."""
        self.windows_zone = "Pacific Standard Time"
        self._reverting: list[Callable[[], None]] = []

    @override
    def routes(self) -> Sequence[web.RouteDef]:
        return [web.post(ACCOUNT_PATH, self._account), web.post(UNIT_PATH, self._unit)]

    @override
    def is_data(self, path: str) -> bool:
        return True

    @override
    async def stop(self) -> None:
        for cancel in self._reverting:
            cancel()
        self._reverting.clear()
        await super().stop()

    def add_account(self, token: str, serials: Iterable[str] | None = None) -> None:
        """Add an account. Without serial numbers, the account sees all units."""
        self.accounts[token] = None if serials is None else frozenset(serials)

    def token(self, serial: str) -> str:
        """Return the secret that gives access to a unit: 32 hexadecimal digits (1.2)."""
        return f"{int(serial) + 0xABCDEF:032x}"

    async def _account(self, request: web.Request) -> web.Response:
        body = _body_of(await request.text())
        if body.get("account_token") not in self.accounts or not body.get("device_id"):
            return self._refuse("unknown account")
        if body.get("cmd") != "get_account_units":
            return self._refuse("unknown command")
        units: list[Json] = [
            {"name": unit.name, "token": self.token(unit.serial), "unit_id": unit.serial}
            for unit in self._units_of(body)
        ]
        return web.json_response({"units": units, "success": True})

    async def _unit(self, request: web.Request) -> web.Response:
        body = _body_of(await request.text())
        if body.get("account_token") not in self.accounts or not body.get("device_id"):
            return self._refuse("unknown account")
        found = [unit for unit in self._units_of(body) if self.token(unit.serial) == body.get("token")]
        commands = {
            "get_state": self._state,
            "get_info": self._info,
            "get_schedule": self._schedule,
            "set_limit": self._set_limit,
            "set_override": self._set_override,
        }
        answer = commands.get(str(body.get("cmd")))
        if not found or answer is None:
            return self._refuse("unknown unit or command")
        last_report = answer(found[0], body)
        return (
            self._refuse("wrong field") if last_report is None else web.json_response({**last_report, "success": True})
        )

    def _units_of(self, body: JsonObject) -> list[Unit]:
        seen = self.accounts[str(body.get("account_token"))]
        return [unit for unit in self.server.units.values() if seen is None or unit.serial in seen]

    def _refuse(self, message: str) -> web.Response:
        code: JsonObject = {} if self.error_code is None else {"error_code": self.error_code}
        return web.json_response({"success": False, "error_message": message, **code})

    def _state(self, unit: Unit, body: JsonObject) -> JsonObject:
        """Answer `get_state` (1.4)."""
        now, values = self.now(), {} if unit.status is None else unit.status.values
        local, drawn = unit.local_epoch(now), values.get("A", 0) / 10
        voltage = values.get("V", 0) / (10 if values.get("V", 0) > 999 else 1)
        watts = drawn * voltage * values.get("p", 1000) / 1000
        left = max(ENERGY_TO_ADD - unit.session_wh, 0)
        allowed = self.server.allowed(unit)
        co2: JsonObject = {"nonstop": 0, "actual": 0}
        return {
            "ID": unit.serial,
            "info_timestamp": int(now.timestamp()),
            "show_override": unit.schedule.custom,
            "state": WORDS.get(unit.state or State.UNPLUGGED, "error") if self.server.seen(unit) else "disconnect",
            "charging": {
                "amps_limit": self._limit(unit),
                "amps_current": drawn,
                "voltage": round(voltage),
                "wh_energy": unit.session_wh,
                "savings": 0,
                "watt_power": round(watts),
                "seconds_charging": self._since_plugging(unit, now),
                "wh_energy_at_plugin": 0,
                "wh_energy_to_add": ENERGY_TO_ADD,
                "flags": 0,
                "co2": co2,
            },
            "lifetime": {"wh_energy": unit.lifetime_wh, "savings": 0, "co2": co2},
            "charging_time_left": int(left / watts * 3600) if watts > 0 else 0,
            "plug_unplug_time": None if unit.plugged_at is None else int(unit.plugged_at.timestamp()),
            "target_time": max(unit.override_time, local),
            "override_time": unit.override_time,
            "default_target_time": self._next_opening(unit, now),
            "time_last_ping": self._last_ping(unit, now),
            "utc_time": int(now.timestamp()),
            "unit_time": local,
            "update_interval": UPDATE_INTERVAL,
            "temperature": values.get("T", 20),
            "frequency": values.get("f", 6000),
            "triggers_all": 1 if allowed else 9,
            "triggers_blocking": self._blocking(unit, now),
            "car_id": 0,
        }

    def _limit(self, unit: Unit) -> int:
        limits = (unit.wire_rating, unit.unit_rating, unit.limit)
        return min(limit for limit in limits if limit is not None)

    def _since_plugging(self, unit: Unit, now: datetime) -> int:
        if unit.plugged_at is None or unit.state is State.UNPLUGGED:
            return 0
        return int((now - unit.plugged_at).total_seconds())

    def _last_ping(self, unit: Unit, now: datetime) -> Json:
        if unit.heard_at is None:
            return None
        return int(now.timestamp() - (self.clock.monotonic() - unit.heard_at))

    def _blocking(self, unit: Unit, now: datetime) -> int:
        if unit.limit == 0:
            return 8
        return int(unit.blocked_by_schedule(now))

    def _next_opening(self, unit: Unit, now: datetime) -> int:
        """Return the start of the next window in the unit's seconds, or now if there is no next window."""
        before = unit.blocked_by_schedule(now)
        for minute in range(1, WEEK_MINUTES + 1):
            moment = (now + timedelta(minutes=minute)).replace(second=0)
            blocked = unit.blocked_by_schedule(moment)
            if before and not blocked:
                return unit.local_epoch(moment)
            before = blocked
        return unit.local_epoch(now)

    def _info(self, unit: Unit, body: JsonObject) -> JsonObject:
        """Answer `get_info` (1.6) without personal data."""
        group: JsonObject = {} if unit.group is None else {"load_group_id": GROUP_IDS + unit.group}
        return {
            "name": unit.name,
            "timeZoneId": self.windows_zone,
            "amps_wire_rating": unit.wire_rating,
            "amps_unit_rating": unit.unit_rating,
            "info_timestamp": int(self.now().timestamp()),
            **group,
        }

    def _schedule(self, unit: Unit, body: JsonObject) -> JsonObject:
        """Answer `get_schedule` (1.5)."""
        weekday, weekend = (
            {"start": day.start, "end": day.end, "car_ready_by": day.car_ready_by}
            for day in (unit.schedule.weekday, unit.schedule.weekend)
        )
        return {
            "type": "custom" if unit.schedule.custom else "disabled",
            "weekday": dict(weekday),
            "weekend": dict(weekend),
            "info_timestamp": int(self.now().timestamp()),
            "ID": unit.serial,
        }

    def _set_limit(self, unit: Unit, body: JsonObject) -> JsonObject | None:
        """Set the limit (1.3); 0 means off. Return `None` if the field is missing or no integer."""
        amperes = _whole(body.get("amperage"))
        if amperes is None:
            return None
        before, unit.limit = unit.limit, amperes
        if self.reverts_after is not None and amperes != 0:

            def revert() -> None:
                unit.limit = before

            self._reverting.append(self.clock.call_later(self.reverts_after, revert))
        return {}

    def _set_override(self, unit: Unit, body: JsonObject) -> JsonObject | None:
        """Set the override (1.4). Return `None` if one of the three fields is missing or no integer."""
        fields = [_whole(body.get(key)) for key in ("override_time", "energy_at_plugin", "energy_to_add")]
        if fields[0] is None or None in fields:
            return None
        unit.override_time = fields[0]
        return {}


def _whole(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _body_of(text: str) -> JsonObject:
    """Return the JSON object of a request body. Raise `HTTPBadRequest` for any other body."""
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise web.HTTPBadRequest from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest
    return body
