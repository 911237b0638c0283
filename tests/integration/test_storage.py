"""The files: damaged files neither stop the setup nor are overwritten; and when files are written."""

from collections.abc import Callable
import json
from pathlib import Path
import re
from typing import override

from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import EVENT_HOMEASSISTANT_FINAL_WRITE, STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.charger import Charger, ChargerOptions
from custom_components.chargekeeper.core.model import LIFETIME_ENERGY, WIRE_RATING
from custom_components.chargekeeper.ha.storage import (
    CHANGE_DELAY,
    ENERGY_INTERVAL,
    EntryStores,
    SnapshotSaver,
    file_name,
)
from tests.simulators.clock import VirtualClock
from tests.simulators.wallbox_cloud import Fault
from tests.simulators.world import Manual

from .conftest import CHARGING, FREE, WAITING, House, OwnHouse
from .fakes import charger, move_in
from .machine import files

KINDS = ("journal", "snapshot", "purses")


def path_of(house: OwnHouse, kind: str) -> Path:
    """Return the file of the only entry that is in use, not one put aside."""
    return files(house.machine.disk)[f"{kind}.{house.cloud.accounts[0].uuid}"]


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff\xfe garbage \x80" * 50)


def nothing_in_it(path: Path) -> None:
    path.write_text("{}")


def a_list(path: Path) -> None:
    path.write_text("[1, 2, 3]")


def a_text(path: Path) -> None:
    path.write_text('"text"')


def without_a_version(path: Path) -> None:
    path.write_text('{"data": {}}')


def with_a_text_as_version(path: Path) -> None:
    path.write_text('{"version": "one", "data": {}}')


def with_a_list_as_data(path: Path) -> None:
    path.write_text(json.dumps({"version": 1, "minor_version": 1, "key": path.name, "data": [1]}))


def newer(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "version": 7}))


DAMAGES = (
    truncated,
    emptied,
    garbage,
    nothing_in_it,
    a_list,
    a_text,
    without_a_version,
    with_a_text_as_version,
    with_a_list_as_data,
    newer,
)


@pytest.fixture
def expected_errors() -> list[str]:
    return ["Unrecoverable error decoding storage", "Could not parse JSON content"]  # messages of Home Assistant


async def stop_in_an_outage(house: OwnHouse) -> None:
    """Read everything, let an override wait in an outage, and stop Home Assistant."""
    await house.add_account()
    await house.settle_in()
    await house.cloud.set_fault(Fault.REFUSE)
    await house.pass_until_usable(False)
    await house.call("switch", "turn_on", "tou_override", WAITING)
    await house.machine.shut_down()


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *(("journal", damage) for damage in (missing, *DAMAGES)),
        *((kind, damage) for kind in ("snapshot", "purses") for damage in (missing, truncated, newer)),
    ],
)
async def test_entry_loads_when_a_file_is_missing_or_damaged(
    own_house: OwnHouse, kind: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    house = own_house
    await stop_in_an_outage(house)
    path = path_of(house, kind)
    damage(path)
    content = path.read_bytes() if path.exists() else None
    caplog.clear()
    await house.start()

    assert house.entry.state is ConfigEntryState.LOADED
    for serial in (FREE, WAITING, CHARGING):
        assert house.state("sensor", "status", serial).state == "unknown"
        limit = house.state("sensor", "wire_rating", serial).state
        assert limit == ("unknown" if kind == "snapshot" else "32.0"), "entities come from the entry's own list"
    override = house.state("switch", "tou_override", WAITING).state
    assert override == ("off" if kind == "journal" else "on"), "the other files are not touched by it"

    kept = [each for each in path.parent.glob(f"{path.name}.*") if each.read_bytes() == content]
    warnings = [record.getMessage() for record in caplog.records if record.name == "custom_components.chargekeeper"]
    if content is None:
        assert warnings == []
    else:
        assert len(kept) == 1, "put aside, not overwritten"
        [warning] = warnings
        assert path.name in warning

    await house.cloud.set_fault(Fault.NONE)
    await house.settle_in()
    assert house.state("sensor", "status").state == "available"
    assert house.state("sensor", "wire_rating").state == "32.0"
    applied = house.world.charger(WAITING).manual
    assert applied is (Manual.NONE if kind == "journal" else Manual.CHARGE)


async def test_unusable_file_kept_under_a_free_name(own_house: OwnHouse) -> None:
    """Two files of a later version in a row are both kept."""
    house = own_house
    await stop_in_an_outage(house)
    contents = []
    for _ in range(2):
        path = path_of(house, "journal")
        newer(path)
        contents.append(path.read_bytes())
        await house.start()
        await house.call("switch", "turn_on", "tou_override", WAITING)
        await house.machine.shut_down()
        for aside in path.parent.glob(f"{path.name}.aside.*"):
            assert aside.read_bytes() in contents
    assert sorted(each.name[-1] for each in path.parent.glob(f"{path.name}.aside.*")) == ["1", "2"]
    await house.start()


async def test_garbage_for_one_charger_leaves_the_others_intact(own_house: OwnHouse) -> None:
    """The other chargers keep their stored values."""
    house = own_house
    await stop_in_an_outage(house)
    for kind in ("journal", "snapshot"):
        path = path_of(house, kind)
        content = json.loads(path.read_text())
        content["data"] |= {FREE: ["nonsense", None], "700999": {"wire_rating": {"value": "much"}}}
        path.write_text(json.dumps(content))
    await house.start()
    assert house.state("sensor", "wire_rating", FREE).state == "unknown"
    assert house.state("sensor", "wire_rating", WAITING).state == "32.0"
    assert house.state("switch", "tou_override", WAITING).state == "on"


async def test_i6_damaged_request_record_counts_as_all_spent(own_house: OwnHouse) -> None:
    """I6: with an unknown number of requests spent, no request is sent for a minute."""
    house = own_house
    house.cloud.enforce_limits = True
    await house.add_account()
    await house.settle_in()
    await house.machine.shut_down()
    truncated(path_of(house, "purses"))
    seen = len(house.cloud.requests)
    await house.start()
    await house.pass_time(59)
    assert len(house.cloud.requests) == seen
    await house.pass_time(120)
    assert len(house.cloud.requests) > seen
    assert house.cloud.violations == []


def blocked(path: Path) -> None:
    """Make a file unwritable."""
    path.unlink(missing_ok=True)
    path.mkdir()


async def test_i4_override_that_cannot_be_saved_is_neither_sent_nor_shown(
    own_house: OwnHouse, expected_errors: list[str]
) -> None:
    """I4: Home Assistant itself only logs that a file could not be written."""
    expected_errors += ["Saving file failed", "Error writing config"]
    house = own_house
    await house.add_account()
    await house.settle_in()
    intents = path_of(house, "purses").with_name(path_of(house, "purses").name.replace("purses", "journal"))
    blocked(intents)
    begun = house.clock.monotonic()
    with pytest.raises(HomeAssistantError) as caught:
        await house.call("switch", "turn_on", "tou_override", WAITING)
    assert caught.value.translation_key == "not_saved"
    assert house.state("switch", "tou_override", WAITING).state == "off"
    assert [r for r in house.cloud.requests if r.method != "GET" and r.at >= begun] == []
    intents.rmdir()
    await house.call("switch", "turn_on", "tou_override", WAITING)
    assert house.state("switch", "tou_override", WAITING).state == "on"
    assert json.loads(intents.read_text())["data"][WAITING]["override"]["sent"] is True
    blocked(intents)
    with pytest.raises(HomeAssistantError):
        await house.call("switch", "turn_off", "tou_override", WAITING)
    assert house.state("switch", "tou_override", WAITING).state == "on"


async def test_chargers_read_although_the_budgets_cannot_be_saved(
    own_house: OwnHouse, expected_errors: list[str]
) -> None:
    expected_errors += ["Saving file failed", "Error writing config"]
    house = own_house
    await house.add_account()
    await house.settle_in()
    blocked(path_of(house, "purses"))
    house.cloud.expire_access()
    house.world.charger(FREE).plug_in()
    await house.pass_time(600)
    assert house.state("binary_sensor", "car_connected", FREE).state == "on"


async def test_files_named_by_kind_and_account(own_house: OwnHouse) -> None:
    house = own_house
    entry = await house.add_account()
    await house.settle_in()
    await house.call("switch", "turn_on", "tou_override", WAITING)
    assert set(files(house.machine.disk)) == {f"{kind}.{entry.unique_id}" for kind in KINDS}
    for path in files(house.machine.disk).values():
        assert path.stat().st_mode & 0o077 == 0, "nobody else's business"


@pytest.mark.parametrize("user_id", ["x/../../configuration.yaml", "../automations.yaml", ".", "4711"])
async def test_files_of_home_assistant_kept_for_any_account_id(own_house: OwnHouse, user_id: str) -> None:
    """The server chooses the id of the account."""
    house = own_house
    disk = house.machine.disk
    (disk / "configuration.yaml").write_text("default_config:\n")
    (disk / "automations.yaml").write_text("[]\n")
    before = {path for path in disk.iterdir() if path.is_file()}
    house.cloud.accounts[0].uuid = user_id
    entry = await house.add_account()
    await house.settle_in()
    await house.call("switch", "turn_on", "tou_override", WAITING)
    assert entry.unique_id == user_id
    assert (disk / "configuration.yaml").read_text() == "default_config:\n"
    assert (disk / "automations.yaml").read_text() == "[]\n"
    assert {path for path in disk.iterdir() if path.is_file()} == before
    assert set(files(disk)) == {f"{kind}.{file_name(user_id, ())}" for kind in KINDS}

    await house.hass.config_entries.async_remove(entry.entry_id)
    await house.hass.async_block_till_done()
    assert files(disk) == {}


@pytest.mark.parametrize("user_id", ["an-Old_account7", "9B2E4C1A-0000-4000-8000-000000000001"])
async def test_files_of_an_earlier_version_stay_in_use(own_house: OwnHouse, user_id: str) -> None:
    house = own_house
    house.cloud.accounts[0].uuid = user_id
    entry = await house.add_account()
    await house.settle_in()
    await house.call("switch", "turn_on", "tou_override", WAITING)
    await house.machine.shut_down()
    for name, path in files(house.machine.disk).items():
        path.rename(path.with_name(f"{DOMAIN}.{name.split('.')[0]}.{user_id}"))
    await house.cloud.set_fault(Fault.REFUSE)
    await house.start()
    assert house.state("switch", "tou_override", WAITING).state == "on", "the journal was read"
    assert house.state("sensor", "wire_rating").state not in {STATE_UNKNOWN, STATE_UNAVAILABLE}, "and the snapshot"
    await house.cloud.set_fault(Fault.NONE)
    await house.settle_in()
    await house.call("switch", "turn_off", "tou_override", WAITING)
    assert set(files(house.machine.disk)) == {f"{kind}.{user_id}" for kind in KINDS}

    await house.hass.config_entries.async_remove(entry.entry_id)
    await house.hass.async_block_till_done()
    assert files(house.machine.disk) == {}


async def test_files_contain_no_password_or_token(own_house: OwnHouse) -> None:
    house = own_house
    await house.add_account()
    await house.settle_in()
    written = files(house.machine.disk)
    assert written
    for path in written.values():
        assert not re.search(r"correct horse|owner@example|access-|refresh-|Garage", path.read_text())


# Times of writing


class Saves(EntryStores):
    """Stores that only record each save and its time."""

    def __init__(self, hass: HomeAssistant, clock: VirtualClock) -> None:
        super().__init__(hass, "tests")
        self.saved: list[tuple[float, dict[str, object]]] = []
        self._clock = clock

    @override
    async def save_snapshots(self, snapshots: dict[str, object]) -> None:
        self.snapshots |= snapshots
        self.saved.append((self._clock.monotonic(), snapshots))


async def test_snapshots_saved_by_delay_interval_and_at_stop(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    stores = Saves(hass, house.clock)
    stores.snapshots = {"1001": {"wire_rating": {}}}
    saver = SnapshotSaver(hass, house.clock, stores, {"1001": house.charger})
    saver.start()
    began = house.clock.monotonic()
    await house.pass_time(CHANGE_DELAY + 1)
    assert [at - began for at, _ in stores.saved] == [CHANGE_DELAY], "what was known before the start"

    await house.show({WIRE_RATING: 25.0})
    saver.changed()
    await house.pass_time(30)
    await house.show({WIRE_RATING: 20.0})
    saver.changed()
    changed = house.clock.monotonic() - 30
    await house.pass_time(CHANGE_DELAY)
    [_, (at, saved)] = stores.saved
    assert at == changed + CHANGE_DELAY, "the second change goes with the first"
    assert json.loads(json.dumps(saved))["1001"]["wire_rating"]["value"] == 20.0

    await house.show({LIFETIME_ENERGY: 1300.0})
    saver.changed()
    await house.pass_time(CHANGE_DELAY + 1)
    assert len(stores.saved) == 2, "a counter waits for its turn"
    await house.pass_time(ENERGY_INTERVAL)
    assert len(stores.saved) == 3
    assert (stores.saved[-1][0] - began) % ENERGY_INTERVAL == 0
    await house.pass_time(2 * ENERGY_INTERVAL)
    assert len(stores.saved) == 5

    await saver.stop()
    assert len(stores.saved) == 6, "a last time"
    await house.pass_time(2 * ENERGY_INTERVAL)
    assert len(stores.saved) == 6


async def test_snapshot_without_a_file_saved_at_once(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    stores = Saves(hass, house.clock)
    saver = SnapshotSaver(hass, house.clock, stores, {"1001": house.charger})
    saver.start()
    await house.settle()
    assert [at for at, _ in stores.saved] == [house.clock.monotonic()]
    await saver.stop()


async def test_snapshot_saved_only_by_the_final_write_while_stopping(house: House) -> None:
    hass = house.hass
    await house.add_account()
    await house.settle_in()
    stores = house.entry.runtime_data.account_runtime.stores
    house.world.charger(FREE).max_charging_current = 13
    await house.clock.advance_until(lambda: house.state("number", "charging_current").state == "13.0", within=3600)
    hass.set_state(CoreState.stopping)
    await house.clock.advance(CHANGE_DELAY)
    await house.clock.settle()
    assert "13" not in json.dumps(stores.snapshots[FREE])
    hass.set_state(CoreState.final_write)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_FINAL_WRITE)
    await hass.async_block_till_done()
    stored = stores.snapshots[FREE]
    assert isinstance(stored, dict)
    assert stored["charging_current"]["value"] == 13
    hass.set_state(CoreState.running)


async def test_forgotten_charger_removed_from_all_files(hass: HomeAssistant) -> None:
    stores = EntryStores(hass, "tests")
    await stores.load()
    await stores.load()
    for serial in ("1001", "1002"):
        await stores.save_intents(serial, {"override": None})
    await stores.save_snapshots({"1001": {}, "1002": {}})
    await stores.forget("1001")
    again = EntryStores(hass, "tests")
    await again.load()
    assert (list(again.intents_by_serial), list(again.snapshots)) == (["1002"], ["1002"])
    await again.remove()
    gone = EntryStores(hass, "tests")
    await gone.load()
    assert (gone.intents_by_serial, gone.snapshots, gone.budgets) == ({}, {}, None)


async def test_outages_saved_together_and_not_while_stopping(hass: HomeAssistant) -> None:
    stores = EntryStores(hass, "tests")
    await stores.load()
    for number in range(3):
        stores.save_outages_soon([{"number": number}])
    await hass.async_block_till_done()
    hass.set_state(CoreState.stopping)
    stores.save_outages_soon([])
    hass.set_state(CoreState.running)
    await hass.async_block_till_done()
    again = EntryStores(hass, "tests")
    await again.load()
    assert again.outages == [{"number": 2}]


async def test_stores_load_empty_when_an_unusable_file_cannot_be_renamed(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full or read-only disk only a warning is possible."""

    def refuse(self: Path, target: Path) -> Path:
        raise OSError("read-only")

    monkeypatch.setattr(Path, "rename", refuse)
    stores = EntryStores(hass, "tests")
    await stores._open()
    for store in (stores._intents, stores._budgets, stores._snapshot):
        monkeypatch.setattr(store, "async_load", later_version)
    await stores.load()
    assert (stores.intents_by_serial, stores.snapshots, stores.budgets) == ({}, {}, {})
    assert caplog.text.count("cannot be used") == 3


async def later_version() -> None:
    raise KeyError("version")


async def test_new_charger_saved_with_an_empty_snapshot(hass: HomeAssistant) -> None:
    async def save(_intents: dict[str, object]) -> None:
        """Save nothing."""

    clock = VirtualClock()
    made = Charger(charger(), clock, ChargerOptions(), save)
    stores = Saves(hass, clock)
    saver = SnapshotSaver(hass, clock, stores, {"1001": made})
    saver.start()
    await hass.async_block_till_done()
    await saver.stop()
    assert stores.saved[-1][1] == {"1001": {}}
