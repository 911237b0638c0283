"""A charger in a load group: its share limits it, a pause by the group is lifted, an override waits for a share."""

import asyncio
from dataclasses import replace

import pytest

from custom_components.chargekeeper.core.charger import ChargerEvent, ChargerOptions
from custom_components.chargekeeper.core.charger.commands import EXPECT_WITHIN
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


def in_flight(bench: Bench) -> bool:
    return bench.charger.in_flight


async def restore_share(bench: Bench) -> None:
    await bench.poll(5)
    bench.charger.group_share = 10


@pytest.mark.parametrize(
    ("share", "entered", "reported", "amps", "source"),
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
async def test_load_group_limit_is_smallest_of_share_and_limits(
    share: float | None, entered: float | None, reported: float | None, amps: float | None, source: Source | None
) -> None:
    bench = Bench(options=ChargerOptions(load_group_limit=entered))
    await bench.start()
    bench.charger.group_share = share
    assert bench.charger.group_share == share
    if reported is not None:
        bench.cloud.show(LOAD_GROUP_LIMIT, float(reported))
    reading = bench.snapshot.readings.get(LOAD_GROUP_LIMIT)
    assert (reading and reading.value, reading and reading.source) == (amps, source)


async def test_i1_current_above_group_share_refused(bench: Bench) -> None:
    bench.charger.group_share = 12
    assert (bench.snapshot.effective_limit, bench.snapshot.limiting_factor) == (12, LimitingFactor.LOAD_GROUP_LIMIT)
    with pytest.raises(UnsafeRequest, match="above_ceiling: 12"):
        await bench.charger.command(SetCurrent(20))
    await bench.charger.command(SetCurrent(12))
    assert bench.device.amps == 12
    bench.charger.group_share = None
    assert Limits.of(bench.snapshot.readings).load_group_limit is None
    assert bench.device.amps == 12, "nothing is raised by itself"


async def test_i1_start_refused_without_group_share(bench: Bench) -> None:
    bench.charger.group_share = 5
    for work in (bench.charger.command(SetCharging(on=True)), bench.charger.lift_pause()):
        with pytest.raises(UnsafeRequest, match="no_group_share"):
            await work
    assert bench.cloud.commands == []
    await bench.charger.command(PAUSE)
    assert bench.cloud.commands == [PAUSE]


async def test_command_in_flight_until_shown_or_timed_out(bench: Bench) -> None:
    assert not in_flight(bench)
    await bench.charger.command(SetCurrent(10))
    assert in_flight(bench)
    await bench.poll()
    assert not in_flight(bench)
    bench.cloud.acked_only = True
    await bench.charger.command(SetCurrent(8))
    await bench.poll()
    assert in_flight(bench)
    await bench.clock.advance(EXPECT_WITHIN)
    assert not in_flight(bench)


async def test_group_pause_lifted_returns_charger_to_schedule(bench: Bench) -> None:
    await pause_by_group(bench)
    assert bench.status() is Status.PAUSED
    await restore_share(bench)
    assert await bench.charger.lift_pause() is Outcome.ACCEPTED
    assert bench.cloud.commands == [PAUSE, SetCurrent(10), SetOverride(on=False)]
    await bench.poll()
    assert bench.status() is Status.WAITING_SCHEDULE
    assert not in_flight(bench)


async def test_group_pause_lifted_without_schedule_starts_charging(bench: Bench) -> None:
    bench.device.windows, bench.device.amps = (replace(NIGHT, enabled=False),), 8
    await bench.tell()
    await pause_by_group(bench)
    await restore_share(bench)
    await bench.charger.lift_pause()
    assert bench.cloud.commands == [PAUSE, SetCharging(on=True)]
    await bench.poll()
    assert bench.status() is Status.CHARGING


async def test_override_kept_when_old_paused_status_follows_lifted_pause(bench: Bench) -> None:
    """A cloud or a polled entity keeps showing "paused" for a while."""
    await bench.charger.set_override(on=True)
    await bench.poll()
    await pause_by_group(bench)
    await restore_share(bench)
    await bench.charger.lift_pause()
    await bench.clock.advance(20)
    await bench.tell(Status.PAUSED)
    await bench.poll()
    assert bench.snapshot.override.on
    assert bench.snapshot.issues == set()


async def test_override_kept_when_group_share_removed(bench: Bench) -> None:
    await bench.charger.set_override(on=True)
    await bench.poll()
    await pause_by_group(bench)
    await bench.poll(5)
    bench.charger.group_share = None
    await bench.poll(3)
    assert bench.snapshot.override.on
    assert bench.status() is Status.CHARGING


async def test_late_start_does_not_turn_group_pause_into_user_pause(bench: Bench) -> None:
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


async def test_queued_user_pause_kept_when_group_pauses_too(bench: Bench) -> None:
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


async def test_lift_pause_raises_transport_error(bench: Bench) -> None:
    await pause_by_group(bench)
    await restore_share(bench)
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.lift_pause()


async def test_override_not_superseded_by_group_pause(bench: Bench) -> None:
    await bench.charger.set_override(on=True)
    await bench.poll()
    assert bench.snapshot.override.applied
    await pause_by_group(bench)
    await bench.poll(5)
    await restore_share(bench)
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


async def test_override_requested_without_group_share_waits_for_share(bench: Bench) -> None:
    bench.device.amps = 8
    await bench.tell()
    bench.charger.group_share = 0
    assert await bench.charger.set_override(on=True) is Outcome.PENDING
    await bench.poll(3)
    assert bench.cloud.commands == []
    await restore_share(bench)
    await bench.poll()
    assert bench.cloud.commands == [SetOverride(on=True)]
    assert bench.device.manual is Manual.CHARGE


async def test_override_of_user_pause_waits_for_group_share(bench: Bench) -> None:
    await bench.charger.command(PAUSE)
    await bench.poll(2)
    bench.charger.group_share = 0
    assert await bench.charger.set_override(on=True) is Outcome.PENDING
    await bench.poll(3)
    assert (bench.snapshot.override, bench.cloud.commands) == (Override(on=True, applied=False), [PAUSE])
    await restore_share(bench)
    await bench.poll()
    assert bench.cloud.commands == [PAUSE, SetCurrent(10), SetOverride(on=True)]
    await bench.poll(2)
    assert (bench.status(), bench.snapshot.override) == (Status.CHARGING, Override(on=True, applied=True))


async def test_override_ends_on_unplug_during_group_pause(bench: Bench) -> None:
    await bench.charger.set_override(on=True)
    await bench.poll()
    await pause_by_group(bench)
    assert bench.charger.group_paused
    bench.device.unplug()
    await bench.poll()
    assert not bench.snapshot.override.on
    assert events(bench)[-1] == "override_ended"


async def test_lift_pause_refused_too_soon(bench: Bench) -> None:
    await pause_by_group(bench)
    bench.charger.group_share = 10
    with pytest.raises(TransportBusy, match="too_soon"):
        await bench.charger.lift_pause()
    assert bench.cloud.commands == [PAUSE]


async def test_lift_pause_refused_for_user_pause(bench: Bench) -> None:
    await bench.charger.command(PAUSE)
    await bench.poll(10)
    bench.charger.group_share = 10
    with pytest.raises(NotApplicable, match="paused"):
        await bench.charger.lift_pause()
    assert bench.cloud.commands == [PAUSE]


# While the reduction of another member is not confirmed yet


@pytest.mark.parametrize(("room", "amps"), [(9.0, 10), (0.0, 9), (-4.0, 12)])
async def test_raise_refused_beyond_the_room_of_the_group(bench: Bench, room: float, amps: int) -> None:
    bench.device.amps = 8
    await bench.tell()
    bench.charger.group_room = lambda: room
    with pytest.raises(UnsafeRequest, match=f"no_group_room: {max(room, 0):g}$"):
        await bench.charger.command(SetCurrent(amps))
    assert bench.cloud.commands == []
    assert await bench.charger.command(SetCurrent(7)) is Outcome.ACCEPTED, "lowering is always allowed"


async def test_raise_refused_when_group_room_shrinks_while_queued(bench: Bench) -> None:
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
