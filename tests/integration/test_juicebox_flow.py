"""The config flow of JuiceBoxes: listening, waiting for a box, its settings, further boxes."""

import json
import socket
from typing import Any, cast

from homeassistant.config_entries import SOURCE_IGNORE, SOURCE_INTEGRATION_DISCOVERY, SOURCE_RECONFIGURE
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, UnknownFlow
import pytest
import voluptuous as vol

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.diagnostics import async_get_config_entry_diagnostics
from custom_components.chargekeeper.entries.load_group import async_open_groups
from custom_components.chargekeeper.flows.juicebox_box import SERVER_NAMES
from custom_components.chargekeeper.juicebox.listener import Discovered
from tests.juicebox.rig import Sender, line
from tests.simulators.juicebox_server import Day, Group, Schedule
from tests.simulators.juicenet_cloud import JuiceNetCloud

from .boxes import ADDRESS, DETAILS, FIRST, SECOND, BoxHouse

THERE = "127.0.0.2"


@pytest.fixture
def taken() -> Any:
    """Yield a port that another program uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ADDRESS, 0))
        yield sock.getsockname()[1]


async def test_reporting_box_shown_and_added(box_house: BoxHouse) -> None:
    await box_house.maker.start()
    box_house.power_up()
    form = await box_house.begin()
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "juicebox")
    progress = await box_house.submit(form, box_house.listening())
    assert (progress["step_id"], progress["progress_action"]) == ("wait", "wait")
    ports = ", ".join(map(str, box_house.ports))
    assert progress["description_placeholders"] == {"address": ADDRESS, "ports": ports}
    form = await box_house.wait(progress, 61)
    assert form["step_id"] == "box"
    assert form["description_placeholders"] == {
        "serial": FIRST,
        "host": THERE,
        "version": "09u",
        "voltage": "240",
        "energy": "4556",
        "rating": "40",
    }
    result = await box_house.submit(form, DETAILS)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    host, port = box_house.maker.address
    assert dict(box_house.entry.data) == {
        "kind": "juicebox",
        "ports": list(box_house.ports),
        "bind_address": ADDRESS,
        "upstream": {"host": host, "port": port, "resolver": ""},
        "juicenet": {},
    }
    subentry = box_house.subentry()
    assert subentry.title == "Garage"
    assert dict(subentry.data) == {
        "serial": FIRST,
        "host": THERE,
        "wire_rating": 32,
        "in_maker_load_group": "no",
    }


async def test_help_shown_when_no_box_reports_then_second_try_finds_a_box(box_house: BoxHouse) -> None:
    menu = await box_house.wait(await box_house.submit(await box_house.begin(), box_house.listening()))
    assert (menu["type"], menu["menu_options"]) == (FlowResultType.MENU, ["wait", "without_box"])
    placeholders = menu["description_placeholders"]
    assert "jbv1.emotorwerks.com" in placeholders["names"]
    assert (placeholders["dropped"], placeholders["address"]) == ("0", ADDRESS)
    box_house.power_up()
    form = await box_house.wait(await box_house.submit(menu, {"next_step_id": "wait"}))
    assert form["step_id"] == "box"


async def test_flow_left_at_any_step_is_replaced_by_a_new_flow(box_house: BoxHouse) -> None:
    """The page was reloaded: the new flow ends the old flow and takes its ports."""
    left = await box_house.begin()
    progress = await box_house.submit(await box_house.begin(), box_house.listening())
    menu = await box_house.wait(await box_house.submit(await box_house.begin(), box_house.listening()))
    assert menu["step_id"] == "nothing_heard"
    box_house.power_up()
    form = await box_house.wait(await box_house.submit(await box_house.begin(), box_house.listening()))
    again = await box_house.wait(await box_house.submit(await box_house.begin(), box_house.listening()))
    for older in (left, progress, menu, form):
        with pytest.raises(UnknownFlow):
            await box_house.submit(older, DETAILS)
    assert (await box_house.submit(again, DETAILS))["type"] is FlowResultType.CREATE_ENTRY
    assert box_house.hass.config_entries.flow.async_progress() == []


async def test_box_form_suggests_nothing_that_only_the_user_knows(box_house: BoxHouse) -> None:
    """The frontend fills a required field with its lowest value or first option; these fields must stay empty."""
    box_house.power_up()
    form = await box_house.wait(await box_house.submit(await box_house.begin(), box_house.listening()))
    assert suggested(form) == {"name": "JuiceBox 0001"}
    fields = {str(key): key for key in form["data_schema"].schema}
    for field in ("wire_rating", "in_maker_load_group"):
        assert isinstance(fields[field], vol.Optional)
        assert fields[field].default is vol.UNDEFINED
    form = await box_house.submit(form, {"name": "Garage"})
    assert form["errors"] == {"wire_rating": "wire_rating_missing", "in_maker_load_group": "answer_missing"}
    assert (await box_house.submit(form, DETAILS))["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.parametrize(
    ("stored", "shown", "in_group"),
    [
        (False, "no", False),
        (True, "yes", True),
        ("no", "no", False),
        ("yes", "yes", True),
        ("unknown", "unknown", True),
    ],
)
async def test_answer_about_a_shared_circuit_is_kept_and_shown(
    box_house: BoxHouse, stored: object, shown: str, in_group: bool
) -> None:
    """Subentries of earlier versions store a bool."""
    entry = await box_house.add()
    subentry = box_house.subentry()
    data = {**subentry.data, "in_maker_load_group": stored}
    box_house.hass.config_entries.async_update_subentry(entry, subentry, data=data)
    await box_house.hass.async_block_till_done()
    assert box_house.box().config.in_maker_load_group is in_group
    menu = await box_house.begin_subentry(FIRST)
    form = await box_house.submit_subentry(menu, {"next_step_id": "settings"})
    assert suggested(form)["in_maker_load_group"] == shown
    form = await box_house.submit_subentry(form, {"name": "Garage", "host": THERE})
    assert form["errors"] == {"wire_rating": "wire_rating_missing", "in_maker_load_group": "answer_missing"}
    result = await box_house.submit_subentry(form, {**DETAILS, "host": THERE, "in_maker_load_group": shown})
    assert result["reason"] == "reconfigure_successful"
    assert box_house.box().config.in_maker_load_group is in_group


async def test_entry_without_a_box_offers_a_box_that_reports_later(box_house: BoxHouse) -> None:
    menu = await box_house.wait(await box_house.submit(await box_house.begin(), box_house.listening()))
    result = await box_house.submit(menu, {"next_step_id": "without_box"})
    assert (result["type"], len(box_house.entry.subentries)) == (FlowResultType.CREATE_ENTRY, 0)
    box_house.power_up()
    await box_house.pass_time(61)
    assert len(box_house.offers()) == 1


async def test_invalid_settings_refused_until_corrected(box_house: BoxHouse, taken: int) -> None:
    form = await box_house.begin()

    async def refusal(**changed: object) -> dict[str, str] | None:
        nonlocal form
        form = await box_house.submit(form, box_house.listening(**changed))
        assert form["type"] is FlowResultType.FORM
        return form["errors"]

    for ports in ([], ["0"], ["8042", "65536"], ["x"]):
        assert await refusal(ports=ports) == {"ports": "bad_port"}, ports
    own = box_house.ports[0]
    assert await refusal(ports=[str(own), str(taken)]) == {"ports": "port_busy"}
    names = "\n".join(SERVER_NAMES)
    assert form["description_placeholders"] == {"port": str(taken), "address": ADDRESS, "names": names}
    assert await refusal(bind_address="192.0.2.1") == {"bind_address": "bad_address"}
    assert await refusal(bind_address="here") == {"bind_address": "bad_address"}
    named = {"host": "server.example", "port": 8042}
    assert await refusal(upstream={**named, "resolver": "dns.example"}) == {"base": "bad_resolver"}
    assert await refusal(upstream={"host": "..", "port": 8042, "resolver": ADDRESS}) == {"base": "upstream_unknown"}
    assert await refusal(upstream={"host": ADDRESS, "port": own}) == {"base": "upstream_loop"}
    progress = await box_house.submit(form, box_house.listening())
    assert progress["type"] is FlowResultType.SHOW_PROGRESS
    box_house.power_up()
    form = await box_house.wait(progress)

    async def objection(**changed: object) -> dict[str, str] | None:
        nonlocal form
        form = await box_house.submit(form, {**DETAILS, **changed})
        return form["errors"]

    assert await objection(name=" ") == {"name": "name_missing"}
    assert await objection(weekday_start="22:00:00") == {"weekday_end": "window_incomplete"}
    assert await objection(weekend_end="22:00:00") == {"weekend_start": "window_incomplete"}
    assert await objection(weekday_start="22:00:00", weekday_end="22:00:00") == {"weekday_end": "window_empty"}
    result = await box_house.submit(form, DETAILS)
    assert result["type"] is FlowResultType.CREATE_ENTRY


def suggested(form: Any) -> dict[str, Any]:
    """Return the suggested values of a form."""
    keys = form["data_schema"].schema
    return {
        str(key): key.description["suggested_value"] for key in keys if "suggested_value" in (key.description or {})
    }


async def test_juicenet_server_suggests_known_values_in_the_box_form(
    box_house: BoxHouse, juicenet: JuiceNetCloud
) -> None:
    unit = box_house.units[0]
    unit.wire_rating = 24
    unit.schedule = Schedule(custom=True, weekday=Day(start=1320, end=360), weekend=Day(start=0, end=1440))
    box_house.maker.groups["home"] = Group(maximum=24)
    unit.group = "home"
    box_house.units[1].wire_rating = 2
    box_house.power_up()
    form = await box_house.begin()
    for account, error in (
        ({"server_url": juicenet.url}, "juicenet_incomplete"),
        ({"server_url": "ftp://server", "account_token": "a-token"}, "invalid_url"),
        ({"server_url": juicenet.url, "account_token": "another"}, "juicenet_token"),
        ({"server_url": f"{juicenet.url}/elsewhere", "account_token": "a-token"}, "juicenet_unreachable"),
    ):
        form = await box_house.submit(form, box_house.listening(juicenet=account))
        assert form["errors"] == {"base": error}, account
    account = {"server_url": f" {juicenet.url}/ ", "account_token": "a-token"}
    form = await box_house.wait(await box_house.submit(form, box_house.listening(juicenet=account)))
    assert suggested(form) == {
        "name": "JuiceBox 0001",
        "wire_rating": 24,
        "in_maker_load_group": "yes",
        "weekday_start": "22:00:00",
        "weekday_end": "06:00:00",
        "weekend_start": "00:00:00",
        "weekend_end": "00:00:00",
    }
    await box_house.submit(form, DETAILS)
    assert box_house.entry.data["juicenet"] == {"server_url": juicenet.url, "account_token": "a-token"}
    box_house.power_up(SECOND)
    await box_house.pass_time(61)
    form = await box_house.submit_subentry(await box_house.begin_subentry(), {"box": SECOND})
    assert suggested(form) == {"name": "JuiceBox 0002"}, "no car bears 2 A, and no group is no answer"
    del box_house.maker.units[SECOND]
    form = await box_house.submit_subentry(await box_house.begin_subentry(), {"box": SECOND})
    assert suggested(form) == {"name": "JuiceBox 0002"}
    await juicenet.stop()
    form = await box_house.submit_subentry(await box_house.begin_subentry(), {"box": SECOND})
    assert suggested(form) == {"name": "JuiceBox 0002"}
    found = await async_get_config_entry_diagnostics(box_house.hass, cast("Any", box_house.entry))
    assert "a-token" not in json.dumps(found)


async def test_ignored_offer_stays_ignored_after_a_reload(box_house: BoxHouse) -> None:
    await box_house.add()
    box_house.power_up(SECOND)
    await box_house.pass_time(61)
    [offer] = box_house.offers()
    flows = box_house.hass.config_entries.flow
    ignored = {"unique_id": offer["context"]["unique_id"], "title": "JuiceBox 0002"}
    await flows.async_init(DOMAIN, context={"source": SOURCE_IGNORE}, data=ignored)
    await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
    await box_house.pass_time(61)
    assert box_house.offers() == []
    await async_open_groups(box_house.hass)
    menu = await flows.async_init(DOMAIN, context={"source": "user"})
    form = await box_house.submit(menu, {"next_step_id": "load_group"})
    assert form["step_id"] == "load_group"
    form = await box_house.submit_subentry(await box_house.begin_subentry(), {"box": SECOND})
    assert form["step_id"] == "box", "the user may still add it"


async def test_aborted_flow_frees_its_ports(box_house: BoxHouse) -> None:
    progress = await box_house.submit(await box_house.begin(), box_house.listening())
    for port in box_house.ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="in use"):
            sock.bind((ADDRESS, port))
    box_house.hass.config_entries.flow.async_abort(progress["flow_id"])
    await box_house.hass.async_block_till_done()
    for port in box_house.ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((ADDRESS, port))
            assert sock.getsockname()[1] == port


async def test_second_juicebox_entry_refused(box_house: BoxHouse) -> None:
    await box_house.add()
    result = await box_house.begin()
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "juicebox_configured")


async def test_bind_address_defaults_to_an_address_of_the_machine(
    box_house: BoxHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = await box_house.begin()
    assert form["data_schema"] is not None
    [address] = [key for key in form["data_schema"].schema if key == "bind_address"]
    assert address.default() == "10.10.10.10"
    box_house.hass.config_entries.flow.async_abort(form["flow_id"])

    async def none(_hass: HomeAssistant) -> list[object]:
        return []

    monkeypatch.setattr("homeassistant.components.network.async_get_adapters", none)
    form = await box_house.begin()
    assert form["step_id"] == "juicebox"


async def test_second_box_offered_and_added_to_the_entry(box_house: BoxHouse) -> None:
    await box_house.add()
    box_house.power_up(SECOND)
    await box_house.pass_time(61)
    [offer] = box_house.offers()
    assert offer["context"]["title_placeholders"] == {"name": "JuiceBox 0002"}
    form = await box_house.submit(offer)
    assert form["description_placeholders"] is not None
    assert form["description_placeholders"]["serial"] == SECOND
    result = await box_house.submit(form, {**DETAILS, "name": "Yard", "load_group_limit": 20})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "added_to_entry")
    assert box_house.subentry(SECOND).title == "Yard"
    await box_house.pass_time(31)
    assert box_house.value("load_group_limit", SECOND) == "20.0"
    assert box_house.offers() == []


async def test_offers_removed_with_the_entry(box_house: BoxHouse) -> None:
    """Without the entry no box can be added, and nothing listens to boxes."""
    await box_house.add()
    box_house.power_up(SECOND)
    await box_house.pass_time(100)
    assert len(box_house.offers()) == 1
    await box_house.hass.config_entries.async_remove(box_house.entry.entry_id)
    await box_house.hass.async_block_till_done()
    assert box_house.offers() == []


async def test_offer_finished_after_the_entry_was_removed_aborts(box_house: BoxHouse) -> None:
    """Home Assistant may start a discovery flow after the entry was removed."""
    entry = await box_house.add()
    assert box_house.shared_state.boxes is not None
    discovered: list[Discovered] = []
    box_house.shared_state.boxes.server.listen_discovery(discovered.append)
    box_house.power_up(SECOND)
    await box_house.pass_time(61)
    await box_house.hass.config_entries.async_remove(entry.entry_id)
    form = await box_house.hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_INTEGRATION_DISCOVERY}, data={"discovered": discovered[0]}
    )
    result = await box_house.submit(form, DETAILS)
    assert result["reason"] == "no_juicebox_entry"


async def test_box_refused_beyond_the_maximum_number(box_house: BoxHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    await box_house.add()
    box_house.power_up(SECOND)
    await box_house.pass_time(61)
    monkeypatch.setattr("custom_components.chargekeeper.flows.juicebox_box.MOST_BOXES", 1)
    form = await box_house.submit_subentry(await box_house.begin_subentry(), {"box": SECOND})
    assert (await box_house.submit_subentry(form, DETAILS))["reason"] == "too_many_boxes"
    [offer] = box_house.offers()
    form = await box_house.submit(offer)
    assert (await box_house.submit(form, DETAILS))["reason"] == "too_many_boxes"


async def test_box_added_by_the_user_removes_its_offer(box_house: BoxHouse) -> None:
    await box_house.add()
    nothing = await box_house.begin_subentry()
    assert nothing["reason"] == "no_box_heard"
    box_house.power_up(SECOND)
    await box_house.pass_time(61)
    form = await box_house.submit_subentry(await box_house.begin_subentry(), {"box": SECOND})
    late = await box_house.submit_subentry(await box_house.begin_subentry(), {"box": SECOND})
    assert form["step_id"] == "box"
    form = await box_house.submit_subentry(form, {**DETAILS, "name": ""})
    assert form["errors"] == {"name": "name_missing"}
    result = await box_house.submit_subentry(form, {**DETAILS, "name": "Yard"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert box_house.offers() == []
    assert (await box_house.submit_subentry(late, DETAILS))["reason"] == "box_known"


async def test_ports_changed_by_reconfigure(box_house: BoxHouse, taken: int) -> None:
    entry = await box_house.add()
    sim = box_house.sims[FIRST]
    context: Any = {"source": SOURCE_RECONFIGURE, "entry_id": entry.entry_id}
    form = await box_house.hass.config_entries.flow.async_init(DOMAIN, context=context)
    form = await box_house.submit(form, box_house.listening(ports=[str(taken)]))
    assert form["errors"] == {"ports": "port_busy"}
    result = await box_house.submit(form, box_house.listening(ports=[str(box_house.ports[1])]))
    assert result["reason"] == "reconfigure_successful"
    assert entry.data["ports"] == [box_house.ports[1]]
    sim.server = (ADDRESS, box_house.ports[1])
    sim.reconnect()
    await box_house.pass_time(31)
    assert box_house.value("status") == "charging"


async def test_box_settings_changed_by_reconfigure(box_house: BoxHouse) -> None:
    await box_house.add()
    menu = await box_house.begin_subentry(FIRST)
    assert menu["menu_options"] == ["settings", "offline_current"]
    form = await box_house.submit_subentry(menu, {"next_step_id": "settings"})
    form = await box_house.submit_subentry(form, {**DETAILS, "host": "garage"})
    assert form["errors"] == {"host": "bad_host"}
    changed = {**DETAILS, "host": THERE, "name": "Carport", "wire_rating": 24, "minimal_energy": 2.5}
    result = await box_house.submit_subentry(form, changed)
    assert result["reason"] == "reconfigure_successful"
    assert (box_house.subentry().title, box_house.box().config.minimal_energy) == ("Carport", 2500)
    assert box_house.value("wire_rating") == "24.0"
    await box_house.pass_time(31)
    assert box_house.shared_state.boxes is not None
    assert box_house.shared_state.boxes.managed[FIRST].charger.identity.name == "Carport"


async def test_unchanged_address_entered_again_is_used_and_clears_the_repair(box_house: BoxHouse) -> None:
    """A stranger took the address of the box; saving the settings ends the repair."""
    await box_house.add()
    await box_house.pass_time(31)
    sim = box_house.sims[FIRST]
    stranger = Sender("127.0.0.9")
    listener = box_house.shared_state.boxes.server.listener if box_house.shared_state.boxes else None
    assert listener is not None
    sim.wifi = False
    await box_house.pass_time(121)
    for _ in range(3):
        energy = int(sim.lifetime_wh) + 500
        stranger.send(line(uptime=box_house.clock.monotonic(), lifetime=energy, serial=FIRST), box_house.ports[0])
        await box_house.pass_time(20)
    assert listener.host_of(FIRST) == "127.0.0.9"
    sim.wifi = True
    await box_house.pass_time(11)
    assert box_house.issues() == {"two_addresses"}
    menu = await box_house.begin_subentry(FIRST)
    form = await box_house.submit_subentry(menu, {"next_step_id": "settings"})
    result = await box_house.submit_subentry(form, {**DETAILS, "host": THERE})
    stranger.close()
    assert result["reason"] == "reconfigure_successful"
    assert (listener.host_of(FIRST), box_house.issues()) == (THERE, set())
    lifetime = float(box_house.value("lifetime_energy"))
    assert lifetime <= (sim.lifetime_wh + 500) / 1000, "never more than could have flowed"
    await box_house.hass.config_entries.async_unload(box_house.entry.entry_id)
    await box_house.pass_time(61)
    menu = await box_house.begin_subentry(FIRST)
    form = await box_house.submit_subentry(menu, {"next_step_id": "settings"})
    result = await box_house.submit_subentry(form, {**DETAILS, "host": "127.0.0.7"})
    assert result["reason"] == "reconfigure_successful", "also while nothing listens"


async def test_offline_current_confirmed_and_changed_at_most_once_a_day(box_house: BoxHouse) -> None:
    await box_house.add()
    sim, subentries = box_house.sims[FIRST], box_house.submit_subentry

    async def open_form() -> Any:
        return await subentries(await box_house.begin_subentry(FIRST), {"next_step_id": "offline_current"})

    form = await open_form()
    assert form["description_placeholders"] == {"charger": "Garage", "stored": "?", "limit": "32"}
    form = await subentries(form, {"accept": False})
    assert form["errors"] == {"amps": "amps_missing", "accept": "not_accepted"}
    form = await subentries(form, {"amps": 16, "accept": False})
    assert form["errors"] == {"accept": "not_accepted"}
    form = await subentries(form, {"amps": 16, "accept": True})
    assert form["reason"] == "offline_current_set"
    await box_house.pass_time(40)
    assert (box_house.value("offline_current"), sim.stored, sim.writes) == ("16.0", 16, 0)
    form = await open_form()
    assert form["description_placeholders"]["stored"] == "16 A"
    form = await subentries(form, {"amps": 20, "accept": True})
    assert form["reason"] == "offline_current_set"
    await box_house.pass_time(40)
    assert (box_house.value("offline_current"), sim.stored, sim.writes) == ("20.0", 20, 1)
    form = await subentries(await open_form(), {"amps": 24, "accept": True})
    assert form["errors"] == {"base": "once_a_day"}
    await box_house.hass.config_entries.async_set_disabled_by(box_house.entry.entry_id, None)
    await box_house.hass.config_entries.async_unload(box_house.entry.entry_id)
    await box_house.pass_time(61)
    assert (await open_form())["reason"] == "not_set_up"
