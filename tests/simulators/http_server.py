"""A maker's web server on the loopback interface that can be broken in every way a real one breaks.

The simulated clouds add their routes; here are the socket, the log of requests and the faults.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
import json

from aiohttp import web

from custom_components.chargekeeper.core.clock import Clock

HOST = "127.0.0.1"
CLOSING_GRACE = 0.05  # real seconds for connections that do not end by themselves when the server stops
GARBAGE = b'\x00\xff{"result":[[[\xc3('
MAINTENANCE = "<!doctype html><title>Maintenance</title><p>We will be back soon.</p>"

type Json = dict[str, Json] | list[Json] | str | int | float | bool | None
type Handler = Callable[[web.Request], web.StreamResponse | Iterable[web.StreamResponse]]


class Fault(StrEnum):
    """What is wrong with the server."""

    NONE = "none"
    REFUSE = "refuse"
    """No socket listens, open connections are cut; on healing it listens on the same port again."""
    HANG = "hang"
    """The request is taken and never answered."""
    SLOW = "slow"
    """The answer comes after `slow_seconds`, whether or not anybody still waits for it."""
    ERROR_500 = "error_500"
    TOO_MANY = "too_many"
    """429, with `Retry-After` when `retry_after` is given."""
    UNAUTHORIZED = "unauthorized"
    """401 on data, never on the sign-in paths."""
    FORBIDDEN = "forbidden"
    """403 on data, never on the sign-in paths."""
    GARBAGE = "garbage"
    """200 and a JSON content type, with bytes that are neither JSON nor UTF-8."""
    HALF = "half"
    """Half of a good answer that promised its full length, then the connection closes."""
    HTML = "html"
    """200 with a maintenance page."""
    NULLS = "nulls"
    """A good answer whose every value is null, or whose keys are gone where `missing` is given."""
    RESET = "reset"
    """The connection is cut without an answer."""


DATA_ONLY = frozenset({Fault.UNAUTHORIZED, Fault.FORBIDDEN})
AFTER_THE_FACT = frozenset({Fault.HALF, Fault.NULLS})
