"""Switches: the time-of-use override, and charging."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntFlag
from typing import Any, override

from homeassistant.components.switch import SwitchEntity, SwitchEntityDescription
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import ChargeKeeperConfigEntry
from .core.charger import Until
from .core.errors import ChargerError
from .core.model import ALLOWED_TO_CHARGE, STATUS, Capability, Outcome, Status
from .core.transport import SetCharging
from .entity import (
    ChargerEntity,
    ChargerEntityDescription,
    add_when_supported,
    capable,
    confirmation,
    remove_control_entities_if_read_only,
)

PARALLEL_UPDATES = 0  # each charger queues and merges its own commands, so chargers need not wait for each other

AWAY = frozenset({Status.OFFLINE, Status.RESTARTING, Status.UPDATING})
"""Statuses that do not show if the charger would let the car charge."""


class SwitchFeature(IntFlag):
    """Features of a switch besides on and off. They select the targets of the `set_tou_override` action."""

    OVERRIDE = 1


@dataclass(frozen=True, kw_only=True)
class ChargerSwitchDescription(ChargerEntityDescription, SwitchEntityDescription):
    """Describes a switch entity of a charger."""


OVERRIDE = ChargerSwitchDescription(key="tou_override", exists_fn=capable(Capability.OVERRIDE))
CHARGING = ChargerSwitchDescription(key="charging", exists_fn=capable(Capability.CHARGING))


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the switches."""
    if remove_control_entities_if_read_only(hass, entry, Platform.SWITCH):
        return
    add_when_supported(hass, entry, Platform.SWITCH, (OVERRIDE,), OverrideSwitch, async_add_entities)
    add_when_supported(hass, entry, Platform.SWITCH, (CHARGING,), ChargingSwitch, async_add_entities)


class OverrideSwitch(ChargerEntity, SwitchEntity):
    """The override: charge now, regardless of the schedule.

    The state is what the user requested. While on, the attribute `applied` is true if the charger follows the request.
    """

    _attr_supported_features = SwitchFeature.OVERRIDE

    @property
    @override
    def is_on(self) -> bool:
        return self.snapshot.override.on

    @property
    @override
    def extra_state_attributes(self) -> dict[str, bool]:
        requested = self.snapshot.override
        return {"applied": requested.applied} if requested.on else {}

    @override
    def state_key(self) -> object:
        return self.snapshot.override

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await self.async_override(on=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await self.async_override(on=False)

    async def async_override(self, *, on: bool, until: Until = Until.FULL, until_at: datetime | None = None) -> None:
        """Start or end the override. Without a usable transport the override waits, which also counts as success.

        Args:
            on: True to charge now, False to follow the schedule again.
            until: the event that ends the override.
            until_at: the time when the override ends, timezone-aware; only with `Until.TIME`.

        Raises:
            HomeAssistantError: the override was refused; the message is translated.
        """
        with self.translate_errors():
            outcome = await self.charger.set_override(on, until=until, until_at=until_at)
            if outcome is Outcome.FAILED:
                raise ChargerError("override_failed")


class ChargingSwitch(ChargerEntity, SwitchEntity):
    """Allow charging or pause it."""

    @property
    @override
    def is_on(self) -> bool | None:
        if self.snapshot.commanded.charging is not None:
            return self.snapshot.commanded.charging
        status = self.snapshot.value(STATUS)
        return None if status is None or status in AWAY else status in ALLOWED_TO_CHARGE

    @property
    @override
    def extra_state_attributes(self) -> dict[str, bool]:
        return confirmation(self.snapshot.commanded.charging)

    @override
    def state_key(self) -> object:
        return self.is_on, self.extra_state_attributes

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await self.async_command(SetCharging(on=True))

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await self.async_command(SetCharging(on=False))
