"""A restart is verified on the transport that carried it, or by a report that proves a boot."""

import pytest

from custom_components.chargekeeper.core.charger import ChargerEvent
from custom_components.chargekeeper.core.charger.restart import AWAY_WITHIN, BACK_WITHIN, RestartWatch
from custom_components.chargekeeper.core.model import Outcome, Prefer, Source, Status
from custom_components.chargekeeper.core.transport import Restart
from tests.core.fake_transport import Bench, FakeTransport

PRESS = 5000.0


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    bench.device.windows = ()
    bench.device.car = False
    await bench.start()
    return bench


def told(bench: Bench) -> list[str]:
    """Return the events of the restart."""
    return [entry.type for entry in bench.log if isinstance(entry, ChargerEvent) and entry.kind == "restart"]


async def reload(bench: Bench, transport: FakeTransport) -> None:
    """Reload the other integration: its entities are unavailable for two seconds."""
    await bench.tell(Status.OFFLINE, transport=transport)
    await bench.clock.advance(2)
    await bench.tell(transport=transport)


async def test_restart_not_verified_when_another_integration_is_reloaded(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    bench.cloud.acked_only = True
    await bench.charger.restart()
    await bench.clock.advance(60)
    await reload(bench, local)
    await bench.clock.advance(5)
    await bench.tell()
    assert told(bench) == ["accepted"]
    assert local.checks == 0, "a read of that transport could not end the watch"
    await bench.clock.advance(AWAY_WITHIN)
    await bench.tell()
    assert told(bench) == ["accepted", "unverified"]


async def test_restart_verified_only_where_it_was_sent_after_a_start_of_home_assistant(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.restart_home_assistant(tell=False)
    local = await bench.add(Source.LINKED)
    await reload(bench, local)
    assert told(bench) == ["accepted"]
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    assert told(bench) == ["accepted", "verified"]


async def test_restart_over_a_local_transport_verified_there(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    await bench.tell(Status.OFFLINE)
    await bench.charger.restart()
    assert local.commands == [Restart()]
    await bench.tell(Status.OFFLINE)
    await bench.tell()
    assert told(bench) == ["accepted"]
    await bench.clock.advance(10)
    await reload(bench, local)
    assert told(bench) == ["accepted", "verified"]


async def test_restart_verified_by_a_proven_boot_on_another_transport(bench: Bench) -> None:
    local = await bench.add(Source.UDP)
    bench.charger.options = bench.options = type(bench.options)(prefer=Prefer.CLOUD_ONLY)
    local.proven_boot_at = bench.clock.monotonic() - 1
    await bench.charger.restart()
    await bench.clock.advance(30)
    await bench.tell(transport=local)
    assert told(bench) == ["accepted"], "that boot was before the restart"
    local.proven_boot_at = bench.clock.monotonic()
    await bench.tell(transport=local)
    assert told(bench) == ["accepted", "verified"]


async def test_record_without_source_judged_on_every_transport(bench: Bench) -> None:
    """It was written before the transport was stored."""
    bench.intents = {"restart": {"pressed_at": bench.clock.now().isoformat(), "away_at": None, "outcome": None}}
    await bench.restart_home_assistant()
    local = await bench.add(Source.LINKED)
    await reload(bench, local)
    assert told(bench) == ["verified"]


@pytest.mark.parametrize(
    ("booted_after", "outcome"),
    [(-1, None), (0, Outcome.VERIFIED), (AWAY_WITHIN, Outcome.VERIFIED), (AWAY_WITHIN + 1, None)],
)
def test_boot_proves_the_restart_within_three_minutes(booted_after: float, outcome: Outcome | None) -> None:
    watch = RestartWatch(PRESS)
    watch.observe_boot(PRESS + 200, PRESS + booted_after)
    assert watch.outcome(PRESS + BACK_WITHIN - 1) is outcome


def test_boot_reported_too_late_changes_no_outcome() -> None:
    watch = RestartWatch(PRESS)
    watch.observe_boot(PRESS + BACK_WITHIN + 1, PRESS + 10)
    assert watch.outcome(PRESS + BACK_WITHIN) is Outcome.FAILED
    watch.observe_boot(PRESS + 200, PRESS + 10)
    assert watch.outcome(PRESS + BACK_WITHIN) is Outcome.FAILED


@pytest.mark.parametrize(
    ("at", "evidence", "outcome"),
    [
        (200, 190, Outcome.UNVERIFIED),  # it is there, and was never seen away
        (200, 100, None),
        (200, None, None),
        (100, 190, None),  # a clock that is ahead proves nothing
        (BACK_WITHIN + 1, 190, None),
    ],
)
def test_report_elsewhere_tells_only_that_the_charger_is_there(
    at: float, evidence: float | None, outcome: Outcome | None
) -> None:
    watch = RestartWatch(PRESS)
    watch.observe_elsewhere(PRESS + at, None if evidence is None else PRESS + evidence)
    assert watch.outcome(PRESS + BACK_WITHIN - 1) is outcome


def test_report_elsewhere_is_no_return_of_a_charger_seen_away() -> None:
    watch = RestartWatch(PRESS)
    watch.observe(PRESS + 60, away=True, updating=False, evidence_at=None)
    watch.observe_elsewhere(PRESS + 200, PRESS + 190)
    assert watch.outcome(PRESS + BACK_WITHIN - 1) is None
    watch.observe(PRESS + 210, away=False, updating=False, evidence_at=None)
    assert watch.wants_status, "the transport that carried the restart shows no report of the charger yet"
