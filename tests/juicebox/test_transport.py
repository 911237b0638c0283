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


class Kept:
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


async def keep(site: Site, *, plugged: bool = True) -> Kept:
    """Start the site with a charger, and wait for the first readings."""
    await site.start(plugged=plugged)
    kept = Kept(site)
    await site.clock.advance(31)
    return kept


async def at_noon(make_site: MakeSite, config: BoxConfig = ALONE, state_key: Shows = Shows.M_IN_FORCE) -> Kept:
    """Return a started site at noon whose server allows charging at night only."""
    site = make_site(config=config, state_key=state_key)
    night = Day(start=22 * 60, end=6 * 60)
    site.unit.schedule = Schedule(custom=True, weekday=night, weekend=night)
    return await keep(site)


async def test_removed_and_restored_load_group_limit_is_shown(make_site: MakeSite) -> None:
    kept = await keep(make_site(config=replace(ALONE, load_group_limit=20)))
    for limit in (None, 8):
        kept.site.box.configure(replace(ALONE, load_group_limit=limit))
    kept.charger.add_transport(kept.udp)  # as at a reload, with all readings of the transport
    assert kept.snapshot.value(LOAD_GROUP_LIMIT) == 8
    await kept.stop()


async def test_offline_current_shows_raise_at_once_and_reduction_after_receipt(
    make_site: MakeSite,
) -> None:
    kept = await keep(make_site(served=False, config=ALONE))
    await kept.clock.advance(400)
    assert (kept.site.mode, kept.snapshot.value(OFFLINE_CURRENT)) == (Mode.KEEP, 16)
    kept.site.sim.wifi = False
    kept.site.box.change_offline(20)
    assert kept.snapshot.value(OFFLINE_CURRENT) == 20
    kept.clock.jump(86_401)
    kept.site.box.change_offline(10)
    assert kept.snapshot.value(OFFLINE_CURRENT) == 20
    kept.site.sim.wifi = True
    await kept.clock.advance(11)
    assert (kept.snapshot.value(OFFLINE_CURRENT), kept.site.sim.stored) == (20, 10)
    await kept.clock.advance(60)
    assert kept.snapshot.value(OFFLINE_CURRENT) == 10
    await kept.stop()


async def test_status_fills_all_readings(make_site: MakeSite) -> None:
    site = make_site(config=replace(ALONE, name="House", load_group_limit=20, schedule=(NIGHT,), zone="Europe/Berlin"))
    site.unit.limit = 20
    kept = await keep(site)
    await site.clock.advance(300)
    shown = kept.snapshot.value
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
    assert kept.snapshot.identity.name == "House"
    assert kept.reach() == (True, True, Source.CLOUD)
    assert kept.udp.endpoint_contact_at == kept.snapshot.last_local_contact is not None
    assert (kept.udp.meters_lifetime, kept.udp.removed_from_account, kept.udp.breaker.closed) == (True, False, True)
    site.ours.add(ALONE)
    assert (shown(SCHEDULE), kept.snapshot.value(SCHEDULE), kept.snapshot.value(LOAD_GROUP_LIMIT)) == (
        (NIGHT,),
        None,
        None,
    )
    await kept.stop()


async def test_firmware_reveals_model(make_site: MakeSite) -> None:
    site = make_site(served=False)
    kept = await keep(site)
    assert identity(site.box).name == f"JuiceBox {SERIAL[-4:]}"
    assert identity(site.box).model is None
    site.sim._send(D1)
    await site.clock.advance(31)
    assert identity(site.box).model == "JuiceBox JB"
    assert kept.snapshot.value(FIRMWARE) == "EMWERK-JB_1_1-1.4.0.28"
    await kept.stop()


async def test_load_group_may_lower_setting_of_box_without_share(make_site: MakeSite) -> None:
    """Lower the setting, so that other members can use the current that the box leaves."""
    site = make_site(served=False, config=ALONE)
    kept = await keep(site)
    await site.clock.advance(400)
    assert (site.box.state.charging_current, kept.snapshot.value(CHARGING_CURRENT)) == (None, 16)
    site.box.share = 0
    kept.charger.group_share = 0
    assert await kept.charger.command(SetCurrent(6), automatic=True) is Outcome.ACCEPTED
    await kept.until(Status.WAITING_POWER, within=400)
    await site.clock.advance(90)
    assert (kept.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (6, 0)
    with pytest.raises(UnsafeRequest, match="above_ceiling"):
        await kept.charger.command(SetCurrent(7))
    site.box.share = kept.charger.group_share = 10
    await kept.until(Status.CHARGING, within=400)
    await site.clock.advance(90)
    assert (kept.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (10, 10)
    site.box.share = kept.charger.group_share = None
    await site.clock.advance(90)
    assert (kept.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (16, 16)
    assert site.box.state.charging_current is None, "the user has not set any"
    await kept.stop()


async def test_status_names_reason_for_waiting(make_site: MakeSite) -> None:
    site = make_site(served=False, config=ALONE)
    kept = await keep(site, plugged=False)
    assert (kept.status(), kept.snapshot.value(CAR_CONNECTED)) == (Status.AVAILABLE, False)
    await site.clock.advance(400)
    site.sim.plug_in(Car(ready=False))
    await site.clock.advance(31)
    assert kept.status() is Status.WAITING_CAR
    site.box.share = 5
    await kept.until(Status.WAITING_POWER)
    site.box.share = None
    site.sim.wake_car()
    await kept.until(Status.CHARGING, within=400)
    site.ours.add(replace(ALONE, schedule=(NIGHT,)))
    await kept.until(Status.WAITING_SCHEDULE, within=400)
    for code in (3, 4, 5):
        site.sim.set_fault(code)
        await site.clock.advance(31)
        assert (kept.status(), kept.snapshot.value(PROBLEM)) == (Status.ERROR, True)
    await kept.stop()


async def test_full_car_that_stays_awake_counts_as_waiting(make_site: MakeSite) -> None:
    site = make_site(served=False, config=ALONE)
    kept = await keep(site, plugged=False)
    site.sim.plug_in(Car(wants_kwh=0.3, awake_when_full=True))
    await kept.until(Status.CHARGING)
    await kept.until(Status.WAITING_CAR, within=900)
    assert site.sim.state == 2
    assert (kept.snapshot.value(POWER) or 0) < 100
    await kept.stop()


async def test_unknown_state_code_gives_no_status(site: Site) -> None:
    kept = Kept(site)
    await site.clock.advance(31)
    sock = next(iter(site.ours.listener._sockets.values()))
    data = next(data for _, data in reversed(site.sim.sent) if b":v09u" in data)
    body = data.split(b"!")[0].replace(b"S02", b"S07")
    site.ours.listener._received(sock, body + b"!" + checksum(body) + b":", (HERE, 9))
    assert (kept.status(), kept.snapshot.value(CAR_CONNECTED), kept.snapshot.local) == (None, None, True)
    assert kept.udp.last_report is not None
    assert kept.udp.last_report.status is None
    await kept.until(Status.CHARGING)
    await kept.stop()


async def test_silent_box_is_offline_without_live_values(site: Site) -> None:
    kept = Kept(site)
    await site.clock.advance(31)
    site.sim.wifi = False
    await site.clock.advance(121)
    assert (kept.status(), kept.snapshot.value(POWER), kept.snapshot.local) == (Status.OFFLINE, None, False)
    assert kept.snapshot.value(OFFLINE_CURRENT) == 16
    with pytest.raises(NoConnection, match="charger_offline"):
        await kept.udp.execute(SetCurrent(10), patience=5)
    with pytest.raises(TransportDown, match="charger_offline"):
        await kept.charger.command(SetCurrent(10))
    site.sim.wifi = True
    await kept.until(Status.CHARGING)
    await kept.stop()


async def test_box_silent_from_start_is_unknown_and_then_offline(make_site: MakeSite) -> None:
    site = make_site(served=False)
    site.begin_ours()
    kept = Kept(site)
    assert (kept.udp.presence, kept.udp.last_report, kept.udp.charger_reported_at, kept.udp.endpoint_contact_at) == (
        Presence.UNKNOWN,
        None,
        None,
        None,
    )
    assert kept.snapshot.value(WIRE_RATING) == 32  # shown at once, before any status
    await site.clock.advance(121)
    assert (kept.udp.presence, kept.status()) == (Presence.OFFLINE, Status.OFFLINE)
    await kept.stop()


async def test_i2_server_outage_is_no_outage_of_box(site: Site) -> None:
    """Check I2: no config-class value becomes unknown."""
    kept = Kept(site)
    await site.clock.advance(31)
    limits = (OFFLINE_CURRENT, CHARGING_CURRENT, UNIT_RATING, WIRE_RATING)
    before = [kept.snapshot.value(prop) for prop in limits]
    await site.maker.set_trouble(ServerTrouble.DEAD)
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=130)
    assert kept.reach() == (False, True, Source.UDP)
    await site.clock.advance(600)
    assert [kept.snapshot.value(prop) for prop in limits] == before
    assert kept.status() is Status.CHARGING
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(180)
    assert kept.reach() == (True, True, Source.CLOUD)
    assert kept.snapshot.last_cloud_contact == kept.cloud.endpoint_contact_at is not None
    await kept.stop()


@pytest.mark.parametrize("state_key", list(Shows))
async def test_override_in_outage_is_verified_by_later_statuses(make_site: MakeSite, state_key: Shows) -> None:
    kept = await at_noon(make_site, state_key=state_key)
    site = kept.site
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=130)
    assert kept.status() is Status.WAITING_SCHEDULE
    assert await kept.charger.set_override(on=True, until=Until.UNPLUGGED) is Outcome.ACCEPTED
    took = await kept.until(Status.CHARGING)
    await site.clock.advance(5)
    assert (took <= 90, kept.override()) == (True, Override(on=True, applied=True))
    await site.clock.advance(600)
    assert (kept.status(), kept.override().on) == (Status.CHARGING, True)
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(600)
    assert (kept.status(), kept.override().on, site.mode) == (Status.CHARGING, True, Mode.KEEP)
    assert await kept.charger.set_override(on=False) is Outcome.ACCEPTED
    await site.clock.advance(90)
    assert (kept.status(), kept.override(), site.mode) == (Status.WAITING_SCHEDULE, Override(), Mode.RELAY)
    assert "override_superseded" not in kept.events
    await kept.stop()


async def test_override_handed_back_in_server_load_group_is_superseded(make_site: MakeSite) -> None:
    kept = await at_noon(make_site, replace(ALONE, in_maker_load_group=True))
    site = kept.site
    with pytest.raises(UnsafeRequest, match="load_group"):
        await kept.charger.set_override(on=True)
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=130)
    await kept.charger.set_override(on=True)
    await kept.until(Status.CHARGING)
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(300)
    assert (kept.override(), kept.status()) == (Override(), Status.WAITING_SCHEDULE)
    assert "override_superseded" in kept.events
    await kept.stop()


async def test_override_ends_when_car_leaves(make_site: MakeSite) -> None:
    kept = await at_noon(make_site)
    site = kept.site
    await kept.charger.set_override(on=True)
    await kept.until(Status.CHARGING)
    site.sim.unplug()
    await site.clock.advance(31)
    assert (kept.override(), site.box.state.override, kept.status()) == (Override(), False, Status.AVAILABLE)
    site.sim.plug_in()
    await site.clock.advance(61)
    assert kept.status() is Status.WAITING_SCHEDULE
    await kept.stop()


async def test_override_ends_when_car_is_full(make_site: MakeSite) -> None:
    """Expect the end once the car has waited 10 min after it took energy."""
    kept = await at_noon(make_site)
    site = kept.site
    site.sim.plug_in(Car(wants_kwh=1))
    await kept.charger.set_override(on=True)
    await kept.until(Status.CHARGING)
    await kept.until(Status.WAITING_CAR, within=1800)
    await site.clock.advance(540)
    assert (kept.override().on, site.last.online) == (True, 16)
    await site.clock.advance(120)
    assert (kept.override(), site.box.state.override, kept.status()) == (Override(), False, Status.WAITING_SCHEDULE)
    assert (kept.events[-1], site.last.online, site.mode) == ("override_ended", 0, Mode.RELAY)
    await kept.stop()


async def test_override_ends_at_its_end_time(make_site: MakeSite) -> None:
    kept = await at_noon(make_site)
    site = kept.site
    await kept.charger.set_override(on=True, until=Until.TIME, until_at=site.clock.now() + timedelta(hours=1))
    await site.clock.advance(3590)
    assert (kept.override(), kept.status()) == (Override(on=True, applied=True), Status.CHARGING)
    await site.clock.advance(70)
    assert (kept.override(), kept.status(), site.sim.amperes) == (Override(), Status.WAITING_SCHEDULE, 0)
    await kept.stop()


async def test_box_in_learning_receives_no_commands(make_site: MakeSite) -> None:
    site = make_site(served=False, config=replace(ALONE, schedule=(NIGHT,)))
    kept = await keep(site)
    with pytest.raises(NoConnection, match="learning"):
        await kept.udp.execute(SetCharging(on=False), patience=5)
    with pytest.raises(NoConnection, match="learning"):
        await kept.charger.command(SetCharging(on=False))
    await kept.udp.execute(SetOverride(on=False), patience=5)
    await site.clock.advance(300)
    assert (kept.status(), site.commands()) == (Status.CHARGING, []), "its windows do not hold it back yet"
    await kept.stop()


@pytest.mark.parametrize("state_key", list(Shows))
async def test_pause_and_resume_show_in_status(make_site: MakeSite, state_key: Shows) -> None:
    site = make_site(state_key=state_key, config=ALONE)
    kept = await keep(site)
    assert await kept.charger.command(SetCharging(on=False)) is Outcome.ACCEPTED
    assert await kept.until(Status.PAUSED) <= 60
    assert await kept.charger.command(SetCharging(on=False)) is Outcome.VERIFIED
    assert await kept.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    assert kept.status() is Status.PAUSED
    seen: list[Status | None] = []
    kept.charger.listen(lambda snapshot: seen.append(snapshot.value(STATUS)))
    await kept.until(Status.CHARGING)
    assert Status.WAITING_SCHEDULE not in seen
    assert site.box.block_reason is BlockReason.PAUSE
    await kept.stop()


async def test_override_ends_pause(make_site: MakeSite) -> None:
    kept = await at_noon(make_site)
    await kept.charger.command(SetCharging(on=False))
    await kept.until(Status.PAUSED)
    assert await kept.charger.set_override(on=True, until=Until.UNPLUGGED) is Outcome.ACCEPTED
    await kept.until(Status.CHARGING)
    await kept.site.clock.advance(600)
    assert (kept.status(), kept.override()) == (Status.CHARGING, Override(on=True, applied=True))
    await kept.charger.set_override(on=False)
    assert await kept.until(Status.WAITING_SCHEDULE) <= 400, "the schedule rules again, not the pause"
    await kept.stop()


async def test_ignored_pause_is_not_reported_as_done(make_site: MakeSite) -> None:
    site = make_site(config=ALONE)
    kept = await keep(site)
    site.sim.obeys = False
    before = kept.udp.status_received_at
    await kept.charger.command(SetCharging(on=False))
    await site.clock.advance_until(lambda: len(site.sim.refusals) == 1, within=30)
    assert kept.udp.status_received_at == before  # the answered status cannot show the pause
    await site.clock.advance_until(lambda: len(site.sim.refusals) == 3, within=60)
    assert kept.udp.status_received_at == before  # nor must the second status after it, if an answer was lost
    await site.clock.advance_until(lambda: len(site.sim.refusals) == 4, within=30)
    assert kept.udp.status_received_at == kept.udp.charger_reported_at
    assert kept.status() is Status.CHARGING
    await kept.stop()


async def test_pause_after_lost_answers_is_reported_once_shown(make_site: MakeSite) -> None:
    site = make_site(config=ALONE)
    kept = await keep(site)
    before = kept.udp.status_received_at
    site.sim.obeys = False
    await kept.charger.command(SetCharging(on=False))
    await site.clock.advance_until(lambda: len(site.sim.refusals) == 2, within=60)
    site.sim.obeys = True
    await site.clock.advance_until(lambda: kept.udp.status_received_at != before, within=90)
    assert kept.status() is Status.PAUSED
    await kept.stop()


async def test_charging_current_shows_after_command_was_sent(make_site: MakeSite) -> None:
    site = make_site(config=ALONE)
    kept = await keep(site)
    await kept.charger.command(SetCurrent(10))
    assert kept.snapshot.value(CHARGING_CURRENT) == 32
    await site.clock.advance(30)
    assert (kept.snapshot.value(CHARGING_CURRENT), kept.snapshot.effective_limit) == (10, 10)
    assert await kept.charger.command(SetCurrent(10)) is Outcome.VERIFIED
    with pytest.raises(UnsafeRequest, match="above_ceiling"):
        await kept.udp.execute(SetCurrent(33), patience=5)
    await kept.stop()


async def test_unsupported_command_is_refused(make_site: MakeSite) -> None:
    site = make_site(config=ALONE)
    kept = await keep(site)
    assert kept.udp.capabilities == {Capability.CURRENT, Capability.CHARGING, Capability.OVERRIDE}
    for transport in (kept.udp, kept.cloud):
        with pytest.raises(Unsupported):
            await transport.execute(Restart(), patience=5)
        with pytest.raises(Unsupported):
            await transport.read_schedule()
        with pytest.raises(Unsupported):
            await transport.write_schedule(())
        with pytest.raises(TransportBusy):
            await transport.check()
        transport.watch()()
    assert (kept.cloud.capabilities, kept.cloud.status_received_at) == (frozenset(), None)
    heard = site.box.server_health.answered_at
    assert heard is not None
    assert (kept.cloud.charger_reported_at, kept.cloud.endpoint_contact_at) == (heard.observed_mono, heard.observed_at)
    old = make_site(served=False, wire=Wire.LEGACY, config=ALONE)
    kept_old = await keep(old)
    assert kept_old.udp.capabilities == frozenset()
    for each in (kept, kept_old):
        await each.stop()


async def test_detached_transport_stops_notifying_charger(site: Site) -> None:
    kept = Kept(site)
    await site.clock.advance(31)
    told: list[Snapshot] = []
    kept.charger.listen(told.append)
    kept.udp.listen(kept.charger)()
    site.sim.unplug()
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance(130)
    assert (kept.udp.last_report, site.mode) == (StatusReport(Status.AVAILABLE, car_connected=False), Mode.KEEP)
    assert told
    assert Status.AVAILABLE not in {shown.value(STATUS) for shown in told}
    await kept.stop()
    told.clear()
    await site.clock.advance(200)
    assert told == []


async def test_current_ignored_by_box_is_not_shown_as_set_after_restart(make_site: MakeSite) -> None:
    site = make_site(served=False, config=ALONE)
    kept = await keep(site)
    await site.clock.advance(400)
    site.sim.obeys = False
    await kept.charger.command(SetCurrent(10))
    await site.clock.advance(400)
    assert (kept.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (16, 16)
    await kept.stop()
    await site.restart()
    kept = Kept(site)
    await site.clock.advance(400)
    assert (kept.snapshot.value(CHARGING_CURRENT), site.sim.amperes) == (16, 16)
    assert await kept.charger.command(SetCurrent(10)) is not Outcome.VERIFIED
    await kept.stop()


class Ear:
    """A listener that counts the calls of a transport."""

    def __init__(self) -> None:
        self.told = 0

    def readings_received(self, transport: Transport, readings: Readings) -> None:
        self.told += 1

    def transport_changed(self, transport: Transport) -> None:
        self.told += 1


@pytest.mark.parametrize("side", [JuiceBoxTransport, ServerTransport])
async def test_closed_transport_ignores_its_box(site: Site, side: type[JuiceBoxTransport | ServerTransport]) -> None:
    others = len(site.box._listeners)
    transport, ear = side(site.box, site.clock), Ear()
    transport.listen(ear)
    await site.clock.advance(31)
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance(130)
    assert ear.told
    transport.close()
    told, last_report = ear.told, transport._last_report
    assert len(site.box._listeners) == others
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(200)
    site.sim.switch_off()
    await site.clock.advance(150)
    assert (site.box.server_health.answers, ear.told, transport._last_report) == (True, told, last_report)
