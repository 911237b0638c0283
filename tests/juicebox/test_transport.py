"""Tests of a box's transports: readings, commands carried by answers, and the maker's server as the cloud."""

from dataclasses import replace
from datetime import time, timedelta

import pytest

from custom_components.chargekeeper.core.charger import Charger, ChargerOptions, Until
from custom_components.chargekeeper.core.errors import (
    NoConnection,
    TransportBusy,
    TransportDown,
    UnsafeRequest,
    Unsupported,
)
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENT,
    FIRMWARE,
    GRID_FREQUENCY,
    LIFETIME_ENERGY,
    LOAD_GROUP_LIMIT,
    OFFLINE_CURRENT,
    POWER,
    POWER_FACTOR,
    PROBLEM,
    SCHEDULE,
    SESSION_ENERGY,
    STATUS,
    TEMPERATURE,
    TIME_ZONE,
    UNIT_RATING,
    VOLTAGE,
    WIRE_RATING,
    Capability,
    Outcome,
    Override,
    Readings,
    Snapshot,
    Source,
    Status,
    Window,
)
from custom_components.chargekeeper.core.transport import (
    Presence,
    Restart,
    SetCharging,
    SetCurrent,
    SetOverride,
    StatusReport,
    Transport,
)
from custom_components.chargekeeper.juicebox.box import BlockReason, BoxConfig, Mode
from custom_components.chargekeeper.juicebox.datagram import checksum
from custom_components.chargekeeper.juicebox.mapping import identity
from custom_components.chargekeeper.juicebox.transport import JuiceBoxTransport, ServerTransport
from tests.simulators.juicebox import Car, Shows
from tests.simulators.juicebox_server import BoxIssue as ServerTrouble, Day, Schedule
from tests.simulators.juicebox_wire import Wire

from .conftest import MakeSite
from .rig import HERE
from .site import Site
from .vectors import D1, SERIAL

NIGHT = Window(1, enabled=True, days=frozenset(range(7)), start=time(22), end=time(6))
ALONE = BoxConfig(serial=SERIAL, host=HERE, wire_rating=32, in_maker_load_group=False)


class ChargerRig:
    """A box with its transports and its charger."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = site.clock
        self.events: list[str] = []
        self.udp = JuiceBoxTransport(site.box, site.clock)
        self.cloud = ServerTransport(site.box, site.clock)
        self.charger = Charger(self.udp.identity, site.clock, ChargerOptions(), self._save)
        self.charger.listen_events(lambda event: self.events.append(event.type))
        self.charger.add_transport(self.udp)
        if site.served:
            self.charger.add_transport(self.cloud)
        self.charger.start()

    async def _save(self, intents: dict[str, object]) -> None:
        """Discard the intents."""

    @property
    def snapshot(self) -> Snapshot:
        return self.charger.snapshot

    def status(self) -> Status | None:
        return self.snapshot.value(STATUS)

    def reach(self) -> tuple[bool | None, bool | None, Source | None]:
        return self.snapshot.cloud, self.snapshot.local, self.snapshot.connection_path

    def override(self) -> Override:
        return self.snapshot.override

    async def until(self, status: Status, *, within: float = 100) -> float:
        return await self.clock.advance_until(lambda: self.status() is status, within=within)

    async def stop(self) -> None:
        await self.charger.stop()
        self.udp.close()
        self.cloud.close()


async def start_rig(site: Site, *, plugged: bool = True) -> ChargerRig:
    """Start the site with a charger, and wait for the first readings."""
    await site.start(plugged=plugged)
    rig = ChargerRig(site)
    await site.clock.advance(31)
    return rig


async def at_noon(make_site: MakeSite, config: BoxConfig = ALONE, state_key: Shows = Shows.M_IN_FORCE) -> ChargerRig:
    """Return a started site at noon whose server allows charging at night only."""
    site = make_site(config=config, state_key=state_key)
    night = Day(start=22 * 60, end=6 * 60)
    site.unit.schedule = Schedule(custom=True, weekday=night, weekend=night)
    return await start_rig(site)


async def test_removed_and_restored_load_group_limit_is_shown(make_site: MakeSite) -> None:
    rig = await start_rig(make_site(config=replace(ALONE, load_group_limit=20)))
    for limit in (None, 8):
        rig.site.box.configure(replace(ALONE, load_group_limit=limit))
    rig.charger.add_transport(rig.udp)  # as at a reload, with all readings of the transport
    assert rig.snapshot.value(LOAD_GROUP_LIMIT) == 8
    await rig.stop()


async def test_offline_current_shows_raise_at_once_and_reduction_after_receipt(
    make_site: MakeSite,
) -> None:
    rig = await start_rig(make_site(served=False, config=ALONE))
    await rig.clock.advance(400)
    assert (rig.site.mode, rig.snapshot.value(OFFLINE_CURRENT)) == (Mode.KEEP, 16)
    rig.site.sim.wifi = False
    rig.site.box.change_offline(20)
    assert rig.snapshot.value(OFFLINE_CURRENT) == 20
    rig.clock.jump(86_401)
    rig.site.box.change_offline(10)
    assert rig.snapshot.value(OFFLINE_CURRENT) == 20
    rig.site.sim.wifi = True
    await rig.clock.advance(11)
    assert (rig.snapshot.value(OFFLINE_CURRENT), rig.site.sim.stored) == (20, 10)
    await rig.clock.advance(60)
    assert rig.snapshot.value(OFFLINE_CURRENT) == 10
    await rig.stop()


async def test_status_fills_all_readings(make_site: MakeSite) -> None:
    site = make_site(config=replace(ALONE, name="House", load_group_limit=20, schedule=(NIGHT,), zone="Europe/Berlin"))
    site.unit.limit = 20
    rig = await start_rig(site)
    await site.clock.advance(300)
    shown = rig.snapshot.value
    assert {
        prop.key: shown(prop)
        for prop in (STATUS, CAR_CONNECTED, PROBLEM, VOLTAGE, CURRENT, TEMPERATURE, UNIT_RATING, WIRE_RATING)
    } == {
        "status": Status.CHARGING,
        "car_connected": True,
        "problem": False,
        "voltage": 240.0,
        "current": 16.0,
        "temperature": 24.0,
        "unit_rating": 40.0,
        "wire_rating": 32.0,
    }
    assert (shown(OFFLINE_CURRENT), shown(CHARGING_CURRENT), shown(LOAD_GROUP_LIMIT)) == (16.0, 20.0, 20.0)
    assert (shown(SCHEDULE), shown(TIME_ZONE)) == ((NIGHT,), "Europe/Berlin")
    assert shown(POWER) == pytest.approx(site.sim.watts, abs=1)
    assert (shown(POWER_FACTOR), shown(GRID_FREQUENCY)) == (0.996, 59.99)
    assert shown(LIFETIME_ENERGY) == pytest.approx(site.sim.lifetime_wh / 1000, abs=0.1)
    assert shown(SESSION_ENERGY) == pytest.approx(site.sim.session_wh / 1000, abs=0.1)
    assert rig.snapshot.identity.name == "House"
    assert rig.reach() == (True, True, Source.CLOUD)
    assert rig.udp.endpoint_contact_at == rig.snapshot.last_local_contact is not None
    assert (rig.udp.meters_lifetime, rig.udp.removed_from_account, rig.udp.breaker.closed) == (True, False, True)
    site.ours.add(ALONE)
    assert (shown(SCHEDULE), rig.snapshot.value(SCHEDULE), rig.snapshot.value(LOAD_GROUP_LIMIT)) == (
        (NIGHT,),
        None,
        None,
    )
    await rig.stop()


async def test_firmware_reveals_model(make_site: MakeSite) -> None:
    site = make_site(served=False)
    rig = await start_rig(site)
    assert identity(site.box).name == f"JuiceBox {SERIAL[-4:]}"
    assert identity(site.box).model is None
    site.sim._send(D1)
    await site.clock.advance(31)
    assert identity(site.box).model == "JuiceBox JB"
    assert rig.snapshot.value(FIRMWARE) == "EMWERK-JB_1_1-1.4.0.28"
    await rig.stop()


async def test_load_group_may_lower_setting_of_box_without_share(make_site: MakeSite) -> None:
    """Lower the setting, so that other members can use the current that the box leaves."""
    site = make_site(served=False, config=ALONE)
    rig = await start_rig(site)
    await site.clock.advance(400)
    assert (site.box.state.charging_current, rig.snapshot.value(CHARGING_CURRENT)) == (None, 16)
    site.box.share = 0
    rig.charger.group_share = 0
    assert await rig.charger.command(SetCurrent(6), automatic=True) is Outcome.ACCEPTED
    await rig.until(Status.WAITING_POWER, within=400)
    await site.clock.advance(90)
    assert (rig.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (6, 0)
    with pytest.raises(UnsafeRequest, match="above_ceiling"):
        await rig.charger.command(SetCurrent(7))
    site.box.share = rig.charger.group_share = 10
    await rig.until(Status.CHARGING, within=400)
    await site.clock.advance(90)
    assert (rig.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (10, 10)
    site.box.share = rig.charger.group_share = None
    await site.clock.advance(90)
    assert (rig.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (16, 16)
    assert site.box.state.charging_current is None, "the user has not set any"
    await rig.stop()


async def test_status_names_reason_for_waiting(make_site: MakeSite) -> None:
    site = make_site(served=False, config=ALONE)
    rig = await start_rig(site, plugged=False)
    assert (rig.status(), rig.snapshot.value(CAR_CONNECTED)) == (Status.AVAILABLE, False)
    await site.clock.advance(400)
    site.sim.plug_in(Car(ready=False))
    await site.clock.advance(31)
    assert rig.status() is Status.WAITING_CAR
    site.box.share = 5
    await rig.until(Status.WAITING_POWER)
    site.box.share = None
    site.sim.wake_car()
    await rig.until(Status.CHARGING, within=400)
    site.ours.add(replace(ALONE, schedule=(NIGHT,)))
    await rig.until(Status.WAITING_SCHEDULE, within=400)
    for code in (3, 4, 5):
        site.sim.set_fault(code)
        await site.clock.advance(31)
        assert (rig.status(), rig.snapshot.value(PROBLEM)) == (Status.ERROR, True)
    await rig.stop()


async def test_full_car_that_stays_awake_counts_as_waiting(make_site: MakeSite) -> None:
    site = make_site(served=False, config=ALONE)
    rig = await start_rig(site, plugged=False)
    site.sim.plug_in(Car(wants_kwh=0.3, awake_when_full=True))
    await rig.until(Status.CHARGING)
    await rig.until(Status.WAITING_CAR, within=900)
    assert site.sim.state == 2
    assert (rig.snapshot.value(POWER) or 0) < 100
    await rig.stop()


async def test_unknown_state_code_gives_no_status(site: Site) -> None:
    rig = ChargerRig(site)
    await site.clock.advance(31)
    sock = next(iter(site.ours.listener._sockets.values()))
    data = next(data for _, data in reversed(site.sim.sent) if b":v09u" in data)
    body = data.split(b"!")[0].replace(b"S02", b"S07")
    site.ours.listener._received(sock, body + b"!" + checksum(body) + b":", (HERE, 9))
    assert (rig.status(), rig.snapshot.value(CAR_CONNECTED), rig.snapshot.local) == (None, None, True)
    assert rig.udp.last_report is not None
    assert rig.udp.last_report.status is None
    await rig.until(Status.CHARGING)
    await rig.stop()


async def test_silent_box_is_offline_without_live_values(site: Site) -> None:
    rig = ChargerRig(site)
    await site.clock.advance(31)
    site.sim.wifi = False
    await site.clock.advance(121)
    assert (rig.status(), rig.snapshot.value(POWER), rig.snapshot.local) == (Status.OFFLINE, None, False)
    assert rig.snapshot.value(OFFLINE_CURRENT) == 16
    with pytest.raises(NoConnection, match="charger_offline"):
        await rig.udp.execute(SetCurrent(10), patience=5)
    with pytest.raises(TransportDown, match="charger_offline"):
        await rig.charger.command(SetCurrent(10))
    site.sim.wifi = True
    await rig.until(Status.CHARGING)
    await rig.stop()


async def test_box_silent_from_start_is_unknown_and_then_offline(make_site: MakeSite) -> None:
    site = make_site(served=False)
    site.begin_ours()
    rig = ChargerRig(site)
    assert (rig.udp.presence, rig.udp.last_report, rig.udp.charger_reported_at, rig.udp.endpoint_contact_at) == (
        Presence.UNKNOWN,
        None,
        None,
        None,
    )
    assert rig.snapshot.value(WIRE_RATING) == 32  # shown at once, before any status
    await site.clock.advance(121)
    assert (rig.udp.presence, rig.status()) == (Presence.OFFLINE, Status.OFFLINE)
    await rig.stop()


async def test_i2_server_outage_is_no_outage_of_box(site: Site) -> None:
    """Check I2: no config-class value becomes unknown."""
    rig = ChargerRig(site)
    await site.clock.advance(31)
    limits = (OFFLINE_CURRENT, CHARGING_CURRENT, UNIT_RATING, WIRE_RATING)
    before = [rig.snapshot.value(prop) for prop in limits]
    await site.maker.set_trouble(ServerTrouble.DEAD)
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=130)
    assert rig.reach() == (False, True, Source.UDP)
    await site.clock.advance(600)
    assert [rig.snapshot.value(prop) for prop in limits] == before
    assert rig.status() is Status.CHARGING
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(180)
    assert rig.reach() == (True, True, Source.CLOUD)
    assert rig.snapshot.last_cloud_contact == rig.cloud.endpoint_contact_at is not None
    await rig.stop()


@pytest.mark.parametrize("state_key", list(Shows))
async def test_override_in_outage_is_verified_by_later_statuses(make_site: MakeSite, state_key: Shows) -> None:
    rig = await at_noon(make_site, state_key=state_key)
    site = rig.site
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=130)
    assert rig.status() is Status.WAITING_SCHEDULE
    assert await rig.charger.set_override(on=True, until=Until.UNPLUGGED) is Outcome.ACCEPTED
    took = await rig.until(Status.CHARGING)
    await site.clock.advance(5)
    assert (took <= 90, rig.override()) == (True, Override(on=True, applied=True))
    await site.clock.advance(600)
    assert (rig.status(), rig.override().on) == (Status.CHARGING, True)
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(600)
    assert (rig.status(), rig.override().on, site.mode) == (Status.CHARGING, True, Mode.KEEP)
    assert await rig.charger.set_override(on=False) is Outcome.ACCEPTED
    await site.clock.advance(90)
    assert (rig.status(), rig.override(), site.mode) == (Status.WAITING_SCHEDULE, Override(), Mode.RELAY)
    assert "override_superseded" not in rig.events
    await rig.stop()


async def test_override_handed_back_in_server_load_group_is_superseded(make_site: MakeSite) -> None:
    rig = await at_noon(make_site, replace(ALONE, in_maker_load_group=True))
    site = rig.site
    with pytest.raises(UnsafeRequest, match="load_group"):
        await rig.charger.set_override(on=True)
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=130)
    await rig.charger.set_override(on=True)
    await rig.until(Status.CHARGING)
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(300)
    assert (rig.override(), rig.status()) == (Override(), Status.WAITING_SCHEDULE)
    assert "override_superseded" in rig.events
    await rig.stop()


async def test_override_ends_when_car_leaves(make_site: MakeSite) -> None:
    rig = await at_noon(make_site)
    site = rig.site
    await rig.charger.set_override(on=True)
    await rig.until(Status.CHARGING)
    site.sim.unplug()
    await site.clock.advance(31)
    assert (rig.override(), site.box.state.override, rig.status()) == (Override(), False, Status.AVAILABLE)
    site.sim.plug_in()
    await site.clock.advance(61)
    assert rig.status() is Status.WAITING_SCHEDULE
    await rig.stop()


async def test_override_ends_when_car_is_full(make_site: MakeSite) -> None:
    """Expect the end once the car has waited 10 min after it took energy."""
    rig = await at_noon(make_site)
    site = rig.site
    site.sim.plug_in(Car(wants_kwh=1))
    await rig.charger.set_override(on=True)
    await rig.until(Status.CHARGING)
    await rig.until(Status.WAITING_CAR, within=1800)
    await site.clock.advance(540)
    assert (rig.override().on, site.last.online) == (True, 16)
    await site.clock.advance(120)
    assert (rig.override(), site.box.state.override, rig.status()) == (Override(), False, Status.WAITING_SCHEDULE)
    assert (rig.events[-1], site.last.online, site.mode) == ("override_ended", 0, Mode.RELAY)
    await rig.stop()


async def test_override_ends_at_its_end_time(make_site: MakeSite) -> None:
    rig = await at_noon(make_site)
    site = rig.site
    await rig.charger.set_override(on=True, until=Until.TIME, until_at=site.clock.now() + timedelta(hours=1))
    await site.clock.advance(3590)
    assert (rig.override(), rig.status()) == (Override(on=True, applied=True), Status.CHARGING)
    await site.clock.advance(70)
    assert (rig.override(), rig.status(), site.sim.amperes) == (Override(), Status.WAITING_SCHEDULE, 0)
    await rig.stop()


async def test_box_in_learning_receives_no_commands(make_site: MakeSite) -> None:
    site = make_site(served=False, config=replace(ALONE, schedule=(NIGHT,)))
    rig = await start_rig(site)
    with pytest.raises(NoConnection, match="learning"):
        await rig.udp.execute(SetCharging(on=False), patience=5)
    with pytest.raises(NoConnection, match="learning"):
        await rig.charger.command(SetCharging(on=False))
    await rig.udp.execute(SetOverride(on=False), patience=5)
    await site.clock.advance(300)
    assert (rig.status(), site.commands()) == (Status.CHARGING, []), "its windows do not hold it back yet"
    await rig.stop()


@pytest.mark.parametrize("state_key", list(Shows))
async def test_pause_and_resume_show_in_status(make_site: MakeSite, state_key: Shows) -> None:
    site = make_site(state_key=state_key, config=ALONE)
    rig = await start_rig(site)
    assert await rig.charger.command(SetCharging(on=False)) is Outcome.ACCEPTED
    assert await rig.until(Status.PAUSED) <= 60
    assert await rig.charger.command(SetCharging(on=False)) is Outcome.VERIFIED
    assert await rig.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    assert rig.status() is Status.PAUSED
    seen: list[Status | None] = []
    rig.charger.listen(lambda snapshot: seen.append(snapshot.value(STATUS)))
    await rig.until(Status.CHARGING)
    assert Status.WAITING_SCHEDULE not in seen
    assert site.box.block_reason is BlockReason.PAUSE
    await rig.stop()


async def test_override_ends_pause(make_site: MakeSite) -> None:
    rig = await at_noon(make_site)
    await rig.charger.command(SetCharging(on=False))
    await rig.until(Status.PAUSED)
    assert await rig.charger.set_override(on=True, until=Until.UNPLUGGED) is Outcome.ACCEPTED
    await rig.until(Status.CHARGING)
    await rig.site.clock.advance(600)
    assert (rig.status(), rig.override()) == (Status.CHARGING, Override(on=True, applied=True))
    await rig.charger.set_override(on=False)
    assert await rig.until(Status.WAITING_SCHEDULE) <= 400, "the schedule rules again, not the pause"
    await rig.stop()


async def test_ignored_pause_is_not_reported_as_done(make_site: MakeSite) -> None:
    site = make_site(config=ALONE)
    rig = await start_rig(site)
    site.sim.obeys = False
    before = rig.udp.status_received_at
    await rig.charger.command(SetCharging(on=False))
    await site.clock.advance_until(lambda: len(site.sim.refusals) == 1, within=30)
    assert rig.udp.status_received_at == before  # the answered status cannot show the pause
    await site.clock.advance_until(lambda: len(site.sim.refusals) == 3, within=60)
    assert rig.udp.status_received_at == before  # nor must the second status after it, if an answer was lost
    await site.clock.advance_until(lambda: len(site.sim.refusals) == 4, within=30)
    assert rig.udp.status_received_at == rig.udp.charger_reported_at
    assert rig.status() is Status.CHARGING
    await rig.stop()


async def test_pause_after_lost_answers_is_reported_once_shown(make_site: MakeSite) -> None:
    site = make_site(config=ALONE)
    rig = await start_rig(site)
    before = rig.udp.status_received_at
    site.sim.obeys = False
    await rig.charger.command(SetCharging(on=False))
    await site.clock.advance_until(lambda: len(site.sim.refusals) == 2, within=60)
    site.sim.obeys = True
    await site.clock.advance_until(lambda: rig.udp.status_received_at != before, within=90)
    assert rig.status() is Status.PAUSED
    await rig.stop()


async def test_charging_current_shows_after_command_was_sent(make_site: MakeSite) -> None:
    site = make_site(config=ALONE)
    rig = await start_rig(site)
    await rig.charger.command(SetCurrent(10))
    assert rig.snapshot.value(CHARGING_CURRENT) == 32
    await site.clock.advance(30)
    assert (rig.snapshot.value(CHARGING_CURRENT), rig.snapshot.effective_limit) == (10, 10)
    assert await rig.charger.command(SetCurrent(10)) is Outcome.VERIFIED
    with pytest.raises(UnsafeRequest, match="above_ceiling"):
        await rig.charger.command(SetCurrent(33))
    await rig.udp.execute(SetCurrent(33), patience=5)
    await site.clock.advance(30)
    assert site.box.allowed == 32, "the ceiling bounds every answer"
    await rig.stop()


async def test_unsupported_command_is_refused(make_site: MakeSite) -> None:
    site = make_site(config=ALONE)
    rig = await start_rig(site)
    assert rig.udp.capabilities == {Capability.CURRENT, Capability.CHARGING, Capability.OVERRIDE}
    for transport in (rig.udp, rig.cloud):
        with pytest.raises(Unsupported):
            await transport.execute(Restart(), patience=5)
        with pytest.raises(Unsupported):
            await transport.read_schedule()
        with pytest.raises(Unsupported):
            await transport.write_schedule(())
        with pytest.raises(TransportBusy):
            await transport.check()
        transport.watch()()
    assert (rig.cloud.capabilities, rig.cloud.status_received_at) == (frozenset(), None)
    answered_at = site.box.server_health.answered_at
    assert answered_at is not None
    assert (rig.cloud.charger_reported_at, rig.cloud.endpoint_contact_at) == (
        answered_at.observed_mono,
        answered_at.observed_at,
    )
    old = make_site(served=False, wire=Wire.LEGACY, config=ALONE)
    legacy_rig = await start_rig(old)
    assert legacy_rig.udp.capabilities == frozenset()
    for each in (rig, legacy_rig):
        await each.stop()


async def test_detached_transport_stops_notifying_charger(site: Site) -> None:
    rig = ChargerRig(site)
    await site.clock.advance(31)
    snapshots: list[Snapshot] = []
    rig.charger.listen(snapshots.append)
    rig.udp.listen(rig.charger)()
    site.sim.unplug()
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance(130)
    assert (rig.udp.last_report, site.mode) == (StatusReport(Status.AVAILABLE, car_connected=False), Mode.KEEP)
    assert snapshots
    assert Status.AVAILABLE not in {shown.value(STATUS) for shown in snapshots}
    await rig.stop()
    snapshots.clear()
    await site.clock.advance(200)
    assert snapshots == []


async def test_current_ignored_by_box_is_not_shown_as_set_after_restart(make_site: MakeSite) -> None:
    site = make_site(served=False, config=ALONE)
    rig = await start_rig(site)
    await site.clock.advance(400)
    site.sim.obeys = False
    await rig.charger.command(SetCurrent(10))
    await site.clock.advance(400)
    assert (rig.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (16, 16)
    await rig.stop()
    await site.restart()
    rig = ChargerRig(site)
    await site.clock.advance(400)
    assert (rig.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (16, 16)
    assert await rig.charger.command(SetCurrent(10)) is not Outcome.VERIFIED
    await rig.stop()


class CallCounter:
    """A listener that counts the calls of a transport."""

    def __init__(self) -> None:
        self.calls = 0

    def readings_received(self, transport: Transport, readings: Readings) -> None:
        self.calls += 1

    def transport_changed(self, transport: Transport) -> None:
        self.calls += 1


@pytest.mark.parametrize("transport_type", [JuiceBoxTransport, ServerTransport])
async def test_closed_transport_ignores_its_box(
    site: Site, transport_type: type[JuiceBoxTransport | ServerTransport]
) -> None:
    others = len(site.box._listeners)
    transport, counter = transport_type(site.box, site.clock), CallCounter()
    transport.listen(counter)
    await site.clock.advance(31)
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance(130)
    assert counter.calls
    transport.close()
    calls, last_report = counter.calls, transport._last_report
    assert len(site.box._listeners) == others
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(200)
    site.sim.switch_off()
    await site.clock.advance(150)
    assert (site.box.server_health.answers, counter.calls, transport._last_report) == (True, calls, last_report)
