"""Persistent notifications for manual clean-up after a charger is removed.

After the removal, ChargeKeeper could not keep an issue up to date.
"""

from homeassistant.components import persistent_notification
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.helpers.translation import async_get_translations

from ..const import DOMAIN
from ..coordinator import charger_name
from ..core.model import Identity


async def async_create_notification(
    hass: HomeAssistant, entry: ConfigEntry, identity: Identity, key: str, **placeholders: str
) -> None:
    """Notify the user about a removed charger. `key` names a text in the section `exceptions` of the translations."""
    name = charger_name(hass, entry, identity)
    texts = await async_get_translations(hass, hass.config.language, "exceptions", {DOMAIN})
    text = texts[f"component.{DOMAIN}.exceptions.{key}.message"]
    persistent_notification.async_create(
        hass,
        text.format(charger=name, **placeholders),
        title=name,
        notification_id=f"{DOMAIN}_{identity.serial}_{key}",
    )
