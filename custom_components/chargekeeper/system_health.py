"""System health: how many accounts reach their cloud, from what ChargeKeeper knows. No request is sent."""

from typing import Any

from homeassistant.components import system_health
from homeassistant.core import HomeAssistant, callback

from .const import DOMAIN, KIND_LOAD_GROUP, KIND_WALLBOX_ACCOUNT
from .coordinator import ChargeKeeperConfigEntry, ChargersRuntime
from .entries.kind import kind_of


@callback
def async_register(hass: HomeAssistant, register: system_health.SystemHealthRegistration) -> None:
    """Register the information."""
    register.async_register_info(_info)


async def _info(hass: HomeAssistant) -> dict[str, Any]:
    loaded: list[ChargeKeeperConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    entries = [entry for entry in loaded if kind_of(entry) == KIND_WALLBOX_ACCOUNT]
    runtimes = [entry.runtime_data for entry in loaded if isinstance(entry.runtime_data, ChargersRuntime)]
    clouds = [entry.runtime_data.account_coordinator.data.cloud for entry in entries]
    return {
        "accounts": len(entries),
        "accounts_reached": sum(cloud is True for cloud in clouds),
        "load_groups": sum(kind_of(entry) == KIND_LOAD_GROUP for entry in loaded),
        "chargers": sum(len(runtime.coordinators) for runtime in runtimes),
    }
