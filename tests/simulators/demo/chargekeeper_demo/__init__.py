"""Component that makes time run faster for ChargeKeeper, with a fast clock in ChargeKeeper's shared state.

Only the demo's Home Assistant has this component. It is set up before ChargeKeeper, because the demo's copy of
ChargeKeeper's manifest names it among the after_dependencies (see `home_assistant.py`).
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
    """Set the clock. Raise `RuntimeError` if ChargeKeeper was set up before, which would mix two clocks."""
    if SHARED_STATE in hass.data:
        raise RuntimeError("ChargeKeeper was set up before its clock was there")
    factor = config[DOMAIN][CONF_FACTOR]
    hass.data[SHARED_STATE] = SharedState(FastClock(factor))
    # Home Assistant writes its registries to disk some time after a change. A kill must not lose them.
    registry.SAVE_DELAY = max(round(registry.SAVE_DELAY / factor), SHORTEST_DELAY)
    return True
