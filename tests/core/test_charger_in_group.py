"""The keeper of a charger in a load group: its share binds, a pause of the group is lifted, an override waits."""

import asyncio
from dataclasses import replace

import pytest

from custom_components.chargekeeper.core.charger import ChargerEvent, ChargerOptions
from custom_components.chargekeeper.core.charger.evidence import UNVERIFIED_AFTER
from custom_components.chargekeeper.core.charger.intents import IntentState
from custom_components.chargekeeper.core.errors import NotApplicable, TransportBusy, TransportDown, UnsafeRequest
from custom_components.chargekeeper.core.limits import Limits
from custom_components.chargekeeper.core.model import (
    LOAD_GROUP_LIMIT,
    LimitingFactor,
    Outcome,
    Override,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import SetCharging, SetCurrent, SetLock, SetOverride
from tests.core.fake_transport import NIGHT, Bench, Manual

PAUSE = SetCharging(on=False)


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.start()
    return bench


def events(bench: Bench) -> list[str]:
    return [entry.type for entry in bench.log if isinstance(entry, ChargerEvent)]


async def pause_by_group(bench: Bench) -> None:
    bench.charger.group_share, bench.charger.group_paused = 0, True
    await bench.charger.command(PAUSE, automatic=True)
    await bench.poll()


def flies(bench: Bench) -> bool:
    return bench.charger.in_flight


async def room_again(bench: Bench) -> None:
    await bench.poll(5)
    bench.charger.group_share = 10


@pytest.mark.parametrize(
    ("share", "entered", "told", "amps", "source"),
    [
        (None, None, None, None, None),
        (10, None, None, 10, Source.USER),
        (10, 8, None, 8, Source.USER),
        (10, 12, None, 10, Source.USER),
        (10, None, 9, 9, Source.CLOUD),
        (10, None, 10, 10, Source.CLOUD),
        (10, None, 20, 10, Source.USER),
        (None, 12, 20, 12, Source.USER),
        (None, 20, 12, 12, Source.CLOUD),
        (0, 12, 20, 0, Source.USER),
    ],
)
async def test_the_smallest_of_share_and_limits_counts(
    share: float | None, entered: float | None, told: float | None, amps: float | None, source: Source | None
) -> None:
    bench = Bench(options=ChargerOptions(load_group_limit=entered))
    await bench.start()
    bench.charger.group_share = share
    assert bench.charger.group_share == share
    if told is not None:
        bench.cloud.show(LOAD_GROUP_LIMIT, float(told))
    reading = bench.snapshot.readings.get(LOAD_GROUP_LIMIT)
    assert (reading and reading.value, reading and reading.source) == (amps, source)


async def test_i1_the_share_caps_what_may_be_set(bench: Bench) -> None:
    bench.charger.group_share = 12
    assert (bench.snapshot.effective_limit, bench.snapshot.limiting_factor) == (12, LimitingFactor.LOAD_GROUP_LIMIT)
    with pytest.raises(UnsafeRequest, match="above_ceiling: 12"):
        await bench.charger.command(SetCurrent(20))
    await bench.charger.command(SetCurrent(12))
    assert bench.device.amps == 12
    bench.charger.group_share = None
    assert Limits.of(bench.snapshot.readings).load_group_limit is None
    assert bench.device.amps == 12, "nothing is raised by itself"


async def test_i1_without_a_share_nothing_is_started(bench: Bench) -> None:
    bench.charger.group_share = 5
    for work in (bench.charger.command(SetCharging(on=True)), bench.charger.lift_pause()):
        with pytest.raises(UnsafeRequest, match="no_group_share"):
            await work
    assert bench.cloud.commands == []
    await bench.charger.command(PAUSE)
    assert bench.cloud.commands == [PAUSE]


async def test_a_command_is_in_flight_until_it_shows_or_is_given_up(bench: Bench) -> None:
    assert not flies(bench)
    await bench.charger.command(SetCurrent(10))
    assert flies(bench)
    await bench.poll()
    assert not flies(bench)
    bench.cloud.acked_only = True
    await bench.charger.command(SetCurrent(8))
    await bench.poll()
    assert flies(bench)
    await bench.clock.advance(UNVERIFIED_AFTER)
    assert not flies(bench)


async def test_a_pause_is_lifted_and_the_schedule_rules_again(bench: Bench) -> None:
    await pause_by_group(bench)
    assert bench.status() is Status.PAUSED
    await room_again(bench)
    assert await bench.charger.lift_pause() is Outcome.ACCEPTED
    assert bench.cloud.commands == [PAUSE, SetCurrent(10), SetOverride(on=False)]
    await bench.poll()
    assert bench.status() is Status.WAITING_SCHEDULE
    assert not flies(bench)


async def test_without_a_schedule_the_charger_is_told_to_charge(bench: Bench) -> None:
    bench.device.windows, bench.device.amps = (replace(NIGHT, enabled=False),), 8
    await bench.tell()
    await pause_by_group(bench)
    await room_again(bench)
    await bench.charger.lift_pause()
    assert bench.cloud.commands == [PAUSE, SetCharging(on=True)]
    await bench.poll()
    assert bench.status() is Status.CHARGING


async def test_an_override_outlives_a_word_from_before_its_pause_was_lifted(bench: Bench) -> None:
    """A cloud, or an entity that is polled, goes on to say "paused" for a while."""
    await bench.charger.set_override(on=True)
    await bench.poll()
    await pause_by_group(bench)
    await room_again(bench)
    await bench.charger.lift_pause()
    await bench.clock.advance(20)
    await bench.tell(Status.PAUSED)
    await bench.poll()
    assert bench.snapshot.override.on
    assert bench.snapshot.issues == set()


async def test_an_override_outlives_its_load_group(bench: Bench) -> None:
    await bench.charger.set_override(on=True)
    await bench.poll()
    await pause_by_group(bench)
    await bench.poll(5)
    bench.charger.group_share = None
    await bench.poll(3)
    assert bench.snapshot.override.on
    assert bench.status() is Status.CHARGING


async def test_a_start_that_arrives_late_makes_no_pause_of_the_user_out_of_one_of_the_group(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    bench.cloud.errors.append(TransportDown("timeout"))
    await bench.charger.command(SetCharging(on=True))
    await bench.poll(6)
    local.tell()
    bench.charger.group_share, bench.charger.group_paused = 0, True
    await bench.charger.command(PAUSE, automatic=True)
    bench.device.manual = Manual.CHARGE  # the cloud's start arrives
    await bench.poll(2)
    assert bench.intents is None or bench.intents.get("pause") is None


async def test_a_pause_of_the_user_that_waits_is_not_swallowed_by_one_of_the_group(bench: Bench) -> None:
    bench.device.windows = ()
    bench.device.manual = Manual.CHARGE
    await bench.tell()
    bench.cloud.gate = asyncio.Event()
    first = asyncio.ensure_future(bench.charger.command(SetLock(True)))
    await bench.clock.settle()
    users = asyncio.ensure_future(bench.charger.command(PAUSE))
    groups = asyncio.ensure_future(bench.charger.command(PAUSE, automatic=True))
    await bench.clock.settle()
    bench.cloud.gate.set()
    await asyncio.gather(first, users, groups)
    assert bench.intents is not None
    assert bench.intents["pause"] is not None


async def test_a_pause_that_cannot_be_lifted_says_why(bench: Bench) -> None:
    await pause_by_group(bench)
    await room_again(bench)
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.lift_pause()


async def test_an_override_is_not_superseded_by_a_pause_of_the_group(bench: Bench) -> None:
    await bench.charger.set_override(on=True)
    await bench.poll()
    assert bench.snapshot.override.applied
    await pause_by_group(bench)
    await bench.poll(5)
    await room_again(bench)
    await bench.poll(2)
    assert bench.snapshot.override.on
    sent = len(bench.cloud.commands)
    await bench.charger.lift_pause()
    assert bench.cloud.commands[sent:] == [SetCurrent(10), SetCharging(on=True)]
    await bench.poll()
    bench.charger.group_paused = False
    await bench.poll(3)
    assert bench.status() is Status.CHARGING
    assert bench.intent is not None
    assert bench.intent["state"] == IntentState.VERIFIED
    assert "override_superseded" not in events(bench)
    assert len(bench.cloud.commands) == sent + 2


async def test_an_override_that_is_wanted_without_a_share_waits_for_one(bench: Bench) -> None:
    bench.device.amps = 8
    await bench.tell()
    bench.charger.group_share = 0
    assert await bench.charger.set_override(on=True) is Outcome.PENDING
    await bench.poll(3)
    assert bench.cloud.commands == []
    await room_again(bench)
    await bench.poll()
    assert bench.cloud.commands == [SetOverride(on=True)]
    assert bench.device.manual is Manual.CHARGE


async def test_an_override_of_a_pause_of_the_users_waits_for_a_share_too(bench: Bench) -> None:
    await bench.charger.command(PAUSE)
    await bench.poll(2)
    bench.charger.group_share = 0
    assert await bench.charger.set_override(on=True) is Outcome.PENDING
    await bench.poll(3)
    assert (bench.snapshot.override, bench.cloud.commands) == (Override(on=True, applied=False), [PAUSE])
    await room_again(bench)
    await bench.poll()
    assert bench.cloud.commands == [PAUSE, SetCurrent(10), SetOverride(on=True)]
    await bench.poll(2)
    assert (bench.status(), bench.snapshot.override) == (Status.CHARGING, Override(on=True, applied=True))


async def test_an_override_ends_while_the_group_holds_the_charger(bench: Bench) -> None:
    await bench.charger.set_override(on=True)
    await bench.poll()
    await pause_by_group(bench)
    assert bench.charger.group_paused
    bench.device.unplug()
    await bench.poll()
    assert not bench.snapshot.override.on
    assert events(bench)[-1] == "override_ended"


async def test_a_pause_is_not_lifted_too_soon(bench: Bench) -> None:
    await pause_by_group(bench)
    bench.charger.group_share = 10
    with pytest.raises(TransportBusy, match="too_soon"):
        await bench.charger.lift_pause()
    assert bench.cloud.commands == [PAUSE]


async def test_a_pause_of_the_users_is_not_lifted(bench: Bench) -> None:
    await bench.charger.command(PAUSE)
    await bench.poll(10)
    bench.charger.group_share = 10
    with pytest.raises(NotApplicable, match="paused"):
        await bench.charger.lift_pause()
    assert bench.cloud.commands == [PAUSE]


# While another member of the group was not seen lowered yet


@pytest.mark.parametrize(("room", "amps"), [(9.0, 10), (0.0, 9), (-4.0, 12)])
async def test_raise_refused_beyond_the_room_of_the_group(bench: Bench, room: float, amps: int) -> None:
    bench.device.amps = 8
    await bench.tell()
    bench.charger.group_room = lambda: room
    with pytest.raises(UnsafeRequest, match=f"no_group_room: {max(room, 0):g}$"):
        await bench.charger.command(SetCurrent(amps))
    assert bench.cloud.commands == []
    assert await bench.charger.command(SetCurrent(7)) is Outcome.ACCEPTED, "lowering is always allowed"


async def test_raise_refused_where_the_room_went_while_it_waited(bench: Bench) -> None:
    bench.device.amps = 8
    await bench.tell()
    rooms = [32.0]
    bench.charger.group_room = lambda: rooms[0]
    async with bench.charger._context.lock:
        waiting = asyncio.ensure_future(bench.charger.command(SetCurrent(12)))
        await bench.clock.settle()
        rooms[0] = 9.0
    with pytest.raises(UnsafeRequest, match=r"no_group_room: 9$"):
        await waiting


async def test_start_lowers_to_the_room_of_the_group(bench: Bench) -> None:
    bench.device.amps = 16
    await bench.charger.command(PAUSE)
    await bench.poll(2)
    bench.charger.group_room = lambda: 9.0
    await bench.charger.command(SetCharging(on=True))
    assert bench.cloud.commands == [PAUSE, SetCurrent(9), SetCharging(on=True)]


async def test_start_refused_without_room_in_the_group(bench: Bench) -> None:
    await bench.charger.command(PAUSE)
    await bench.poll(2)
    bench.charger.group_room = lambda: 5.0
    with pytest.raises(UnsafeRequest, match=r"no_group_room: 5$"):
        await bench.charger.command(SetCharging(on=True))
    assert bench.cloud.commands == [PAUSE]


async def test_override_waits_for_room_in_the_group(bench: Bench) -> None:
    bench.charger.group_room = lambda: 0.0
    assert await bench.charger.set_override(on=True) is Outcome.PENDING
    await bench.poll(3)
    assert bench.cloud.commands == []
    bench.charger.group_room = lambda: 32.0
    await bench.poll(10)
    assert bench.cloud.commands == [SetOverride(on=True)]
