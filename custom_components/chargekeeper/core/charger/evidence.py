"""Judge commands by the charger's own reports (docs/design.md, section 0.1): the only place that compares their times.

An acknowledgment, an echo, a value that a cloud wrote down itself, and a state from before the command prove nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from ..transport import Transport

EFFECT_SHOWS_AFTER = 150.0
"""Seconds after sending from which a report without the effect refutes a command. A cloud lags 40 s
and more, and a box may lose one of its statuses."""

UNVERIFIED_AFTER = 600.0
"""Seconds after sending at which a command that is not confirmed and not refuted counts as unverified."""


class Verdict(StrEnum):
    """What the charger's own reports say about a command."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_YET = "not_yet"


@dataclass(frozen=True, slots=True)
class Report:
    """What the last report over one transport says about one command.

    Attributes:
        reported_at: monotonic time at which the charger made the report; None if unknown.
        shows: True if the report shows the command in effect, False if it shows something else, None if neither.
        proves: True if the report shows what the charger does, not what it was told.
    """

    reported_at: float | None
    shows: bool | None
    proves: bool = True


def judge(sent_at: float, reports: Iterable[Report], *, effect_after: float = EFFECT_SHOWS_AFTER) -> Verdict:
    """Return what the reports say about a command that was sent at the monotonic time `sent_at`.

    Only a proving report that the charger made after `sent_at` counts. One such report with the effect confirms the
    command. Without any, a report made at least `effect_after` seconds after sending that shows something else refutes
    the command.
    """
    counting = [
        (report.reported_at, report.shows)
        for report in reports
        if report.proves and report.reported_at is not None and report.reported_at > sent_at
    ]
    if any(shows for _, shows in counting):
        return Verdict.CONFIRMED
    if any(shows is False and reported_at >= sent_at + effect_after for reported_at, shows in counting):
        return Verdict.REFUTED
    return Verdict.NOT_YET


def reported_at(transport: Transport | None) -> float:
    """Return the monotonic time of the charger's last report over a transport; minus infinity if there is none."""
    return -inf if transport is None or transport.charger_reported_at is None else transport.charger_reported_at


def reported_since(transport: Transport | None, since: float) -> bool:
    """Return True if the charger itself reported over the transport after the monotonic time `since`."""
    return reported_at(transport) > since


def report_time(transport: Transport, observed_at: float) -> float:
    """Return the monotonic time of the report that a reading of the transport surely comes from.

    A reading may be older than the last report, which did not contain it. It may also be newer, if the transport dates
    readings by other signs of life, which prove nothing about a command.
    """
    return min(observed_at, reported_at(transport))


def report_age(transport: Transport | None, now: float) -> float | None:
    """Return the seconds since the charger's last report over a transport; None if there is none."""
    at = reported_at(transport)
    return None if at == -inf else now - at


class FirstReport:
    """Finds out, once for each command, if the charger's first report after it came late."""

    def __init__(self) -> None:
        self._judged = -inf

    def is_late(self, transport: Transport | None, sent_at: float, within: float) -> bool:
        """Return True if the charger was silent for `within` seconds after `sent_at`, asked at its first report.

        Call this at each report. Later reports about the same command return False.
        """
        if not sent_at > self._judged:
            return False
        self._judged = sent_at
        return reported_since(transport, sent_at + within)
