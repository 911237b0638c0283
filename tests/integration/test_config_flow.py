"""The config flow against the simulated cloud: every step, every refusal, and how the user continues."""

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import SOURCE_USER, ConfigEntry, ConfigEntryDisabler, ConfigFlowResult
from homeassistant.data_entry_flow import FlowResultType, InvalidData, UnknownFlow
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.wallbox.client import DEFAULT_API_URL, DEFAULT_USER_API_URL
from tests.simulators.wallbox_cloud import Fault, WallboxCloud

from .conftest import CHARGING, EMAIL, FREE, PASSWORD, WAITING, House

SLOT = 61.0  # seconds until the next GET and the next sign-in are allowed


async def submit(house: House, form: ConfigFlowResult, data: Mapping[str, object]) -> ConfigFlowResult:
    result = await house.hass.config_entries.flow.async_configure(form["flow_id"], dict(data))
    await house.hass.async_block_till_done()
    return result


async def submit_slowly(house: House, form: ConfigFlowResult, data: Mapping[str, object]) -> ConfigFlowResult:
    """Submit to a cloud that does not answer and let time pass until the flow continues."""
    step = house.hass.async_create_task(submit(house, form, data))
    await house.clock.advance_until(step.done, within=60)
    return await step


def wait_asked(form: ConfigFlowResult) -> float:
    """Return the seconds after which the form says to try again."""
    assert form["description_placeholders"] is not None
    return int(form["description_placeholders"]["retry"]) * 60 + 1


def assert_created(house: House, result: ConfigFlowResult) -> ConfigEntry:
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["result"].unique_id == house.cloud.accounts[0].uuid
    return result["result"]


async def test_account_added_with_its_chargers(house: House) -> None:
    menu = await house.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert menu["type"] is FlowResultType.MENU
    assert menu["step_id"] == "user"
    assert menu["menu_options"] == ["wallbox_account", "juicebox", "load_group"]

    form = await submit(house, menu, {"next_step_id": "wallbox_account"})
    assert form["type"] is FlowResultType.FORM
    assert form["step_id"] == "wallbox_account"
    assert form["errors"] == {}
    assert form["data_schema"] is not None
    server = form["data_schema"].schema["server"]
    assert server.schema({}) == {"user_api_url": DEFAULT_USER_API_URL, "api_url": DEFAULT_API_URL}
    assert server.options == {"collapsed": True}

    entry = assert_created(house, await submit(house, form, house.credentials()))
    assert entry.title == "Wallbox account"
    assert entry.data == {
        "kind": "wallbox_account",
        **house.credentials(),
        "chargers": [
            {"serial": FREE, "name": "Garage", "model": "Pulsar Plus", "part_number": None},
            {"serial": WAITING, "name": "Driveway", "model": "Pulsar Max", "part_number": None},
            {"serial": CHARGING, "name": "Carport", "model": "Commander 2", "part_number": None},
        ],
    }
    assert entry.options == {}
    assert house.cloud.count("GET", "/users/signin") == 1, "the entry goes on with the flow's tokens"
    await house.settle_in()
    assert house.cloud.violations == []


async def test_stray_blanks_and_slashes_removed_from_input(house: House) -> None:
    form = await house.begin_flow()
    server = {"user_api_url": f" {house.cloud.url}/ ", "api_url": f"{house.cloud.url}//"}
    result = await submit(house, form, {"email": f" {EMAIL} ", "password": PASSWORD, "server": server})
    assert assert_created(house, result).data.items() >= house.credentials().items()


async def test_wrong_password_refused_then_right_password_accepted(house: House) -> None:
    form = await house.begin_flow()
    result = await submit(house, form, house.credentials(password="a wrong one"))
    assert result["type"] is FlowResultType.FORM
    assert result["errors"] == {"password": "invalid_auth"}
    assert result["description_placeholders"] == {"retry": "1"}
    assert result["data_schema"] is not None
    shown = {key.schema: (key.description or {}).get("suggested_value") for key in result["data_schema"].schema}
    assert shown["email"] == EMAIL, "what was entered need not be entered again"

    result = await submit(house, form, house.credentials())
    assert result["errors"] == {"base": "throttled"}, "at once is too soon: the account allows few sign-ins"
    assert result["description_placeholders"] == {"retry": "1"}

    await house.pass_time(SLOT)
    assert_created(house, await submit(house, form, house.credentials()))
    assert house.cloud.count("GET", "/users/signin") == 2
    assert house.cloud.violations == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.REFUSE, "cannot_connect"),
        (Fault.ERROR_500, "cannot_connect"),
        (Fault.RESET, "bad_answer"),
        (Fault.GARBAGE, "bad_answer"),
        (Fault.HALF, "bad_answer"),
        (Fault.HTML, "bad_answer"),
        (Fault.NULLS, "bad_answer"),
        (Fault.TOO_MANY, "throttled"),
    ],
)
@pytest.mark.parametrize("where", ["/users/", "/v3/"])
async def test_account_added_after_the_cloud_failed(house: House, fault: Fault, error: str, where: str) -> None:
    form = await house.begin_flow()
    await house.cloud.set_fault(fault, path_prefix=where)
    result = await submit(house, form, house.credentials())
    assert result["type"] is FlowResultType.FORM
    assert result["errors"] == {"base": error}

    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(wait_asked(result))
    assert_created(house, await submit(house, form, house.credentials()))


async def test_wait_asked_for_by_a_throttling_cloud_is_shown_and_kept(house: House) -> None:
    form = await house.begin_flow()
    await house.cloud.set_fault(Fault.TOO_MANY, path_prefix="/v3/", retry_after=250)
    result = await submit(house, form, house.credentials())
    assert result["errors"] == {"base": "throttled"}
    assert result["description_placeholders"] == {"retry": "5"}

    await house.cloud.set_fault(Fault.NONE)
    seen = len(house.cloud.requests)
    await house.pass_time(SLOT)
    assert (await submit(house, form, house.credentials()))["errors"] == {"base": "throttled"}
    assert len(house.cloud.requests) == seen, "nothing is sent before that"

    await house.pass_time(240)
    assert_created(house, await submit(house, form, house.credentials()))


async def test_account_added_after_the_cloud_timed_out(house: House) -> None:
    form = await house.begin_flow()
    await house.cloud.set_fault(Fault.HANG)
    result = await submit_slowly(house, form, house.credentials())
    assert result["errors"] == {"base": "timeout"}

    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(SLOT)
    assert_created(house, await submit(house, form, house.credentials()))


async def test_forbidden_data_shown_as_throttled_then_account_added(house: House) -> None:
    form = await house.begin_flow()
    await house.cloud.set_fault(Fault.FORBIDDEN)
    result = await submit(house, form, house.credentials())
    assert result["errors"] == {"base": "throttled"}, "403 on data is how this cloud throttles"

    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(wait_asked(result))
    assert_created(house, await submit(house, form, house.credentials()))


async def test_account_refused_without_chargers_then_added_with_a_charger(house: House) -> None:
    account = house.cloud.accounts[0]
    account.serials = frozenset()
    form = await house.begin_flow()
    assert (await submit(house, form, house.credentials()))["errors"] == {"base": "no_chargers"}

    account.serials = frozenset({FREE})
    await house.pass_time(SLOT)
    entry = assert_created(house, await submit(house, form, house.credentials()))
    assert [charger["serial"] for charger in entry.data["chargers"]] == [FREE]


@pytest.mark.parametrize(
    "url", ["", "localhost", "ftp://localhost", "http://", "http://[::1", "https:///path", "http://localhost:99999"]
)
@pytest.mark.parametrize("field", ["user_api_url", "api_url"])
async def test_invalid_address_refused_then_valid_address_accepted(house: House, field: str, url: str) -> None:
    form = await house.begin_flow()
    credentials = house.credentials()
    server = {"user_api_url": house.cloud.url, "api_url": house.cloud.url, field: url}
    result = await submit(house, form, {**credentials, "server": server})
    assert result["errors"] == {"base": "invalid_url"}
    assert house.cloud.requests == []
    assert_created(house, await submit(house, form, credentials))


# Duplicates


@pytest.mark.parametrize("email", [EMAIL, EMAIL.upper()])
async def test_same_account_refused_without_a_request(house: House, email: str) -> None:
    await house.add_account()
    seen = len(house.cloud.requests)
    form = await house.begin_flow()
    result = await submit(house, form, house.credentials(email=email))
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "already_configured"
    assert len(house.cloud.requests) == seen, "found out without spending a request of the account"


async def test_same_account_refused_under_its_new_email(house: House) -> None:
    entry = await house.add_account()
    before = dict(entry.data)
    house.cloud.accounts[0].email = "other@example.org"
    form = await house.begin_flow()
    result = await submit(house, form, house.credentials(email="other@example.org"))
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")
    assert dict(entry.data) == before


async def test_flow_started_again_replaces_the_flow_left_open(house: House) -> None:
    other = core_wallbox_entry()
    other.add_to_hass(house.hass)
    first = await submit(house, await house.begin_flow(), house.credentials())
    assert first["step_id"] == "other_integration"
    await house.hass.config_entries.async_remove(other.entry_id)
    await house.pass_time(SLOT)

    second = await house.begin_flow()
    assert_created(house, await submit(house, second, house.credentials()))
    with pytest.raises(UnknownFlow):
        await submit(house, first, {})
    assert not house.hass.config_entries.flow.async_progress()


async def test_flow_finished_after_the_account_was_added_aborts(house: House) -> None:
    other = core_wallbox_entry()
    other.add_to_hass(house.hass)
    form = await submit(house, await house.begin_flow(), house.credentials())
    MockConfigEntry(
        domain=DOMAIN, unique_id=house.cloud.accounts[0].uuid, data={**house.credentials(), "chargers": []}
    ).add_to_hass(house.hass)
    result = await submit(house, form, {})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")


async def test_second_account_adds_only_chargers_not_yet_known(house: House) -> None:
    house.cloud.accounts[0].serials = frozenset({FREE})
    await house.add_account()
    house.cloud.add_account("second@example.org", "battery staple", serials=[FREE, CHARGING])
    second = await house.add_account("second@example.org", "battery staple")
    assert [charger["serial"] for charger in second.data["chargers"]] == [CHARGING]


async def test_second_account_without_new_chargers_refused(house: House) -> None:
    await house.add_account()
    house.cloud.add_account("second@example.org", "battery staple", serials=[FREE])
    form = await house.begin_flow()
    result = await submit(house, form, house.credentials("second@example.org", "battery staple"))
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "all_chargers_known")


# Another integration on the same account


def core_wallbox_entry(email: str = EMAIL, **options: Any) -> MockConfigEntry:
    data = {"station": FREE, "username": email, "password": "elsewhere"}
    return MockConfigEntry(domain="wallbox", title="Wallbox Portal", data=data, **options)


async def test_other_integration_on_the_account_shown_in_the_flow(house: House) -> None:
    core_wallbox_entry(EMAIL.title()).add_to_hass(house.hass)
    result = await submit(house, await house.begin_flow(), house.credentials())
    assert result["type"] is FlowResultType.FORM
    assert result["step_id"] == "other_integration"
    assert result["description_placeholders"] == {"entry": "Wallbox Portal"}
    assert_created(house, await submit(house, result, {}))


@pytest.mark.parametrize(
    "other",
    [
        core_wallbox_entry("somebody@example.org"),
        core_wallbox_entry(disabled_by=ConfigEntryDisabler.USER),
        MockConfigEntry(domain="wallbox", title="Ignored", source="ignore", data={}),
    ],
    ids=["other account", "disabled", "ignored"],
)
async def test_other_integration_without_conflict_not_shown_in_the_flow(house: House, other: MockConfigEntry) -> None:
    other.add_to_hass(house.hass)
    assert_created(house, await submit(house, await house.begin_flow(), house.credentials()))


# Reauthentication


async def begin_reauth(house: House, entry: ConfigEntry) -> ConfigFlowResult:
    entry.async_start_reauth(house.hass)
    await house.hass.async_block_till_done()
    [flow] = house.hass.config_entries.flow.async_progress()
    assert flow["step_id"] == "reauth_confirm"
    assert flow["context"]["source"] == "reauth"
    form = await house.hass.config_entries.flow.async_configure(flow["flow_id"])
    assert form["description_placeholders"] == {"email": EMAIL, "name": entry.title, "retry": "1"}
    return form


async def test_reauth_with_the_new_password_succeeds(house: House) -> None:
    entry = await house.add_account()
    house.cloud.accounts[0].password = "battery staple"
    await house.pass_time(SLOT)
    form = await begin_reauth(house, entry)
    result = await submit(house, form, {"password": "battery staple"})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reauth_successful")
    assert entry.data["password"] == "battery staple"
    assert entry.data.items() >= house.credentials(password="battery staple").items()

    await house.settle_in()
    assert house.state("sensor", "status").state == "available"
    assert house.cloud.violations == []


async def test_reauth_refused_with_a_wrong_password_then_succeeds(house: House) -> None:
    entry = await house.add_account()
    house.cloud.accounts[0].password = "battery staple"
    await house.pass_time(SLOT)
    form = await begin_reauth(house, entry)
    result = await submit(house, form, {"password": "a wrong one"})
    assert result["type"] is FlowResultType.FORM
    assert result["errors"] == {"password": "invalid_auth"}
    assert entry.data["password"] == PASSWORD

    await house.pass_time(SLOT)
    result = await submit(house, form, {"password": "battery staple"})
    assert result["reason"] == "reauth_successful"


async def test_reauth_succeeds_after_the_cloud_was_down(house: House) -> None:
    entry = await house.add_account()
    await house.pass_time(SLOT)
    form = await begin_reauth(house, entry)
    await house.cloud.set_fault(Fault.REFUSE)
    assert (await submit(house, form, {"password": PASSWORD}))["errors"] == {"base": "cannot_connect"}

    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(SLOT)
    assert (await submit(house, form, {"password": PASSWORD}))["reason"] == "reauth_successful"


async def test_reauth_refuses_another_account(house: House) -> None:
    """The old account was deleted, and a new account was created with the same email."""
    entry = await house.add_account()
    house.cloud.accounts.clear()
    house.cloud.add_account("placeholder@example.org", "x")
    house.cloud.add_account(EMAIL, "battery staple")
    await house.pass_time(SLOT)
    form = await begin_reauth(house, entry)
    result = await submit(house, form, {"password": "battery staple"})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "wrong_account")
    assert entry.data["password"] == PASSWORD


async def test_reauth_of_an_unloaded_entry_succeeds(house: House) -> None:
    entry = await house.add_account()
    await house.hass.config_entries.async_unload(entry.entry_id)
    house.shared_state.accounts.clear()
    house.cloud.accounts[0].password = "battery staple"
    form = await begin_reauth(house, entry)
    assert (await submit(house, form, {"password": "battery staple"}))["reason"] == "reauth_successful"
    assert entry.data["password"] == "battery staple"


# Reconfiguration


async def begin_reconfigure(house: House, entry: ConfigEntry) -> ConfigFlowResult:
    form = await house.hass.config_entries.flow.async_init(
        DOMAIN, context={"source": "reconfigure", "entry_id": entry.entry_id}
    )
    assert form["type"] is FlowResultType.FORM
    assert form["step_id"] == "reconfigure"
    return form


async def test_reconfigure_shows_everything_but_the_password(house: House) -> None:
    entry = await house.add_account()
    form = await begin_reconfigure(house, entry)
    assert form["data_schema"] is not None
    schema = form["data_schema"].schema
    shown = {key.schema: (key.description or {}).get("suggested_value") for key in schema}
    assert shown["email"] == EMAIL
    assert shown["password"] is None
    server = {key.schema: key.description["suggested_value"] for key in schema["server"].schema.schema}
    assert server == {"user_api_url": house.cloud.url, "api_url": house.cloud.url}


async def test_reconfigure_with_the_new_email_of_the_account_succeeds(house: House) -> None:
    entry = await house.add_account()
    house.cloud.accounts[0].email = "other@example.org"
    await house.pass_time(SLOT)
    form = await begin_reconfigure(house, entry)
    result = await submit(house, form, house.credentials(email="other@example.org"))
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    assert entry.data.items() >= house.credentials(email="other@example.org").items()
    assert len(entry.data["chargers"]) == 3
    await house.settle_in()
    assert house.state("sensor", "status").state == "available"


async def test_reconfigure_refuses_another_account(house: House) -> None:
    entry = await house.add_account()
    before = dict(entry.data)
    house.cloud.add_account("second@example.org", "battery staple")
    await house.pass_time(SLOT)
    form = await begin_reconfigure(house, entry)
    result = await submit(house, form, house.credentials("second@example.org", "battery staple"))
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "wrong_account")
    assert dict(entry.data) == before
    await house.settle_in()
    assert house.state("sensor", "status").state == "available", "the entry goes on with its own account"


async def test_reconfigure_refuses_bad_input_then_succeeds(house: House) -> None:
    entry = await house.add_account()
    await house.pass_time(SLOT)
    form = await begin_reconfigure(house, entry)
    nowhere = {"user_api_url": "nowhere", "api_url": house.cloud.url}
    assert (await submit(house, form, {**house.credentials(), "server": nowhere}))["errors"] == {"base": "invalid_url"}
    result = await submit(house, form, house.credentials(password="a wrong one"))
    assert result["errors"] == {"password": "invalid_auth"}
    await house.pass_time(SLOT)
    assert (await submit(house, form, house.credentials()))["reason"] == "reconfigure_successful"


async def test_reconfigure_to_another_server_uses_only_that_server(house: House) -> None:
    entry = await house.add_account()
    await house.settle_in()
    elsewhere = WallboxCloud(house.world, house.clock)
    elsewhere.add_account(EMAIL, PASSWORD)
    await elsewhere.start()
    try:
        await house.pass_time(SLOT)
        server = {"user_api_url": elsewhere.url, "api_url": elsewhere.url}
        credentials = {**house.credentials(), "server": server}
        result = await submit(house, await begin_reconfigure(house, entry), credentials)
        assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
        assert entry.data.items() >= credentials.items()

        before = len(house.cloud.requests)
        await house.pass_time(SLOT - 2)
        assert elsewhere.count("GET", "/users/signin") == 1, "the flow's own sign-in counts: not at once again"
        await house.settle_in()
        assert house.state("sensor", "status").state == "available"
        assert elsewhere.count("GET", "/users/signin") == 2
        assert elsewhere.violations == []
        assert len(house.cloud.requests) == before
    finally:
        await elsewhere.stop()


# Options


async def begin_options(house: House, entry: ConfigEntry, step: str) -> ConfigFlowResult:
    flow = house.hass.config_entries.options
    menu = await flow.async_init(entry.entry_id)
    assert menu["type"] is FlowResultType.MENU
    assert menu["menu_options"] == ["settings", "load_group"]
    return await flow.async_configure(menu["flow_id"], {"next_step_id": step})


async def choose(house: House, form: ConfigFlowResult, data: Mapping[str, object]) -> ConfigFlowResult:
    result = await house.hass.config_entries.options.async_configure(form["flow_id"], dict(data))
    await house.hass.async_block_till_done()
    return result


async def test_settings_saved_and_applied_to_each_charger(house: House) -> None:
    entry = await house.add_account()
    form = await begin_options(house, entry, "settings")
    assert form["step_id"] == "settings"
    assert form["data_schema"] is not None
    assert form["data_schema"]({}) == {"prefer": "auto", "read_only": False, "restart_while_charging": False}

    chosen = {"prefer": "local_first", "read_only": False, "restart_while_charging": True}
    result = await choose(house, form, chosen)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options == chosen
    for charger in house.shared_state.chargers.values():
        assert charger.options.prefer == "local_first"
        assert charger.options.restart_while_charging

    form = await begin_options(house, entry, "settings")
    assert form["data_schema"] is not None
    suggested = {key.schema: key.description["suggested_value"] for key in form["data_schema"].schema}
    assert suggested == chosen


async def test_load_group_limit_set_and_removed(house: House) -> None:
    entry = await house.add_account()
    await house.settle_in()
    loaded = entry.runtime_data
    house.hass.config_entries.async_update_entry(entry, options={"prefer": "cloud_only"})
    await house.hass.async_block_till_done()

    form = await begin_options(house, entry, "load_group")
    assert form["step_id"] == "load_group"
    with pytest.raises(InvalidData):
        await choose(house, form, {"charger": "999999"})
    form = await choose(house, form, {"charger": WAITING})
    assert form["step_id"] == "load_group_limit"
    assert form["description_placeholders"] == {"charger": "Driveway"}
    for amps in (5, 81):
        with pytest.raises(InvalidData):
            await choose(house, form, {"limit": amps})
    assert (await choose(house, form, {"limit": 13}))["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options == {"prefer": "cloud_only", "load_group_limits": {WAITING: 13}}
    assert entry.runtime_data is not loaded, "set up again"
    state = house.state("sensor", "load_group_limit", WAITING)
    assert (state.state, state.attributes["source"]) == ("13.0", "user")
    assert house.state("sensor", "effective_limit", WAITING).state == "13.0"
    assert house.state("sensor", "effective_limit", FREE).state == "32.0"

    form = await choose(house, await begin_options(house, entry, "load_group"), {"charger": WAITING})
    assert form["data_schema"] is not None
    [key] = form["data_schema"].schema
    assert key.description == {"suggested_value": 13}
    await choose(house, form, {})
    assert entry.options == {"prefer": "cloud_only", "load_group_limits": {}}
    assert house.state("sensor", "effective_limit", WAITING).state == "25.0", "the house limit binds again"
    assert house.state("sensor", "load_group_limit", WAITING).state == "unknown"
    assert house.cloud.count("GET", "/users/signin") == 1, "setting up again signs in to nothing"


async def test_load_group_limit_form_aborts_without_chargers(house: House) -> None:
    entry = await house.add_account()
    await house.hass.config_entries.async_unload(entry.entry_id)
    house.hass.config_entries.async_update_entry(entry, data={**entry.data, "chargers": []})
    result = await begin_options(house, entry, "load_group")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "no_chargers")
