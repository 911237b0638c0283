"""Events: outcome of a restart, changes of the connection and the override, outages of the cloud."""

from dataclasses import dataclass
from typing import override

from homeassistant.components.event import EventEntity, EventEntityDescription
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import AccountCoordinator, ChargeKeeperConfigEntry, account_coordinator
from .core.charger import ChargerEvent
from .core.model import Capability
from .entity import AccountEntity, ChargerEntity, ChargerEntityDescription, add_when_supported, capable

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class ChargerEventDescription(ChargerEntityDescription, EventEntityDescription):
    """Describes an event entity of a charger. Its key equals `ChargerEvent.kind`."""


EVENTS = (
    ChargerEventDescription(
        key="restart",
        exists_fn=capable(Capability.RESTART),
        event_types=["accepted", "verified", "unverified", "failed"],
    ),
    ChargerEventDescription(
        key="connection",
        exists_fn=lambda _: True,
        event_types=[
            "taken_over",
            "handed_back",
            "override_pending",
            "override_reapplied",
            "override_superseded",
            "override_ended",
            "command_failed",
            "command_unverified",
        ],
    ),
)

OUTAGE = EventEntityDescription(key="outage", event_types=["cloud_lost", "cloud_back"])


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the events."""
    if (account := account_coordinator(entry)) is not None:
        async_add_entities([OutageEvent(account)])
    add_when_supported(hass, entry, Platform.EVENT, EVENTS, ChargerEventEntity, async_add_entities)


class ChargerEventEntity(ChargerEntity, EventEntity):
    """An event of a charger, with its details as attributes."""

    entity_description: ChargerEventDescription

    @override
    def state_key(self) -> object:
        return None

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self.charger.listen_events(self._on_event))

    @callback
    def _on_event(self, event: ChargerEvent) -> None:
        if event.kind == self.entity_description.key:
            self._trigger_event(event.type, dict(event.details))
            self.async_write_ha_state()


class OutageEvent(AccountEntity, EventEntity):
    """The start or end of an outage of the manufacturer's cloud."""

    def __init__(self, coordinator: AccountCoordinator) -> None:
        super().__init__(coordinator, OUTAGE)

    @override
    def state_key(self) -> object:
        return None

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self.coordinator.account.listen_outage(self._on_event))

    @callback
    def _on_event(self, event_type: str) -> None:
        self._trigger_event(event_type)
        self.async_write_ha_state()
