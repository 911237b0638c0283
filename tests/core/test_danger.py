"""Reasons that make a restart harmful, kept per transport: a running update, and a charging car."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.charger.danger import SAVE_EVERY, UPDATE_WITHIN
from custom_components.chargekeeper.core.charger.intents import IntentStore, UpdateRecord
from custom_components.chargekeeper.core.errors import ChargerError, Dangerous, NotSaved, TransportBusy
from custom_components.chargekeeper.core.model import (
    FIRMWARE,
    STATUS,
    ChargerIssue,
    Prefer,
    RestartAvailability,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import StatusReport
from tests.core.fake_transport import LIVE_SECONDS, Bench, FakeTransport
from tests.simulators.clock import START


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    bench.device.windows = ()
    bench.device.car = False
    await bench.start()
    yield bench
    assert not bench.device.bricked


async def refusal(bench: Bench) -> ChargerError:
    """Return the error that refuses a restart; check that nothing is sent."""
    restarts = bench.device.restarts
    with pytest.raises(ChargerError) as caught:
        await bench.charger.restart()
    assert bench.device.restarts == restarts
    return caught.value


async def danger(bench: Bench) -> Dangerous:
    """Return the `Dangerous` error that refuses a restart."""
    error = await refusal(bench)
    assert isinstance(error, Dangerous)
    return error


def availability(bench: Bench) -> RestartAvailability:
    """Return the availability that the sensor shows."""
    return bench.snapshot.restart


def saved_ages(bench: Bench) -> list[object]:
    """Return the ages of the updates in the saved intent store."""
    assert bench.intents is not None
    updates = bench.intents["updates"]
    assert isinstance(updates, list)
    return [update["age"] for update in updates]


async def update_over_cloud(bench: Bench) -> FakeTransport:
    """Begin an update that the cloud shows; return the linked transport, which still shows a ready charger."""
    local = await bench.add(Source.LINKED)
    bench.device.updating = True
    await bench.tell()
    await bench.clock.advance(10)
    await show_ready(bench, local)
    return local


async def show_ready(bench: Bench, transport: FakeTransport) -> None:
    """Let a transport show a ready charger from now on, whatever the device does."""
    transport.tell = lambda *_, **__: FakeTransport.tell(transport, Status.AVAILABLE)  # type: ignore[method-assign]
    await bench.tell(transport=transport)


# An update


@pytest.mark.parametrize("prefer", [Prefer.LOCAL_FIRST, Prefer.AUTO, Prefer.LOCAL_ONLY])
async def test_restart_refused_while_another_transport_reports_updating(prefer: Prefer) -> None:
    bench = Bench(options=ChargerOptions(prefer=prefer))
    bench.device.windows, bench.device.car = (), False
    await bench.start()
    await update_over_cloud(bench)
    bench.cloud.breaker.throttled(120)  # 429: the cloud is busy, so the linked entities would carry a restart
    error = await danger(bench)
    assert (error.reason, error.source) == ("restart_updating", Source.CLOUD)
    assert error.until == START + timedelta(seconds=UPDATE_WITHIN)
    with pytest.raises(Dangerous, match="install_updating"):
        await bench.charger.install()
    assert bench.device.restarts == 0
    assert availability(bench) is RestartAvailability.UPDATING


async def test_restart_refused_while_updating_after_outage_and_start_of_home_assistant(bench: Bench) -> None:
    await update_over_cloud(bench)
    await bench.tell(Status.OFFLINE)
    await bench.restart_home_assistant(tell=False)
    await bench.tell(Status.OFFLINE)
    local = await bench.add(Source.LINKED)
    await show_ready(bench, local)
    error = await danger(bench)
    assert (error.reason, error.source) == ("restart_updating", Source.CLOUD)
    await bench.tell()  # the cloud sees the charger again, which is still updating
    assert (await danger(bench)).reason == "restart_updating"
    bench.device.updating = False
    await bench.tell()
    await bench.charger.restart()
    assert bench.device.restarts == 1
    await bench.clock.settle()
    assert saved_ages(bench) == []


@pytest.mark.parametrize("status", [None, Status.OFFLINE, Status.UPDATING])
async def test_update_not_ended_by_a_status_that_may_hide_it(bench: Bench, status: Status | None) -> None:
    local = await update_over_cloud(bench)
    await bench.tell(status)
    await show_ready(bench, local)
    bench.cloud.breaker.throttled(120)
    assert (await danger(bench)).reason == "restart_updating"


async def test_update_ended_by_a_new_firmware_version_over_any_transport(bench: Bench) -> None:
    local = await update_over_cloud(bench)
    await bench.tell(Status.OFFLINE)
    assert (await danger(bench)).reason == "restart_updating"
    bench.device.firmware, bench.device.updating = "2.0", False
    await show_ready(bench, local)
    await bench.charger.restart()
    assert local.commands != []


async def test_update_not_ended_by_a_version_that_was_only_stored() -> None:
    """The restored firmware version may be older than the update in the intent store."""
    stored = {"firmware": {"value": "1.0", "source": "cloud", "observed_at": START.isoformat()}}
    bench = Bench(stored=stored, intents={"updates": [{"source": "cloud", "age": 60.0, "firmware": "1.1"}]})
    await bench.start(tell=False)
    await bench.tell(Status.OFFLINE)
    bench.device.firmware, bench.device.car = "1.1", False
    local = await bench.add(Source.LINKED)
    await show_ready(bench, local)
    assert (await danger(bench)).reason == "restart_updating"


async def test_version_first_seen_during_update_counts_as_old_version() -> None:
    bench = Bench()
    bench.device.car = False
    await bench.start(tell=False)
    bench.cloud._last_report = StatusReport(Status.UPDATING)
    bench.cloud.show(STATUS, Status.UPDATING)
    bench.cloud.show(FIRMWARE, "1.0")
    bench.cloud._last_report = StatusReport(Status.OFFLINE)
    local = await bench.add(Source.LINKED)
    await show_ready(bench, local)
    assert (await danger(bench)).reason == "restart_updating"
    bench.device.firmware = "2.0"
    await show_ready(bench, local)
    await bench.charger.restart()
    assert local.commands != []


async def test_update_status_unknown_after_three_hours_until_the_user_confirms(bench: Bench) -> None:
    local = await update_over_cloud(bench)
    bench.cloud.breaker.throttled(UPDATE_WITHIN + 100)
    await bench.clock.advance(UPDATE_WITHIN - 20)
    await show_ready(bench, local)
    assert availability(bench) is RestartAvailability.UPDATING
    assert bench.issues() == frozenset()
    bench.charger.dismiss_update()  # an old dialog does not dismiss a running update
    assert availability(bench) is RestartAvailability.UPDATING
    await bench.clock.advance(15)
    await show_ready(bench, local)
    assert availability(bench) is RestartAvailability.STATUS_UNKNOWN
    assert bench.issues() == {ChargerIssue.UPDATE_DOUBTED}
    error = await danger(bench)
    assert (error.reason, error.source, error.until) == ("restart_update_doubted", Source.CLOUD, None)
    await bench.restart_home_assistant(tell=False)
    bench.cloud.breaker.throttled(3600)
    local = await bench.add(Source.LINKED)
    await show_ready(bench, local)
    assert bench.issues() == {ChargerIssue.UPDATE_DOUBTED}, "a start does not make it younger"
    assert (await danger(bench)).reason == "restart_update_doubted"
    bench.charger.dismiss_update()
    assert bench.issues() == frozenset()
    bench.device.updating = False  # as the user saw
    await show_ready(bench, local)
    await bench.charger.restart()
    assert local.commands != []


async def test_dismissed_update_repeated_without_a_new_report_stays_dismissed(bench: Bench) -> None:
    local = await update_over_cloud(bench)
    await bench.clock.advance(UPDATE_WITHIN)
    bench.charger.dismiss_update()
    bench.device.updating = False
    for _ in range(2):
        bench.cloud.tell(Status.UPDATING, synced_ago=UPDATE_WITHIN)  # the cloud repeats a report from hours ago
        await show_ready(bench, local)
        assert bench.issues() == frozenset()
        assert availability(bench) is not RestartAvailability.UPDATING
        await bench.restart_home_assistant(tell=False)
        local = await bench.add(Source.LINKED)
    await bench.clock.advance(1)
    await bench.tell(Status.UPDATING)  # a new report of the charger
    assert (await danger(bench)).reason == "restart_updating"


async def test_restart_refused_when_cloud_repeats_dismissed_update(bench: Bench) -> None:
    bench.device.updating = True
    await bench.tell()
    await bench.clock.advance(UPDATE_WITHIN)
    bench.charger.dismiss_update()
    bench.cloud.check_error = TransportBusy("no_room", 30)
    bench.cloud.tell(Status.UPDATING, synced_ago=UPDATE_WITHIN)
    await bench.clock.settle()
    assert availability(bench) is RestartAvailability.STATUS_UNKNOWN
    assert (await refusal(bench)).reason == "no_room"


async def test_update_that_goes_on_being_reported_does_not_age(bench: Bench) -> None:
    bench.device.updating = True
    await bench.poll(200)  # more than three hours
    assert availability(bench) is RestartAvailability.UPDATING
    assert bench.issues() == frozenset()
    assert saved_ages(bench) == [0.0]


async def test_update_not_shortened_when_the_wall_clock_jumps(bench: Bench) -> None:
    local = await update_over_cloud(bench)
    await bench.tell(Status.OFFLINE)
    bench.clock.jump(24 * 3600)
    await show_ready(bench, local)
    assert (await danger(bench)).reason == "restart_updating"
    await bench.restart_home_assistant(tell=False, down_for=24 * 3600)
    local = await bench.add(Source.LINKED)
    bench.clock.jump(24 * 3600)
    await show_ready(bench, local)
    assert (await danger(bench)).reason == "restart_updating"


async def test_age_of_update_saved_at_intervals_and_reset_by_new_report(bench: Bench) -> None:
    bench.device.updating = True
    await bench.tell()
    await bench.tell(Status.OFFLINE)
    assert saved_ages(bench) == [0.0]
    await bench.clock.advance(SAVE_EVERY - 1)
    assert saved_ages(bench) == [0.0]
    await bench.clock.advance(2)
    assert saved_ages(bench) == [pytest.approx(SAVE_EVERY, abs=2)]
    await bench.tell(Status.UPDATING)
    assert saved_ages(bench) == [0.0]


async def test_update_that_could_not_be_saved_counts_and_is_saved_later(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    await update_over_cloud(bench)
    assert (await danger(bench)).reason == "restart_updating"
    assert bench.intents is None
    bench.save_error = None
    await bench.tell(Status.OFFLINE)
    assert saved_ages(bench) == [10.0]


async def test_refusal_names_source_of_latest_update(bench: Bench) -> None:
    local = await update_over_cloud(bench)
    await bench.clock.advance(20)
    del local.tell
    await bench.tell(transport=local)
    assert (await danger(bench)).source is Source.LINKED
    await show_ready(bench, local)
    assert (await danger(bench)).source is Source.CLOUD


def test_damaged_stored_update_left_out_or_counted_in_full() -> None:
    intents = IntentStore(lambda _: _never())
    intents.restore(
        {
            "updates": [
                {"source": "cloud", "age": "old", "firmware": 7},
                {"source": "linked", "age": -5, "firmware": "1.0", "dismissed": True},
                {"source": "pigeon", "age": 1.0},
                "cloud",
            ]
        }
    )
    assert intents.entries.updates == (
        UpdateRecord(Source.CLOUD, 0.0, None),
        UpdateRecord(Source.LINKED, 0.0, "1.0", dismissed=True),
    )
    damaged = IntentStore(lambda _: _never())
    damaged.restore({"updates": {"cloud": 1}})
    assert damaged.entries.updates == ()


async def _never() -> None:
    raise AssertionError


# A charging car


async def test_restart_refused_while_another_transport_reports_charging() -> None:
    bench = Bench(options=ChargerOptions(prefer=Prefer.LOCAL_FIRST))
    bench.device.windows = ()
    await bench.start()
    local = await bench.add(Source.LINKED)
    assert bench.status() is Status.CHARGING
    await bench.clock.advance(10)
    await bench.tell(Status.WAITING_CAR, transport=local)
    assert bench.status() is Status.WAITING_CAR
    error = await danger(bench)
    assert (error.reason, error.source) == ("restart_charging", Source.CLOUD)
    await bench.tell(Status.OFFLINE)
    assert (await danger(bench)).reason == "restart_charging", "offline is not at rest"
    await bench.tell(Status.WAITING_CAR)
    await bench.charger.restart()
    assert local.commands != []


async def test_charging_of_another_transport_counts_until_it_expires() -> None:
    bench = Bench(options=ChargerOptions(prefer=Prefer.LOCAL_FIRST))
    bench.device.windows = ()
    await bench.start()
    local = await bench.add(Source.LINKED)
    await bench.tell(Status.WAITING_CAR, transport=local)
    await bench.clock.advance(LIVE_SECONDS - 1)
    await bench.tell(Status.WAITING_CAR, transport=local)
    assert availability(bench) is RestartAvailability.CHARGING
    await bench.clock.advance(2)
    assert availability(bench) is RestartAvailability.AVAILABLE
