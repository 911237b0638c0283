"""The only table that turns the errors of `core.errors` into translated errors of Home Assistant."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from math import ceil

from homeassistant.const import Platform
from homeassistant.core import async_get_hass
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.translation import async_get_exception_message, async_translate_state
from homeassistant.util import dt as dt_util

from ..const import DOMAIN
from ..core.errors import (
    ChargerError,
    Dangerous,
    LoginRejected,
    NotAllowed,
    NotApplicable,
    NotSaved,
    TransportBusy,
    TransportDown,
    TransportsFailed,
    UnsafeRequest,
    Unsupported,
)
from ..core.model import STATUS, RestartAvailability, Source, Status


class Kind(Enum):
    """The class of the Home Assistant error that is raised for an error."""

    VALIDATION = ServiceValidationError  # the request cannot be carried out: no stack trace in the log
    FAILURE = HomeAssistantError  # the request should have worked


type Row = tuple[str, Kind]
"""A translation key of the section `exceptions`, and the kind."""

REFUSALS = tuple(reason for reason in RestartAvailability if reason is not RestartAvailability.AVAILABLE)
INSTALL_REFUSALS = tuple(reason for reason in REFUSALS if reason is not RestartAvailability.NEEDS_LINK)

ERRORS: Mapping[type[ChargerError], Mapping[str, Row]] = {
    TransportDown: {
        reason: (reason, Kind.FAILURE)
        for reason in (
            *("no_path", "charger_offline", "unreachable", "timeout", "broken_answer", "server_error", "bad_answer"),
            *("stopping", "restart_unclear", "no_admitted_path", "local_lost", "expired", "paths_failed"),
            *("linked_unavailable", "linked_timeout", "linked_failed", "learning", "not_heard"),
            "offline_too_high",
        )
    },
    TransportBusy: {
        reason: (reason, Kind.FAILURE)
        for reason in ("throttled", "forbidden", "no_room", "signing_in", "too_soon", "cycled")
    },
    LoginRejected: {"invalid_auth": ("invalid_auth", Kind.FAILURE)},
    NotAllowed: {
        "refused": ("refused", Kind.FAILURE),
        "locked": ("locked", Kind.VALIDATION),
        "ocpp_active": ("ocpp_active", Kind.VALIDATION),
        "role_too_low": ("role_too_low", Kind.VALIDATION),
        "not_shared": ("not_shared", Kind.FAILURE),
        "read_only": ("read_only", Kind.VALIDATION),
        "restart_refused": ("restart_refused", Kind.FAILURE),
        "install_refused": ("install_refused", Kind.FAILURE),
    },
    NotApplicable: {
        reason: (reason, Kind.VALIDATION)
        for reason in ("wrong_state", "linked_refused", "paused", "no_car", "schedule_unreadable")
    }
    | {reason: (reason, Kind.FAILURE) for reason in ("learning", "schedule_not_taken")},
    NotSaved: {"not_saved": ("not_saved", Kind.FAILURE)},
    Unsupported: {"unsupported": ("unsupported", Kind.VALIDATION), "rejected": ("rejected", Kind.FAILURE)},
    ChargerError: {"override_failed": ("override_failed", Kind.FAILURE)},
    UnsafeRequest: {
        reason: (reason, Kind.VALIDATION)
        for reason in (
            *("current_too_low", "above_ceiling", "cannot_lower", "wire_rating_unknown", "no_group_share"),
            *("no_group_room", "load_group", "no_current"),
            *(f"restart_{refusal}" for refusal in REFUSALS),
            *(f"install_{refusal}" for refusal in INSTALL_REFUSALS),
            *("restart_update_doubted", "install_update_doubted"),
        )
    },
}
"""Every reason that `core`, `wallbox`, `juicebox` and `linked` give, by class."""

UNLISTED: Mapping[type[ChargerError], Row] = {
    TransportDown: ("path_down", Kind.FAILURE),
    TransportBusy: ("path_busy", Kind.FAILURE),
    LoginRejected: ("invalid_auth", Kind.FAILURE),
    NotAllowed: ("not_allowed", Kind.FAILURE),
    NotApplicable: ("wrong_state", Kind.VALIDATION),
    NotSaved: ("not_saved", Kind.FAILURE),
    Unsupported: ("unsupported", Kind.VALIDATION),
    UnsafeRequest: ("unsafe_request", Kind.VALIDATION),
    ChargerError: ("request_failed", Kind.FAILURE),
}
"""The row for a reason that `ERRORS` does not list."""

NO_PATH_SINCE: Row = ("no_path_since", Kind.FAILURE)
"""Replaces `no_path` if the start of the cloud outage is known."""

FLOW_ERRORS: Mapping[type[ChargerError], Mapping[str, str]] = {
    TransportDown: {"timeout": "timeout", "bad_answer": "bad_answer", "broken_answer": "bad_answer"},
    TransportBusy: {},
    LoginRejected: {},
    ChargerError: {},
}
FLOW_UNLISTED: Mapping[type[ChargerError], str] = {
    TransportDown: "cannot_connect",
    TransportBusy: "throttled",
    LoginRejected: "invalid_auth",
    ChargerError: "bad_answer",
}
"""The same tables for the config flow: keys of its section `error`."""


def as_home_assistant_error(error: ChargerError, charger: str, status: Status | None = None) -> HomeAssistantError:
    """Return the Home Assistant error to raise instead of `error`.

    Args:
        error: the error that a charger or an account raised.
        charger: the name of the charger as the user knows it.
        status: the status that the charger shows; None if unknown.
    """
    key, kind = _row(error)
    make: type[HomeAssistantError] = kind.value
    placeholders = _placeholders(error, charger)
    if key == "wrong_state" and status is not None:
        key = "wrong_state_schedule" if status is Status.WAITING_SCHEDULE else "wrong_state_now"
        placeholders["status"] = _status_text(status)
    return make(
        translation_domain=DOMAIN,
        translation_key=key,
        translation_placeholders={"charger": charger, **placeholders},
    )


@contextmanager
def translated(charger: str, status: Status | None = None) -> Iterator[None]:
    """Turn a `ChargerError` of the block (awaits included) into Home Assistant's exception.

    Args:
        charger: the name of the charger as the user knows it.
        status: the status that the charger shows; None if unknown.

    Raises:
        HomeAssistantError: a failure; its subclass `ServiceValidationError` if the request itself cannot be carried
            out.
    """
    try:
        yield
    except ChargerError as error:
        raise as_home_assistant_error(error, charger, status) from error


def flow_error(error: ChargerError) -> str:
    """Return the key in the config flow's section `error` for the error of an attempt to connect."""
    base = next(base for base in type(error).__mro__ if base in FLOW_ERRORS)
    return FLOW_ERRORS[base].get(error.reason, FLOW_UNLISTED[base])


def retry_minutes(error: ChargerError) -> int:
    """Return the time until the next attempt in whole minutes: at least 1, and 1 for an error without a time."""
    return max(1, ceil(error.retry_after / 60)) if isinstance(error, TransportBusy) else 1


def _row(error: ChargerError) -> Row:
    if isinstance(error, TransportDown) and error.reason == "no_path" and error.detail:
        return NO_PATH_SINCE
    base = next(base for base in type(error).__mro__ if base in UNLISTED)
    return ERRORS.get(base, {}).get(error.reason, UNLISTED[base])


def _placeholders(error: ChargerError, charger: str) -> dict[str, str]:
    """Return the placeholders that a text may use.

    `detail` is free text of core: only the parts that the text expects leave the integration (invariant I12).
    """
    if isinstance(error, TransportsFailed):
        return {"reasons": " ".join(_transport_failure(source, failure, charger) for source, failure in error.failures)}
    if isinstance(error, TransportBusy):
        return {"retry": str(retry_minutes(error))}
    if isinstance(error, Dangerous):
        until = {} if error.until is None else {"until": local_time(error.until)}
        return {"transport": async_get_exception_message(DOMAIN, f"transport_{error.source}"), **until}
    match error.reason:
        case "no_path" if error.detail:
            since = dt_util.parse_datetime(error.detail)
            return {"since": error.detail if since is None else local_time(since)}
        case "above_ceiling" | "cannot_lower" | "no_group_room":
            return {"limit": error.detail}
        case "current_too_low":
            return {"minimum": error.detail}
        case _:
            return {}


def _transport_failure(source: Source, failure: ChargerError, charger: str) -> str:
    """Return the sentence that names a transport and the reason why it failed."""
    reason = str(as_home_assistant_error(failure, charger))
    return async_get_exception_message(DOMAIN, f"tried_{source}", {"reason": reason}) + "."


def _status_text(status: Status) -> str:
    """Return the status as the sensor shows it in the language of Home Assistant, in lower case for a sentence."""
    return async_translate_state(async_get_hass(), status, Platform.SENSOR, DOMAIN, STATUS.key, None).lower()


def local_time(timestamp: datetime) -> str:
    """Return a timestamp as date and time in the user's time zone."""
    return dt_util.as_local(timestamp).strftime("%Y-%m-%d %H:%M")
