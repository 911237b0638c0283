"""The breaker: when it opens and closes, when the next probe is due, and when it is throttled."""

from collections.abc import Callable

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.breaker import BUSY_LADDER, Breaker, BreakerState, Failure
from tests.simulators.clock import VirtualClock

CLOSED, DOUBTFUL, OPEN, HALF_OPEN = (
    BreakerState.CLOSED,
    BreakerState.DOUBTFUL,
    BreakerState.OPEN,
    BreakerState.HALF_OPEN,
)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def breaker(clock: VirtualClock) -> Breaker:
    """Return a breaker with the longest waits that jitter allows."""
    return Breaker(clock, lambda: 1.0)


def state_of(breaker: Breaker) -> BreakerState:
    return breaker.state


def wait_of(breaker: Breaker, clock: VirtualClock) -> float:
    assert breaker.due is not None
    return breaker.due - clock.monotonic()


async def reach_due(breaker: Breaker, clock: VirtualClock) -> None:
    await clock.advance(wait_of(breaker, clock))


async def open_breaker(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.bad(Failure.OTHER)
    await reach_due(breaker, clock)
    breaker.bad(Failure.OTHER)
    assert state_of(breaker) is OPEN


def test_new_breaker_is_closed(breaker: Breaker) -> None:
    assert state_of(breaker) is CLOSED
    assert breaker.closed
    assert breaker.usable
    assert not breaker.busy
    assert (breaker.due, breaker.busy_until, breaker.opened_at) == (None, None, None)


def test_good_answer_leaves_breaker_closed(breaker: Breaker) -> None:
    breaker.good()
    assert state_of(breaker) is CLOSED
    assert breaker.due is None


async def test_connect_failures_are_confirmed_after_2_and_10_seconds(breaker: Breaker, clock: VirtualClock) -> None:
    first_at, first_mono = clock.now(), clock.monotonic()
    breaker.bad(Failure.CONNECT)
    assert state_of(breaker) is DOUBTFUL
    assert (breaker.usable, breaker.closed) == (True, False)
    assert breaker.due == first_mono + 2
    await clock.advance(2)
    breaker.bad(Failure.CONNECT)
    assert state_of(breaker) is DOUBTFUL
    assert breaker.due == first_mono + 10
    await clock.advance(8)
    breaker.bad(Failure.CONNECT)
    assert state_of(breaker) is OPEN
    assert not breaker.usable
    assert breaker.opened_at == first_at


async def test_other_failures_are_confirmed_once_after_20_seconds(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.bad(Failure.OTHER)
    assert wait_of(breaker, clock) == 20
    await clock.advance(20)
    assert state_of(breaker) is DOUBTFUL
    breaker.bad(Failure.CONNECT)  # any kind of failure confirms
    assert state_of(breaker) is OPEN


@pytest.mark.parametrize("failure", Failure)
async def test_failures_before_confirmation_is_due_do_not_open_breaker(
    breaker: Breaker, clock: VirtualClock, failure: Failure
) -> None:
    breaker.bad(failure)
    due = breaker.due
    await clock.advance(1.5)
    for _ in range(5):
        breaker.bad(Failure.CONNECT)
    assert state_of(breaker) is DOUBTFUL
    assert breaker.due == due


async def test_confirmation_slightly_early_opens_breaker(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.bad(Failure.OTHER)
    await clock.advance(19.95)
    breaker.bad(Failure.OTHER)
    assert state_of(breaker) is OPEN


@pytest.mark.parametrize("times", [1, 4])
async def test_slow_answer_makes_check_due_without_opening_breaker(
    breaker: Breaker, clock: VirtualClock, times: int
) -> None:
    for _ in range(times):
        breaker.slow()
        assert state_of(breaker) is DOUBTFUL
        await clock.advance(5)
    assert wait_of(breaker, clock) == (15 if times == 1 else -15)
    await clock.advance(20)
    breaker.bad(Failure.OTHER)
    breaker.good()
    breaker.slow()
    assert state_of(breaker) is HALF_OPEN
    assert wait_of(breaker, clock) == 0


async def test_good_answer_closes_doubtful_breaker(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.bad(Failure.CONNECT)
    await clock.advance(2)
    breaker.bad(Failure.CONNECT)
    breaker.good()
    assert state_of(breaker) is CLOSED
    assert breaker.due is None
    assert breaker.opened_at is None
    breaker.bad(Failure.CONNECT)  # all confirmations are needed again
    assert state_of(breaker) is DOUBTFUL
    assert wait_of(breaker, clock) == 2


async def test_slow_confirmation_makes_next_confirmation_due_at_once(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.bad(Failure.CONNECT)
    await clock.advance(12)  # the first confirmation hung for 10 s
    breaker.bad(Failure.OTHER)
    assert state_of(breaker) is DOUBTFUL
    assert wait_of(breaker, clock) <= 0


@pytest.mark.parametrize(("jitter", "waits"), [(0.0, (7.5, 15, 30, 60, 60)), (1.0, (15, 30, 60, 120, 120))])
async def test_probes_back_off_with_equal_jitter(clock: VirtualClock, jitter: float, waits: tuple[float, ...]) -> None:
    breaker = Breaker(clock, lambda: jitter)
    await open_breaker(breaker, clock)
    for wait in waits:
        assert wait_of(breaker, clock) == pytest.approx(wait)
        await reach_due(breaker, clock)
        breaker.bad(Failure.CONNECT)
        assert state_of(breaker) is OPEN


async def test_late_failure_of_older_request_does_not_postpone_probe(breaker: Breaker, clock: VirtualClock) -> None:
    await open_breaker(breaker, clock)
    due = breaker.due
    await clock.advance(3)
    breaker.bad(Failure.OTHER)
    assert breaker.due == due


async def test_open_breaker_usable_after_one_good_answer_closed_after_three(
    breaker: Breaker, clock: VirtualClock
) -> None:
    first_at = clock.now()
    await open_breaker(breaker, clock)
    for _ in range(2):
        await reach_due(breaker, clock)
        breaker.good()
        assert state_of(breaker) is HALF_OPEN
        assert breaker.usable
        assert not breaker.closed
        assert breaker.opened_at == first_at
        assert wait_of(breaker, clock) == 15
    await reach_due(breaker, clock)
    breaker.good()
    assert state_of(breaker) is CLOSED
    assert (breaker.due, breaker.opened_at) == (None, None)


async def test_failure_while_half_open_continues_backoff(breaker: Breaker, clock: VirtualClock) -> None:
    await open_breaker(breaker, clock)
    opened_at = breaker.opened_at
    await reach_due(breaker, clock)
    breaker.bad(Failure.OTHER)  # 15 s are used up, 30 s wait
    await reach_due(breaker, clock)
    breaker.good()
    breaker.good()
    await clock.advance(1)
    breaker.bad(Failure.CONNECT)
    assert state_of(breaker) is OPEN
    assert breaker.opened_at == opened_at
    assert wait_of(breaker, clock) == pytest.approx(60)
    await reach_due(breaker, clock)
    breaker.good()
    breaker.good()
    assert state_of(breaker) is HALF_OPEN  # good answers before the failure do not count
    breaker.good()
    assert state_of(breaker) is CLOSED
    await open_breaker(breaker, clock)
    assert wait_of(breaker, clock) == pytest.approx(15)  # after closing, the backoff starts again


async def test_throttling_without_retry_after_lengthens_wait_step_by_step(
    breaker: Breaker, clock: VirtualClock
) -> None:
    for seconds in (120, 240, 480, 900, 900):
        breaker.throttled(None)
        assert state_of(breaker) is CLOSED
        assert breaker.busy_until == clock.monotonic() + seconds
        await clock.advance(seconds - 1)
        busy = [breaker.busy]
        await clock.advance(1)
        assert [*busy, breaker.busy] == [True, False]
    breaker.good()
    breaker.throttled(None)
    assert breaker.busy_until == clock.monotonic() + BUSY_LADDER[0]


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(30, 30), (0, 1), (-5, 1), (1e9, 3600), (float("inf"), 3600), (float("nan"), 1)],
)
def test_retry_after_is_clamped_to_bounds(
    breaker: Breaker, clock: VirtualClock, retry_after: float, seconds: float
) -> None:
    breaker.throttled(retry_after)
    assert breaker.busy_until == clock.monotonic() + seconds


def test_longer_wait_not_shortened_by_next_throttling_answer(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.throttled(600)
    breaker.throttled(5)
    assert breaker.busy_until == clock.monotonic() + 600
    breaker.good()
    assert not breaker.busy


async def test_throttling_answer_counts_as_good_answer(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.bad(Failure.CONNECT)
    breaker.throttled(60)
    assert state_of(breaker) is CLOSED
    await clock.advance(60)
    await open_breaker(breaker, clock)
    breaker.throttled(60)
    assert state_of(breaker) is HALF_OPEN
    assert wait_of(breaker, clock) == 60  # no probe while throttled
    breaker.probe_now()
    assert wait_of(breaker, clock) == 60
    await clock.advance(60)
    breaker.throttled(1)
    breaker.throttled(1)
    assert state_of(breaker) is CLOSED


async def test_failures_while_throttled_open_breaker(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.throttled(600)
    breaker.bad(Failure.OTHER)
    assert wait_of(breaker, clock) == 600
    await clock.advance(20)
    breaker.bad(Failure.OTHER)  # a command without another transport
    assert state_of(breaker) is OPEN
    assert wait_of(breaker, clock) == 580


async def test_probe_now_brings_next_attempt_forward_at_most_every_5_seconds(
    breaker: Breaker, clock: VirtualClock
) -> None:
    breaker.probe_now()
    assert breaker.due is None
    await open_breaker(breaker, clock)
    breaker.probe_now()
    assert wait_of(breaker, clock) == 0
    breaker.bad(Failure.CONNECT)
    assert wait_of(breaker, clock) == pytest.approx(30)
    await clock.advance(4.9)
    breaker.probe_now()
    assert wait_of(breaker, clock) == pytest.approx(25.1)
    await clock.advance(0.1)
    breaker.probe_now()
    assert wait_of(breaker, clock) == 0
    await clock.advance(7)
    breaker.probe_now()  # overdue already: nothing to bring forward
    assert wait_of(breaker, clock) == -7
    breaker.good()
    breaker.probe_now()
    assert state_of(breaker) is HALF_OPEN
    assert wait_of(breaker, clock) == 0


async def test_listener_called_once_per_breaker_change(breaker: Breaker, clock: VirtualClock) -> None:
    calls: list[tuple[BreakerState, bool]] = []
    end = breaker.listen(lambda: calls.append((breaker.state, breaker.busy)))

    def new_calls() -> list[tuple[BreakerState, bool]]:
        found = calls.copy()
        calls.clear()
        return found

    breaker.good()
    assert new_calls() == []
    await open_breaker(breaker, clock)
    assert new_calls() == [(DOUBTFUL, False), (OPEN, False)]
    breaker.probe_now()
    assert new_calls() == [(OPEN, False)]
    breaker.probe_now()
    breaker.bad(Failure.OTHER)
    assert new_calls() == []
    breaker.throttled(30)
    assert new_calls() == [(HALF_OPEN, True)]
    await clock.advance(30)
    assert new_calls() == [(HALF_OPEN, False)]
    breaker.throttled(30)
    assert new_calls() == [(HALF_OPEN, True)]
    breaker.good()
    assert new_calls() == [(CLOSED, False)]
    await clock.advance(60)
    assert new_calls() == []
    end()
    end()
    breaker.bad(Failure.OTHER)
    assert new_calls() == []


async def test_timer_runs_only_while_breaker_has_listeners(breaker: Breaker, clock: VirtualClock) -> None:
    breaker.throttled(60)
    assert clock.pending == 0
    calls: list[float] = []
    first = breaker.listen(lambda: calls.append(clock.monotonic()))
    second = breaker.listen(lambda: calls.append(clock.monotonic()))
    assert clock.pending == 1
    first()
    assert clock.pending == 1
    second()
    assert clock.pending == 0
    again = breaker.listen(lambda: calls.append(clock.monotonic()))
    until = breaker.busy_until
    await clock.advance(61)
    assert calls == [until]
    again()
    assert clock.pending == 0


def test_listener_can_remove_itself_during_call(breaker: Breaker) -> None:
    calls: list[str] = []

    def once() -> None:
        calls.append("once")
        end()

    end = breaker.listen(once)
    breaker.listen(lambda: calls.append("always"))
    breaker.bad(Failure.OTHER)
    breaker.good()
    assert calls == ["once", "always", "always"]


EVENTS: tuple[Callable[[Breaker], None], ...] = (
    Breaker.good,
    Breaker.probe_now,
    lambda breaker: breaker.bad(Failure.CONNECT),
    lambda breaker: breaker.bad(Failure.OTHER),
    lambda breaker: breaker.throttled(None),
    lambda breaker: breaker.throttled(40),
)


@given(
    st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from([0, 0.5, 2, 5, 8, 15, 20, 60, 130])), max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_breaker_state_stays_consistent_after_any_events(
    events: list[tuple[Callable[[Breaker], None], float]], jitter: float
) -> None:
    clock = VirtualClock()
    breaker = Breaker(clock, lambda: jitter)
    for event, pause in events:
        before = breaker.state
        event(breaker)
        closed = breaker.state is CLOSED
        assert breaker.closed is closed
        assert breaker.usable is (breaker.state is not OPEN)
        assert (breaker.due is None) is closed
        assert (breaker.opened_at is None) is closed
        assert breaker.busy is (breaker.busy_until is not None)
        if breaker.due is not None:
            assert breaker.due - clock.monotonic() <= 120 or breaker.busy
            assert not breaker.busy or breaker.due >= (breaker.busy_until or 0)
        assert (before, breaker.state) not in {(CLOSED, OPEN), (CLOSED, HALF_OPEN), (OPEN, CLOSED), (OPEN, DOUBTFUL)}
        clock._monotonic += pause
