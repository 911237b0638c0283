"""What `box.py` goes by: the pulse of the maker's server, the timeline of a box, and the effect of commands."""

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


def test_a_server_is_unknown_then_suspect_then_gone() -> None:
    server_health, told = ServerHealth(lost=False), []
    for second in (0.0, 10.0, 20.0):
        server_health.record_status(second)
        told.append((server_health.answers, server_health.suspect, server_health.silent, server_health.is_gone(second)))
    assert told == [(None, False, False, False), (False, True, False, False), (False, True, True, True)]
    assert SHORTEST_OUTAGE == 20


def test_a_server_that_was_lost_is_believed_after_some_good_answers() -> None:
    server_health, told = ServerHealth(lost=True), []
    for second in (0.0, 30.0, HAND_BACK_AFTER):
        server_health.record_status(second)
        server_health.record_answer(Timestamp(START, second))
        told.append((server_health.answers, server_health.may_return(second)))
    assert told == [(False, False), (False, False), (True, True)]
    server_health.reset()
    assert (server_health.answers, server_health.has_unanswered_status, server_health.may_return(inf)) == (
        None,
        False,
        False,
    )


def test_on_the_way_back_one_answer_may_be_missing_and_not_two() -> None:
    server_health, told = ServerHealth(lost=True), []
    for second, answered in ((0.0, True), (30.0, False), (60.0, True), (90.0, True)):
        server_health.record_status(second)
        if answered:
            server_health.record_answer(Timestamp(START, second))
        told.append(server_health.may_return(second))
    assert told == [False, False, False, True]
    for second in (120.0, 150.0, 180.0):
        server_health.record_status(second)
    server_health.record_answer(Timestamp(START, 180.0))
    assert not server_health.may_return(180.0), "it begins anew"


def test_a_start_is_news_once_and_its_first_status_shows_the_stored_limit() -> None:
    command_clock = CommandClock(-inf)
    assert command_clock.record_boot(0.0), "nothing was heard before"
    assert not command_clock.record_boot(ONE_START - 1)
    command_clock.record_status(JUST_UP, 3.0)
    assert command_clock.sent_since_boot(JUST_UP, 3.0)
    assert not command_clock.sent_since_boot(UP_FOR_LONG, 3.0), "it was sent before"
    command_clock.mark_learned()
    assert not command_clock.sent_since_boot(JUST_UP, 3.0)


def test_a_start_that_is_told_after_its_first_command_is_no_news() -> None:
    command_clock = CommandClock(-inf)
    command_clock.record_status(JUST_UP, 1000.0)
    command_clock.commanded_at = 1000.0
    assert not command_clock.record_boot(1005.0)
    assert command_clock.record_boot(1000.0 + ONE_START), "that is another one"
    assert command_clock.knows_time is False


def test_a_long_silence_is_one_in_which_the_box_was_heard() -> None:
    command_clock = CommandClock(-inf)
    assert not command_clock.surely_fell_back(5000.0)
    command_clock.record_status(UP_FOR_LONG, 5000.0)
    assert command_clock.served_at == 5000
    assert not command_clock.surely_fell_back(5000.0 + SILENCE_SHOWS_OFFLINE - 1)
    assert command_clock.surely_fell_back(5000.0 + SILENCE_SHOWS_OFFLINE)
    command_clock.commanded_at = 5100.0
    assert (command_clock.obeys(5399.0), command_clock.obeys(5400.0), command_clock.served_at) == (True, False, 5100)


def limits(first: int, second: int) -> StatusMessage:
    """A status with these two limits, A."""
    return StatusMessage(SERIAL, "09u", {"M": first, "C": second, "m": 40})


def test_the_limit_that_follows_what_was_sent_is_the_one_in_force() -> None:
    effect = CommandTracker()
    assert effect.in_force(limits(16, 32)) == 16
    effect.record_command(10, 16, limits(16, 16))
    effect.check_status(limits(16, 10), 10, 16)
    assert (effect.in_force(limits(16, 10)), effect.proven) == (10, True)


def test_a_limit_that_may_be_the_stored_one_proves_nothing() -> None:
    effect, shown = CommandTracker(), limits(10, 16)
    effect.record_command(16, 16, shown)
    effect.check_status(shown, 16, 16)
    assert (effect.in_force(shown), effect.proven) == (10, False)


def test_a_wish_is_pending_until_it_shows_or_could_have_or_no_command_holds() -> None:
    effect = CommandTracker()
    effect.record_command(10, 16, limits(16, 16))
    for statuses in ([limits(10, 16)], [limits(16, 16)] * SHOWS_WITHIN):
        effect.record_user_change()
        for status in statuses:
            assert effect.pending
            effect.check_status(status, 10, 16)
        assert not effect.pending
    assert effect.ignored
    effect.record_user_change()
    effect.cancel()
    assert not effect.pending
