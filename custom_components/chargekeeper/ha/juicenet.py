"""Suggestions from a JuiceNet server: they fill in the form when the user adds a box."""

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
    """Return the entered account as it is stored; empty if the user named no server.

    Raises:
        ValueError: with the key of the error, if a part is missing or the address is invalid.
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
    """Return why the server cannot be used, as a key of the flow's errors; None if it works or there is none."""
    if not account:
        return None
    try:
        await juicenet_client(hass, account).units()
    except ChargerError as err:
        return objection(err)
    return None


def objection(error: ChargerError) -> str:
    """Return the key of the flow's errors for a server that failed."""
    return "juicenet_token" if isinstance(error, LoginRejected) else "juicenet_unreachable"


async def async_units(hass: HomeAssistant, account: Mapping[str, str]) -> dict[str, str]:
    """Return the boxes of the account: names by serial number. Raises ChargerError."""
    units = await juicenet_client(hass, account).units()
    return {unit.serial: unit.name or f"JuiceBox {unit.serial[-4:]}" for unit in units}


async def async_suggestions(hass: HomeAssistant, account: Mapping[str, str], serial: str) -> dict[str, Any]:
    """Return the values to fill in for a box.

    The result is empty without an account, if the server does not know the box, or if a request fails.
    """
    if not account:
        return {}
    client = juicenet_client(hass, account)
    try:
        units = {unit.serial: unit for unit in await client.units()}
        if (unit := units.get(serial)) is None:
            return {}
        return _from_installation(await client.info(unit)) | _from_schedule(await client.schedule(unit))
    except ChargerError as err:
        LOGGER.debug("The JuiceNet server gave no suggestions for a box: %s", err.reason)
        return {}


def juicenet_client(hass: HomeAssistant, account: Mapping[str, str]) -> JuiceNetClient:
    """Return the client for the server with this account."""
    return JuiceNetClient(
        async_get_clientsession(hass),
        get_shared_state(hass).clock,
        account[CONF_SERVER_URL],
        account[CONF_ACCOUNT_TOKEN],
        device_id=uuid4().hex,
    )


def _from_installation(info: Info) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if info.load_group is not None:  # without one, the manufacturer's app may still have a load group
        found[CONF_IN_MAKER_LOAD_GROUP] = SharedCircuit.YES.value
    if info.wire_rating is not None and MINIMUM_CURRENT <= info.wire_rating <= HIGHEST_CURRENT:
        found[CONF_WIRE_RATING] = int(info.wire_rating)
    return found


def _from_schedule(tou: Tou) -> dict[str, Any]:
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
