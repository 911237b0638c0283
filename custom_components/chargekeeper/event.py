"""Events: what became of a restart, what happened to the connection and the override, outages of the cloud."""

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
    """Describes an event of a charger; its key is the kind of the keeper's events."""


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
    """Something that happened to a charger, with the details that belong to it."""

    entity_description: ChargerEventDescription

    @override
    def state_key(self) -> object:
        return None

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self.charger.listen_events(self._happened))

    @callback
    def _happened(self, event: ChargerEvent) -> None:
        if event.kind == self.entity_description.key:
            self._trigger_event(event.type, dict(event.details))
            self.async_write_ha_state()


class OutageEvent(AccountEntity, EventEntity):
    """The maker's cloud was lost, or is back."""

    def __init__(self, coordinator: AccountCoordinator) -> None:
        super().__init__(coordinator, OUTAGE)

    @override
    def state_key(self) -> object:
        return None

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self.coordinator.account.listen_outage(self._happened))

    @callback
    def _happened(self, event_type: str) -> None:
        self._trigger_event(event_type)
        self.async_write_ha_state()
