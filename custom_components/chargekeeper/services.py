"""Actions: restart with a response, time-of-use override with an end, reports of outages and interval energy."""

from datetime import datetime
from typing import Any, cast

from homeassistant.components.button.const import ButtonDeviceClass
from homeassistant.const import ATTR_CONFIG_ENTRY_ID, Platform
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.service import async_get_config_entry, async_register_platform_entity_service
from homeassistant.util import dt as dt_util
from homeassistant.util.json import JsonValueType
import voluptuous as vol

from .button import RestartButton
from .const import DOMAIN, KIND_JUICEBOX, KIND_WALLBOX_ACCOUNT
from .coordinator import ChargeKeeperConfigEntry
from .core.charger import Until
from .entries.juicebox import quarter_hours
from .entries.kind import kind_of
from .ha.outage_report import outage_report
from .ha.shared_state import get_shared_state
from .switch import OverrideSwitch, SwitchFeature

SERVICE_RESTART = "restart"
SERVICE_SET_TOU_OVERRIDE = "set_tou_override"
SERVICE_OUTAGE_REPORT = "outage_report"
SERVICE_QUARTER_HOURS = "quarter_hours"

ATTR_ENABLED = "enabled"
ATTR_UNTIL = "until"
ATTR_UNTIL_TIME = "until_time"

OVERRIDE_SCHEMA: dict[Any, Any] = {
    vol.Required(ATTR_ENABLED): cv.boolean,
    vol.Optional(ATTR_UNTIL, default=Until.FULL): vol.Coerce(Until),
    vol.Optional(ATTR_UNTIL_TIME): cv.datetime,
}

REPORT_SCHEMA = vol.Schema({vol.Optional(ATTR_CONFIG_ENTRY_ID): cv.string})


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions. They exist even while no entry is set up."""
    async_register_platform_entity_service(
        hass,
        DOMAIN,
        SERVICE_RESTART,
        entity_domain=Platform.BUTTON,
        entity_device_classes=(ButtonDeviceClass.RESTART,),
        schema=None,
        func=_restart,
        supports_response=SupportsResponse.OPTIONAL,
    )
    async_register_platform_entity_service(
        hass,
        DOMAIN,
        SERVICE_SET_TOU_OVERRIDE,
        entity_domain=Platform.SWITCH,
        required_features=(SwitchFeature.OVERRIDE,),
        schema=OVERRIDE_SCHEMA,
        func=_set_tou_override,
    )
    for name, report in ((SERVICE_OUTAGE_REPORT, _outage_report), (SERVICE_QUARTER_HOURS, _quarter_hours)):
        hass.services.async_register(
            DOMAIN, name, report, schema=REPORT_SCHEMA, supports_response=SupportsResponse.ONLY
        )


async def _restart(button: RestartButton, call: ServiceCall) -> ServiceResponse:
    """Restart the charger. Return on acceptance, or with the outcome (up to 10 minutes) if a response is requested."""
    clock = get_shared_state(call.hass).clock
    started_at = clock.monotonic()
    run = await button.async_restart()
    if not call.return_response:
        return None
    with button.translate_errors():
        outcome = await run.wait()
    return {"outcome": outcome.value, "seconds": round(clock.monotonic() - started_at)}


async def _set_tou_override(switch: OverrideSwitch, call: ServiceCall) -> None:
    enabled: bool = call.data[ATTR_ENABLED]
    until: Until = call.data[ATTR_UNTIL]
    until_at = _until_at(switch, call) if enabled and until is Until.TIME else None
    await switch.async_override(on=enabled, until=until, until_at=until_at)


async def _outage_report(call: ServiceCall) -> ServiceResponse:
    """Return the outages of the named account, or of the only account."""
    entry = _get_entry(call, KIND_WALLBOX_ACCOUNT, "no_account")
    return {"outages": cast("JsonValueType", outage_report(call.hass, entry))}


async def _quarter_hours(call: ServiceCall) -> ServiceResponse:
    """Return the interval energies of the JuiceBoxes for the last day."""
    entry = _get_entry(call, KIND_JUICEBOX, "no_boxes")
    return {"chargers": cast("JsonValueType", quarter_hours(call.hass, entry))}


def _get_entry(call: ServiceCall, kind: str, wrong_kind_key: str) -> ChargeKeeperConfigEntry:
    """Return the entry of this kind that the call names, or the only entry of this kind.

    Raises:
        ServiceValidationError: no such entry is set up, or the named entry is of another kind.
    """
    loaded: list[ChargeKeeperConfigEntry] = call.hass.config_entries.async_loaded_entries(DOMAIN)
    matching = [entry.entry_id for entry in loaded if kind_of(entry) == kind]
    entry_id = call.data.get(ATTR_CONFIG_ENTRY_ID, matching[0] if len(matching) == 1 else None)
    entry: ChargeKeeperConfigEntry = async_get_config_entry(call.hass, DOMAIN, entry_id)
    if kind_of(entry) != kind:
        raise ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key=wrong_kind_key,
            translation_placeholders={"entry": entry.title},
        )
    return entry


def _until_at(switch: OverrideSwitch, call: ServiceCall) -> datetime:
    """Return when the override ends, in UTC. A time without an offset is in Home Assistant's time zone.

    Raises:
        ServiceValidationError: the time is missing or past.
    """
    if ATTR_UNTIL_TIME not in call.data:
        raise _invalid_time("until_time_missing", switch)
    until_at = dt_util.as_utc(call.data[ATTR_UNTIL_TIME])
    if until_at <= get_shared_state(call.hass).clock.now():
        raise _invalid_time("until_time_past", switch)
    return until_at


def _invalid_time(key: str, switch: OverrideSwitch) -> ServiceValidationError:
    placeholders = {"charger": switch.charger_name}
    return ServiceValidationError(translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders)
