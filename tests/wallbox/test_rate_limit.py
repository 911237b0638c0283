"""Request budgets: the arithmetic, and the requests over reloads, restarts and power cuts (I6)."""

import asyncio
from collections.abc import AsyncIterator
import json
from math import inf
from random import Random

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.breaker import BreakerState
from custom_components.chargekeeper.core.errors import ChargerError, TransportBusy, TransportDown
from custom_components.chargekeeper.core.transport import SetCurrent, SetLock
from custom_components.chargekeeper.wallbox.rate_limit import PacedWindow, RequestBudgets, SlidingWindow
from tests.simulators.clock import VirtualClock
from tests.simulators.wallbox_cloud import Fault
from tests.simulators.world import Window

from .rig import (
    CHARGING,
    DAY,
    FREE,
    GROUPS,
    HOUR,
    MINUTE,
    REFRESH,
    SLACK,
    STATUS,
    WAITING,
    Rig,
    busiest,
    gaps,
    idle_world,
    overdrawn,
    rigged,
)


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[Rig]:
    async with rigged() as rig:
        yield rig


# One budget


@given(st.integers(1, 5), st.lists(st.floats(0, 40), max_size=60))
def test_i6_sliding_window_never_exceeds_its_limit(room: int, waits: list[float]) -> None:
    budget, now, taken = SlidingWindow(room, 60), 1000.0, []
    for wait in waits:
        now = max(now + wait, budget.free_at(now + wait))
        budget.take(now)
        taken.append(now)
    assert all(later - earlier >= 60 - 1e-6 for earlier, later in zip(taken, taken[room:], strict=False))


@given(st.lists(st.floats(0, 300), min_size=100, max_size=400))
def test_i6_paced_window_keeps_its_limit_and_waits_at_most_120_s(waits: list[float]) -> None:
    budget, now = PacedWindow(60, 3600), 0.0
    taken: list[float] = []
    for wait in waits:
        now = max(now + wait / 10, budget.free_at(now))
        if taken:
            assert budget.free_at(taken[-1]) <= taken[-1] + 120 + 1e-6
        budget.take(now)
        taken.append(now)
    assert all(later - earlier >= 3600 - 1e-6 for earlier, later in zip(taken, taken[60:], strict=False))


def test_refunded_slot_is_free_and_other_slots_stay_used() -> None:
    budget = SlidingWindow(1, 60)
    budget.take(0)
    budget.take(30)  # out of turn
    assert budget.free_at(31) == 90
    budget.refund()
    assert budget.free_at(31) == 60


def test_exhausted_budget_has_room_after_its_window() -> None:
    budget = SlidingWindow(5, 60)
    budget.exhaust(100)
    assert budget.free_at(100) == 160
    assert budget.free_at(170) == 170


# Stored budgets


def _restored(clock: VirtualClock, stored: object) -> RequestBudgets:
    budgets = RequestBudgets(clock)
    budgets.restore(stored)
    return budgets


async def test_used_slots_restored_after_clean_stop() -> None:
    clock, saved = VirtualClock(), []

    async def save(record: dict[str, object]) -> None:
        saved.append(json.dumps(record))

    budgets = RequestBudgets(clock, save)
    await budgets.prepare_request()
    now = clock.monotonic()
    budgets.reads.take(now)
    budgets.commands.take(now - 10)
    budgets.commands.take(now - 5)
    budgets.reserve.take(now)
    budgets.logins.take(now)
    budgets.last_get = now
    budgets.close_reserve()
    await budgets.close()
    later = VirtualClock(clock.now(), monotonic=5.0)  # another boot of the machine
    later.jump(30)
    again = _restored(later, json.loads(saved[-1]))
    assert [round(stamp, 3) for stamp in again.reads.stamps] == [-25]
    assert again.reads.free_at(5) == pytest.approx(35)
    assert again.logins.free_at(5) == pytest.approx(35)
    assert again.last_get == pytest.approx(-25)
    assert again.reserve_free_at(5) == inf
    assert again.reserve_closed_until == pytest.approx(5 + 86400 - 30)
    assert len(again.commands.stamps) == 2
    for _ in range(3):
        again.commands.take(5)
    assert again.commands.free_at(5) == pytest.approx(25)


async def test_only_first_request_of_a_run_preceded_by_a_save() -> None:
    saved = []

    async def save(record: dict[str, object]) -> None:
        saved.append(record["clean"])

    budgets = RequestBudgets(VirtualClock(), save)
    await budgets.prepare_request()
    await budgets.prepare_request()
    budgets.start_run()
    await budgets.prepare_request()
    await budgets.close()
    await budgets.prepare_request()
    assert saved == [False, False, True, False]


async def test_all_slots_free_without_a_stored_record() -> None:
    clock = VirtualClock()
    budgets = _restored(clock, None)
    assert budgets.reads.free_at(clock.monotonic()) == clock.monotonic()
    assert budgets.reserve_free_at(clock.monotonic()) == clock.monotonic()
    await budgets.prepare_request()  # the config flow has no entry yet, so no store
    assert budgets.export()["clean"] is False


UNCLEAN: dict[str, object] = {"clean": False, "stamps": {}, "last_get": None, "reserve_closed_until": None}


@pytest.mark.parametrize(
    "stored",
    [
        UNCLEAN,
        {},
        [],
        "truncated {",
        7,
        {"clean": "yes", "stamps": {"reads": "x"}},
        {"clean": 1},
        {"stamps": [1, 2]},
        {"clean": False, "stamps": {"reads": [None, "1", True, -5, 1e300, 10**400, float("nan")], "commands": {}}},
    ],
)
def test_i6_unclean_stop_or_garbage_counts_all_slots_as_just_used(stored: object) -> None:
    clock = VirtualClock()
    now = clock.monotonic()
    budgets = _restored(clock, stored)
    assert budgets.reads.free_at(now) == now + 60
    assert budgets.commands.free_at(now) == now + 60
    assert budgets.reserve_free_at(now) == now + 20


@pytest.mark.parametrize("shift", [3600.0, 1e9])
def test_i6_stored_future_times_count_as_now(shift: float) -> None:
    """Restore a record from before the wall clock was set back."""
    clock = VirtualClock()
    wall = clock.now().timestamp() + shift
    budgets = _restored(
        clock,
        {"clean": True, "stamps": {"reads": [wall], "logins": [wall]}, "last_get": wall, "reserve_closed_until": wall},
    )
    now = clock.monotonic()
    assert budgets.reads.free_at(now) == now + 60
    assert budgets.logins.free_at(now) == now + 60
    assert budgets.last_get == now
    assert budgets.reserve_closed_until == now + min(shift, 86400)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["clean", "stamps", "last_get", "reserve_closed_until", "reads", "commands"]), inner
            )
        ),
        max_leaves=8,
    )
)
def test_i6_stored_garbage_raises_nothing_and_enlarges_no_budget(stored: object) -> None:
    clock = VirtualClock()
    now = clock.monotonic()
    budgets = _restored(clock, stored)
    clean = isinstance(stored, dict) and stored.get("clean") is True
    assert clean or stored is None or budgets.reads.free_at(now) == now + 60
    assert budgets.reserve_closed_until <= now + 86400
    assert budgets.last_get <= now
    json.dumps(budgets.export())


# Reloads, restarts and power cuts at the simulator


async def test_i6_reload_refills_no_budget(rig: Rig) -> None:
    rig.account.start()
    for wait in (1, 61, 7, 30, 59, 119, 10):
        await rig.clock.advance(wait)
        await rig.account.stop()
        rig.account.start()
    await rig.clock.advance(5 * MINUTE)
    assert overdrawn(rig, probes=False) == []
    assert min(gaps(rig.data_gets())) >= 60
    assert len(rig.gets("/users/")) == 1  # the tokens survive


async def test_i6_home_assistant_restart_refills_no_budget(rig: Rig) -> None:
    rig.account.start()
    for wait in (1, 61, 7, 30, 59, 119, 10):
        await rig.clock.advance(wait)
        await rig.account.stop()
        assert rig.saved is not None
        assert rig.saved["clean"] is True
        await rig.restart()
    await rig.clock.advance(5 * MINUTE)
    assert overdrawn(rig, probes=False) == []
    assert min(gaps(rig.data_gets())) >= 60 - SLACK


@pytest.mark.parametrize("reloaded", [False, True])
async def test_i6_kill_9_counts_all_slots_as_just_used(rig: Rig, reloaded: bool) -> None:
    rig.account.start()
    await rig.clock.advance(MINUTE)
    if reloaded:  # the tokens survive: no sign-in precedes the next request
        await rig.account.stop()
        assert rig.saved is not None
        assert rig.saved["clean"] is True
        rig.account.start()
    await rig.clock.advance(2 * MINUTE + 1)
    assert rig.saved is not None
    assert rig.saved["clean"] is False
    for amps in range(10, 15):
        await rig.transport(FREE).execute(SetCurrent(amps), patience=5)
    killed_at = rig.clock.monotonic()
    await rig.restart(killed=True)
    with pytest.raises(TransportBusy, match="no_room"):
        await rig.account.list_chargers()
    setting = rig.begin(rig.transport(FREE).execute(SetCurrent(20), patience=5))
    await rig.clock.advance(59)
    assert rig.data_gets(killed_at) == []
    assert rig.writes(killed_at + 0.1) == []
    await rig.clock.advance(2)
    assert [request.path for request in rig.data_gets(killed_at)] == [GROUPS]
    await setting
    assert rig.charger(FREE).max_charging_current == 20
    assert overdrawn(rig, probes=False) == []


async def test_i6_commands_first_in_a_run_still_count_after_kill_9(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(GROUPS)
    await rig.account.stop()
    rig.account.start()  # a reload: the tokens survive, and the next GET waits for a minute
    begun = rig.clock.monotonic()
    for amps in range(10, 15):
        await rig.transport(FREE).execute(SetCurrent(amps), patience=5)
    await rig.restart(killed=True)
    more = [rig.begin(rig.transport(FREE).execute(SetCurrent(amps), patience=5)) for amps in range(20, 25)]
    assert await rig.finish(*more) == [None] * 5
    assert len(rig.writes(begun)) == 10
    assert overdrawn(rig, probes=False) == []


async def test_budgets_saved_before_first_request_and_after_out_of_turn_read(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.HANG)
    rig.account.start()
    await rig.clock.advance(0)
    assert rig.saved is not None
    assert rig.saved["clean"] is False
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(5 * MINUTE)
    saves = rig.saves
    await rig.until_get(GROUPS)
    await rig.finish(rig.begin(rig.transport(FREE).check()))
    assert rig.saves > saves
    stamps = rig.saved["stamps"]
    assert isinstance(stamps, dict)
    assert len(stamps["reserve"]) == 1


async def test_i6_config_flow_requests_saved_when_entry_sends_first_request(rig: Rig) -> None:
    await rig.account.list_chargers()
    vars(rig)["saved"] = None  # not stored, because there was no entry yet
    rig.account.start()
    await rig.clock.advance(61)
    assert len(rig.data_gets()) == 2
    assert rig.saved is not None
    assert rig.saved["clean"] is False
    stamps = rig.saved["stamps"]
    assert isinstance(stamps, dict)
    assert len(stamps["logins"]) == 1


async def test_request_without_connection_uses_no_slot(rig: Rig) -> None:
    rig.cloud.access_lifetime = DAY
    await rig.settle_in()
    last = rig.data_gets()[-1].at
    await rig.cloud.set_fault(Fault.REFUSE)
    await rig.clock.advance(HOUR)
    budgets = rig.account._budgets
    assert list(budgets.probes.stamps) == []
    assert budgets.reads.stamps[-1] == last


# The reserve


async def test_i6_out_of_turn_read_waits_20_s_and_delays_next_poll_by_60_s(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(GROUPS)
    polled_at = rig.clock.monotonic()
    check = rig.begin(rig.transport(FREE).check())
    await rig.clock.advance(19)
    assert not check.done()
    await rig.clock.advance(1)
    await check
    (read,) = rig.gets(f"{STATUS}{FREE}", polled_at)
    assert read.at == polled_at + 20
    await rig.clock.advance(3 * MINUTE)
    following = rig.data_gets(read.at + 1)[0]
    assert following.at >= read.at + 60
    assert overdrawn(rig, probes=False) == []


async def test_out_of_turn_read_uses_a_free_regular_slot(rig: Rig) -> None:
    await rig.settle_in()
    await rig.clock.advance_until(lambda: rig.clock.monotonic() > rig.data_gets()[-1].at + 60, within=300)
    begun = rig.clock.monotonic()
    await rig.transport(FREE).check()
    assert rig.clock.monotonic() == begun
    await rig.account.stop()
    assert rig.saved is not None
    stamps = rig.saved["stamps"]
    assert isinstance(stamps, dict)
    assert stamps["reserve"] == []


async def test_i6_reads_beyond_20_out_of_turn_per_hour_wait_for_regular_slots(rig: Rig) -> None:
    await rig.settle_in()
    begun = rig.clock.monotonic()
    reads = 0
    while rig.clock.monotonic() < begun + 90 * MINUTE:
        assert await rig.finish(rig.begin(rig.transport((FREE, WAITING, CHARGING)[reads % 3]).check()), step=5) == [
            None
        ]
        reads += 1
    assert reads > 90
    assert overdrawn(rig, probes=False) == []
    extra = [gap for gap in gaps(rig.data_gets(begun)) if gap < 60]
    assert len(extra) >= 20
    # Each of the 20 reads delays the polls. Later reads wait for regular slots, and the polls get every second one.
    polls = gaps(rig.gets(GROUPS, begun))
    assert max(polls) <= 20 * 20 + 180
    assert sum(gap > 180 for gap in polls) <= 2


async def test_waiting_out_of_turn_read_does_not_block_probes(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.TOO_MANY, retry_after=1, next_requests=1)  # closes the reserve
    await rig.until_get(GROUPS)
    await rig.clock.advance(MINUTE)
    await rig.until_get(GROUPS)
    check = rig.begin(rig.transport(FREE).check())
    await rig.clock.advance(5)
    await rig.cloud.set_fault(Fault.REFUSE)
    with pytest.raises(TransportDown):
        await rig.transport(FREE).execute(SetCurrent(10), patience=5)
    assert await rig.until(BreakerState.OPEN) <= 10
    (lost,) = await rig.finish(check)
    assert isinstance(lost, TransportDown)


async def test_i6_poller_waits_again_when_another_read_used_its_slot(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(GROUPS)
    polled_at = rig.clock.monotonic()
    async with rig.account._get_lock:
        await rig.clock.advance(125)
        rig.account._budgets.reads.take(rig.clock.monotonic())
    await rig.clock.advance(MINUTE)
    assert [request.at - polled_at for request in rig.data_gets(polled_at)] == [0, 185]


async def test_poll_with_nothing_due_sends_nothing(socket_enabled: None) -> None:
    async with rigged(idle_world(1)) as rig:
        await rig.settle_in()
        await rig.until_get(REFRESH, within=20 * MINUTE)
        await rig.until_get(GROUPS)
        await rig.clock.advance(90)
        seen = len(rig.cloud.requests)
        await rig.account._poll_if_due()
        assert len(rig.cloud.requests) == seen


async def test_schedule_read_out_of_turn_after_20_s(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(GROUPS)
    since = rig.clock.monotonic()
    reading = asyncio.create_task(rig.transport(WAITING).read_schedule())
    await rig.clock.advance(20)
    (window,) = await reading
    assert (window.slot, window.enabled, window.start.hour, window.end.hour) == (0, True, 22, 5)
    assert [request.at for request in rig.gets(f"/chargers/{WAITING}/schedules", since)] == [since + 20]


# Commands


async def test_i6_at_most_5_commands_a_minute_sent_in_order_of_request(rig: Rig) -> None:
    await rig.settle_in()
    begun = rig.clock.monotonic()
    serials = [(FREE, WAITING, CHARGING)[number % 3] for number in range(18)]
    tasks = [
        rig.begin(rig.transport(serial).execute(SetLock(number % 2 == 0), patience=5))
        for number, serial in enumerate(serials)
    ]
    await rig.clock.advance(0)
    assert len(rig.writes(begun)) == 5
    await rig.clock.advance(200)
    await asyncio.gather(*tasks)
    assert [request.path.rpartition("/")[2] for request in rig.writes(begun)] == serials
    assert [request.at - begun for request in rig.writes(begun)] == [n // 5 * 60 for n in range(18)]
    assert busiest(rig.writes(), MINUTE) == 5
    assert rig.cloud.violations == []


async def test_command_without_room_for_300_s_fails_and_is_never_sent(rig: Rig) -> None:
    await rig.settle_in()
    begun = rig.clock.monotonic()
    tasks = [rig.begin(rig.transport(FREE).execute(SetLock(n % 2 == 0), patience=5)) for n in range(33)]
    await rig.clock.advance(301)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:30] == [None] * 30
    for refused in results[30:]:
        assert isinstance(refused, TransportBusy)
        assert refused.reason == "no_room"
        assert refused.surely_not_sent
    await rig.clock.advance(10 * MINUTE)
    assert len(rig.writes(begun)) == 30
    assert max(request.at for request in rig.writes(begun)) == begun + 300


async def test_i6_command_repeated_with_new_token_uses_two_slots(rig: Rig) -> None:
    await rig.settle_in()
    begun = rig.clock.monotonic()
    rig.cloud.expire_access()
    tasks = [rig.begin(rig.transport(FREE).execute(SetCurrent(10 + n), patience=5)) for n in range(6)]
    await rig.clock.advance(2 * MINUTE)
    await asyncio.gather(*tasks)
    assert 401 in [request.status for request in rig.writes(begun)]
    assert busiest(rig.writes(begun), MINUTE) <= 5
    assert len(rig.gets("/users/", begun)) == 1
    assert overdrawn(rig, probes=False) == []


async def test_command_waiting_into_outage_or_throttling_not_sent(rig: Rig) -> None:
    await rig.settle_in()
    for fault, error in ((Fault.REFUSE, TransportDown), (Fault.TOO_MANY, TransportBusy)):
        tasks = [rig.begin(rig.transport(FREE).execute(SetLock(n % 2 == 0), patience=5)) for n in range(6)]
        await rig.clock.advance(1)
        begun = rig.clock.monotonic()
        await rig.cloud.set_fault(fault)
        await rig.until_get(GROUPS) if fault is Fault.TOO_MANY else await rig.until(BreakerState.OPEN)
        await rig.clock.advance(2 * MINUTE)
        (refused,) = [result for result in await asyncio.gather(*tasks, return_exceptions=True) if result is not None]
        assert isinstance(refused, error)
        assert isinstance(refused, ChargerError)
        assert refused.surely_not_sent
        assert rig.writes(begun) == []
        await rig.cloud.set_fault(Fault.NONE)
        await rig.until(BreakerState.CLOSED)
        await rig.clock.advance_until(lambda: not rig.account.breaker.busy, within=HOUR, step=30)
        await rig.clock.advance(MINUTE)


# All faults combined

SEEDS = range(8)
FAULTS = (
    *(Fault.REFUSE, Fault.HANG, Fault.SLOW, Fault.ERROR_500, Fault.TOO_MANY, Fault.UNAUTHORIZED, Fault.FORBIDDEN),
    *(Fault.GARBAGE, Fault.HALF, Fault.HTML, Fault.NULLS, Fault.RESET),
)


async def _random_event(rig: Rig, random: Random) -> None:
    """Apply one random event to the account."""
    transport = rig.transport(random.choice((FREE, WAITING, CHARGING)))
    match random.choice(("fault", "heal", "heal", "command", "command", "check", "reload", "restart", "kill", "token")):
        case "fault":
            retry = random.choice((None, 30, 600))
            await rig.cloud.set_fault(random.choice(FAULTS), retry_after=retry)
        case "heal":
            await rig.cloud.set_fault(Fault.NONE)
        case "command":
            for amps in range(6, 6 + random.randint(1, 8)):
                rig.begin(transport.execute(SetCurrent(amps), patience=5))
        case "check":
            for _ in range(random.randint(1, 4)):
                rig.begin(transport.check())
        case "reload":
            await rig.account.stop()
            rig.account.start()
        case "restart":
            await rig.restart()
        case "kill":
            await rig.restart(killed=True)
        case _:
            random.choice((rig.cloud.expire_access, rig.cloud.revoke_refresh))()


@pytest.mark.parametrize("seed", SEEDS)
async def test_i6_i7_random_faults_exceed_no_budget_and_request_no_password(rig: Rig, seed: int) -> None:
    random = Random(seed)
    rig.charger(FREE).schedules = (Window(start="2200", stop="0500"),)
    rig.account.start()
    for _ in range(60):
        await _random_event(rig, random)
        await rig.clock.advance(random.choice((1, 10, 45, 120, 400)))
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(20 * MINUTE)
    for result in await asyncio.gather(*rig.tasks, return_exceptions=True):
        assert result is None or isinstance(result, (ChargerError, asyncio.CancelledError)), result
    assert len(rig.cloud.requests) > 80
    assert overdrawn(rig, probes=True) == []
    assert not any(snapshot.needs_login for snapshot in rig.snapshots)
    assert rig.account.breaker.state is BreakerState.CLOSED
    assert rig.cloud.factory_resets == []


async def test_overdrawn_reports_excess_commands_reads_and_sign_ins(rig: Rig) -> None:
    """Send more requests than the budgets allow, to prove that the tests above can fail."""
    await rig.settle_in()
    assert overdrawn(rig, probes=False) == []
    rig.account._budgets.reads.stamps.clear()
    await rig.account.list_chargers()
    rig.account._budgets.reads.stamps.clear()
    await rig.account.list_chargers()
    rig.account._budgets.commands = SlidingWindow(9, 60)
    for amps in range(6, 12):
        await rig.transport(FREE).execute(SetCurrent(amps), patience=5)
    rig.account._budgets.logins = SlidingWindow(9, 60)
    for _ in range(2):
        await rig.account.verify_credentials("owner@example.org", "correct horse")
    found = " ".join(overdrawn(rig, probes=False))
    assert "6 commands within a minute" in found
    assert "a GET 0.0 s after another" in found
    assert "/users/signin 0.0 s after another" in found
