"""Reports of a charger over linked entities: neither our own refresh nor a restored state counts."""

import asyncio
from datetime import datetime, timedelta
import logging
from typing import override

from homeassistant.components.sensor import SensorEntity
from homeassistant.config_entries import SOURCE_USER
from homeassistant.core import HomeAssistant, State
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_component import DATA_INSTANCES
from homeassistant.helpers.restore_state import RestoreEntity
from homeassistant.helpers.update_coordinator import CoordinatorEntity, DataUpdateCoordinator, UpdateFailed
import pytest

from custom_components.chargekeeper.core.model import STATUS, Status
from custom_components.chargekeeper.linked.entity_transport import is_own_report
from tests.simulators.world import State as Does

from .conftest import WAITING, House
from .local_entities import PowerSensor, StatusSensor
from .test_linked import Home

READY = "sensor.ready"
WORDS = "Ready"


@pytest.fixture
async def home(house: House) -> Home:
    home = Home(house.hass, house.clock, house.world, house.cloud)
    await home.begin()
    return home


def freeze(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freeze the entities at their last pushed state; they stay available."""
    monkeypatch.setattr(StatusSensor, "native_value", home.local.side.status)
    monkeypatch.setattr(PowerSensor, "native_value", home.local.side.power)


async def refusal(home: Home) -> str | None:
    """Press restart and return the reason of the refusal."""
    with pytest.raises(HomeAssistantError) as caught:
        await home.call("button", "press", "restart", WAITING)
    assert home.world.charger(WAITING).restarts == 0
    return caught.value.translation_key


async def add(home: Home, *entities: Entity) -> None:
    """Add entities of another integration."""
    await home.hass.data[DATA_INSTANCES]["sensor"].async_add_entities(entities)
    await home.hass.async_block_till_done()


async def link_status(home: Home, entity_id: str = READY) -> None:
    """Link a status of another integration and a restart button, and lose the cloud."""
    home.world.charger(WAITING).unplug()
    flow = home.hass.config_entries.subentries
    form = await flow.async_init((home.entry.entry_id, "linked"), context={"source": SOURCE_USER})
    chosen = home.local.chosen("restart_button") | {"charger": WAITING, "status": entity_id}
    assert (await flow.async_configure(form["flow_id"], chosen))["type"] is FlowResultType.CREATE_ENTRY
    await home.hass.async_block_till_done()
    await home.lose_cloud()


class Pushed(SensorEntity):
    """A status that its integration pushes."""

    _attr_should_poll = False
    _attr_unique_id = "ready"
    _attr_native_value: str | None = WORDS
    entity_id = READY


class Restored(Pushed, RestoreEntity):
    """A status that is restored after a start."""


class Polled(Pushed):
    """A status that Home Assistant polls."""

    _attr_should_poll = True
    polls = 0
    failure: Exception | None = None

    async def async_update(self) -> None:
        self.polls += 1
        if self.failure is not None:
            raise self.failure


class Coordinated(CoordinatorEntity[DataUpdateCoordinator[str]], Pushed):
    """A status that follows a coordinator."""

    @property
    @override
    def native_value(self) -> str:
        return self.coordinator.data


class Clinging(Coordinated):
    """A status that stays available when the poll fails."""

    @property
    @override
    def available(self) -> bool:
        return True


class Stored(Coordinated, RestoreEntity):
    """A status that could restore, but shows the value that its coordinator polled."""


class Hub:
    """The data source of a coordinator."""

    def __init__(self, hass: HomeAssistant, interval: timedelta | None = timedelta(hours=3)) -> None:
        self.polls = 0
        self.failure: Exception | None = None
        self.coordinator = DataUpdateCoordinator(
            hass,
            logging.getLogger(__name__),
            config_entry=None,
            name="hub",
            update_interval=interval,
            update_method=self.poll,
            always_update=False,
        )

    async def poll(self) -> str:
        self.polls += 1
        if self.failure is not None:
            raise self.failure
        return WORDS


# Polls of our own


async def test_restart_refused_on_a_pushed_status_of_hours_ago(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.link_and_lose_cloud()
    freeze(home, monkeypatch)  # the reports end here, "waiting for schedule"
    home.world.charger(WAITING).window_open = True
    await home.pass_time(3 * 3600)
    assert home.does() is Does.CHARGING
    assert home.from_link(STATUS) is None
    for _ in range(3):
        assert await refusal(home) == "restart_status_unknown"
        await home.pass_time(10)
    assert home.from_link(STATUS) is None
    assert home.state("sensor", "restart_availability", WAITING).state == "status_unknown"


async def test_command_makes_no_stale_value_live(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.link_and_lose_cloud()
    freeze(home, monkeypatch)

    def last_reported() -> datetime:
        state = home.hass.states.get(home.local.entry("status").entity_id)
        assert state is not None
        return state.last_reported

    await home.pass_time(3600)
    assert home.from_link(STATUS) is None
    assert not home.is_reachable
    reported = last_reported()
    await home.call("number", "set_value", "charging_current", WAITING, value=10)
    await home.pass_time(70)
    assert home.from_link(STATUS) is None
    assert not home.is_reachable
    assert last_reported() == reported, "no state was written, which would be found after a reload"


async def test_polled_status_read_for_a_restart(home: Home) -> None:
    status = Polled()
    await add(home, status)
    await link_status(home)
    await home.pass_time(3600)
    assert home.from_link(STATUS) is None
    status.failure = ValueError("no answer")
    assert await refusal(home) == "restart_status_unknown"
    assert home.from_link(STATUS) is None
    status.failure = None
    await home.call("button", "press", "restart", WAITING)
    assert (status.polls, home.world.charger(WAITING).restarts) == (2, 1)


@pytest.mark.parametrize("expected_errors", [["no answer"]])
async def test_restart_refused_while_an_earlier_poll_hangs(home: Home) -> None:
    """Home Assistant never polls twice at a time: a second poll writes the old state at once."""
    status, gate = Polled(), asyncio.Event()
    await add(home, status)
    await link_status(home)
    await home.pass_time(3600)

    async def hang() -> None:
        await gate.wait()
        raise ValueError("no answer")

    status.async_update = hang  # type: ignore[method-assign]
    poll = home.hass.async_create_task(status.async_update_ha_state(force_refresh=True))
    await asyncio.sleep(0)
    assert await refusal(home) == "restart_status_unknown"
    gate.set()
    await poll
    assert home.from_link(STATUS) is None


async def test_restart_refused_on_a_status_that_cannot_be_polled(home: Home) -> None:
    status = Pushed()
    status._attr_should_poll = True  # the default of Home Assistant, also where there is nothing to poll
    await add(home, status)
    await link_status(home)
    await home.pass_time(3600)
    assert await refusal(home) == "restart_status_unknown"


async def test_coordinator_polled_for_a_restart_though_nothing_changed(home: Home) -> None:
    hub = Hub(home.hass)
    await hub.coordinator.async_refresh()
    await add(home, Coordinated(hub.coordinator))
    await link_status(home)
    await home.pass_time(3600)
    assert home.from_link(STATUS) is None
    hub.failure = UpdateFailed("no answer")
    assert await refusal(home) == "restart_offline", "it is not available"
    hub.failure = None
    await (
        hub.coordinator.async_refresh()
    )  # its integration polls, and writes a state since the entity is available again
    await home.pass_time(3600)
    await home.call("button", "press", "restart", WAITING)
    assert (hub.polls, home.world.charger(WAITING).restarts) == (4, 1)
    transport = home.transport
    assert await home.hass.config_entries.async_unload(home.entry.entry_id)
    status_received_at = transport.status_received_at
    await home.pass_time(60)
    await transport.check()
    assert transport.status_received_at == status_received_at, "nobody listens any more"
    await hub.coordinator.async_shutdown()


async def test_failed_poll_of_a_coordinator_is_no_report(home: Home) -> None:
    hub = Hub(home.hass)
    await hub.coordinator.async_refresh()
    await add(home, Clinging(hub.coordinator))
    await link_status(home)
    await home.pass_time(3600)
    hub.failure = UpdateFailed("no answer")
    hub.coordinator.last_update_success = False  # a second failure writes no state either
    assert await refusal(home) == "restart_status_unknown"
    assert hub.polls == 2
    await hub.coordinator.async_shutdown()


async def test_pushed_coordinator_not_polled_for_a_restart(home: Home) -> None:
    hub = Hub(home.hass, interval=None)
    await hub.coordinator.async_refresh()
    await add(home, Coordinated(hub.coordinator))
    await link_status(home)
    await home.pass_time(3600)
    assert await refusal(home) == "restart_status_unknown"
    assert hub.polls == 1
    hub.coordinator.async_set_updated_data(WORDS)
    await home.call("button", "press", "restart", WAITING)
    assert home.world.charger(WAITING).restarts == 1


# Restored states


async def test_restored_status_at_our_start_is_no_report(home: Home) -> None:
    status = Restored()
    await add(home, status)
    await link_status(home)
    assert home.from_link(STATUS) is None
    assert await refusal(home) == "restart_status_unknown"
    status.async_write_ha_state()
    assert home.from_link(STATUS) is Status.AVAILABLE, "the same value, from the device"
    await home.hass.config_entries.async_reload(home.entry.entry_id)
    await home.hass.async_block_till_done()
    assert home.transport.status_received_at is not None, "it was reported twice"


@pytest.mark.parametrize("first", [True, False])
async def test_restored_status_after_a_reload_of_its_integration_is_no_report(home: Home, first: bool) -> None:
    status = Restored()
    await add(home, status)
    await link_status(home)
    status._attr_native_value = "Charging"
    status.async_write_ha_state()
    assert home.from_link(STATUS) is Status.CHARGING
    await status.async_remove()
    again = Restored()  # shows the state stored an hour ago
    again._attr_available = first
    await add(home, again)
    again._attr_available = True
    if not first:
        again.async_write_ha_state()
    assert home.from_link(STATUS) is None
    assert await refusal(home) == "restart_status_unknown"
    again.async_write_ha_state()
    assert home.from_link(STATUS) is Status.AVAILABLE
    again._attr_available = False
    again.async_write_ha_state()
    again._attr_available = True
    again.async_write_ha_state()
    assert home.from_link(STATUS) is Status.AVAILABLE, "a device that was away and is heard again"


async def test_polled_status_after_a_reload_of_its_integration_is_a_report(home: Home) -> None:
    hub = Hub(home.hass)
    await hub.coordinator.async_refresh()
    await add(home, Stored(hub.coordinator))
    await link_status(home)
    await home.hass.data[DATA_INSTANCES]["sensor"].async_remove_entity(READY)
    assert home.from_link(STATUS) is None
    await add(home, Stored(hub.coordinator))
    assert home.from_link(STATUS) is Status.AVAILABLE
    await hub.coordinator.async_shutdown()


@pytest.mark.parametrize(
    ("old", "new", "restores", "unproven", "own"),
    [
        (State("sensor.a", "1"), State("sensor.a", "1"), True, False, True),
        (State("sensor.a", "1"), State("sensor.a", "unavailable"), False, False, False),
        (State("sensor.a", "1"), None, False, False, False),
        (None, State("sensor.a", "1"), True, False, False),
        (None, State("sensor.a", "1"), False, False, True),
        (State("sensor.a", "unavailable", {"restored": True}), State("sensor.a", "1"), True, False, False),
        (State("sensor.a", "unavailable"), State("sensor.a", "1"), True, True, False),
        (State("sensor.a", "unavailable"), State("sensor.a", "1"), True, False, True),
        (State("sensor.a", "1"), State("sensor.a", "1"), True, True, True),
    ],
)
def test_own_report_distinguished_from_a_restored_state(
    old: State | None, new: State | None, restores: bool, unproven: bool, own: bool
) -> None:
    assert is_own_report(old, new, restores=restores, unproven=unproven) is own
