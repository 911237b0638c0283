"""What a JuiceNet server that the user names knows of a box: it fills in the form when the box is added."""

from collections.abc import Mapping
import logging
from typing import Any
from uuid import uuid4

from homeassistant.core import HomeAssistant
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from ..const import (
    CONF_ACCOUNT_TOKEN,
    CONF_IN_MAKER_LOAD_GROUP,
    CONF_SERVER_URL,
    CONF_WEEKDAY_END,
    CONF_WEEKDAY_START,
    CONF_WEEKEND_END,
    CONF_WEEKEND_START,
    CONF_WIRE_RATING,
    SharedCircuit,
)
from ..core.errors import ChargerError, LoginRejected
from ..core.limits import HIGHEST_CURRENT, MINIMUM_CURRENT
from ..juicebox.juicenet.client import DAY_MINUTES, Info, JuiceNetClient, Tou, normalize_server_url
from .shared_state import get_shared_state

LOGGER = logging.getLogger(__name__)


def tidied(entered: Mapping[str, Any]) -> dict[str, str]:
    """What was entered as it is stored: nothing where no server was named.

    Raises:
        ValueError: with the key of the error, where something is missing or no address.
    """
    url = entered.get(CONF_SERVER_URL, "").strip()
    token = entered.get(CONF_ACCOUNT_TOKEN, "").strip()
    if not url and not token:
        return {}
    if not url or not token:
        raise ValueError("juicenet_incomplete")
    try:
        return {CONF_SERVER_URL: normalize_server_url(url), CONF_ACCOUNT_TOKEN: token}
    except ValueError:
        raise ValueError("invalid_url") from None


async def async_objection(hass: HomeAssistant, account: Mapping[str, str]) -> str | None:
    """Why the server cannot be used, as a key of the flow's errors; None where it can, or where there is none."""
    if not account:
        return None
    try:
        await juicenet_client(hass, account).units()
    except ChargerError as err:
        return objection(err)
    return None


def objection(error: ChargerError) -> str:
    """What to tell of a server that did not answer as it should, as a key of the flow's errors."""
    return "juicenet_token" if isinstance(error, LoginRejected) else "juicenet_unreachable"


async def async_units(hass: HomeAssistant, account: Mapping[str, str]) -> dict[str, str]:
    """The boxes of the account: serial numbers with names. Raises ChargerError."""
    units = await juicenet_client(hass, account).units()
    return {unit.serial: unit.name or f"JuiceBox {unit.serial[-4:]}" for unit in units}


async def async_suggestions(hass: HomeAssistant, account: Mapping[str, str], serial: str) -> dict[str, Any]:
    """What to fill in for a box; nothing where no server knows it, or does not answer now."""
    if not account:
        return {}
    client = juicenet_client(hass, account)
    try:
        units = {unit.serial: unit for unit in await client.units()}
        if (unit := units.get(serial)) is None:
            return {}
        return _of_installation(await client.info(unit)) | _of_schedule(await client.schedule(unit))
    except ChargerError as err:
        LOGGER.debug("The JuiceNet server tells nothing of a box: %s", err.reason)
        return {}


def juicenet_client(hass: HomeAssistant, account: Mapping[str, str]) -> JuiceNetClient:
    """Who talks to the server with this account."""
    return JuiceNetClient(
        async_get_clientsession(hass),
        get_shared_state(hass).clock,
        account[CONF_SERVER_URL],
        account[CONF_ACCOUNT_TOKEN],
        device_id=uuid4().hex,
    )


def _of_installation(info: Info) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if info.load_group is not None:  # that it names none proves nothing about the manufacturer's app
        found[CONF_IN_MAKER_LOAD_GROUP] = SharedCircuit.YES.value
    if info.wire_rating is not None and MINIMUM_CURRENT <= info.wire_rating <= HIGHEST_CURRENT:
        found[CONF_WIRE_RATING] = int(info.wire_rating)
    return found


def _of_schedule(tou: Tou) -> dict[str, Any]:
    ends = {
        CONF_WEEKDAY_START: tou.weekday.start,
        CONF_WEEKDAY_END: tou.weekday.end,
        CONF_WEEKEND_START: tou.weekend.start,
        CONF_WEEKEND_END: tou.weekend.end,
    }
    return {key: _as_text(minute) for key, minute in ends.items()} if tou.enabled else {}


def _as_text(minute: int) -> str:
    minute %= DAY_MINUTES
    return f"{minute // 60:02}:{minute % 60:02}:00"
