"""Names that several modules of the integration share: the domain, the logger, the keys of entry data and options."""

import logging
from typing import Final

from homeassistant.const import Platform

DOMAIN: Final = "chargekeeper"
LOGGER: Final = logging.getLogger(__package__)

PLATFORMS: Final = (
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.EVENT,
    Platform.LOCK,
    Platform.NUMBER,
    Platform.SELECT,
    Platform.SENSOR,
    Platform.SWITCH,
    Platform.UPDATE,
)

# Entry data: how to connect, and the chargers known so far (entities are made from them when a store is lost).
CONF_KIND: Final = "kind"
CONF_SERVER: Final = "server"
CONF_USER_API_URL: Final = "user_api_url"
CONF_API_URL: Final = "api_url"
CONF_CHARGERS: Final = "chargers"

KIND_WALLBOX_ACCOUNT: Final = "wallbox_account"
KIND_LOAD_GROUP: Final = "load_group"

# Entry data of a load group, beside the name, which is the title.
CONF_LIMIT: Final = "limit"
CONF_MEMBERS: Final = "members"
CONF_WEIGHT: Final = "weight"

# Options
CONF_PREFER: Final = "prefer"
CONF_READ_ONLY: Final = "read_only"
CONF_RESTART_WHILE_CHARGING: Final = "restart_while_charging"
CONF_LOAD_GROUP_LIMITS: Final = "load_group_limits"
