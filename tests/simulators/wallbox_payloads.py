"""The answers of the Wallbox cloud about a charger: their real shapes, with invented values.

All fields are listed in docs/protocols/wallbox-cloud.md; `fields.py` names the section of each.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from tests.simulators.http_server import Json
from tests.simulators.world import Eco, Report, SimulatedCharger, State, Window

type JsonObject = dict[str, Json]

OFFLINE = 0
STATUS_IDS = {
    State.FREE: 161,
    State.LOCKED: 209,
    State.LOCKED_WITH_CAR: 210,
    State.WAITING_SCHEDULE: 179,
    State.CHARGING: 194,
    State.PAUSED: 182,
    State.WAITING_CAR: 180,
    State.UPDATING: 166,
    State.ERROR: 14,
    State.AWAY: OFFLINE,
}
"""The code that the cloud shows for a state (section 8)."""
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
KM_PER_KWH = 6
CONFIG_SYNC_LAG = timedelta(days=1)  # `sync_timestamp` is no heartbeat (section 5.3)
USUAL: JsonObject = {"name": "", "type": 0}
"""The fields of a schedule entry that `Window` does not have, with their usual values (section 7.1)."""
USUAL_2026: JsonObject = USUAL | {"repeat": 1, "target": 0}
"""The same fields in 2026 (section 7.2 names the fields; the values are invented)."""
BASIC_FEATURES = ("DEFAULT_FEATURE", "POWER_BOOST", "MOBILE_CONNECTIVITY", "AUTOMATIC_REPORTING", "STATISTICS")
BUSINESS_FEATURES = ("CHARGER_SUBGROUPS", "USER_SUBGROUPS", "DYNAMIC_POWER_SHARING", "PAYMENTS", "BULK_ACTIONS")


@dataclass(eq=False, kw_only=True)
class Account:
    """A user of the cloud. With `None` as `role`, the cloud sends no role and forbids nothing."""

    email: str
    password: str
    number: int
    uuid: str
    role: str | None = "super-admin"
    plan: str = "Basic"
    serials: frozenset[str] | None = None
    """The chargers shared with the account at first; `None` means all."""
    unshared: set[str] = field(default_factory=set)
    """Chargers no longer shared with the account: missing in the groups, 403 on data."""
    look_only: set[str] = field(default_factory=set)
    """Chargers listed with `access` false: the account may read them, but not control them."""

    def sees(self, serial: str) -> bool:
        """Return True if the charger is shared with the account."""
        return (self.serials is None or serial in self.serials) and serial not in self.unshared

    @property
    def features(self) -> tuple[str, ...]:
        """The features of the plan (section 4.5)."""
        return BASIC_FEATURES + (BUSINESS_FEATURES if self.plan == "Business" else ())


@dataclass(frozen=True, slots=True)
class Group:
    """A "Space" with its chargers."""

    number: int
    name: str

    @property
    def uid(self) -> str:
        """The long ID of the group."""
        return f"aaaaaaaa-0000-4000-8000-{self.number:012}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A charger as the cloud shows it: the last report, its time by the cloud's clock, and the group."""

    charger: SimulatedCharger
    report: Report
    group: Group
    status_id: int | None
    last_sync: datetime

    @property
    def number(self) -> int:
        """The charger's ID in URLs and payloads: the serial number (section 3)."""
        return int(self.charger.serial)

    @property
    def uid(self) -> str:
        """The long ID of the charger."""
        return f"bbbbbbbb-0000-4000-8000-{self.number:012}"


def tokens(account: Account, access: tuple[str, int], refresh: tuple[str, int]) -> JsonObject:
    """Build the answer to a sign-in or refresh (2.1): each token with its expiry in epoch milliseconds."""
    return {
        "data": {
            "type": "user_token",
            "id": account.uuid,
            "attributes": {
                "token": access[0],
                "ttl": access[1],
                "user_id": account.uuid,
                "refresh_token": refresh[0],
                "refresh_token_ttl": refresh[1],
            },
        }
    }


def groups(shown: Iterable[Shown], account: Account) -> JsonObject:
    """Build the answer to `GET /v3/chargers/groups` (4.1)."""
    members: dict[Group, list[Json]] = {}
    for each in shown:
        members.setdefault(each.group, []).append(_listed(each, account))
    return {
        "result": {
            "groups": [
                {"id": group.number, "uid": group.uid, "name": group.name, "chargers": chargers}
                for group, chargers in members.items()
            ]
        }
    }


def _listed(shown: Shown, account: Account) -> JsonObject:
    charger, report = shown.charger, shown.report
    return {
        "id": shown.number,
        "uid": shown.uid,
        "uniqueIdentifier": None,
        "name": report.name,
        "access": charger.serial not in account.look_only,
        "image": None,
        "chargerType": charger.charger_type,
        "status": shown.status_id,
        "state": None,
        "locked": int(report.locked),
        "operationMode": _operation_mode(ocpp=report.ocpp),
        "remoteAction": 0,
        "connectionType": "wifi",
        "ocppReady": "ocpp_1.6j",
        "ocppConnectionStatus": _ocpp_status(ocpp=report.ocpp),
        "midStatus": 0,
        "maxChargingCurrent": report.max_charging_current,
        "addedEnergy": round(report.session_kwh, 3),
        "chargingPower": round(report.power_kw, 3),
        "chargingTime": int(report.session_seconds),
        "energyUnit": "kWh",
        "software": {
            "currentVersion": report.firmware,
            "latestVersion": charger.firmware_latest,
            "updateAvailable": report.firmware != charger.firmware_latest,
        },
    }


def charger_object(shown: Shown, users: Iterable[Account]) -> JsonObject:
    """Build the answer to `GET` and `PUT /v2/charger/{id}` (4.2, 6.1)."""
    charger, report = shown.charger, shown.report
    return {
        "data": {
            "chargerData": {
                "id": shown.number,
                "uid": shown.uid,
                "serialNumber": charger.serial,
                "name": report.name,
                "group": shown.group.number,
                "groupUid": shown.group.uid,
                "chargerType": charger.charger_type,
                "softwareVersion": report.firmware,
                "status": shown.status_id,
                "ocppConnectionStatus": _ocpp_status(ocpp=report.ocpp),
                "ocppReady": "ocpp_1.6j",
                "locked": int(report.locked),
                "maxChargingCurrent": report.max_charging_current,
                "maxAvailableCurrent": charger.max_available_current,
                "lastConnection": int(shown.last_sync.timestamp()),
                "lastSync": {
                    "date": shown.last_sync.strftime("%Y-%m-%d %H:%M:%S.%f"),
                    "timezone_type": 3,
                    "timezone": "UTC",
                },
                "wifiSignal": 72,
                "connectionType": "wifi",
                "chargingType": "AC",
                "connectorType": "Type 2/Cable",
                "powerSharingStatus": 256,
                "resume": {
                    "totalUsers": 1,
                    "totalSessions": report.sessions,
                    "chargingTime": int(report.lifetime_seconds),
                    "totalEnergy": str(round(report.lifetime_kwh * 1000)),  # Wh, although `energyUnit` is kWh
                    "energyUnit": "kWh",
                },
            },
            "users": [_user(account) for account in users],
        }
    }


def _user(account: Account) -> JsonObject:
    return {
        "id": account.number,
        "name": "Ann",
        "surname": "Example",
        "email": account.email,
        "profile": account.role,
        "assigned": 1,
        "createdByUser": False,
    }


def status(shown: Shown, account: Account) -> JsonObject:
    """Build the answer to `GET /chargers/status/{id}` (5)."""
    charger, report = shown.charger, shown.report
    return {
        "user_id": account.number,
        "user_name": "Ann",
        "car_id": 1,
        "car_plate": "EX-AM 1",
        "depot_price": report.energy_price,
        "depot_name": shown.group.name,
        "last_sync": shown.last_sync.strftime("%Y-%m-%d %H:%M:%S"),
        "power_sharing_status": 256,
        "mid_status": 4,
        "status_id": shown.status_id,
        "name": report.name,
        "charging_power": round(report.power_kw, 3),
        "max_available_power": charger.max_available_current,  # in A, despite its name
        "charging_speed": 0,
        "added_range": int(report.session_kwh * KM_PER_KWH),
        "added_energy": round(report.session_kwh, 3),
        "added_green_energy": 0,
        "added_grid_energy": round(report.session_kwh, 3),
        "added_discharged_energy": 0,
        "charging_time": int(report.session_seconds),
        "finished": report.state is State.FREE,
        "cost": round(report.cost, 2),
        "current_mode": charger.phases,
        "preventive_discharge": 0,
        "state_of_charge": None,
        "ocpp_status": _ocpp_status(ocpp=report.ocpp),
        "config_data": config(shown, account),
    }


def config(shown: Shown, account: Account) -> JsonObject:
    """Build the answer to `GET` and `POST /chargers/config/{id}`, and `config_data` of the status (5.3)."""
    charger, report = shown.charger, shown.report
    found: JsonObject = {
        "charger_id": shown.number,
        "uid": shown.uid,
        "serial_number": charger.serial,
        "name": report.name,
        "locked": int(report.locked),
        "auto_lock": 0,
        "auto_lock_time": 60,
        "multiuser": 0,
        "max_charging_current": report.max_charging_current,
        "max_available_current": charger.max_available_current,
        "icp_max_current": report.icp_max_current,
        "home_sharing": int(report.home_sharing),
        "grid_type": 1,
        "energy_price": report.energy_price,
        "energyCost": {"value": report.energy_price, "inheritedGroupId": shown.group.number},
        "power_sharing_config": 256,
        "connection_type": 1,
        "live_refresh_time": 30,
        "update_refresh_time": 300,
        "remote_action": 0,
        "plan": {"plan_name": account.plan, "features": list(account.features)},
        "sync_timestamp": int((shown.last_sync - CONFIG_SYNC_LAG).timestamp()),
        "currency": {"id": 1, "name": "Euro Member Countries", "symbol": "€", "code": "EUR"},
        "timezone": "Europe/Berlin",
        "group_id": shown.group.number,
        "zipcode": "00000",
        "sim_iccid": "0000000000000000000",
        "software": {
            "updateAvailable": report.firmware != charger.firmware_latest,
            "currentVersion": report.firmware,
            "latestVersion": charger.firmware_latest,
            "fileName": "firmware.tar",
        },
        "operation_mode": _operation_mode(ocpp=report.ocpp),
        "ocpp_ready": "ocpp_1.6j",
        "phase_switch": {"enabled": False},
    }
    if charger.part_number is not None:
        found["part_number"] = charger.part_number
    if report.eco is not None:
        found["ecosmart"] = _ecosmart(report.eco)
    return found


def schedules(shown: Shown, owner: Account, usual: JsonObject, first_id: int, last: int) -> JsonObject:
    """Build the answer to `GET /chargers/{id}/schedules` (7.1, 7.2)."""
    return {
        "schedules": [
            usual | _schedule(shown, owner, first_id + position, window)
            for position, window in enumerate(shown.report.schedules)
        ],
        "lastSchedule": last,
    }


def _schedule(shown: Shown, owner: Account, number: int, window: Window) -> JsonObject:
    entry: JsonObject = {
        "uid": f"cccccccc-{number:04}-4000-8000-{shown.number:012}",
        "id": number,
        "chargerId": shown.number,
        "enable": window.enabled,
        "start": window.start,
        "stop": window.stop,
        "max_current": window.max_current,
        "max_energy": window.max_energy,
        "days": {name: day in window.days for day, name in enumerate(DAYS)},
        "created_at": window.created_at,
        "user_uid": owner.uuid,
    }
    return entry | cast("JsonObject", dict(window.extra))


def _ecosmart(eco: Eco) -> JsonObject:
    return {"enabled": eco.enabled, "mode": eco.mode, "percentage": eco.percentage}


def _operation_mode(*, ocpp: bool) -> str:
    return "ocpp" if ocpp else "wallbox"


def _ocpp_status(*, ocpp: bool) -> int:
    return 4 if ocpp else 1
