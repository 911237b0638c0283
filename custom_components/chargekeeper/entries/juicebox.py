"""The entry of the JuiceBoxes: one subentry per box, with its device and issues; and the discovery of boxes.

Set-up awaits no network. Boxes are served also during reloads (ha/boxes.py).
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import time
from functools import partial
from typing import Any

from homeassistant.config_entries import (
    SOURCE_INTEGRATION_DISCOVERY,
    ConfigEntry,
    ConfigEntryState,
    ConfigSubentry,
)
from homeassistant.const import (
    CONF_HOST,
    EVENT_CORE_CONFIG_UPDATE,
    EVENT_HOMEASSISTANT_FINAL_WRITE,
    EVENT_HOMEASSISTANT_STOP,
)
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import discovery_flow

from ..const import (
    CONF_BIND_ADDRESS,
    CONF_JUICENET,
    CONF_LOAD_GROUP_LIMIT,
    CONF_MINIMAL_ENERGY,
    CONF_PORTS,
    CONF_READ_ONLY,
    CONF_SERIAL,
    CONF_UPSTREAM,
    CONF_WEEKDAY_END,
    CONF_WEEKDAY_START,
    CONF_WEEKEND_END,
    CONF_WEEKEND_START,
    CONF_WIRE_RATING,
    DOMAIN,
    LOGGER,
    PLATFORMS,
    SUBENTRY_JUICEBOX,
    SUBENTRY_JUICENET,
    SharedCircuit,
)
from ..coordinator import ChargerCoordinator, ChargersRuntime, charger_name
from ..core import schedule
from ..core.charger import Charger
from ..core.clock import Clock
from ..core.errors import NoConnection
from ..core.model import Maker, Schedule
from ..ha.boxes import Boxes, ManagedBox, ManagedUnit
from ..ha.issues import (
    delete_issues,
    report_power_off,
    sync_listen_issue,
    track_box_issues,
    track_charger_issues,
    track_link_issues,
    track_power_issues,
    track_token_issue,
)
from ..ha.juicenet import juicenet_client
from ..ha.notifications import async_create_notification
from ..ha.shared_state import charger_options, entry_key, get_shared_state, linked_subentries, linked_subentry
from ..ha.storage import EntryStores, SnapshotSaver
from ..juicebox.box import BoxConfig
from ..juicebox.juicenet.account import JuiceNetTransport
from ..juicebox.juicenet.client import DAY_MINUTES, Day, Tou
from ..juicebox.listener import Discovered
from ..linked.box_entity_transport import BoxEntityTransport

REOPEN_DELAY = 30.0
"""Seconds between two attempts to open the ports."""

ADDRESS_CHECK_INTERVAL = 300.0
"""Seconds between two checks that the listening address still exists."""

OVERRIDE_END_TIMEOUT = 75.0
"""Seconds that the end of an override may wait for the next status of a box."""

SERVER_OVERRIDE_END_TIMEOUT = 15.0
"""Seconds that the end of an override may wait for a JuiceNet server when the charger is removed."""

WINDOWS = ((CONF_WEEKDAY_START, CONF_WEEKDAY_END), (CONF_WEEKEND_START, CONF_WEEKEND_END))
"""The ends of each time-of-use window in the data of a subentry, with the meaning that the manufacturer's server gives
them."""

UNRESTRICTED_DAY = Day(0, DAY_MINUTES)


@dataclass(kw_only=True)
class JuiceBoxRuntime(ChargersRuntime):
    """The runtime data of the entry of the boxes."""

    boxes: Boxes
    linked: dict[str, BoxEntityTransport] = field(default_factory=dict)
    """Transports of the boxes that have linked entities, by serial."""
    removers: list[Callable[[], None]] = field(default_factory=list)
    """Functions that remove listeners, called before the chargers are stopped."""


def juicebox_runtime(entry: ConfigEntry) -> JuiceBoxRuntime:
    """Return the runtime data of the entry of the boxes. The entry must be set up."""
    runtime: JuiceBoxRuntime = entry.runtime_data
    return runtime


async def async_setup_boxes(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Set up all boxes. The ports are opened when all boxes are known."""
    boxes = await _async_open(hass, entry)
    boxes.cancel_close()
    _remove_orphaned_links(hass, entry)
    chargers: dict[str, Charger] = {}
    saver = SnapshotSaver(hass, get_shared_state(hass).clock, boxes.stores, chargers)
    runtime = JuiceBoxRuntime(boxes=boxes, coordinators={}, saver=saver, fingerprint=_fingerprint(entry))
    entry.runtime_data = runtime
    boxes.set_upstream(entry.data[CONF_UPSTREAM])
    boxes.set_juicenet_account(entry.data[CONF_JUICENET], partial(juicenet_client, hass, entry.data[CONF_JUICENET]))
    await _forget_missing(hass, entry, boxes)
    _track_power_of_removed_boxes(hass, entry, boxes)
    coordinators = [_begin_box(hass, entry, subentry) for subentry in box_subentries(entry)]
    coordinators += [_begin_unit(hass, entry, subentry) for subentry in unit_subentries(entry)]
    for coordinator in coordinators:
        serial = coordinator.identity.serial
        runtime.coordinators[serial] = coordinator
        chargers[serial] = coordinator.charger

    async def save_last(_event: Event) -> None:
        await saver.stop()
        await boxes.save()

    @callback
    def zone_changed(_event: Event) -> None:
        for subentry in box_subentries(entry):
            boxes.server.add(box_config(entry, subentry, hass.config.time_zone))
        for unit in unit_subentries(entry):
            boxes.configure_unit(unit_config(unit, hass.config.time_zone))

    entry.async_on_unload(entry.add_update_listener(_entry_updated))
    entry.async_on_unload(hass.bus.async_listen_once(EVENT_HOMEASSISTANT_FINAL_WRITE, save_last))
    entry.async_on_unload(hass.bus.async_listen(EVENT_CORE_CONFIG_UPDATE, zone_changed))
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    saver.start()
    entry.async_on_unload(_listen_for_boxes(hass, entry, boxes))
    entry.async_on_unload(track_token_issue(hass, entry, boxes.account if boxes.units else None))
    if boxes.account is not None and boxes.units:
        boxes.account.start()
    entry.async_on_unload(boxes.server.listen_discovery(partial(_discovered, hass)))
    return True


@callback
def _remove_orphaned_links(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Remove the links of boxes that were removed."""
    serials = {box.data[CONF_SERIAL] for box in box_subentries(entry)}
    for link in linked_subentries(entry):
        if link.data[CONF_SERIAL] not in serials:
            hass.config_entries.async_remove_subentry(entry, link.subentry_id)


async def async_unload_boxes(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Stop everything of the entry except the boxes: without replies to them a reload would be an outage."""
    if not await hass.config_entries.async_unload_platforms(entry, PLATFORMS):
        return False
    runtime = juicebox_runtime(entry)
    shared_state = get_shared_state(hass)
    while runtime.removers:
        runtime.removers.pop()()
    if runtime.boxes.account is not None:
        await runtime.boxes.account.stop()
    for coordinator in runtime.coordinators.values():
        await coordinator.async_shutdown()
        await shared_state.end(coordinator.charger)
    await runtime.saver.stop()
    if entry.disabled_by is not None:
        await _close(hass, entry, runtime.boxes)
        delete_issues(hass, entry, runtime.coordinators)
    else:

        @callback
        def close() -> None:
            hass.async_create_task(_close(hass, entry, runtime.boxes), "chargekeeper boxes closed")

        runtime.boxes.close_later(close)
    return True


async def async_remove_boxes(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Remove all boxes. A box with a manufacturer's server must find this server again by itself."""
    boxes = await _async_open(hass, entry)
    units = [_open_unit(hass, entry, boxes, unit) for unit in unit_subentries(entry)]
    await _release_units(hass, entry, boxes, units)
    serials = [each.data[CONF_SERIAL] for each in (*box_subentries(entry), *unit_subentries(entry))]
    for serial in serials:
        await _forget(hass, entry, serial)
    await _close(hass, entry, boxes)
    await boxes.stores.remove()
    get_shared_state(hass).stores.pop(entry_key(entry))
    delete_issues(hass, entry, serials)
    _abort_discovery_flows(hass, {"source": SOURCE_INTEGRATION_DISCOVERY})


def box_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """Return the subentries of boxes that send their statuses to ChargeKeeper."""
    return [subentry for subentry in entry.subentries.values() if subentry.subentry_type == SUBENTRY_JUICEBOX]


def unit_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """Return the subentries of boxes that only a JuiceNet server reaches."""
    return [subentry for subentry in entry.subentries.values() if subentry.subentry_type == SUBENTRY_JUICENET]


def unit_config(subentry: ConfigSubentry, zone: str) -> BoxConfig:
    """Return the user's settings of a box that only a JuiceNet server reaches."""
    data = subentry.data
    return BoxConfig(
        serial=data[CONF_SERIAL],
        host="",
        name=subentry.title,
        wire_rating=float(data[CONF_WIRE_RATING]),
        load_group_limit=None if CONF_LOAD_GROUP_LIMIT not in data else float(data[CONF_LOAD_GROUP_LIMIT]),
        zone=zone,
    )


def box_config(entry: ConfigEntry, subentry: ConfigSubentry, zone: str) -> BoxConfig:
    """Return the user's settings of a box."""
    data = subentry.data
    return BoxConfig(
        serial=data[CONF_SERIAL],
        host=data[CONF_HOST],
        name=subentry.title,
        wire_rating=float(data[CONF_WIRE_RATING]),
        load_group_limit=None if CONF_LOAD_GROUP_LIMIT not in data else float(data[CONF_LOAD_GROUP_LIMIT]),
        in_maker_load_group=SharedCircuit.of(data) is not SharedCircuit.NO,
        schedule=_schedule(subentry, zone),
        minimal_energy=round(data.get(CONF_MINIMAL_ENERGY, 0) * 1000),
        zone=zone,
        read_only=entry.options.get(CONF_READ_ONLY, False),
    )


def _schedule(subentry: ConfigSubentry, zone: str) -> Schedule:
    """Return the windows in which a box may charge.

    If only some days have a window, the other days are unrestricted.
    """
    weekday, weekend = (
        Day(_minute(subentry.data[start]), _minute(subentry.data[end])) if start in subentry.data else None
        for start, end in WINDOWS
    )
    if weekday is None and weekend is None:
        return ()
    return Tou(enabled=True, weekday=weekday or UNRESTRICTED_DAY, weekend=weekend or UNRESTRICTED_DAY).windows(zone)


def _minute(text: str) -> int:
    time_of_day = time.fromisoformat(text)
    return time_of_day.hour * 60 + time_of_day.minute


async def _async_open(hass: HomeAssistant, entry: ConfigEntry) -> Boxes:
    """Return the boxes, with their stored state."""
    shared_state = get_shared_state(hass)
    key = entry_key(entry)
    if shared_state.boxes is None:
        stores = shared_state.stores.setdefault(key, EntryStores(hass, key))
        await stores.load()
        shared_state.boxes = Boxes(hass, shared_state.clock, stores)
    return shared_state.boxes


async def _close(hass: HomeAssistant, entry: ConfigEntry, boxes: Boxes) -> None:
    """Stop serving the boxes and save their state. Raise an issue for each box that may be without power."""
    get_shared_state(hass).boxes = None
    await boxes.finish()
    for serial in boxes.without_power:
        report_power_off(hass, entry, serial, boxes.power_cycles[serial])
    await boxes.close()
    await boxes.save()


@callback
def _open_unit(hass: HomeAssistant, entry: ConfigEntry, boxes: Boxes, subentry: ConfigSubentry) -> ManagedUnit:
    """Start a box that only a JuiceNet server reaches, while its entry is not set up."""
    shared_state = get_shared_state(hass)
    boxes.set_juicenet_account(entry.data[CONF_JUICENET], partial(juicenet_client, hass, entry.data[CONF_JUICENET]))
    managed = boxes.add_unit(unit_config(subentry, hass.config.time_zone), shared_state.chargers)
    shared_state.begin(managed.charger)
    return managed


async def _release_units(hass: HomeAssistant, entry: ConfigEntry, boxes: Boxes, units: Iterable[ManagedUnit]) -> None:
    """End the overrides of removed boxes at the JuiceNet server, all at once.

    Notify the user of each override or pause that remains there.
    """
    await asyncio.gather(*(_release_unit(hass, entry, boxes, managed) for managed in units))


async def _release_unit(hass: HomeAssistant, entry: ConfigEntry, boxes: Boxes, managed: ManagedUnit) -> None:
    shared_state = get_shared_state(hass)
    charger = managed.charger
    with suppress(TimeoutError):
        async with shared_state.clock.timeout(SERVER_OVERRIDE_END_TIMEOUT):
            await charger.cancel_override()
    if charger.override_left:
        await async_create_notification(hass, entry, charger.identity, "override_left")
    reports_itself = any(box.data[CONF_SERIAL] == charger.identity.serial for box in box_subentries(entry))
    if charger.group_paused and not reports_itself:
        await async_create_notification(hass, entry, charger.identity, "left_paused_by_group")
    elif managed.transport is not None and boxes.is_paused(charger.identity.serial) and not reports_itself:
        await async_create_notification(hass, entry, charger.identity, "left_paused_at_server")
    await shared_state.end(charger)


async def _forget_missing(hass: HomeAssistant, entry: ConfigEntry, boxes: Boxes) -> None:
    """Remove the stored state of boxes that the entry no longer has, also if they were removed while it was not set up.

    A box that now sends its statuses itself is no longer polled at a JuiceNet server.
    """
    box_serials = {subentry.data[CONF_SERIAL] for subentry in box_subentries(entry)}
    unit_serials = {subentry.data[CONF_SERIAL] for subentry in unit_subentries(entry)}
    for serial in boxes.known_serials - box_serials - unit_serials:
        await _forget(hass, entry, serial)
    for serial in box_serials & set(boxes.units):
        boxes.forget_unit(serial)


@callback
def _track_power_of_removed_boxes(hass: HomeAssistant, entry: ConfigEntry, boxes: Boxes) -> None:
    """Keep the power issues of removed boxes that may be without power, also after a restart."""
    present = {subentry.data[CONF_SERIAL] for subentry in box_subentries(entry)}
    for serial, cycle in boxes.power_cycles.items():
        if serial not in present:
            entry.async_on_unload(track_power_issues(hass, entry, serial, cycle))


async def _forget(hass: HomeAssistant, entry: ConfigEntry, serial: str) -> None:
    """Remove a box and its state. If the user adds it again, it is a new box."""
    shared_state = get_shared_state(hass)
    shared_state.chargers.pop((Maker.JUICEBOX, serial), None)
    assert shared_state.boxes is not None
    await shared_state.boxes.forget(serial)
    delete_issues(hass, entry, [serial])


@callback
def _begin_box(hass: HomeAssistant, entry: ConfigEntry, subentry: ConfigSubentry) -> ChargerCoordinator:
    """Start the charger of a box, and its coordinator."""
    runtime = juicebox_runtime(entry)
    shared_state = get_shared_state(hass)
    managed = runtime.boxes.add_box(box_config(entry, subentry, hass.config.time_zone), shared_state.chargers)
    _start(hass, entry, managed.charger)
    runtime.removers.append(_sync_box(managed))
    linked = _link_entities(hass, entry, managed)
    coordinator = _coordinator(hass, entry, subentry, managed.charger)
    entry.async_on_unload(track_box_issues(hass, coordinator, managed.box))
    entry.async_on_unload(track_link_issues(hass, coordinator, linked))
    power_cycle = runtime.boxes.power_cycle_of(managed.box.config.serial)
    entry.async_on_unload(track_power_issues(hass, entry, coordinator.identity.serial, power_cycle))
    _abort_discovery_flows(hass, {"unique_id": discovery_id(subentry.data[CONF_SERIAL])})
    return coordinator


@callback
def _begin_unit(hass: HomeAssistant, entry: ConfigEntry, subentry: ConfigSubentry) -> ChargerCoordinator:
    """Start the charger and the coordinator of a box that is reached only over a JuiceNet server."""
    runtime = juicebox_runtime(entry)
    shared_state = get_shared_state(hass)
    managed = runtime.boxes.add_unit(unit_config(subentry, hass.config.time_zone), shared_state.chargers)
    _start(hass, entry, managed.charger)
    if managed.transport is not None:
        runtime.removers.append(_sync_transport_share(managed.charger, managed.transport))
    return _coordinator(hass, entry, subentry, managed.charger)


@callback
def _start(hass: HomeAssistant, entry: ConfigEntry, charger: Charger) -> None:
    shared_state = get_shared_state(hass)
    key = charger.identity.key
    charger.options = charger_options(entry, charger.identity.serial)
    shared_state.chargers[key] = charger
    shared_state.begin(charger)


@callback
def _coordinator(
    hass: HomeAssistant, entry: ConfigEntry, subentry: ConfigSubentry, charger: Charger
) -> ChargerCoordinator:
    """Return the coordinator of a charger."""
    coordinator = ChargerCoordinator(hass, entry, charger, subentry_id=subentry.subentry_id)
    entry.async_on_unload(track_charger_issues(hass, coordinator))
    entry.async_on_unload(coordinator.async_add_listener(juicebox_runtime(entry).saver.changed))
    return coordinator


@callback
def _sync_transport_share(charger: Charger, transport: JuiceNetTransport) -> Callable[[], None]:
    """Pass the load group share of a box to its transport. Return a function that removes the listener."""

    @callback
    def sync(_snapshot: object = None) -> None:
        transport.share = charger.group_share

    sync()
    return charger.listen(sync)


@callback
def _link_entities(hass: HomeAssistant, entry: ConfigEntry, managed: ManagedBox) -> BoxEntityTransport | None:
    """Return the transport over the linked entities of a box; None if it has none."""
    runtime = juicebox_runtime(entry)
    serial = managed.box.config.serial
    if (link := linked_subentry(entry, serial)) is None:
        return None
    box_parts = (managed.box, managed.udp, runtime.boxes.power_cycle_of(serial))
    transport = BoxEntityTransport(hass, get_shared_state(hass).clock, managed.charger, link.data, box_parts)
    managed.charger.add_transport(transport)
    runtime.linked[serial] = transport
    return transport


@callback
def _sync_box(managed: ManagedBox) -> Callable[[], None]:
    """Pass the load group share and the override of a charger to its box, from the first reply on, also after a reload.

    Return a function that removes the listener.
    """

    @callback
    def sync(_snapshot: object = None) -> None:
        managed.box.share = managed.charger.group_share
        managed.box.follow_override(on=managed.charger.snapshot.override.on)

    sync()
    return managed.charger.listen(sync)


@callback
def _listen_for_boxes(hass: HomeAssistant, entry: ConfigEntry, boxes: Boxes) -> Callable[[], None]:
    """Open the ports. On failure raise an issue and try again. Return a function that ends the attempts.

    The address is checked regularly, because a network lease may end.
    """
    clock = get_shared_state(hass).clock
    cancel: Callable[[], None] = lambda: None  # noqa: E731 - replaced by each timer

    @callback
    def attempt() -> None:
        nonlocal cancel
        try:
            boxes.server.listener.open(entry.data[CONF_BIND_ADDRESS], entry.data[CONF_PORTS])
            boxes.server.listener.require_address()
        except NoConnection as err:
            sync_listen_issue(hass, entry, err)
            cancel = clock.call_later(REOPEN_DELAY, attempt)
        else:
            sync_listen_issue(hass, entry, None)
            cancel = clock.call_later(ADDRESS_CHECK_INTERVAL, attempt)

    @callback
    def end(_event: Event | None = None) -> None:
        cancel()

    attempt()
    entry.async_on_unload(hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, end))
    return end


@callback
def _discovered(hass: HomeAssistant, found: Discovered) -> None:
    """Offer a box that the user has not added."""
    discovery_flow.async_create_flow(
        hass, DOMAIN, context={"source": SOURCE_INTEGRATION_DISCOVERY}, data={"discovered": found}
    )


@callback
def _abort_discovery_flows(hass: HomeAssistant, context: dict[str, Any]) -> None:
    """Abort the discovery flows with this context."""
    flows = hass.config_entries.flow
    for flow in flows.async_progress_by_handler(DOMAIN, match_context=context):
        flows.async_abort(flow["flow_id"])


def quarter_hours(hass: HomeAssistant, entry: ConfigEntry) -> list[dict[str, object]]:
    """Return the energy per quarter hour that each box reported, as JSON, with times in Home Assistant's time zone."""
    runtime = juicebox_runtime(entry)
    now = get_shared_state(hass).clock.now()
    found: list[dict[str, object]] = []
    for serial, coordinator in runtime.coordinators.items():
        if serial not in runtime.boxes.managed:
            continue  # a box that only a JuiceNet server reaches reports none
        zone = schedule.zone(hass.config.time_zone)
        today = now.astimezone(zone).date()
        quarters = [
            {
                "start": start.isoformat(),
                "day": "today" if start.date() == today else "yesterday",
                "energy": each.energy,
                "complete": each.complete,
                "reported_at": each.reported_at.astimezone(zone).isoformat(),
            }
            for each in runtime.boxes.managed[serial].box.state.quarters.known(now)
            for start in (each.start.astimezone(zone),)
        ]
        found.append({"charger": charger_name(hass, entry, coordinator.identity), "quarter_hours": quarters})
    return found


def discovery_id(serial: str) -> str:
    """Return the unique id of the flow that offers a box."""
    return f"{SUBENTRY_JUICEBOX}_{serial}"


def _fingerprint(entry: ConfigEntry) -> object:
    """Return the configuration that the entry is set up with."""
    subentries = {key: (subentry.title, dict(subentry.data)) for key, subentry in entry.subentries.items()}
    return dict(entry.data), dict(entry.options), subentries


async def _entry_updated(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Reload the entry if its configuration has changed."""
    runtime = juicebox_runtime(entry)
    if _fingerprint(entry) == runtime.fingerprint:
        return
    if entry.options.get(CONF_READ_ONLY, False):
        managed = runtime.boxes.managed.values()
        await asyncio.gather(*(_end_override(get_shared_state(hass).clock, each) for each in managed))
        if not is_same_setup(entry, runtime):
            return
    polled = {subentry.data[CONF_SERIAL] for subentry in unit_subentries(entry)} if entry.data[CONF_JUICENET] else set()
    units = [managed for serial, managed in runtime.boxes.units.items() if serial not in polled]
    await _release_units(hass, entry, runtime.boxes, units)
    if is_same_setup(entry, runtime):
        await hass.config_entries.async_reload(entry.entry_id)


def is_same_setup(entry: ConfigEntry, runtime: ChargersRuntime) -> bool:
    """Return True if the entry is still set up with this runtime data. Call this after an `await`.

    The entry may have been removed or set up again meanwhile. After a new set-up, the entry already has all changes.
    """
    is_set_up = entry.state in (ConfigEntryState.LOADED, ConfigEntryState.SETUP_IN_PROGRESS)
    return is_set_up and getattr(entry, "runtime_data", None) is runtime


async def _end_override(clock: Clock, managed: ManagedBox) -> None:
    """End the override of a box that becomes read-only, and wait until the reply to its next status is sent."""
    if not managed.charger.snapshot.override.on:
        return
    sent = asyncio.Event()

    @callback
    def check() -> None:
        if not managed.box.change_pending:
            sent.set()

    removers: list[Callable[[], None]] = []
    try:
        async with clock.timeout(OVERRIDE_END_TIMEOUT):
            await managed.charger.cancel_override()
            removers.append(managed.box.listen(check))
            check()
            await sent.wait()
    except TimeoutError:
        LOGGER.debug("A box sent no status before its override was to end")
    while removers:
        removers.pop()()
