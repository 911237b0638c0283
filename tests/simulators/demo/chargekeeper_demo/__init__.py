"""Lets time run faster for ChargeKeeper: it puts a fast clock into the registry before ChargeKeeper is set up.

It is a custom component of the demo's Home Assistant only. That Home Assistant sets it up first because the copy of
ChargeKeeper's manifest in the demo's configuration names it among the after_dependencies (see `home_assistant.py`).
"""

from homeassistant.core import HomeAssistant
from homeassistant.helpers import registry
from homeassistant.helpers.typing import ConfigType
import voluptuous as vol

from custom_components.chargekeeper.ha.shared_state import SHARED_STATE, SharedState
from tests.simulators.clock import FastClock

DOMAIN = "chargekeeper_demo"
CONF_FACTOR = "factor"
SHORTEST_DELAY = 1  # second
CONFIG_SCHEMA = vol.Schema(
    {vol.Required(DOMAIN): vol.Schema({vol.Required(CONF_FACTOR): vol.All(vol.Coerce(float), vol.Range(min=1))})},
    extra=vol.ALLOW_EXTRA,
)


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Put the clock there. Raises `RuntimeError` when ChargeKeeper was faster, which would mix two clocks."""
    if SHARED_STATE in hass.data:
        raise RuntimeError("ChargeKeeper was set up before its clock was there")
    factor = config[DOMAIN][CONF_FACTOR]
    hass.data[SHARED_STATE] = SharedState(FastClock(factor))
    # Home Assistant puts its registries on the disk some time after a change; a kill is to find them there as well.
    registry.SAVE_DELAY = max(round(registry.SAVE_DELAY / factor), SHORTEST_DELAY)
    return True
