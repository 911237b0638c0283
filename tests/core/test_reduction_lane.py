"""Reductions come first: what counts as one, the lock of a charger, and a disk that is full or slow (K4)."""

import ast
import asyncio
from datetime import timedelta
from math import inf
from pathlib import Path

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.charger.intents import Until
from custom_components.chargekeeper.core.charger.lock import ChargerLock
from custom_components.chargekeeper.core.charger.reduction import relief
from custom_components.chargekeeper.core.errors import GaveWay, NotSaved
from custom_components.chargekeeper.core.model import CHARGING_CURRENT, ChargerIssue, EcoMode, Outcome, Status
from custom_components.chargekeeper.core.transport import (
    START,
    STOP,
    Command,
    Install,
    Restart,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
)
from tests.core.fake_transport import Bench, Resume

ON, OFF = SetOverride(on=True), SetOverride(on=False)
SAVE_WITHIN = 1.0
CORE = Path(__file__).resolve().parents[2] / "custom_components" / "chargekeeper"


@pytest.fixture
async def bench() -> Bench:
    """Return a bench at which a car waits for the night."""
    bench = Bench()
    await bench.start()
    return bench


# What a reduction is


@pytest.mark.parametrize(
    ("command", "present", "amps"),
    [
        (SetCurrent(6), 16, 10),
        (SetCurrent(16), 16, 0),
        (SetCurrent(17), 16, 0),
        (SetCurrent(6), None, 0),
        (STOP, 16, 16),
        (STOP, None, inf),
        (STOP, 0, inf),
        (OFF, 16, 16),
        (OFF, None, inf),
        (START, 16, 0),
        (ON, 16, 0),
        (SetLock(True), 16, 0),
        (SetEcoMode(EcoMode.ECO), 16, 0),
        (Restart(), 16, 0),
        (Install(), None, 0),
    ],
)
def test_relief_of_each_command(command: Command, present: float | None, amps: float) -> None:
    assert relief(command, present) == amps


def test_relief_has_one_definition_and_these_callers() -> None:
    """Who sends a reduction asks `relief`; nobody else fills in `urgent` on the way to a transport."""
    callers: set[str] = set()
    definitions: set[str] = set()
    for path in CORE.rglob("*.py"):
        name = str(path.relative_to(CORE))
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if function.name == "relief":
                definitions.add(name)
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            if any(isinstance(call.func, ast.Name) and call.func.id == "relief" for call in calls):
                callers.add(f"{name}:{function.name}")
    assert definitions == {"core/charger/reduction.py"}
    assert callers == {
        "core/charger/commands.py:command",
        "core/charger/commands.py:_deliver",
        "core/charger/override.py:_hand_back",
        "core/charger/override.py:_stop_draw",
    }


# The lock


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
def test_lock_goes_to_reductions_first_and_to_each_kind_in_order(waiters: list[tuple[bool, bool]]) -> None:
    """Each waiter is a reduction or not, and is canceled while it waits or not."""

    async def run() -> list[int]:
        lock, order = ChargerLock(), list[int]()

        async def hold(number: int, urgent: bool) -> None:
            await lock.acquire(urgent=urgent)
            order.append(number)
            lock.release()

        await lock.acquire()
        tasks = [asyncio.ensure_future(hold(number, urgent)) for number, (urgent, _) in enumerate(waiters)]
        await asyncio.sleep(0)
        assert lock.reduction_waits is any(urgent for urgent, _ in waiters)
        for task, (_, canceled) in zip(tasks, waiters, strict=True):
            if canceled:
                task.cancel()
        lock.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not lock.locked()
        assert not lock.reduction_waits
        return order

    kept = [(number, urgent) for number, (urgent, canceled) in enumerate(waiters) if not canceled]
    assert asyncio.run(run()) == [n for n, urgent in kept if urgent] + [n for n, urgent in kept if not urgent]


async def test_lock_passed_on_to_a_task_that_is_canceled_is_not_lost() -> None:
    lock = ChargerLock()
    await lock.acquire()
    task = asyncio.ensure_future(lock.acquire())
    await asyncio.sleep(0)
    lock.release()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not lock.locked()


async def test_reductions_go_before_commands_that_waited_longer(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    commands = (SetLock(True), SetEcoMode(EcoMode.ECO), SetCurrent(10), STOP)
    calls = [asyncio.ensure_future(bench.charger.command(command)) for command in commands]
    await bench.clock.settle()
    bench.cloud.gate.set()
    await asyncio.gather(*calls)
    assert bench.sent == [SetLock(True), SetCurrent(10), STOP, SetEcoMode(EcoMode.ECO)]


async def test_lower_current_replaces_a_higher_one_that_waits_for_the_lock(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    commands = (SetLock(True), SetCurrent(20), SetEcoMode(EcoMode.ECO), SetCurrent(18))
    calls = [asyncio.ensure_future(bench.charger.command(command)) for command in commands]
    await bench.clock.settle()
    bench.cloud.gate.set()
    assert await asyncio.gather(*calls) == [Outcome.ACCEPTED] * 4
    assert bench.sent == [SetLock(True), SetCurrent(18), SetEcoMode(EcoMode.ECO)]


async def test_nothing_else_is_sent_while_a_reduction_waits(bench: Bench) -> None:
    """Whoever holds the lock ends its next step with `GaveWay`."""
    async with bench.charger._router.turn():
        stop = asyncio.ensure_future(bench.charger.command(STOP))
        await bench.clock.settle()
        with pytest.raises(GaveWay):
            await bench.charger._router.send(bench.cloud, SetLock(True))
        delivery = await bench.charger._router.deliver(SetLock(True))
        with pytest.raises(GaveWay):
            delivery.require()
    assert await stop is Outcome.ACCEPTED
    assert bench.sent == [STOP]


# The disk


async def test_override_ended_at_its_time_with_a_full_disk(bench: Bench) -> None:
    await bench.charger.set_override(True, until=Until.TIME, until_at=bench.clock.now() + timedelta(hours=1))
    await bench.poll(3)
    bench.save_error = NotSaved("not_saved")
    await bench.poll(60)
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.sent == [ON, OFF]
    assert bench.issues() == {ChargerIssue.NOT_SAVED}
    bench.save_error = None
    await bench.poll(6)
    assert bench.issues() == frozenset()
    assert bench.intent is None


@pytest.mark.parametrize("resume", [Resume.WORKS, Resume.CONFLICT])
async def test_override_ended_by_the_user_with_a_full_disk(bench: Bench, resume: Resume) -> None:
    bench.device.resume = resume
    await bench.charger.set_override(True)
    await bench.poll(3)
    originals = bench.device.windows
    bench.save_error = NotSaved("not_saved")
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    await bench.poll(3)
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.device.windows[0].enabled
    assert originals[0].enabled is (resume is Resume.WORKS)


async def test_slow_disk_holds_up_the_end_of_an_override_for_a_second_at_most(bench: Bench) -> None:
    await bench.charger.set_override(True)
    await bench.poll(3)
    bench.save_gate = asyncio.Event()
    off = asyncio.ensure_future(bench.charger.set_override(False))
    await bench.clock.advance(SAVE_WITHIN)
    assert bench.sent == [ON, OFF]
    assert bench.issues() == {ChargerIssue.NOT_SAVED}
    await bench.clock.advance(SAVE_WITHIN)
    assert await off is Outcome.ACCEPTED
    bench.save_gate.set()
    await bench.poll(3)
    assert bench.issues() == frozenset()
    assert bench.intent is None


async def test_override_on_is_not_sent_with_a_full_disk(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    with pytest.raises(NotSaved):
        await bench.charger.set_override(True)
    assert bench.sent == []


async def test_slow_disk_holds_up_the_enforcement_of_a_limit_for_a_second_at_most(bench: Bench) -> None:
    bench.save_gate = asyncio.Event()
    bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.clock.advance(SAVE_WITHIN)
    assert bench.sent == [SetCurrent(10)]
    bench.save_gate.set()
    await bench.poll(3)
    assert bench.snapshot.value(CHARGING_CURRENT) == 10


async def test_record_kept_while_a_save_is_in_progress_is_not_lost(bench: Bench) -> None:
    """A restart is being saved on a slow disk when an override ends."""
    await bench.charger.set_override(True)
    await bench.poll(3)
    intents = bench.charger._context.intents
    bench.save_gate = asyncio.Event()
    slow = asyncio.ensure_future(intents.write(install=None, lowering=True))
    await bench.clock.settle()
    off = asyncio.ensure_future(bench.charger.set_override(False))
    await bench.clock.advance(2 * SAVE_WITHIN)
    assert bench.sent == [ON, OFF]
    bench.save_gate.set()
    await asyncio.gather(slow, off)
    assert intents.entries.override is not None
    assert intents.entries.override.applications == 1
    await bench.poll(4)
    assert bench.intent is None
    assert intents.entries == type(intents.entries)(lowering=intents.entries.lowering)
