"""Entities that reach the simulated chargers without their cloud, like a local integration of the user.

The entities can be linked to the chargers of ChargeKeeper. The chargers live in the process of `scripts/develop`,
which offers them under `/local` of its control page's address.
"""

from datetime import timedelta
import logging
from typing import override

from aiohttp import ClientError, ClientResponse
from homeassistant.const import CONF_URL, Platform
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.discovery import async_load_platform
from homeassistant.helpers.typing import ConfigType
from homeassistant.helpers.update_coordinator import CoordinatorEntity, DataUpdateCoordinator, UpdateFailed
from homeassistant.util.hass_dict import HassKey
import voluptuous as vol

DOMAIN = "chargekeeper_demo_local"
LOGGER = logging.getLogger(__package__)
PLATFORMS = (Platform.BUTTON, Platform.NUMBER, Platform.SENSOR, Platform.SWITCH)
EVERY = timedelta(seconds=1)  # real time; the time of the demo runs faster
CONFIG_SCHEMA = vol.Schema({vol.Required(DOMAIN): vol.Schema({vol.Required(CONF_URL): str})}, extra=vol.ALLOW_EXTRA)

type Shown = dict[str, str | float | bool]
"""The data of one charger from `tests/simulators/demo/control.py`."""


class LocalChargers(DataUpdateCoordinator[dict[str, Shown]]):
    """Coordinator with the data of all chargers by serial number."""

    def __init__(self, hass: HomeAssistant, url: str) -> None:
        super().__init__(hass, LOGGER, config_entry=None, name=DOMAIN, update_interval=EVERY)
        self._url = f"{url}/local"
        self._session = async_get_clientsession(hass)

    @override
    async def _async_update_data(self) -> dict[str, Shown]:
        try:
            async with self._session.get(self._url) as response:
                chargers: dict[str, Shown] = await _answer(response).json()
        except ClientError as error:
            raise UpdateFailed("the demo does not answer") from error
        return chargers

    async def command(self, serial: str, what: str, value: object = None) -> None:
        """Command a charger. Raise HomeAssistantError if the charger refuses or does not answer."""
        try:
            async with self._session.post(f"{self._url}/{serial}/{what}", json={"value": value}) as response:
                _answer(response)
        except ClientError as error:
            raise HomeAssistantError("the charger does not answer") from error
        await self.async_refresh()


CHARGERS: HassKey[LocalChargers] = HassKey(DOMAIN)


class LocalEntity(CoordinatorEntity[LocalChargers]):
    """An entity of one charger. `key` names its purpose."""

    def __init__(self, coordinator: LocalChargers, serial: str, key: str) -> None:
        super().__init__(coordinator)
        self.serial = serial
        self.key = key
        self._attr_unique_id = f"{serial}_{key}"
        self._attr_name = f"{self.shown['name']} local {key}"

    @property
    def shown(self) -> Shown:
        """The last data of the charger."""
        return self.coordinator.data[self.serial]

    @property
    @override
    def available(self) -> bool:
        return super().available and bool(self.shown["available"])


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Set up the entities of all chargers."""
    chargers = hass.data[CHARGERS] = LocalChargers(hass, config[DOMAIN][CONF_URL])
    await chargers.async_refresh()
    for platform in PLATFORMS:
        hass.async_create_task(async_load_platform(hass, platform, DOMAIN, {}, config))
    return chargers.last_update_success


def _answer(response: ClientResponse) -> ClientResponse:
    """Return a successful response. Raise ServiceValidationError for a refusal, ClientError for other errors."""
    if response.status == 409:
        raise ServiceValidationError("the charger refuses that now")
    response.raise_for_status()
    return response
