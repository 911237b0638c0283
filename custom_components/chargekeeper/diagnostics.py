"""Diagnostics for bug reports. Every value is listed by name, so that no personal data can be included."""

from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.helpers.device_registry import DeviceEntry

from .const import CONF_LIMIT, KIND_JUICEBOX, KIND_LOAD_GROUP
from .coordinator import ChargeKeeperConfigEntry, ChargerCoordinator, RuntimeData, charger_identifier, chargers_runtime
from .core.model import Snapshot
from .entries.juicebox import JuiceBoxRuntime, juicebox_runtime
from .entries.kind import kind_of
from .entries.load_group import group_runtime


async def async_get_config_entry_diagnostics(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> dict[str, Any]:
    """Return the account and its chargers, the boxes, or the load group and its members.

    Chargers have no names here, only their position in the list.
    """
    if kind_of(entry) == KIND_LOAD_GROUP:
        return _group(entry)
    if kind_of(entry) == KIND_JUICEBOX:
        return _boxes(entry)
    runtime = entry.runtime_data
    return {
        "options": {key: value for key, value in entry.options.items() if isinstance(value, bool | str)},
        "account": runtime.account_runtime.account.diagnostics(),
        "chargers": [_charger(runtime, coordinator) for _, coordinator in sorted(runtime.coordinators.items())],
        "skipped_chargers": len(runtime.skipped),
    }


async def async_get_device_diagnostics(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, device: DeviceEntry
) -> dict[str, Any]:
    """Return the charger of a device. For a service device return its account or load group."""
    if kind_of(entry) == KIND_LOAD_GROUP:
        return _group(entry)
    for coordinator in chargers_runtime(entry).coordinators.values():
        identity = coordinator.identity
        if charger_identifier(identity.maker, identity.serial) in device.identifiers:
            if kind_of(entry) == KIND_JUICEBOX:
                return _box(juicebox_runtime(entry), coordinator)
            return _charger(entry.runtime_data, coordinator)
    return {"account": entry.runtime_data.account_runtime.account.diagnostics()}


def _group(entry: ConfigEntry) -> dict[str, Any]:
    group = group_runtime(entry).group
    return {
        "limit": entry.data[CONF_LIMIT],
        "allocated": group.view.allocated,
        "headroom": group.view.headroom,
        "members": group.diagnostics(),
    }


def _boxes(entry: ConfigEntry) -> dict[str, Any]:
    runtime = juicebox_runtime(entry)
    server = runtime.boxes.server
    return {
        "ports": [port for _, port in server.listener.endpoints],
        "dropped": dict(server.listener.dropped),
        "waiting": len(server.listener.discovered),
        "boxes": [_box(runtime, coordinator) for _, coordinator in sorted(runtime.coordinators.items())],
    }


def _box(runtime: JuiceBoxRuntime, coordinator: ChargerCoordinator) -> dict[str, Any]:
    boxes = runtime.boxes
    serial = coordinator.identity.serial
    if (unit := boxes.units.get(serial)) is not None:
        return {
            "juicenet": None if unit.transport is None else unit.transport.diagnostics(),
            "snapshot": _snapshot(coordinator.data),
            **coordinator.charger.diagnostics(),
        }
    managed = boxes.managed[serial]
    linked = runtime.linked.get(serial)
    box = managed.box
    state = managed.box.state
    return {
        "version": state.version,
        "firmware": state.firmware,
        "mode": box.mode,
        "server_answers": box.server_answers,
        "server_error": boxes.server.upstream_error(box.config.serial),
        "in_maker_load_group": box.config.in_maker_load_group,
        "troubles": sorted(box.issues),
        "counts": dict(box.counts),
        "stored_limit": state.offline,
        "allowed_now": state.online,
        "linked": None if linked is None else linked.diagnostics(),
        "moved": boxes.server.listener.host_of(serial) != box.config.host,
        "letters": sorted(box.status.fields) if box.status is not None else [],
        "session_energy_of_box": None if box.status is None else box.status.session_energy,
        "snapshot": _snapshot(coordinator.data),
        **coordinator.charger.diagnostics(),
    }


def _charger(runtime: RuntimeData, coordinator: ChargerCoordinator) -> dict[str, Any]:
    linked = runtime.account_runtime.linked.get(coordinator.identity.serial)
    return {
        "model": coordinator.identity.model,
        "part_number": coordinator.identity.part_number,
        "snapshot": _snapshot(coordinator.data),
        "linked": None if linked is None else linked.diagnostics(),
        **coordinator.charger.diagnostics(),
    }


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "readings": {
            prop.key: {
                "value": reading.value if isinstance(reading.value, bool | int | float | str) else str(reading.value),
                "source": reading.source,
                "observed_at": reading.observed_at.isoformat(),
            }
            for prop, reading in snapshot.readings.items()
        },
        "effective_limit": snapshot.effective_limit,
        "limiting_factor": snapshot.limiting_factor,
        "restart_availability": snapshot.restart,
        "override": {"on": snapshot.override.on, "applied": snapshot.override.applied},
        "connection_path": snapshot.connection_path,
        "cloud": snapshot.cloud,
        "local": snapshot.local,
    }
