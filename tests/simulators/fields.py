"""The section of the protocol page that documents each field that the simulated Wallbox cloud emits.

A field is written as its object keys from the outside in; lists do not count. A test compares every answer with this
table: each field has a source, and each source has a field.
"""

from collections.abc import Mapping

PROTOCOL_PAGE = "docs/protocols/wallbox-cloud.md"


def _from(section: str, fields: str, *, under: str = "") -> dict[str, str]:
    """Map each of the blank-separated `fields` to the one section that documents all of them."""
    return {under + name: f"{PROTOCOL_PAGE}, section {section}" for name in fields.split()}


_TOKENS = _from(
    "2.1",
    """
    data data.type data.id data.attributes data.attributes.token data.attributes.ttl data.attributes.user_id
    data.attributes.refresh_token data.attributes.refresh_token_ttl
    """,
)
_GROUPS = _from(
    "4.1",
    """
    result result.groups result.groups.id result.groups.uid result.groups.name result.groups.chargers
    result.groups.chargers.id result.groups.chargers.uid result.groups.chargers.uniqueIdentifier
    result.groups.chargers.name result.groups.chargers.access result.groups.chargers.image
    result.groups.chargers.chargerType result.groups.chargers.status result.groups.chargers.state
    result.groups.chargers.locked result.groups.chargers.operationMode result.groups.chargers.remoteAction
    result.groups.chargers.connectionType result.groups.chargers.ocppReady
    result.groups.chargers.ocppConnectionStatus result.groups.chargers.midStatus
    result.groups.chargers.maxChargingCurrent result.groups.chargers.addedEnergy
    result.groups.chargers.chargingPower result.groups.chargers.chargingTime result.groups.chargers.energyUnit
    result.groups.chargers.software result.groups.chargers.software.currentVersion
    result.groups.chargers.software.latestVersion result.groups.chargers.software.updateAvailable
    """,
)
_CHARGER = _from(
    "4.2",
    """
    data data.chargerData data.chargerData.id data.chargerData.uid data.chargerData.serialNumber
    data.chargerData.name data.chargerData.group data.chargerData.groupUid data.chargerData.chargerType
    data.chargerData.softwareVersion data.chargerData.status data.chargerData.ocppConnectionStatus
    data.chargerData.ocppReady data.chargerData.locked data.chargerData.maxChargingCurrent
    data.chargerData.maxAvailableCurrent data.chargerData.lastConnection data.chargerData.lastSync
    data.chargerData.lastSync.date data.chargerData.lastSync.timezone_type data.chargerData.lastSync.timezone
    data.chargerData.wifiSignal data.chargerData.connectionType data.chargerData.chargingType
    data.chargerData.connectorType data.chargerData.powerSharingStatus data.chargerData.resume
    data.chargerData.resume.totalUsers data.chargerData.resume.totalSessions data.chargerData.resume.chargingTime
    data.chargerData.resume.totalEnergy data.chargerData.resume.energyUnit data.users data.users.id
    data.users.name data.users.surname data.users.email data.users.profile data.users.assigned
    data.users.createdByUser
    """,
)
_CONFIG = (
    ("5.1", "grid_type"),
    (
        "5.3",
        """
        charger_id uid serial_number name locked auto_lock auto_lock_time multiuser max_charging_current
        max_available_current icp_max_current home_sharing energy_price energyCost energyCost.value
        energyCost.inheritedGroupId power_sharing_config connection_type live_refresh_time update_refresh_time
        remote_action plan plan.plan_name plan.features sync_timestamp currency currency.id currency.name
        currency.symbol currency.code timezone group_id zipcode sim_iccid software software.updateAvailable
        software.currentVersion software.latestVersion software.fileName operation_mode ocpp_ready
        phase_switch phase_switch.enabled part_number ecosmart ecosmart.enabled ecosmart.mode
        ecosmart.percentage
        """,
    ),
)
_STATUS = _from(
    "5.2",
    """
    user_id user_name car_id car_plate depot_price depot_name last_sync power_sharing_status mid_status status_id
    name charging_power max_available_power charging_speed added_range added_energy added_green_energy
    added_grid_energy added_discharged_energy charging_time finished cost current_mode preventive_discharge
    state_of_charge ocpp_status
    """,
)
_SCHEDULES = _from(
    "7.1",
    """
    schedules schedules.uid schedules.id schedules.chargerId schedules.enable schedules.name schedules.type
    schedules.start schedules.stop schedules.max_current schedules.max_energy schedules.days schedules.days.monday
    schedules.days.tuesday schedules.days.wednesday schedules.days.thursday schedules.days.friday
    schedules.days.saturday schedules.days.sunday schedules.created_at schedules.user_uid lastSchedule
    """,
) | _from("7.2", "schedules.repeat schedules.target")


def _config(under: str = "") -> dict[str, str]:
    return {name: source for section, fields in _CONFIG for name, source in _from(section, fields, under=under).items()}


FIELDS: Mapping[str, Mapping[str, str]] = {
    "GET /users/signin": _TOKENS,
    "GET /users/refresh-token": _TOKENS,
    "GET /v3/chargers/groups": _GROUPS,
    "GET /chargers/status/{id}": _STATUS | _from("5.1", "config_data") | _config(under="config_data."),
    "GET /v2/charger/{id}": _CHARGER,
    "PUT /v2/charger/{id}": _CHARGER,
    "GET /chargers/config/{id}": _config(),
    "POST /chargers/config/{id}": _config(),
    "POST /v3/chargers/{id}/remote-action": _from("6.4", "action"),
    "GET /chargers/{id}/schedules": _SCHEDULES,
    "POST /chargers/{id}/schedules": _from("7.2", "sync_timestamp error"),
    "PUT /v4/chargers/{id}/eco-smart": {},
}
"""Method and URL path to field to protocol page and section."""
