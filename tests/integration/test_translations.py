"""Texts: each key shown has a text, no text is unused, and all follow Home Assistant's rules."""

from collections.abc import Iterator
from datetime import UTC, datetime
import json
from pathlib import Path
import re
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import load_yaml_dict

import custom_components.chargekeeper
from custom_components.chargekeeper.binary_sensor import BINARY_SENSORS
from custom_components.chargekeeper.const import DOMAIN, SUBENTRY_JUICEBOX, SUBENTRY_JUICENET
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    Dangerous,
    LoginRejected,
    TransportBusy,
    TransportDown,
)
from custom_components.chargekeeper.core.model import LIVE_AGE, ChargerIssue, Prefer, Source
from custom_components.chargekeeper.event import EVENTS, OUTAGE
from custom_components.chargekeeper.flows import entity_link, juicebox_box, juicenet_unit
from custom_components.chargekeeper.ha.errors import (
    ERRORS,
    FLOW_ERRORS,
    FLOW_UNLISTED,
    NO_PATH_SINCE,
    UNLISTED,
    as_home_assistant_error,
)
from custom_components.chargekeeper.ha.issues import (
    ADDRESS_GONE,
    CLOUD_LOST,
    GROUP_LIMIT_TOO_LOW,
    GROUP_MEMBER_MISSING,
    LINK_BROKEN,
    OTHER_INTEGRATION,
    OVERRIDE_BY_HAND,
    PORT_BUSY,
    POWER_OFF,
    STORED_ABOVE_GROUP,
    TOKEN_REFUSED,
)
from custom_components.chargekeeper.ha.juicenet import objection
from custom_components.chargekeeper.juicebox.box import BoxIssue
from custom_components.chargekeeper.linked.entity_transport import ALL_LINKS, CONF_ALLOW_POWER_CYCLE, SUBENTRY_LINKED
from custom_components.chargekeeper.sensor import GROUP_SENSORS, SENSORS, SHARE

INTEGRATION = Path(custom_components.chargekeeper.__file__).parent
TEXTS: dict[str, Any] = json.loads((INTEGRATION / "translations" / "en.json").read_text(encoding="utf-8"))
ICONS: dict[str, Any] = json.loads((INTEGRATION / "icons.json").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = load_yaml_dict(INTEGRATION / "services.yaml")
PLACEHOLDER = re.compile(r"\{([^}]*)\}")
BOX_PLACEHOLDERS = ("serial", "host", "version", "voltage", "energy", "rating")
FLOWS = ("config_flow.py", "flows/wallbox.py", "flows/options.py", "flows/load_group.py", "flows/juicebox.py")
NO_FORM = {"reauth", "integration_discovery", "without_box"}
WITHOUT_TABLE = {
    "no_account",
    "no_boxes",
    "left_paused",
    "left_paused_at_server",
    "left_paused_by_group",
    "override_left",
    "schedules_left",
    "until_time_missing",
    "until_time_past",
    *(f"tried_{path}" for path in LIVE_AGE),
    *(f"transport_{path}" for path in LIVE_AGE),
}

WRONG_STATES = {"wrong_state_now", "wrong_state_schedule"}
"""Texts that replace `wrong_state` where the status is known."""


def _strings(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, f"{path}.{key}")


def test_texts_follow_the_rules_of_home_assistant() -> None:
    """No markup, address, reference or stray blank; placeholders are identifiers outside single quotes."""
    bad = re.compile(r"<[a-z/]|https?://|\[%key|'\{\w+\}'|  |^\s|\s$|^$")
    texts = dict(_strings(TEXTS))
    assert len(texts) > 300
    assert [path for path, text in texts.items() if bad.search(text)] == []
    assert [
        path for path, text in texts.items() if not all(name.isidentifier() for name in PLACEHOLDER.findall(text))
    ] == []
    shown = [path for path in texts if re.search(r"\.state(_attributes)?\.", path)]
    assert shown
    assert [path for path in shown if "{" in texts[path]] == [], "a state has nothing to fill in"
    keys = {key for path in texts for key in path.split(".")[1:]}
    assert [key for key in keys if not re.fullmatch(r"[a-z0-9]+(?:[-_][a-z0-9]+)*", key)] == []


def test_every_exception_has_a_text_and_every_text_an_exception() -> None:
    keys = {key for rows in ERRORS.values() for key, _ in rows.values()}
    keys |= {key for key, _ in UNLISTED.values()} | {NO_PATH_SINCE[0]} | WITHOUT_TABLE | WRONG_STATES
    assert set(TEXTS["exceptions"]) == keys


DANGERS = {"charging": None, "updating": datetime(2026, 11, 2, 12, tzinfo=UTC), "update_doubted": None}
"""Refusals that name a transport, and when they expire."""


def _error(kind: type[ChargerError], reason: str) -> ChargerError:
    danger = reason.partition("_")[2]
    if danger in DANGERS:
        return Dangerous(reason, Source.CLOUD, DANGERS[danger])
    slug = reason.removesuffix("_since")
    return (
        TransportBusy(slug, 60.0)
        if kind is TransportBusy
        else kind(slug, "" if slug == reason else "2026-11-02T12:00:00+00:00")
    )


async def test_exception_texts_use_exactly_their_placeholders(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    reasons: list[tuple[type[ChargerError], str]] = [(kind, reason) for kind, rows in ERRORS.items() for reason in rows]
    reasons += [(kind, "unlisted") for kind in UNLISTED]
    reasons.append((TransportDown, "no_path_since"))
    reasons.remove((TransportDown, "paths_failed"))  # see test_errors
    for kind, reason in reasons:
        error = as_home_assistant_error(_error(kind, reason), "Garage")
        assert error.translation_key is not None
        text = TEXTS["exceptions"][error.translation_key]["message"]
        assert set(PLACEHOLDER.findall(text)) == set(error.translation_placeholders or ()), text


def test_texts_use_only_the_placeholders_available() -> None:
    given = {
        "config.step.other_integration": {"entry"},
        "config.step.reauth_confirm": {"email", "retry"},
        "config.step.pausing": {"limit", "places", "order"},
        "config.step.offline_currents": {"limit", "excess"},
        "config.step.juicebox": {"address", "names"},
        "config.step.nothing_heard": {"address", "ports", "names", "dropped"},
        "config.step.box": set(BOX_PLACEHOLDERS),
        "config.progress.wait": {"address", "ports"},
        "config.flow_title": {"name"},
        "config.error.port_busy": {"port"},
        "config.error.limit_too_low": {"lowest"},
        "config.error": {"retry", "charger"},
        "entity.sensor.share": {"charger"},
        "options.step.load_group_limit": {"charger"},
        "config_subentries.juicebox.step.box": set(BOX_PLACEHOLDERS),
        "config_subentries.juicebox.step.reconfigure": {"charger"},
        "config_subentries.juicebox.step.offline_current": {"charger", "stored", "limit"},
        "config_subentries.juicebox.abort.no_box_heard": {"names"},
        "config_subentries.linked.step.reconfigure": {"charger"},
        "config_subentries.linked.step.cloud_based": {"entities"},
        "config_subentries.linked.step.unproving": {"entities"},
        "exceptions.no_account": {"entry"},
        "exceptions.no_boxes": {"entry"},
        "exceptions": {
            "charger",
            "since",
            "limit",
            "minimum",
            "retry",
            "windows",
            "reason",
            "reasons",
            "transport",
            "until",
            "status",
        },
        "issues.other_integration": {"entry"},
        "issues.group_member_missing": {"charger", "group"},
        "issues.stored_above_group": {"group", "limit", "excess", "stored"},
        "issues.group_limit_too_low": {"group", "limit", "lowest", "overrun"},
        "issues.cloud_lost": {"since", "chargers"},
        "issues.unsafe_server": {"charger", "asked", "limit"},
        "issues.unsafe_stored": {"charger", "asked_offline", "wire", "offline"},
        "issues.two_addresses": {"charger", "pinned", "address"},
        "issues.offline_above_wire": {"charger", "offline", "wire"},
        "issues.offline_not_stored": {"charger", "not_stored", "offline"},
        "issues.power_off": {"charger", "switch"},
        "issues.port_busy": {"port"},
        "issues.address_gone": {"address"},
        "issues.juicenet_token_refused": {"entry"},
        "issues": {"charger"},
    }
    for path, text in _strings(TEXTS):
        names = next((names for start, names in given.items() if f"{path}.".startswith(f".{start}.")), set())
        assert set(PLACEHOLDER.findall(text)) <= names, path


def test_every_error_of_the_flow_has_a_text_and_every_text_an_error() -> None:
    keys = {key for keys in FLOW_ERRORS.values() for key in keys.values()} | set(FLOW_UNLISTED.values())
    of_groups = {"name_missing", "no_members", "member_twice", "member_in_group", "member_unknown", "offline_excess"}
    of_groups |= {"limit_too_low"}
    of_boxes = {"bad_port", "port_busy", "bad_address", "bad_resolver", "upstream_unknown", "upstream_loop"}
    of_boxes |= {"window_incomplete", "window_empty", *juicebox_box.REQUIRED_ANSWERS.values()}
    of_boxes |= {"juicenet_incomplete", "juicenet_token", "juicenet_unreachable"}
    assert set(TEXTS["config"]["error"]) == keys | {"no_chargers", "invalid_url"} | of_groups | of_boxes


def test_every_step_has_texts_for_its_fields() -> None:
    steps = {**TEXTS["config"]["step"], **TEXTS["options"]["step"]}
    sources = [
        (INTEGRATION / module).read_text(encoding="utf-8").partition("(ConfigSubentryFlow)")[0] for module in FLOWS
    ]
    assert set(re.findall(r"async def async_step_(\w+)", "".join(sources))) - NO_FORM == set(steps)
    for step in (*TEXTS["config"]["step"].values(), *TEXTS["options"]["step"].values()):
        assert set(step.get("data", {})) == set(step.get("data_description", {}))
        for inner in step.get("sections", {}).values():
            assert set(inner["data"]) == set(inner["data_description"])


def test_steps_errors_and_aborts_of_the_link_flow_match_their_texts() -> None:
    assert set(TEXTS["config_subentries"]) == {SUBENTRY_JUICEBOX, SUBENTRY_JUICENET, SUBENTRY_LINKED}
    texts = TEXTS["config_subentries"][SUBENTRY_LINKED]
    assert set(texts) == {"entry_type", "initiate_flow", "step", "error", "abort"}
    assert set(texts["initiate_flow"]) == {"user", "reconfigure"}
    source = Path(entity_link.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"async def async_step_(\w+)", source)) == set(texts["step"])
    assert set(re.findall(r'reason="(\w+)"', source)) == set(texts["abort"])
    errors = set(re.findall(r'(?:errors\[.+\] =|return) "(\w+)"', source))
    needs = [*entity_link.REQUIRED.values(), *(need for needs in entity_link.BOX_REQUIRED.values() for need in needs)]
    assert errors | {error for _, error in needs} == set(texts["error"])
    links = {*ALL_LINKS, CONF_ALLOW_POWER_CYCLE}
    nothing = set[str]()
    steps = {"user": {"charger", *links}, "reconfigure": links, "cloud_based": nothing, "unproving": nothing}
    for step, fields in steps.items():
        assert set(texts["step"][step].get("data", {})) == fields
        assert set(texts["step"][step].get("data_description", {})) == fields


def test_steps_errors_and_aborts_of_the_box_flow_match_their_texts() -> None:
    texts = TEXTS["config_subentries"][SUBENTRY_JUICEBOX]
    source = Path(juicebox_box.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"async def async_step_(\w+)", source)) == set(texts["step"])
    aborts = set(re.findall(r'reason="(\w+)"', source)) | {"box_known", "too_many_boxes", "reconfigure_successful"}
    assert aborts == set(texts["abort"])
    errors = set(re.findall(r'errors\[.+\] = "(\w+)"', source)) | set(juicebox_box.OFFLINE_ERRORS)
    errors |= {"amps_missing", *juicebox_box.REQUIRED_ANSWERS.values()}
    assert errors == set(texts["error"])
    box = set(map(str, juicebox_box.BOX_SCHEMA.schema))
    for step, fields in {"box": box, "settings": box | {"host"}, "offline_current": {"amps", "accept"}}.items():
        assert set(texts["step"][step]["data"]) == set(texts["step"][step]["data_description"]) == fields
    assert set(TEXTS["config"]["step"]["box"]["data"]) == box


def test_steps_errors_and_aborts_of_the_juicenet_flow_match_their_texts() -> None:
    texts = TEXTS["config_subentries"][SUBENTRY_JUICENET]
    source = Path(juicenet_unit.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"async def async_step_(\w+)", source)) == set(texts["step"])
    aborts = {"reconfigure_successful", objection(LoginRejected("no")), objection(TransportDown("no"))}
    assert set(re.findall(r'reason="(\w+)"', source)) | aborts == set(texts["abort"])
    assert {*re.findall(r'errors\[.+\] = "(\w+)"', source), "wire_rating_missing"} == set(texts["error"])
    fields = set(map(str, juicenet_unit.UNIT_SCHEMA.schema))
    for step in ("unit", "reconfigure"):
        assert set(texts["step"][step]["data"]) == set(texts["step"][step]["data_description"]) == fields


def test_every_issue_has_a_text_and_every_text_an_issue() -> None:
    issues = {issue.value for issue in (*ChargerIssue, *BoxIssue)} | {PORT_BUSY, ADDRESS_GONE, TOKEN_REFUSED}
    others = {OTHER_INTEGRATION, GROUP_MEMBER_MISSING, STORED_ABOVE_GROUP, CLOUD_LOST, LINK_BROKEN}
    assert set(TEXTS["issues"]) == issues | others | {GROUP_LIMIT_TOO_LOW, POWER_OFF, OVERRIDE_BY_HAND}


def test_every_connection_preference_has_a_text() -> None:
    assert set(TEXTS["selector"]["prefer"]["options"]) == {prefer.value for prefer in Prefer}


def test_every_entity_has_a_name_and_every_state_a_text() -> None:
    entities = TEXTS["entity"]
    for description in (*SENSORS, *GROUP_SENSORS):
        text = entities["sensor"][description.key]
        assert text["name"]
        assert set(text.get("state", {})) == set(description.options or ())
    assert {description.key for description in SENSORS} | {SHARE} <= set(entities["sensor"])
    assert {description.key for description in BINARY_SENSORS} <= set(entities["binary_sensor"])
    for event in (*EVENTS, OUTAGE):
        assert set(entities["event"][event.key]["state_attributes"]["event_type"]["state"]) == set(
            event.event_types or ()
        )


def test_state_of_an_event_names_its_subject() -> None:
    """A trigger on a device lists the states of all its event entities together."""
    events = TEXTS["entity"]["event"].values()
    states = [text for event in events for text in event["state_attributes"]["event_type"]["state"].values()]
    assert len(states) == len(set(states))
    assert {text.split()[0] for text in states} == {"Restart", "Charger", "Override", "Command", "Cloud"}


def test_every_action_has_texts_for_its_fields() -> None:
    assert set(TEXTS["services"]) == set(SERVICES) == set(ICONS["services"])
    for name, service in SERVICES.items():
        assert TEXTS["services"][name]["name"]
        assert TEXTS["services"][name]["description"]
        assert set(TEXTS["services"][name].get("fields", {})) == set((service or {}).get("fields", {}))


def test_every_icon_belongs_to_an_entity() -> None:
    for platform, icons in ICONS["entity"].items():
        assert set(icons) <= set(TEXTS["entity"][platform])
        for icon in icons.values():
            assert icon.get("default", "mdi:").startswith("mdi:")
            assert all(state != icon.get("default") for state in icon.get("state", {}).values())
