"""A command that the charger's reports refute is told, and the second one within a day is an issue."""

from datetime import timedelta

import pytest

from custom_components.chargekeeper.core.charger.evidence import EFFECT_SHOWS_AFTER, UNVERIFIED_AFTER
from custom_components.chargekeeper.core.model import CHARGING_CURRENT, ChargerIssue, Commanded, EcoMode, Status
from custom_components.chargekeeper.core.transport import SetCharging, SetCurrent, SetEcoMode, SetLock, Setting
from tests.core.fake_transport import Bench

HOUR = 3600.0
IGNORED = {ChargerIssue.COMMANDS_IGNORED}


@pytest.fixture
async def bench() -> Bench:
    """Start a charger that acknowledges commands and ignores them."""
    bench = Bench()
    bench.device.windows = ()
    await bench.start()
    bench.cloud.acked_only = True
    return bench


async def ignore(bench: Bench, amps: int) -> None:
    """Send a command that shows no effect, until that is known."""
    await bench.charger.command(SetCurrent(amps))
    await bench.poll(every=EFFECT_SHOWS_AFTER)


def told(bench: Bench) -> list[tuple[str, str]]:
    """Return the events about commands: what became of which."""
    events = [entry for entry in bench.log if hasattr(entry, "details") and entry.type.startswith("command")]
    return [(event.type, event.details["command"]) for event in events]


@pytest.mark.parametrize("hours", [1.0, 23.9])
async def test_second_refuted_command_within_a_day_is_an_issue(bench: Bench, hours: float) -> None:
    """The first one is only an event."""
    await ignore(bench, 10)
    assert (told(bench), bench.issues()) == ([("command_failed", "current")], set())
    await bench.clock.advance(hours * HOUR - 2 * EFFECT_SHOWS_AFTER)
    await bench.tell()
    await ignore(bench, 12)
    assert (len(told(bench)), bench.issues()) == (2, IGNORED)


async def test_refuted_command_after_a_day_is_no_issue(bench: Bench) -> None:
    """Each of them stands alone."""
    await ignore(bench, 10)
    await bench.clock.advance(24 * HOUR)
    await bench.tell()
    await ignore(bench, 12)
    assert (len(told(bench)), bench.issues()) == (2, set())


async def test_refuted_commands_survive_a_restart(bench: Bench) -> None:
    """The first one counts after a restart, and the issue stands after another one."""
    await ignore(bench, 10)
    await bench.restart_home_assistant()
    bench.cloud.acked_only = True
    await ignore(bench, 12)
    assert bench.issues() == IGNORED
    await bench.restart_home_assistant()
    assert bench.issues() == IGNORED


async def test_clock_set_forward_forgets_no_refuted_command(bench: Bench) -> None:
    """The day is counted by the clock that nobody sets."""
    await ignore(bench, 10)
    bench.clock.jump(timedelta(days=3).total_seconds())
    await ignore(bench, 12)
    assert bench.issues() == IGNORED


async def test_confirmed_command_ends_the_issue(bench: Bench) -> None:
    """A command of any kind that shows an effect proves that the charger follows commands."""
    await ignore(bench, 10)
    await ignore(bench, 12)
    bench.cloud.acked_only = False
    await bench.charger.command(SetLock(locked=True))
    await bench.poll()
    assert bench.issues() == set()
    assert bench.intents is not None
    assert "refuted" not in bench.intents


async def test_unverified_command_is_told_and_no_issue(bench: Bench) -> None:
    """Nobody has seen the charger since: that is no fault of the charger."""
    for amps in (10, 12):
        await bench.charger.command(SetCurrent(amps))
        await bench.cloud.lose()
        await bench.clock.advance(UNVERIFIED_AFTER)
        await bench.tell()
    assert (told(bench), bench.issues()) == ([("command_unverified", "current")] * 2, set())


@pytest.mark.parametrize(
    ("setting", "commanded"),
    [
        (SetCurrent(10), Commanded(current=10)),
        (SetCharging(on=False), Commanded(charging=False)),
        (SetLock(locked=True), Commanded(locked=True)),
        (SetEcoMode(EcoMode.ECO), Commanded(eco_mode=EcoMode.ECO)),
    ],
)
async def test_commanded_value_stands_beside_the_reported_one(
    bench: Bench, setting: Setting, commanded: Commanded
) -> None:
    """Until the charger confirms or refutes it, and not in place of a reading."""
    readings = bench.snapshot.readings
    await bench.charger.command(setting)
    assert bench.snapshot.commanded == commanded
    assert bench.snapshot.readings == readings
    await bench.poll(2)
    assert bench.snapshot.commanded == commanded
    bench.cloud.acked_only = False
    bench.device.obey(setting)
    await bench.poll()
    assert bench.snapshot.commanded == Commanded()


async def test_transport_that_proves_nothing_verifies_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimistic entity shows what it was told."""
    bench.cloud.acked_only = False
    monkeypatch.setattr(bench.cloud, "proves", lambda _: False)
    await bench.charger.command(SetCurrent(10))
    await bench.poll(12)
    assert bench.snapshot.value(CHARGING_CURRENT) == 10
    assert told(bench) == [("command_unverified", "current")]


async def test_status_that_says_nothing_of_a_pause_refutes_none(bench: Bench) -> None:
    """A charger whose car has left is neither paused nor charging."""
    await bench.charger.command(SetCharging(on=False))
    bench.device.unplug()
    await bench.poll(5)
    assert (bench.status(), told(bench)) == (Status.AVAILABLE, [])


async def test_value_reported_before_a_command_is_not_in_force(bench: Bench) -> None:
    """The charger may have taken another command since, which nobody has seen yet."""
    await bench.charger.command(SetCurrent(10))
    await bench.cloud.lose()
    await bench.clock.advance(UNVERIFIED_AFTER)
    bench.cloud.breaker.good()
    bench.cloud.tell(synced_ago=1000)
    await bench.clock.settle()
    bench.log.clear()
    assert bench.snapshot.value(CHARGING_CURRENT) == 16
    await bench.charger.command(SetCurrent(16))
    assert bench.sent == [SetCurrent(16)]
