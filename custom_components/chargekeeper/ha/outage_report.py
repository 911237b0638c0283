"""The outage report for the user: the outage log of an account, recorded from the events of its chargers."""

from collections.abc import Callable, Mapping
from functools import partial

from homeassistant.core import HomeAssistant, callback

from ..coordinator import ChargeKeeperConfigEntry, ChargerCoordinator, charger_name, for_each_charger
from ..core.charger import ChargerEvent
from ..core.model import Property, Reading, ReadingClass, Source
from ..core.outage_log import OutageLog
from ..wallbox.account import AccountSnapshot

OVERRIDE = "tou_override"
"""The key of a replayed override, next to the keys of settings."""


@callback
def track_outages(entry: ChargeKeeperConfigEntry) -> Callable[[], None]:
    """Record outages in the log of the account. Return a function that removes the listeners."""
    runtime = entry.runtime_data
    log = runtime.account_runtime.outages
    account = runtime.account_runtime.account
    removers: list[Callable[[], None]] = []

    @callback
    def account_changed(snapshot: AccountSnapshot) -> None:
        if snapshot.cloud is False:
            log.begin(account.breaker.opened_at)
            for coordinator in runtime.coordinators.values():
                _log_served(log, coordinator)
        elif snapshot.cloud:
            log.end()

    @callback
    def begin(coordinator: ChargerCoordinator) -> None:
        removers.append(coordinator.charger.listen_events(partial(_log_replay, log, coordinator)))
        removers.append(coordinator.async_add_listener(partial(_log_served, log, coordinator)))

    for_each_charger(entry, begin)
    removers.append(account.listen(account_changed))
    account_changed(account.snapshot)

    def end() -> None:
        while removers:
            removers.pop()()

    return end


@callback
def _log_served(log: OutageLog, coordinator: ChargerCoordinator) -> None:
    """Log the configuration of a charger that is served from the cache now."""
    if log.open:
        readings = coordinator.data.readings.items()
        config = (prop.key for prop, reading in readings if _is_served(prop, reading))
        log.serve(coordinator.identity.serial, config)


def _is_served(prop: Property[object], reading: Reading[object]) -> bool:
    return prop.kind is ReadingClass.CONFIG and reading.source is Source.CACHE


@callback
def _log_replay(log: OutageLog, coordinator: ChargerCoordinator, event: ChargerEvent) -> None:
    """Log a setting that was sent after it had waited, or an override that was sent again."""
    if event.kind == "replay":
        log.replay(coordinator.identity.serial, event.type)
    elif event.type == "override_reapplied":
        log.replay(coordinator.identity.serial, OVERRIDE)


@callback
def outage_report(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> list[dict[str, object]]:
    """Return the outages, oldest first. Chargers have the names that the user knows, never serial numbers."""
    runtime = entry.runtime_data
    names = {
        serial: charger_name(hass, entry, coordinator.identity) for serial, coordinator in runtime.coordinators.items()
    }

    def named(by_serial: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
        known: dict[str, set[str]] = {}
        for serial, keys in by_serial.items():
            if serial in names:
                known.setdefault(names[serial], set()).update(keys)
        return {name: sorted(keys) for name, keys in known.items()}

    return [
        {
            "start": outage.started_at.isoformat(),
            "end": None if outage.ended_at is None else outage.ended_at.isoformat(),
            "served": named(outage.served),
            "replayed": named(outage.replayed),
        }
        for outage in runtime.account_runtime.outages.outages
    ]
