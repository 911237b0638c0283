"""The JuiceBoxes in Home Assistant: their entry, a subentry for each box, its device, its repairs; boxes that appear.

Set-up awaits no network, and boxes are served through reloads (see boxes.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import time
from functools import partial

from homeassistant.config_entries import SOURCE_INTEGRATION_DISCOVERY, ConfigEntry, ConfigSubentry
from homeassistant.const import CONF_HOST, EVENT_CORE_CONFIG_UPDATE, EVENT_HOMEASSISTANT_FINAL_WRITE
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import discovery_flow

from .boxes import Boxes, KeptBox
from .const import (
    CONF_BIND_ADDRESS,
    CONF_IN_MAKER_LOAD_GROUP,
    CONF_LOAD_GROUP_LIMIT,
    CONF_MINIMAL_ENERGY,
    CONF_PORTS,
    CONF_SERIAL,
    CONF_UPSTREAM,
    CONF_WEEKDAY_END,
    CONF_WEEKDAY_START,
    CONF_WEEKEND_END,
    CONF_WEEKEND_START,
    CONF_WIRE_RATING,
    DOMAIN,
    PLATFORMS,
    SUBENTRY_JUICEBOX,
)
from .coordinator import ChargerCoordinator, ChargersRuntime
from .core.keeper import Keeper
from .core.model import Maker, Schedule
from .core.paths import NoConnection
from .juicebox.box import BoxConfig
from .juicebox.juicenet import DAY_MINUTES, Day, Tou
from .juicebox.listener import Discovered
from .registry import entry_key, get_registry
from .repairs import delete_issues, follow_problems, follow_troubles, tell_deafness
from .storage import EntryStores, SnapshotSaver

OPEN_AGAIN = 30.0
"""Seconds after which a port that was taken is tried again."""

WINDOWS = ((CONF_WEEKDAY_START, CONF_WEEKDAY_END), (CONF_WEEKEND_START, CONF_WEEKEND_END))
"""The ends of each time-of-use window in the data of a subentry. They mean what they mean to the maker's server."""

FREE = Day(0, DAY_MINUTES)


@dataclass(kw_only=True)
class JuiceBoxRuntime(ChargersRuntime):
    """What the entry of the boxes holds while it is set up."""

    boxes: Boxes
    ends: list[Callable[[], None]] = field(default_factory=list)
    """End what must be over before the keepers are stopped."""


def juicebox_runtime(entry: ConfigEntry) -> JuiceBoxRuntime:
    """What the entry of the boxes holds; it must be set up."""
    runtime: JuiceBoxRuntime = entry.runtime_data
    return runtime


async def async_setup_boxes(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Set up all boxes; they are listened to when all of them are known."""
    boxes = await _async_open(hass, entry)
    boxes.stay()
    keepers: dict[str, Keeper] = {}
    saver = SnapshotSaver(hass, get_registry(hass).clock, boxes.stores, keepers)
    runtime = JuiceBoxRuntime(boxes=boxes, coordinators={}, saver=saver, fingerprint=_fingerprint(entry))
    entry.runtime_data = runtime
    boxes.serve(entry.data[CONF_UPSTREAM])
    for subentry in box_subentries(entry):
        coordinator = _begin(hass, entry, subentry)
        serial = coordinator.identity.serial
        runtime.coordinators[serial], keepers[serial] = coordinator, coordinator.keeper
    for serial in set(boxes.server.boxes) - set(runtime.coordinators):
        await _forget(hass, entry, serial)

    async def save_last(_event: Event) -> None:
        await saver.stop()
        await boxes.save()

    @callback
    def zone_changed(_event: Event) -> None:
        for subentry in box_subentries(entry):
            boxes.server.add(box_config(subentry, hass.config.time_zone))

    entry.async_on_unload(entry.add_update_listener(_entry_updated))
    entry.async_on_unload(hass.bus.async_listen_once(EVENT_HOMEASSISTANT_FINAL_WRITE, save_last))
    entry.async_on_unload(hass.bus.async_listen(EVENT_CORE_CONFIG_UPDATE, zone_changed))
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    saver.start()
    entry.async_on_unload(_keep_listening(hass, entry, boxes))
    entry.async_on_unload(boxes.server.listen_discovery(partial(_discovered, hass)))
    return True


async def async_unload_boxes(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Stop everything of the entry but the boxes: those are answered on, for a reload would else be an outage."""
    if not await hass.config_entries.async_unload_platforms(entry, PLATFORMS):
        return False
    runtime, registry = juicebox_runtime(entry), get_registry(hass)
    while runtime.ends:
        runtime.ends.pop()()
    for coordinator in runtime.coordinators.values():
        await coordinator.async_shutdown()
        await registry.end(coordinator.keeper)
    await runtime.saver.stop()
    if entry.disabled_by is not None:
        await _close(hass, runtime.boxes)
    else:

        @callback
        def close() -> None:
            hass.async_create_task(_close(hass, runtime.boxes), "chargekeeper boxes closed")

        runtime.boxes.close_later(close)
    return True


async def async_remove_boxes(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Give all boxes up. Those with a server of their maker's must find it again by themselves."""
    boxes = await _async_open(hass, entry)
    serials = [subentry.data[CONF_SERIAL] for subentry in box_subentries(entry)]
    for serial in serials:
        await _forget(hass, entry, serial)
    await _close(hass, boxes)
    await boxes.stores.remove()
    get_registry(hass).stores.pop(entry_key(entry))
    delete_issues(hass, entry, serials)


def box_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """The boxes of an entry."""
    return [subentry for subentry in entry.subentries.values() if subentry.subentry_type == SUBENTRY_JUICEBOX]


def box_config(subentry: ConfigSubentry, zone: str) -> BoxConfig:
    """What the user said of a box."""
    data = subentry.data
    return BoxConfig(
        serial=data[CONF_SERIAL],
        host=data[CONF_HOST],
        name=subentry.title,
        wire_rating=float(data[CONF_WIRE_RATING]),
        load_group_limit=None if CONF_LOAD_GROUP_LIMIT not in data else float(data[CONF_LOAD_GROUP_LIMIT]),
        in_maker_load_group=data[CONF_IN_MAKER_LOAD_GROUP],
        schedule=_schedule(subentry, zone),
        minimal_energy=round(data.get(CONF_MINIMAL_ENERGY, 0) * 1000),
        zone=zone,
    )


def _schedule(subentry: ConfigSubentry, zone: str) -> Schedule:
    """The windows in which a box may charge; days without one are free where others have one."""
    weekday, weekend = (
        Day(_minute(subentry.data[start]), _minute(subentry.data[end])) if start in subentry.data else None
        for start, end in WINDOWS
    )
    if weekday is None and weekend is None:
        return ()
    return Tou(enabled=True, weekday=weekday or FREE, weekend=weekend or FREE).windows(zone)


def _minute(text: str) -> int:
    moment = time.fromisoformat(text)
    return moment.hour * 60 + moment.minute


async def _async_open(hass: HomeAssistant, entry: ConfigEntry) -> Boxes:
    """The boxes, with what was saved of them."""
    registry, key = get_registry(hass), entry_key(entry)
    if registry.boxes is None:
        stores = registry.stores.setdefault(key, EntryStores(hass, key))
        await stores.load()
        registry.boxes = Boxes(hass, registry.clock, stores)
    return registry.boxes


async def _close(hass: HomeAssistant, boxes: Boxes) -> None:
    """Stop serving the boxes; what is known of them is in the stores."""
    get_registry(hass).boxes = None
    await boxes.close()
    await boxes.save()


async def _forget(hass: HomeAssistant, entry: ConfigEntry, serial: str) -> None:
    """Give a box up; should it be added again, it is a new one."""
    registry = get_registry(hass)
    registry.keepers.pop((Maker.JUICEBOX, serial), None)
    assert registry.boxes is not None
    await registry.boxes.forget(serial)
    delete_issues(hass, entry, [serial])


@callback
def _begin(hass: HomeAssistant, entry: ConfigEntry, subentry: ConfigSubentry) -> ChargerCoordinator:
    """Start the keeper of a box and what hands its snapshots on."""
    runtime, registry = juicebox_runtime(entry), get_registry(hass)
    kept = runtime.boxes.take(box_config(subentry, hass.config.time_zone), registry.keepers)
    registry.keepers[kept.keeper.identity.key] = kept.keeper
    registry.begin(kept.keeper)
    runtime.ends.append(_follow_share(kept))
    coordinator = ChargerCoordinator(hass, entry, kept.keeper, subentry_id=subentry.subentry_id)
    entry.async_on_unload(follow_problems(hass, coordinator))
    entry.async_on_unload(follow_troubles(hass, coordinator, kept.box))
    entry.async_on_unload(coordinator.async_add_listener(runtime.saver.changed))
    flows = hass.config_entries.flow
    offer = {"unique_id": discovery_id(subentry.data[CONF_SERIAL])}
    for flow in flows.async_progress_by_handler(DOMAIN, match_context=offer):
        flows.async_abort(flow["flow_id"])
    return coordinator


@callback
def _follow_share(kept: KeptBox) -> Callable[[], None]:
    """Let the box know its share of a load group, and of an override, from the first answer on; also in a reload."""

    @callback
    def sync(_snapshot: object = None) -> None:
        kept.box.share = kept.keeper.group_share
        kept.box.follow_override(on=kept.keeper.snapshot.override.on)

    sync()
    return kept.keeper.listen(sync)


@callback
def _keep_listening(hass: HomeAssistant, entry: ConfigEntry, boxes: Boxes) -> Callable[[], None]:
    """Open the ports; while that is not possible tell the user, and try again. The answer ends the trying."""
    clock = get_registry(hass).clock
    cancel: Callable[[], None] = lambda: None  # noqa: E731 - replaced by each timer

    @callback
    def attempt() -> None:
        nonlocal cancel
        try:
            boxes.server.listener.open(entry.data[CONF_BIND_ADDRESS], entry.data[CONF_PORTS])
        except NoConnection as err:
            tell_deafness(hass, entry, err)
            cancel = clock.call_later(OPEN_AGAIN, attempt)
        else:
            tell_deafness(hass, entry, None)

    def end() -> None:
        cancel()

    attempt()
    return end


@callback
def _discovered(hass: HomeAssistant, found: Discovered) -> None:
    """A box that nobody added: offer it."""
    discovery_flow.async_create_flow(
        hass, DOMAIN, context={"source": SOURCE_INTEGRATION_DISCOVERY}, data={"discovered": found}
    )


def discovery_id(serial: str) -> str:
    """The unique id of the flow that offers a box."""
    return f"{SUBENTRY_JUICEBOX}_{serial}"


def _fingerprint(entry: ConfigEntry) -> object:
    """What the entry is set up with."""
    subentries = {key: (subentry.title, dict(subentry.data)) for key, subentry in entry.subentries.items()}
    return dict(entry.data), subentries


async def _entry_updated(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Set the boxes up again where something changed that they are set up with."""
    if _fingerprint(entry) != juicebox_runtime(entry).fingerprint:
        await hass.config_entries.async_reload(entry.entry_id)
