"""Switches: the time-of-use override, and whether the car may charge."""

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
    remove_control_entities_if_read_only,
)

PARALLEL_UPDATES = 0  # the keeper queues the commands of a charger and merges them; chargers do not wait for another

AWAY = frozenset({Status.OFFLINE, Status.RESTARTING, Status.UPDATING})
"""A charger that is away does not tell whether it would let the car charge."""


class SwitchFeature(IntFlag):
    """What a switch can do beyond on and off; selects the target of `set_tou_override`."""

    OVERRIDE = 1


@dataclass(frozen=True, kw_only=True)
class ChargerSwitchDescription(ChargerEntityDescription, SwitchEntityDescription):
    """Describes a switch of a charger."""


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
    """Charge now, whatever the schedule says. It shows the wish; while on, `applied` tells whether it is followed."""

    _attr_supported_features = SwitchFeature.OVERRIDE

    @property
    @override
    def is_on(self) -> bool:
        return self.snapshot.override.on

    @property
    @override
    def extra_state_attributes(self) -> dict[str, bool]:
        wish = self.snapshot.override
        return {"applied": wish.applied} if wish.on else {}

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
        """Begin or end the override; where no path carries it now it waits, which is success.

        Args:
            on: charge now, or let the schedule rule again.
            until: when it ends by itself.
            until_at: the moment, aware, where `until` is a time.

        Raises:
            HomeAssistantError: why it was refused, translated.
        """
        with self.translate_errors():
            outcome = await self.charger.set_override(on, until=until, until_at=until_at)
            if outcome is Outcome.FAILED:
                raise ChargerError("override_failed")


class ChargingSwitch(ChargerEntity, SwitchEntity):
    """Let the car charge, or pause it."""

    @property
    @override
    def is_on(self) -> bool | None:
        status = self.snapshot.value(STATUS)
        return None if status is None or status in AWAY else status in ALLOWED_TO_CHARGE

    @override
    def state_key(self) -> object:
        return self.is_on

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await self.async_command(SetCharging(on=True))

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await self.async_command(SetCharging(on=False))
