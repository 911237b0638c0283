"""The table of errors: every reason that core and the makers' packages raise has a row and a text."""

import ast
from collections.abc import Iterator
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.setup import async_setup_component
import pytest

import custom_components.chargekeeper
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core import errors
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    LoginRejected,
    NotAllowed,
    TransportBusy,
    TransportDown,
    TransportsFailed,
    UnsafeRequest,
)
from custom_components.chargekeeper.core.model import LIVE_AGE, RestartAvailability, Source
from custom_components.chargekeeper.ha.errors import (
    ERRORS,
    UNLISTED,
    as_home_assistant_error,
    flow_error,
    retry_minutes,
    translated,
)

INTEGRATION = Path(custom_components.chargekeeper.__file__).parent
WITHOUT_ROW = {
    "NoConnection": {"bad_address", "dns"},
    "NotApplicable": {"ignored", "known", "server_in_charge"},
    "TransportBusy": {"next_status", "too_many_boxes"},
    "UnsafeRequest": {"once_a_day"},
}
"""Reasons without a row, by class: at most a flow, a repair or diagnostics show them."""
CLASSES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ChargerError)
}


def _raised() -> Iterator[tuple[str, str]]:
    """Yield class and reason of every error in core and the makers' packages with a literal reason."""
    for folder in ("core", "wallbox", "juicebox"):
        for path in (INTEGRATION / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES):
                    continue
                reason = node.args[0] if node.args else None
                if isinstance(reason, ast.Constant) and isinstance(reason.value, str):
                    yield node.func.id, reason.value


def test_every_raised_reason_has_a_row() -> None:
    raised = set(_raised())
    assert {("TransportDown", "no_path"), ("NoConnection", "learning")} <= raised
    without = {
        (name, reason)
        for name, reason in raised
        if reason not in ERRORS.get(next(base for base in CLASSES[name].__mro__ if base in ERRORS), {})
    }
    assert without == {(name, reason) for name, reasons in WITHOUT_ROW.items() for reason in reasons}


@pytest.mark.parametrize("what", ["restart", "install"])
def test_every_refusal_of_a_restart_has_a_row(what: str) -> None:
    nowhere = {RestartAvailability.AVAILABLE} | ({RestartAvailability.NEEDS_LINK} if what == "install" else set())
    for refusal in set(RestartAvailability) - nowhere:
        error = as_home_assistant_error(UnsafeRequest(f"{what}_{refusal}"), "Garage")
        assert isinstance(error, ServiceValidationError)
        assert error.translation_key == f"{what}_{refusal}"


def test_unlisted_reason_gets_the_text_of_its_class() -> None:
    for kind, (key, _) in UNLISTED.items():
        error = as_home_assistant_error(
            kind("brand_new", 60.0) if issubclass(kind, TransportBusy) else kind("brand_new"), "Garage"
        )
        assert error.translation_key == key


def test_outage_error_names_its_beginning() -> None:
    error = as_home_assistant_error(TransportDown("no_path", "2026-11-02T12:00:00+00:00"), "Garage")
    assert error.translation_key == "no_path_since"
    assert error.translation_placeholders is not None
    assert error.translation_placeholders["since"].startswith("2026-11-0")
    assert as_home_assistant_error(TransportDown("no_path"), "Garage").translation_key == "no_path"


def test_i12_details_of_other_reasons_are_not_shown() -> None:
    error = as_home_assistant_error(NotAllowed("refused", "owner@example.org"), "Garage")
    assert error.translation_placeholders == {"charger": "Garage"}


def test_translated_error_raised_from_the_original() -> None:
    original = UnsafeRequest("above_ceiling", "16")
    with pytest.raises(ServiceValidationError) as caught, translated("Garage"):
        raise original
    assert caught.value.__cause__ is original
    assert caught.value.translation_placeholders == {"charger": "Garage", "limit": "16"}
    too_low = as_home_assistant_error(UnsafeRequest("current_too_low", "6"), "Garage")
    assert too_low.translation_placeholders == {"charger": "Garage", "minimum": "6"}
    with pytest.raises(HomeAssistantError) as caught_failure, translated("Garage"):
        raise TransportDown("timeout")
    assert not isinstance(caught_failure.value, ServiceValidationError)


@pytest.mark.parametrize(("seconds", "minutes"), [(0.0, 1), (59.0, 1), (61.0, 2), (600.0, 10)])
def test_retry_time_given_in_whole_minutes(seconds: float, minutes: int) -> None:
    assert retry_minutes(TransportBusy("throttled", seconds)) == minutes
    error = as_home_assistant_error(TransportBusy("throttled", seconds), "Garage")
    assert error.translation_placeholders == {"charger": "Garage", "retry": str(minutes)}


def test_flow_error_key_chosen_for_each_error() -> None:
    assert flow_error(LoginRejected("invalid_auth")) == "invalid_auth"
    assert flow_error(TransportDown("timeout")) == "timeout"
    assert flow_error(TransportDown("unreachable")) == "cannot_connect"
    assert flow_error(TransportDown("bad_answer")) == "bad_answer"
    assert flow_error(TransportBusy("signing_in", 60)) == "throttled"
    assert flow_error(NotAllowed("refused")) == "bad_answer"


async def test_failures_of_several_transports_each_named_with_their_reason(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    failures = [
        (Source.CLOUD, TransportDown("unreachable", "owner@example.org")),
        (Source.LINKED, TransportBusy("throttled", 60)),
    ]
    error = as_home_assistant_error(TransportsFailed(failures), "Garage")
    assert not isinstance(error, ServiceValidationError)
    text = str(error)
    assert "Garage was not commanded, because every connection to it failed. " in text
    assert "Cloud: Cannot reach the cloud, so Garage was not commanded. " in text
    assert "Linked entities: The cloud limits requests. Try again with Garage in 1 min" in text
    assert "example.org" not in text


async def test_every_transport_has_a_name_in_the_failure_text(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    text = str(
        as_home_assistant_error(TransportsFailed([(source, TransportDown("timeout")) for source in LIVE_AGE]), "Garage")
    )
    assert "tried_" not in text
    assert text.count("did not answer in time") == len(LIVE_AGE)
