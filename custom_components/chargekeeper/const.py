"""Names that several modules share: the domain, the logger, and the keys of entry data and options."""

from collections.abc import Mapping
from enum import StrEnum
import logging
from typing import Any, Final

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

# Entry data: how to connect, and the chargers known so far. Entities are made from these if the store is lost.
CONF_KIND: Final = "kind"
CONF_SERVER: Final = "server"
CONF_USER_API_URL: Final = "user_api_url"
CONF_API_URL: Final = "api_url"
CONF_CHARGERS: Final = "chargers"

KIND_WALLBOX_ACCOUNT: Final = "wallbox_account"
KIND_LOAD_GROUP: Final = "load_group"
KIND_JUICEBOX: Final = "juicebox"

# Entry data of a load group. Its name is the title of the entry.
CONF_LIMIT: Final = "limit"
CONF_MEMBERS: Final = "members"
CONF_WEIGHT: Final = "weight"

# Entry data of the JuiceBoxes: where ChargeKeeper listens, the manufacturer's server, and the JuiceNet account.
CONF_PORTS: Final = "ports"
CONF_BIND_ADDRESS: Final = "bind_address"
CONF_UPSTREAM: Final = "upstream"
CONF_RESOLVER: Final = "resolver"
CONF_JUICENET: Final = "juicenet"
CONF_SERVER_URL: Final = "server_url"
CONF_ACCOUNT_TOKEN: Final = "account_token"  # noqa: S105 - the name of a field

SUBENTRY_JUICEBOX: Final = "juicebox"
SUBENTRY_JUICENET: Final = "juicenet"

# Data of the subentry of a JuiceBox. Its name is the title of the subentry.
CONF_SERIAL: Final = "serial"
CONF_WIRE_RATING: Final = "wire_rating"
CONF_LOAD_GROUP_LIMIT: Final = "load_group_limit"
CONF_IN_MAKER_LOAD_GROUP: Final = "in_maker_load_group"
CONF_WEEKDAY_START: Final = "weekday_start"
CONF_WEEKDAY_END: Final = "weekday_end"
CONF_WEEKEND_START: Final = "weekend_start"
CONF_WEEKEND_END: Final = "weekend_end"
CONF_MINIMAL_ENERGY: Final = "minimal_energy"


class SharedCircuit(StrEnum):
    """The user's answer: does the manufacturer's app share one circuit among several boxes?"""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, box: Mapping[str, Any]) -> SharedCircuit:
        """Return the answer stored in the data of a subentry. Older versions stored a bool."""
        stored = box[CONF_IN_MAKER_LOAD_GROUP]
        if isinstance(stored, bool):
            return cls.YES if stored else cls.NO
        return cls(stored)


# Options
CONF_PREFER: Final = "prefer"
CONF_READ_ONLY: Final = "read_only"
CONF_RESTART_WHILE_CHARGING: Final = "restart_while_charging"
CONF_LOAD_GROUP_LIMITS: Final = "load_group_limits"
