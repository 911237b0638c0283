"""A command is judged only by what the charger itself reported after the command was sent."""

from dataclasses import replace

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.charger.evidence import Report, Verdict, judge
from custom_components.chargekeeper.core.transport import EFFECT_SHOWS_AFTER

SENT_AT = 1000.0

times = st.none() | st.floats(-1e6, 1e6)
reports = st.lists(st.builds(Report, times, st.sampled_from((True, False, None)), st.booleans()), max_size=6)


def counts(report: Report, sent_at: float) -> bool:
    """Return True if the report proves anything about a command of that time."""
    return report.proves and report.reported_at is not None and report.reported_at > sent_at


@given(sent_at=st.floats(-1e6, 1e6), found=reports)
def test_command_never_confirmed_without_report_after_sending(sent_at: float, found: list[Report]) -> None:
    """A verdict other than "not yet" needs a proving report of the charger that is newer than the command."""
    verdict = judge(sent_at, found)

    newer = [report for report in found if counts(report, sent_at)]
    assert (verdict is Verdict.CONFIRMED) is any(report.shows is True for report in newer)
    if verdict is Verdict.REFUTED:
        assert any(report.shows is False for report in newer)
    if not newer:
        assert verdict is Verdict.NOT_YET


@given(found=reports, more=st.booleans())
def test_old_or_unproving_reports_change_no_verdict(found: list[Report], more: bool) -> None:
    """What proves nothing may be there or not: the verdict is the same."""
    idle = Report(SENT_AT, more) if more else Report(SENT_AT + 1, True, proves=False)

    assert judge(SENT_AT, [*found, idle, replace(idle, shows=False)]) is judge(SENT_AT, found)


@pytest.mark.parametrize(
    ("after", "shows", "verdict"),
    [
        (0.0, True, Verdict.NOT_YET),
        (0.1, True, Verdict.CONFIRMED),
        (0.1, False, Verdict.NOT_YET),
        (EFFECT_SHOWS_AFTER - 0.1, False, Verdict.NOT_YET),
        (EFFECT_SHOWS_AFTER, False, Verdict.REFUTED),
        (EFFECT_SHOWS_AFTER, None, Verdict.NOT_YET),
    ],
)
def test_report_judged_by_its_time_and_value(after: float, shows: bool | None, verdict: Verdict) -> None:
    """A report that comes too early to show the effect refutes nothing."""
    assert judge(SENT_AT, [Report(SENT_AT + after, shows)]) is verdict


def test_one_report_with_the_effect_confirms_whatever_others_show() -> None:
    """A transport that lags behind does not refute what another transport has seen."""
    found = [Report(SENT_AT + 90, False), Report(SENT_AT + 5, True)]

    assert judge(SENT_AT, found) is Verdict.CONFIRMED
