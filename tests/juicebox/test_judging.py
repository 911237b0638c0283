"""Tests of the decisions behind `box.py`: server health, command clock and command tracker."""

from math import inf

from custom_components.chargekeeper.core.reading_builder import Timestamp
from custom_components.chargekeeper.juicebox.command_clock import ONE_START, SILENCE_SHOWS_OFFLINE, CommandClock
from custom_components.chargekeeper.juicebox.command_tracker import SHOWS_WITHIN, CommandTracker
from custom_components.chargekeeper.juicebox.datagram import StatusMessage
from custom_components.chargekeeper.juicebox.server_health import HAND_BACK_AFTER, SHORTEST_OUTAGE, ServerHealth
from tests.simulators.clock import START

from .vectors import SERIAL

UP_FOR_LONG = StatusMessage(SERIAL, "09u", {"u": 7200})
JUST_UP = StatusMessage(SERIAL, "09u", {"u": 3})


def test_silent_server_becomes_suspect_then_gone() -> None:
    server_health, verdicts = ServerHealth(lost=False), []
    for second in (0.0, 10.0, 20.0):
        server_health.record_status(second)
        verdicts.append(
            (server_health.answers, server_health.suspect, server_health.silent, server_health.is_gone(second))
        )
    assert verdicts == [(None, False, False, False), (False, True, False, False), (False, True, True, True)]
    assert SHORTEST_OUTAGE == 20


def test_lost_server_may_return_after_several_answers() -> None:
    server_health, verdicts = ServerHealth(lost=True), []
    for second in (0.0, 30.0, HAND_BACK_AFTER):
        server_health.record_status(second)
        server_health.record_answer(Timestamp(START, second))
        verdicts.append((server_health.answers, server_health.may_return(second)))
    assert verdicts == [(False, False), (False, False), (True, True)]
    server_health.reset()
    assert (server_health.answers, server_health.has_unanswered_status, server_health.may_return(inf)) == (
        None,
        False,
        False,
    )


def test_returning_server_may_miss_one_answer_but_not_two() -> None:
    server_health, verdicts = ServerHealth(lost=True), []
    for second, answered in ((0.0, True), (30.0, False), (60.0, True), (90.0, True)):
        server_health.record_status(second)
        if answered:
            server_health.record_answer(Timestamp(START, second))
        verdicts.append(server_health.may_return(second))
    assert verdicts == [False, False, False, True]
    for second in (120.0, 150.0, 180.0):
        server_health.record_status(second)
    server_health.record_answer(Timestamp(START, 180.0))
    assert not server_health.may_return(180.0), "it begins anew"


def test_boot_counts_once_and_first_status_shows_offline_current() -> None:
    command_clock = CommandClock(-inf)
    assert command_clock.record_boot(0.0), "nothing was heard before"
    assert not command_clock.record_boot(ONE_START - 1)
    command_clock.record_status(JUST_UP, 3.0)
    assert command_clock.sent_since_boot(JUST_UP, 3.0)
    assert not command_clock.sent_since_boot(UP_FOR_LONG, 3.0), "it was sent before"
    command_clock.mark_learned()
    assert not command_clock.sent_since_boot(JUST_UP, 3.0)


def test_boot_message_after_first_command_is_ignored() -> None:
    command_clock = CommandClock(-inf)
    command_clock.record_status(JUST_UP, 1000.0)
    command_clock.commanded_at = 1000.0
    assert not command_clock.record_boot(1005.0)
    assert command_clock.record_boot(1000.0 + ONE_START), "that is another one"
    assert command_clock.knows_time is False


def test_fallback_is_certain_only_after_long_silence_of_known_box() -> None:
    command_clock = CommandClock(-inf)
    assert not command_clock.surely_fell_back(5000.0)
    command_clock.record_status(UP_FOR_LONG, 5000.0)
    assert command_clock.served_at == 5000
    assert not command_clock.surely_fell_back(5000.0 + SILENCE_SHOWS_OFFLINE - 1)
    assert command_clock.surely_fell_back(5000.0 + SILENCE_SHOWS_OFFLINE)
    command_clock.commanded_at = 5100.0
    assert (command_clock.obeys(5399.0), command_clock.obeys(5400.0), command_clock.served_at) == (True, False, 5100)


def limits(first: int, second: int) -> StatusMessage:
    """Return a status with these limits in A as `M` and `C`."""
    return StatusMessage(SERIAL, "09u", {"M": first, "C": second, "m": 40})


def test_limit_following_sent_current_is_limit_in_force() -> None:
    tracker = CommandTracker()
    assert tracker.in_force(limits(16, 32)) == 16
    tracker.record_command(10, 16, limits(16, 16))
    tracker.check_status(limits(16, 10), 10, 16)
    assert (tracker.in_force(limits(16, 10)), tracker.proven) == (10, True)


def test_limit_equal_to_offline_current_proves_nothing() -> None:
    tracker, shown = CommandTracker(), limits(10, 16)
    tracker.record_command(16, 16, shown)
    tracker.check_status(shown, 16, 16)
    assert (tracker.in_force(shown), tracker.proven) == (10, False)


def test_command_is_pending_until_shown_ignored_or_cancelled() -> None:
    tracker = CommandTracker()
    tracker.record_command(10, 16, limits(16, 16))
    for statuses in ([limits(10, 16)], [limits(16, 16)] * SHOWS_WITHIN):
        tracker.record_user_change()
        for status in statuses:
            assert tracker.pending
            tracker.check_status(status, 10, 16)
        assert not tracker.pending
    assert tracker.ignored
    tracker.record_user_change()
    tracker.cancel()
    assert not tracker.pending
