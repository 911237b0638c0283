"""Tests of who answers a box: the maker's server while it works, the hub in an outage, never both."""

from dataclasses import replace
from datetime import UTC, datetime, time

import pytest
import pytest_socket

from custom_components.chargekeeper.core.errors import NotApplicable, TransportBusy, UnsafeRequest
from custom_components.chargekeeper.core.model import Window
from custom_components.chargekeeper.core.transport import Presence
from custom_components.chargekeeper.juicebox.box import LONGEST_UNSERVED, BoxConfig, BoxIssue, Mode
from custom_components.chargekeeper.juicebox.hub import BoxHub
from custom_components.chargekeeper.juicebox.resolver import SystemResolver
from custom_components.chargekeeper.juicebox.transport import ServerTransport
from custom_components.chargekeeper.juicebox.upstream import LOOPS_WITHIN, UpstreamConfig
from tests.simulators.clock import VirtualClock
from tests.simulators.juicebox import Car, Shows
from tests.simulators.juicebox_server import BoxIssue as ServerTrouble, Day, Schedule
from tests.simulators.juicebox_wire import Wire

from .conftest import MakeSite
from .rig import HERE, Sender
from .site import WIRE_RATING, Site
from .vectors import D1, D3, SERIAL, status

OUTAGE = 1800.0
NIGHT = Window(1, enabled=True, days=frozenset(range(7)), start=time(22), end=time(6))
ALONE = BoxConfig(serial=SERIAL, host=HERE, wire_rating=WIRE_RATING, in_maker_load_group=False)


async def lose(site: Site, trouble: ServerTrouble = ServerTrouble.HANG) -> float:
    """Stop the server's answers. Return the seconds from the last command until the hub takes over."""
    await site.maker.set_trouble(trouble)
    last = site.sim.commands[-1].at if site.sim.commands else site.clock.monotonic()
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=200)
    return site.clock.monotonic() - last


async def regain(site: Site) -> float:
    """Restore the server's answers. Return the seconds until the hub hands the box back."""
    await site.maker.set_trouble(ServerTrouble.NONE)
    return await site.clock.advance_until(lambda: site.mode is Mode.RELAY, within=300)


# Relay


async def test_relay_passes_server_commands_unchanged_and_learns_limits(site: Site) -> None:
    await site.clock.advance(600)
    assert site.mode is Mode.RELAY
    assert site.masters() == {"server"}
    assert site.commands() == site.servers_commands()
    assert len(site.commands()) == len(site.statuses())
    state = site.box.state
    assert (state.offline, state.online, state.allowed, state.cycles) == (16, 32, 32, True)
    assert len(site.unit.addresses) == 1
    assert site.box.server_answers


async def test_pause_while_learning_is_refused(make_site: MakeSite) -> None:
    site = make_site()
    await site.start()
    assert site.mode is Mode.RELAY  # the first command ended learning
    site.box.state.forget()
    with pytest.raises(NotApplicable, match="learning"):
        site.box.set_charging(on=False)


@pytest.mark.parametrize(
    ("trouble", "expected_issue"),
    [
        (ServerTrouble.UNSAFE_CURRENT, BoxIssue.UNSAFE_SERVER),
        (ServerTrouble.UNSAFE_STORED, BoxIssue.UNSAFE_STORED),
    ],
)
async def test_unsafe_server_values_are_replaced_and_raise_matching_issue(
    site: Site, trouble: ServerTrouble, expected_issue: BoxIssue
) -> None:
    await site.maker.set_trouble(trouble)
    await site.clock.advance(300)
    assert {(each.online, each.offline) for each in site.commands()} == {(32, 16)}
    assert [each.index for each in site.commands()] == [each.index for each in site.servers_commands()]
    assert site.box.issues == {expected_issue}
    assert (site.sim.writes, site.sim.unanswered, site.mode) == (0, 0, Mode.RELAY)
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(30)
    assert site.box.issues == set()


async def test_i1_load_group_share_lowers_server_current_without_issue(site: Site) -> None:
    for share, online in ((12.9, 12), (5.0, 0), (20.0, 20), (None, 32)):
        site.box.share = share
        await site.clock.advance(31)
        assert (site.last.online, site.last.offline) == (online, 16)
        assert (site.mode, site.box.issues) == (Mode.RELAY, set())
    assert site.sim.writes == 0


async def test_box_restart_while_server_unsafe_gets_safe_current_and_no_fallback(site: Site) -> None:
    await site.maker.set_trouble(ServerTrouble.UNSAFE_CURRENT)
    site.sim.switch_off()
    site.sim.switch_on()
    await site.clock.advance(6)
    assert (site.mode, site.last.online, site.last.offline) == (Mode.RELAY, 32, 16)
    assert site.box.issues == {BoxIssue.UNSAFE_SERVER}
    site.box.set_charging(on=False)
    await site.clock.advance(400)
    assert (site.sim.amperes, site.sim.fallbacks, site.sim.writes) == (0, 0, 0)


async def test_server_command_for_other_protocol_version_is_dropped(site: Site) -> None:
    before = len(site.commands())
    site.box.from_server(b"CMD62210A20M18C006S006!31Y$")
    site.box.from_server(b"g4rbl3d")
    await site.clock.settle()
    assert (site.box.counts["server_garbage"], len(site.commands())) == (2, before)


async def test_debug_message_gets_no_answer_and_reaches_server(site: Site) -> None:
    await lose(site, ServerTrouble.HANG)
    before = len(site.commands())
    site.sim._send(D1.replace(b"BOT:", b""))
    await site.clock.settle()
    assert len(site.commands()) == before
    assert list(site.sim.refusals) == []
    assert site.maker.heard[-1][2] == D1.replace(b"BOT:", b"")
    assert site.box.counts["errors_logged"] == 0
    site.sim._send(D3)
    await site.clock.settle()
    assert site.box.counts["errors_logged"] == 1


# Keep


@pytest.mark.parametrize(
    ("wire", "trouble", "plugged"),
    [
        (Wire.V09U, ServerTrouble.DEAD, True),
        (Wire.V09U, ServerTrouble.HANG, False),
        (Wire.V09U, ServerTrouble.GARBAGE, True),
        (Wire.V07, ServerTrouble.CHECKSUM, False),
        (Wire.V07, ServerTrouble.ELSEWHERE, True),
        (Wire.V07_UNPADDED, ServerTrouble.DEAD, False),
    ],
)
async def test_i10_i11_box_without_server_is_answered_with_last_known_limits(
    make_site: MakeSite, wire: Wire, trouble: ServerTrouble, plugged: bool
) -> None:
    """Check I10 (each status of a kept box is answered at once) and I11 (`M` stays the last known value)."""
    site = make_site(wire=wire)
    await site.start(plugged=plugged)
    await site.clock.advance(60)
    before = site.last
    assert await lose(site, trouble) <= 120
    site.mark()
    await site.clock.advance(OUTAGE)
    assert {(each.online, each.offline) for each in site.commands()} == {(32, 16)}
    assert len(site.commands()) >= len(site.statuses()) >= 55
    assert (site.sim.fallbacks, site.sim.unanswered, site.sim.writes) == (0, 0, 0)
    assert site.sim.slowest_answer <= 1
    first = site.commands()[0]
    assert (first.index - before.index) % 999 in {2, 3}  # the take-over sent a command too
    assert all(each.flags == (8, 244, 6, 242)[each.index % 4] for each in site.commands())
    assert site.sim.minute_of_week == pytest.approx(
        (site.clock.now().isoweekday() % 7 * 24 + site.clock.now().hour) * 60 + site.clock.now().minute, abs=1.1
    )
    assert site.box.server_answers is False
    assert await regain(site) <= 180
    site.mark()
    await site.clock.advance(300)
    assert site.masters() == {"server"}
    assert (site.sim.unanswered, site.box.server_answers) == (0, True)


async def test_short_outage_or_late_answer_does_not_trigger_take_over(site: Site) -> None:
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance(12)
    assert site.box.server_health.suspect is False
    await site.maker.set_trouble(ServerTrouble.NONE)
    site.maker.delay = 4
    site.maker.second_after = 1
    await site.clock.advance(600)
    assert site.box.counts["taken_over"] == 0
    assert site.masters() == {"server"}


async def test_server_answering_only_briefly_does_not_get_box_back(site: Site) -> None:
    await lose(site)
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(25)
    assert site.mode is Mode.KEEP
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance(40)
    assert (site.mode, site.box.counts["handed_back"]) == (Mode.KEEP, 0)
    assert 60 <= await regain(site) <= 180


async def test_burst_of_unanswered_statuses_does_not_trigger_take_over(site: Site) -> None:
    await site.maker.set_trouble(ServerTrouble.HANG)
    for _ in range(4):
        site.sim._report()
    await site.clock.advance(6)
    assert (site.mode, site.box.server_health.suspect) == (Mode.RELAY, True)


async def test_box_reporting_every_3_s_stays_with_server_answering_in_4_s(site: Site) -> None:
    """Use the 3 s of a box whose user has the maker's app open (docs/protocols/juicebox.md, section 2.3.5)."""
    site.maker.delay = 4
    for _ in range(200):
        site.sim._report()
        await site.clock.advance(3)
    assert site.ours.listener.dropped == {}
    assert (site.mode, site.box.counts["taken_over"], site.box.server_health.suspect) == (Mode.RELAY, 0, False)
    assert site.masters() == {"server"}
    await site.maker.set_trouble(ServerTrouble.HANG)
    last = site.sim.commands[-1].at
    while site.mode is Mode.RELAY:
        site.sim._report()
        await site.clock.advance(3)
    assert 20 <= site.clock.monotonic() - last <= 40
    await site.maker.set_trouble(ServerTrouble.NONE)
    returned_at = site.clock.monotonic()
    while site.mode is Mode.KEEP:
        site.sim._report()
        await site.clock.advance(3)
    assert 60 <= site.clock.monotonic() - returned_at <= 90, "it has the box again"


async def test_box_losing_statuses_is_taken_over_within_120_s(make_site: MakeSite) -> None:
    site = make_site()
    await site.start(plugged=False)
    await site.clock.advance(60)
    await site.maker.set_trouble(ServerTrouble.HANG)
    last = site.sim.commands[-1].at
    await site.clock.advance(35)
    site.sim.wifi = False
    await site.clock.advance(60)
    site.sim.wifi = True
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=200)
    assert LONGEST_UNSERVED <= site.clock.monotonic() - last <= 120
    assert site.sim.commands[-1].at == pytest.approx(site.clock.monotonic(), abs=1)


async def test_flapping_server_and_hub_never_both_answer_one_status(make_site: MakeSite) -> None:
    site = make_site()
    site.maker.delay = 2
    await site.start()
    for round_ in range(12):
        await site.maker.set_trouble(ServerTrouble.HANG if round_ % 2 else ServerTrouble.NONE)
        await site.clock.advance(170 + 13 * round_)
    theirs = {data for _, _, data in site.maker.sent}
    statuses = site.statuses()
    by_status: dict[float, set[bool]] = {}
    for taken, command in zip(site.sim.commands, site.commands(), strict=True):
        asked = max(at for at in statuses if at <= taken.at)
        by_status.setdefault(asked, set()).add(command.encode() in theirs)
    assert all(len(masters) == 1 for masters in by_status.values())
    assert site.box.counts["taken_over"] >= 3
    assert site.sim.fallbacks == 0


async def test_late_server_answer_to_status_we_answered_is_dropped(site: Site) -> None:
    await lose(site)
    await site.maker.set_trouble(ServerTrouble.NONE)
    site.maker.second_after = 3
    await site.clock.advance_until(lambda: site.mode is Mode.RELAY, within=300)
    site.mark()
    await site.clock.advance(4)
    site.box.from_server(b"CMD41325A0040M040C006S638!5N5$")
    await site.clock.settle()
    assert site.commands() == []


async def test_pause_during_server_silence_holds_after_take_over(site: Site) -> None:
    """Pause during the server's silence. The first answer after the take-over must not repeat the old current."""
    await site.maker.set_trouble(ServerTrouble.HANG)
    site.box.set_charging(on=False)
    await lose(site)
    assert site.last.online == 0
    await site.clock.advance(60)
    assert {each.online for each in site.commands()[-6:]} == {0}


# The offline current


@pytest.mark.parametrize("wire", [Wire.V07, Wire.V09U])
@pytest.mark.parametrize("state_key", list(Shows))
async def test_offline_current_without_server_is_learned_after_silence(
    make_site: MakeSite, wire: Wire, state_key: Shows
) -> None:
    site = make_site(served=False, wire=wire, state_key=state_key)
    await site.start()
    await site.clock.advance(350)
    assert (site.mode, site.commands()) == (Mode.LEARNING, [])
    await site.clock.advance(30)
    assert (site.mode, site.box.state.offline) == (Mode.KEEP, 16)
    await site.clock.advance(600)
    assert {(each.online, each.offline) for each in site.commands()} == {(16, 16)}
    assert (site.sim.writes, site.box.server_answers, site.box.issues) == (0, None, set())


async def test_server_silent_from_start_is_replaced_once_offline_current_is_known(make_site: MakeSite) -> None:
    site = make_site()
    site.maker.trouble = ServerTrouble.HANG
    await site.start()
    assert (site.box.setting, site.box.allowed) == (None, 0)
    await site.clock.advance(400)
    assert (site.mode, site.last.online, site.last.offline) == (Mode.KEEP, 16, 16)
    assert await regain(site) <= 180


async def test_box_offline_for_15_minutes_stays_with_answering_server(site: Site) -> None:
    site.sim.wifi = False
    await site.clock.advance(900)
    site.sim.wifi = True
    await site.clock.advance(60)
    assert (site.mode, site.box.counts["taken_over"]) == (Mode.RELAY, 0)


async def test_unsendable_answer_changes_no_state(site: Site) -> None:
    await site.clock.advance(31)
    before = site.box.state.export()
    site.ours.listener.close()
    site.box.from_server(site.servers_commands()[-1].encode())
    assert site.box.state.export() == before
    fresh = BoxHub(site.clock).add(ALONE)
    fresh.from_server(b"CMD62210A20M18C006S006!31Y$")  # before any status
    assert (fresh.mode, fresh.state.offline) == (Mode.LEARNING, None)


@pytest.mark.parametrize("served", [True, False])
async def test_offline_current_is_learned_again_after_power_cut(make_site: MakeSite, served: bool) -> None:
    site = make_site(served=served)
    await site.start()
    await site.clock.advance(400)
    assert site.mode is (Mode.RELAY if served else Mode.KEEP)
    if served:
        await lose(site)
    site.sim.switch_off()
    site.sim.stored = 20  # changed elsewhere in the meantime
    await site.clock.advance(60)
    site.mark()
    site.sim.switch_on()
    await site.clock.advance(6)
    assert site.box.counts["boots"] == 1
    assert site.box.state.firmware == "EMWERK-JB201-1.0.46"
    assert [each.offline for each in site.commands()] == [20]  # the first status was answered
    await site.clock.advance(120)
    assert (site.sim.writes, site.sim.unanswered) == (0, 0)


async def test_late_boot_message_does_not_teach_limit_in_force(make_site: MakeSite) -> None:
    site = make_site(served=False, config=replace(ALONE, schedule=(NIGHT,)))
    await site.start()
    await site.clock.advance(400)
    site.sim.switch_off()
    site.sim.switch_on()
    await site.clock.advance(6)
    assert site.sim.in_force == 0  # outside the window
    site.sim._send(D1)
    await site.clock.advance(60)
    assert (site.box.state.offline, site.sim.stored, site.sim.writes) == (16, 16, 0)


async def test_boot_message_after_first_command_does_not_teach_commanded_current(make_site: MakeSite) -> None:
    """Check I11 when the first status is answered before any boot message arrives."""
    site = make_site(served=False, config=replace(ALONE, load_group_limit=10))
    await site.start()
    await site.clock.advance(400)
    site.sim.switch_off()
    site.sim.switch_on()
    send, carried = site.sim._send, iter(range(2))
    site.sim._send = lambda message: None if b"BOT:" in message and next(carried, None) is not None else send(message)  # type: ignore[method-assign]
    await site.clock.advance(6)
    assert (site.sim.in_force, site.box.counts["boots"]) == (10, 0)
    send(D1)
    await site.clock.advance(60)
    assert (site.box.state.offline, site.sim.stored, site.sim.writes, site.mode) == (16, 16, 0, Mode.KEEP)


async def test_status_sent_before_boot_does_not_teach_limit_in_force(make_site: MakeSite) -> None:
    site = make_site(served=False, config=replace(ALONE, schedule=(NIGHT,)))
    await site.start()
    await site.clock.advance(500)
    before = next(data for _, data in reversed(site.sim.sent) if b":v09u" in data)
    site.sim.switch_off()
    sock = next(iter(site.ours.listener._sockets.values()))
    site.ours.listener._received(sock, D1, (HERE, 9))
    site.ours.listener._received(sock, before, (HERE, 9))
    unknown = status("09u", [("S", "01"), ("M", "0010")])
    site.ours.listener._received(sock, unknown, (HERE, 9))
    assert (site.mode, site.box.state.offline) == (Mode.LEARNING, None)


async def test_protocol_version_change_restarts_learning(site: Site) -> None:
    site.box.state.version = "07"
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance(11)
    assert (site.mode, site.box.state.version) == (Mode.LEARNING, "09u")
    assert site.candidate() == 16


async def test_offline_current_confirmed_by_user_is_written_once(make_site: MakeSite) -> None:
    site = make_site(served=False)
    await site.start()
    for amps, reason in ((5, "current_too_low"), (33, "above_ceiling")):
        with pytest.raises(UnsafeRequest, match=reason):
            site.box.confirm_offline(amps)
    assert site.candidate() == 16
    site.box.confirm_offline(20)
    assert site.candidate() is None
    with pytest.raises(NotApplicable, match="known"):
        site.box.confirm_offline(16)
    await site.clock.advance(300)
    assert (site.mode, site.sim.stored, site.sim.writes) == (Mode.KEEP, 20, 1)


async def test_offline_current_changes_at_most_once_a_day_and_only_without_server(site: Site) -> None:
    with pytest.raises(NotApplicable, match="server_in_charge"):
        site.box.change_offline(20)
    await lose(site)
    with pytest.raises(UnsafeRequest, match="above_ceiling"):
        site.box.change_offline(33)
    site.box.change_offline(20)
    await site.clock.advance(60)
    assert (site.sim.stored, site.sim.writes) == (20, 1)
    with pytest.raises(UnsafeRequest, match="once_a_day"):
        site.box.change_offline(16)
    site.clock.jump(86_401)
    site.box.change_offline(16)
    site.box.configure(replace(site.config, wire_rating=None))
    site.clock.jump(86_401)
    with pytest.raises(UnsafeRequest, match="above_ceiling"):
        site.box.change_offline(16)


async def test_offline_current_change_voided_by_boot_does_not_count_for_the_day(site: Site) -> None:
    await lose(site)
    site.box.change_offline(20)
    site.sim.switch_off()
    await site.clock.advance(30)
    site.sim.switch_on()
    await site.clock.advance(60)
    assert (site.box.state.offline, site.sim.stored, site.sim.writes) == (16, 16, 0)
    site.box.change_offline(20)
    await site.clock.advance(60)
    assert (site.sim.stored, site.sim.writes) == (20, 1)
    site.sim.switch_off()
    await site.clock.advance(30)
    site.sim.switch_on()
    await site.clock.advance(60)
    assert site.box.state.offline == 20
    with pytest.raises(UnsafeRequest, match="once_a_day"):
        site.box.change_offline(16)


async def test_lower_offline_current_counts_only_after_certain_receipt(site: Site) -> None:
    await lose(site)
    state = site.box.state
    site.sim.wifi = False
    site.box.change_offline(10)
    await site.clock.advance(300)
    assert (state.offline, state.stored, site.sim.stored) == (10, 16, 16)
    site.sim.wifi = True
    seen = set()
    for _ in range(3):
        status_count = site.sim.statuses
        await site.clock.advance_until(lambda status_count=status_count: site.sim.statuses > status_count, within=31)  # type: ignore[misc]
        seen.add(state.stored)
    assert seen == {16}, "the first of the answers between them may have got lost, and the second"
    await site.clock.advance(11)
    assert (state.stored, state.overwritten, site.sim.stored) == (10, None, 10)


async def test_highest_offline_current_counts_until_box_receives_newer_value(site: Site) -> None:
    await lose(site)
    state = site.box.state
    for amps in (20, 24, 18, 18):
        site.box.change_offline(amps)
        site.clock.jump(86_401)
    assert (state.offline, state.stored) == (18, 24)
    await site.restart()
    state = site.box.state
    assert (state.offline, state.stored) == (18, 24), "nor does a restart prove anything"
    await site.clock.advance(60)
    assert (state.stored, site.sim.stored) == (18, 18)


async def test_old_offline_current_counts_after_boot_until_status_shows_new(site: Site) -> None:
    await site.clock.advance(400)
    state = site.box.state
    site.sim._send(D1)
    await site.clock.settle()
    assert (state.offline, state.stored) == (None, 16)
    site.unit.stored = 10
    await site.clock.advance(11)
    assert (state.offline, state.stored) == (10, 16), "what it was told, and what it had"
    site.sim.switch_off()
    site.sim.stored = 12
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.clock.advance(60)
    site.sim.switch_on()
    await site.clock.advance(6)
    assert (state.offline, state.overwritten) == (12, None), "that it shows, whatever else was thought"


@pytest.mark.parametrize(("amps", "highest"), [(10, 16), (20, 20)])
async def test_box_ignoring_commands_keeps_offline_current_and_counts_highest(
    site: Site, amps: int, highest: int
) -> None:
    """Count a higher offline current as long as the box may have received it."""
    await lose(site)
    site.sim.obeys = False
    site.box.set_current(6)
    site.box.change_offline(amps)
    await site.clock.advance(240)
    assert site.box.issues == {BoxIssue.IGNORES_COMMANDS}
    assert (site.box.state.offline, site.box.state.stored, site.sim.stored) == (16, highest, 16)


async def test_offline_current_taken_by_box_survives_later_ignored_commands(site: Site) -> None:
    await lose(site)
    site.box.change_offline(10)
    await site.clock.advance(60)
    assert (site.box.state.offline, site.sim.stored) == (10, 10)
    site.sim.obeys = False
    site.box.set_current(6)
    await site.clock.advance(120)
    assert site.box.issues == {BoxIssue.IGNORES_COMMANDS}
    assert (site.box.state.offline, site.box.state.stored, site.sim.stored) == (10, 10, 10)


async def test_unusable_offline_current_raises_issue(make_site: MakeSite) -> None:
    site = make_site(served=False)
    site.sim.stored = 0
    await site.start()
    await site.clock.advance(400)
    assert (site.box.issues, site.mode, site.commands()) == ({BoxIssue.STORED_ZERO}, Mode.LEARNING, [])
    site.box.confirm_offline(16)
    await site.clock.advance(60)
    assert (site.box.issues, site.sim.stored, site.sim.writes) == (set(), 16, 1)
    site.sim.wifi = False
    await site.clock.advance(400)
    site.sim.stored = 0
    site.sim.wifi = True
    await site.clock.advance(31)
    assert (site.box.state.offline, site.box.issues) == (16, set())
    site.box.state.offline = 33
    site.box.configure(site.config)
    assert site.box.issues == {BoxIssue.OFFLINE_ABOVE_WIRE}


async def test_server_offline_current_of_zero_is_accepted_and_raises_issue(site: Site) -> None:
    site.unit.stored = 0
    await site.clock.advance(31)
    assert (site.box.state.offline, site.box.issues) == (0, {BoxIssue.STORED_ZERO})


async def test_box_ignoring_commands_raises_issue_until_commands_take_effect(make_site: MakeSite) -> None:
    site = make_site()
    site.sim.obeys = False
    site.unit.limit = 10
    await site.start()
    await site.clock.advance(120)
    assert BoxIssue.IGNORES_COMMANDS in site.box.issues
    site.sim.obeys = True
    await site.clock.advance(120)
    assert site.box.issues == set()


async def test_encrypted_or_legacy_box_is_observed_and_never_commanded(make_site: MakeSite) -> None:
    site = make_site(served=False)
    site.sim.encrypts = True
    await site.start()
    await site.clock.advance(500)
    assert site.box.issues == {BoxIssue.ENCRYPTED}
    assert site.box.status is None
    site.sim.encrypts = False
    await site.clock.advance(60)
    assert site.box.issues == set()
    old = make_site(served=False, wire=Wire.LEGACY)
    await old.start()
    await old.clock.advance(800)
    assert (old.mode, old.box.status is None, list(old.sim.refusals)) == (Mode.LEARNING, False, [])


async def test_encrypted_message_is_not_relayed_in_either_direction(site: Site) -> None:
    await site.clock.advance(40)
    assert site.mode is Mode.RELAY
    site.sim.encrypts = True
    heard, obeyed = len(site.maker.heard), len(site.commands())
    await site.clock.advance(500)
    site.ours._from_server(SERIAL, SERIAL.encode() + b":v09e" + bytes(64))
    assert (len(site.maker.heard), len(site.commands())) == (heard, obeyed)
    assert site.box.counts["server_garbage"] == 1
    assert ServerTransport(site.box, site.clock).presence is Presence.UNKNOWN  # the box is not relayed
    site.sim.encrypts = False
    await site.clock.advance(31)
    assert (site.box.issues, len(site.commands()) > obeyed) == (set(), True)


def test_box_with_unknown_limits_is_allowed_its_last_current() -> None:
    box = BoxHub(VirtualClock()).add(BoxConfig(serial=SERIAL, host=HERE))
    assert (box.in_force, box.allowed, box.may_replace_server) == (None, 0, False)
    box.state.allowed = 20
    assert box.allowed == 20
    box.share = 10.5
    assert box.allowed == 10


async def test_status_without_energy_leaves_lifetime_energy_unchanged(site: Site) -> None:
    await site.clock.advance(20)
    before = site.box.state.lifetime
    sock = next(iter(site.ours.listener._sockets.values()))
    site.ours.listener._received(sock, status("09u", [("S", "01"), ("V", "2400")]), (HERE, 9))
    assert (site.box.state.lifetime, site.box.status is not None and site.box.status.state) == (before, 1)
    assert before is not None


# Restarts of Home Assistant


@pytest.mark.parametrize("down_for", [10.0, 600.0])
async def test_home_assistant_restart_in_outage_answers_first_status(site: Site, down_for: float) -> None:
    await lose(site)
    await site.restart(down_for=down_for)
    site.mark()
    await site.clock.advance(31)
    assert {(each.online, each.offline) for each in site.commands()} == {(32, 16)}
    assert len(site.commands()) == len(site.statuses())
    assert (site.sim.writes, site.sim.slowest_answer, site.mode) == (0, 0.0, Mode.KEEP)
    assert not site.box.server_answers


async def test_home_assistant_restart_leaves_box_with_answering_server(site: Site) -> None:
    await site.restart()
    await site.clock.advance(120)
    assert (site.mode, site.masters()) == (Mode.RELAY, {"server"})


async def test_server_lost_during_long_restart_is_replaced_within_40_s(site: Site) -> None:
    await site.maker.set_trouble(ServerTrouble.HANG)
    await site.restart(down_for=600)
    assert site.sim.fallbacks == 1
    site.mark()
    await site.clock.advance_until(lambda: site.sim.commands, within=40)
    assert site.last.online == 32


async def test_clean_stop_sends_no_command(site: Site) -> None:
    await lose(site)
    await site.clock.advance(60)
    before = len(site.commands())
    await site.ours.close()
    await site.clock.settle()
    assert len(site.commands()) == before
    assert site.clock.pending <= 3  # the timers of the simulators


@pytest.mark.parametrize(
    "stored", [None, 5, {SERIAL: 5}, {SERIAL: {"offline": 500, "online": "x", "kept": 1, "commanded_at": "soon"}}]
)
def test_damaged_store_leaves_box_in_learning(stored: object) -> None:
    server = BoxHub(VirtualClock(), stored)
    box = server.add(ALONE)
    assert box.mode is Mode.LEARNING
    assert box.state.commanded_at is None


async def test_exported_box_state_is_restored_completely(site: Site) -> None:
    await lose(site)
    site.box.change_offline(20)
    site.box.set_current(20)
    await site.clock.advance(30)
    stored = site.ours.export()
    assert BoxHub(site.clock, stored).export() == stored
    again = BoxHub(site.clock, stored)
    assert again.add(site.config).state == site.box.state
    again.remove(SERIAL)
    again.remove(SERIAL)
    assert again.export() == {}


# Commands and settings of the user


async def test_pause_survives_outage_and_restart_and_ends_on_unplug(site: Site) -> None:
    site.box.set_charging(on=False)
    await site.clock.advance(600)
    assert (site.sim.amperes, site.sim.fallbacks, site.last.online) == (0, 0, 0)
    assert site.commands()[-1].index == site.servers_commands()[-1].index  # the server's command with a lower current
    await lose(site)
    await site.clock.advance(1800)
    assert (site.sim.amperes, site.sim.fallbacks) == (0, 0)
    await site.restart()
    await site.clock.advance(60)
    assert site.sim.amperes == 0
    site.box.set_charging(on=True)
    await site.clock.advance(60)
    assert site.sim.amperes == 16  # the box never offers more than its offline current
    site.box.set_charging(on=False)
    site.sim.unplug()
    await site.clock.advance(60)
    assert not site.box.state.paused


async def test_charging_current_may_lower_but_never_raise_server_current(site: Site) -> None:
    site.box.set_current(10)
    assert not site.box.confirmed_current
    await site.clock.advance(60)
    assert (site.last.online, site.box.confirmed_current) == (10, 10)
    site.unit.limit = 8
    await site.clock.advance(60)
    assert site.last.online == 8
    await lose(site)
    await site.clock.advance(200)
    assert site.last.online == 10


async def test_lower_share_applies_at_once_and_raise_waits(site: Site) -> None:
    site.sim.online_may_exceed = True
    await lose(site)
    await site.clock.advance(120)
    site.box.share = 12.9
    await site.clock.advance(11)
    assert site.last.online == 12
    site.box.share = 14
    await site.clock.advance(11)
    assert site.last.online == 14
    site.box.share = 20
    await site.clock.advance(40)
    assert site.last.online == 14
    await site.clock.advance(40)
    assert site.last.online == 20
    site.box.share = 5
    await site.clock.advance(20)
    assert (site.last.online, site.box.allowed) == (0, 0)
    site.box.share = 20
    await site.clock.advance(280)
    assert site.last.online == 0
    await site.clock.advance(60)
    assert site.last.online == 20


async def test_i1_unknown_wire_rating_never_raises_current(make_site: MakeSite) -> None:
    """Check I1: no command of the hub raises the current above the previously allowed current."""
    site = make_site(config=BoxConfig(serial=SERIAL, host=HERE))
    site.unit.limit = 10
    await site.start()
    await lose(site)
    site.box.state.charging_current = 40
    await site.clock.advance(300)
    assert site.last.online == 16  # the offline current, as without any server


async def test_schedule_without_server_allows_charging_inside_window_only(make_site: MakeSite) -> None:
    clock = VirtualClock(datetime(2026, 11, 2, 21, 0, tzinfo=UTC))
    site = make_site(clock=clock, served=False, config=replace(ALONE, schedule=(NIGHT,)))
    await site.start()
    await clock.advance(1200)
    assert (site.sim.amperes, site.last.online) == (0, 0)
    await clock.advance(2400 + 40)
    assert (site.sim.amperes, clock.now().hour) == (16, 22)
    site.sim.plug_in(Car(wants_kwh=0.5))
    await clock.advance(8 * 3600)
    assert (site.last.online, clock.now().hour) == (0, 6)
    assert site.sim.fallbacks == 0


async def test_window_closing_soon_after_start_waits_for_switch_guard(make_site: MakeSite) -> None:
    clock = VirtualClock(datetime(2026, 11, 2, 21, 50, tzinfo=UTC))
    short = replace(NIGHT, end=time(22, 2))
    site = make_site(clock=clock, served=False, config=replace(ALONE, schedule=(short,)))
    await site.start()
    await clock.advance(640)
    assert site.last.online == 16
    await clock.advance(200)
    assert (clock.now().minute, site.last.online) == (4, 16)
    await clock.advance(140)
    assert site.last.online == 0


async def test_minimal_energy_is_charged_outside_window(make_site: MakeSite) -> None:
    site = make_site(served=False, config=replace(ALONE, schedule=(NIGHT,), minimal_energy=2000))
    await site.start()
    await site.clock.advance(3600)
    assert site.sim.amperes == 0
    assert 2000 <= (site.box.session_energy or 0) <= 2500


async def test_command_carries_local_time_across_clock_change(make_site: MakeSite) -> None:
    clock = VirtualClock(datetime(2026, 10, 25, 0, 50, tzinfo=UTC))
    site = make_site(clock=clock, served=False, config=replace(ALONE, zone="Europe/Berlin"))
    await site.start()
    await clock.advance(580)
    assert (site.last.weekday, site.last.hour, site.last.minute) == (0, 2, 59)
    await clock.advance(60)
    assert (site.last.hour, site.last.minute) == (2, 0)  # the hour that comes twice


async def test_read_only_box_repeats_last_command_below_ceiling(make_site: MakeSite) -> None:
    site = make_site(config=replace(ALONE, read_only=True, schedule=(NIGHT,)))
    await site.start()
    await site.clock.advance(60)
    await lose(site)
    site.box.state.paused = True
    await site.clock.advance(600)
    assert {(each.online, each.offline) for each in site.commands()} == {(32, 16)}
    await regain(site)
    await site.clock.advance(60)
    assert site.last.online == 32
    site.box.share = 12.5
    await site.clock.advance(31)
    assert site.last.online == 12, "the ceiling holds in relay too"
    site.box.share = 5
    await lose(site)
    assert site.last.online == 0


async def test_read_only_box_after_boot_keeps_offline_current(make_site: MakeSite) -> None:
    site = make_site(served=False, config=replace(ALONE, read_only=True, schedule=(NIGHT,)))
    await site.start()
    await site.clock.advance(400)
    assert site.mode is Mode.KEEP
    site.sim.switch_off()
    site.sim.switch_on()
    await site.clock.advance(120)
    assert {(each.online, each.offline) for each in site.commands()} == {(16, 16)}


# The override


async def night_site(make_site: MakeSite, config: BoxConfig) -> Site:
    """Return a started site at noon whose server allows charging at night only."""
    site = make_site(config=config)
    night = Day(start=22 * 60, end=6 * 60)
    site.unit.schedule = Schedule(custom=True, weekday=night, weekend=night)
    await site.start()
    await site.clock.advance(60)
    assert site.sim.amperes == 0
    return site


async def test_override_in_relay_takes_over_from_server_outside_load_group(make_site: MakeSite) -> None:
    site = await night_site(make_site, ALONE)
    assert site.box.blocked_by_schedule
    site.box.set_override(on=True)
    await site.clock.advance(31)
    assert (site.sim.amperes, site.mode, site.box.server_answers) == (16, Mode.KEEP, True)
    await site.clock.advance(900)
    assert (site.sim.amperes, site.mode) == (16, Mode.KEEP)
    site.box.set_override(on=False)
    await site.clock.advance(31)
    assert (site.sim.amperes, site.mode) == (0, Mode.RELAY)


async def test_override_in_relay_in_server_load_group_needs_own_limit(make_site: MakeSite) -> None:
    site = await night_site(make_site, replace(ALONE, in_maker_load_group=True))
    with pytest.raises(UnsafeRequest, match="load_group"):
        site.box.set_override(on=True)
    assert (site.mode, site.box.state.override) == (Mode.RELAY, False)
    site.box.configure(replace(ALONE, in_maker_load_group=True, load_group_limit=12))
    site.box.set_override(on=True)
    await site.clock.advance(31)
    assert site.sim.amperes == 12
    site.box.share = 5
    with pytest.raises(UnsafeRequest, match="no_group_share"):
        site.box.set_override(on=True)


async def test_override_without_known_current_is_refused(make_site: MakeSite) -> None:
    site = make_site(config=ALONE, served=False, stored={SERIAL: {"offline": 0, "version": "09u"}})
    await site.start()
    await site.clock.advance(31)
    with pytest.raises(UnsafeRequest, match="no_current"):
        site.box.set_override(on=True)
    site.box.set_current(12)
    site.box.set_override(on=True)
    await site.clock.advance(31)
    assert site.last.online == 12


@pytest.mark.parametrize("in_group", [True, False])
async def test_override_continues_after_outage_only_outside_server_load_group(
    make_site: MakeSite, in_group: bool
) -> None:
    site = await night_site(make_site, replace(ALONE, in_maker_load_group=in_group))
    await lose(site)
    await site.clock.advance(60)
    assert site.sim.amperes == 0  # as before the outage
    with pytest.raises(NotApplicable, match="wrong_state"):
        site.box.set_charging(on=True)
    site.box.set_override(on=True)
    await site.clock.advance(60)
    assert site.sim.amperes == 16
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(300)
    if in_group:
        assert (site.sim.amperes, site.mode) == (0, Mode.RELAY)
        assert site.box.issues == {BoxIssue.OVERRIDE_HANDED_BACK}
    else:
        assert (site.sim.amperes, site.mode, site.box.server_answers) == (16, Mode.KEEP, True)
        site.sim.unplug()
        await site.clock.advance(60)
        assert (site.mode, site.box.state.override) == (Mode.RELAY, False)


async def test_override_matching_server_ends_at_hand_back_without_issue(site: Site) -> None:
    await lose(site)
    site.box.set_override(on=True)
    await regain(site)
    assert (site.box.state.override, site.box.issues) == (False, set())
    await site.clock.advance(60)
    assert site.sim.amperes == 16


# Boxes that come and go


async def test_reload_keeps_box_and_leaves_no_status_unanswered(site: Site) -> None:
    box = site.box
    for _ in range(3):
        site.ours.open("127.0.0.1", [site.port], site.ours._upstream_config)
        assert site.ours.add(replace(site.config, name="Barn")) is box
        await site.clock.advance(60)
    assert site.sim.unanswered == 0
    assert box.config.name == "Barn"


async def test_upstream_server_can_be_removed_and_restored(site: Site) -> None:
    site.ours.open("127.0.0.1", [site.port], None)
    await site.clock.advance(60)
    shown = (site.mode, site.sim.unanswered, site.box.server_answers)
    assert shown == (Mode.KEEP, 0, None)
    site.ours.open("127.0.0.1", [site.port], site.upstream())
    await site.clock.advance(180)
    assert (site.mode, site.sim.unanswered) == (Mode.RELAY, 0)


@pytest.mark.parametrize("plugged", [True, False])
async def test_kept_box_at_new_address_is_answered_before_fallback(make_site: MakeSite, plugged: bool) -> None:
    site = make_site(served=False, config=ALONE)
    await site.start(plugged=plugged)
    await site.clock.advance(600)
    site.sim.fallbacks = 0
    site.sim.host = "127.0.0.9"
    site.sim.reconnect()
    last = site.sim.commands[-1].at
    await site.clock.advance_until(lambda: site.sim.commands[-1].at > last, within=290)
    await site.clock.advance(300)
    assert (site.ours.listener.host_of(SERIAL), site.sim.fallbacks) == ("127.0.0.9", 0)


async def test_new_box_address_survives_restart_until_user_changes_address(site: Site) -> None:
    site.sim.host = "127.0.0.9"
    site.sim.reconnect()
    await site.clock.advance(400)
    assert site.ours.listener.host_of(SERIAL) == "127.0.0.9"
    await site.restart()
    assert site.ours.listener.host_of(SERIAL) == "127.0.0.9"
    site.ours.add(replace(site.config, host="127.0.0.10"))
    assert site.ours.listener.host_of(SERIAL) == "127.0.0.10"


async def test_router_looping_back_to_hub_does_not_count_as_server(make_site: MakeSite) -> None:
    """Redirect the datagrams of box and hub to the hub, with the router as the sender of both."""
    pytest_socket.socket_allow_hosts(["127.0.0.1", HERE])
    site = make_site(config=ALONE, served=False)
    router = Sender(HERE)
    await site.start()
    port = router.address[1]
    site.ours.set_upstream(UpstreamConfig(host=HERE, port=port, resolver=SystemResolver()))
    passed, errors = 0, set[str | None]()
    for _ in range(600):
        await site.clock.advance(1)
        while passed <= 100 and (arrived := router.received()):
            for data, address in arrived:
                if address[1] != site.port:
                    ours, passed = address, passed + 1
                router.sock.sendto(data, ("127.0.0.1", site.port) if address[1] != site.port else ours)
            await site.clock.settle()
        errors.add(site.ours.upstream_error(SERIAL))
    router.close()
    assert 0 < passed <= len(site.statuses())
    assert (site.box.server_answers, site.mode, "upstream_loop" in errors) == (False, Mode.KEEP, True)


async def test_late_status_copy_from_other_port_is_no_loop(site: Site) -> None:
    await site.clock.advance(60)
    site.sim.wifi = False
    sender, copy = Sender(HERE), site.sim.sent[-1][1]
    await site.clock.advance(LOOPS_WITHIN + 30)
    sender.send(copy, site.port)
    await site.clock.settle()
    assert (site.box.address, site.ours.upstream_error(SERIAL)) == (sender.address, None)
    sender.close()


async def test_status_doubled_by_network_is_no_loop(site: Site) -> None:
    await site.clock.advance(60)
    before = len(site.sim.sent)
    await site.clock.advance_until(lambda: len(site.sim.sent) > before, within=31)
    _, data = site.sim.sent[-1]
    heard = len(site.maker.heard)
    site.sim._send(data)
    await site.clock.settle()
    assert [each[2] for each in list(site.maker.heard)[heard:]] == [data], "it goes on to the server as well"
    assert site.ours.upstream_error(SERIAL) is None


async def test_removed_box_is_forgotten_and_discovered_again(site: Site) -> None:
    found: list[str] = []
    end = site.ours.listen_discovery(lambda each: found.append(each.serial))
    site.ours.remove(SERIAL)
    await site.clock.advance(70)
    assert found == [SERIAL]
    later: list[str] = []
    site.ours.listen_discovery(lambda each: later.append(each.serial))()
    assert later == [SERIAL]
    end()
    end()
    site.ours._from_server(SERIAL, b"late")
    assert SERIAL not in site.ours.export()
    assert site.ours.upstream_error(SERIAL) is None


def test_box_beyond_one_hundred_is_refused() -> None:
    server = BoxHub(VirtualClock())
    for number in range(100):
        server.add(BoxConfig(serial=f"{number:09}", host=HERE))
    with pytest.raises(TransportBusy, match="too_many_boxes"):
        server.add(ALONE)
    assert len(server.boxes) == 100


async def test_i9_foreign_address_gets_no_answer_and_changes_no_state(site: Site) -> None:
    """Check I9: no datagram from a wrong source changes state or gets an answer."""
    foreign = Sender("127.0.0.66")
    await site.clock.advance(60)
    copies = [data for _, data in site.sim.sent]
    assert len(copies) > 2
    before, obeyed = site.box.state.export(), len(site.sim.commands)
    for data in (*copies, D1):
        foreign.send(data, site.port)
    await site.clock.settle()
    assert foreign.received() == []
    assert (site.box.state.export(), len(site.sim.commands)) == (before, obeyed)
    assert site.ours.listener.dropped == {"wrong_source": len(copies) + 1}
    foreign.close()


@pytest.mark.parametrize("seed", range(4))
async def test_unreliable_network_never_breaks_limits_or_causes_write(make_site: MakeSite, seed: int) -> None:
    site = make_site(config=replace(ALONE, load_group_limit=12.0))
    site.unit.limit = 12
    site.sim.plug_in(Car(wants_kwh=60))
    line = site.sim.line
    line.loss, line.duplicate, line.reorder, line.corrupt = 0.15, 0.1, 0.05, 0.05
    line._random.seed(seed)
    await site.start(plugged=False)
    for round_ in range(4):
        await site.maker.set_trouble(ServerTrouble.DEAD if round_ % 2 else ServerTrouble.NONE)
        await site.clock.advance(900)
    assert {each.offline for each in site.commands()} <= {16}
    assert max(each.online for each in site.commands()) <= 12
    assert site.sim.writes == 0
    assert site.box.counts["taken_over"] >= 1


async def handed_back_site(make_site: MakeSite) -> Site:
    """Return a site whose server came back during an override and, as a load group, ended that override."""
    site = await night_site(make_site, replace(ALONE, in_maker_load_group=True))
    await lose(site)
    site.box.set_override(on=True)
    await site.clock.advance(60)
    await site.maker.set_trouble(ServerTrouble.NONE)
    await site.clock.advance(300)
    assert site.box.issues == {BoxIssue.OVERRIDE_HANDED_BACK}
    return site


async def test_override_set_again_at_server_clears_handed_back_issue(make_site: MakeSite) -> None:
    site = await handed_back_site(make_site)
    site.unit.override_time = 1
    await site.clock.advance(60)
    assert (site.sim.amperes, site.box.issues) == (16, set())


async def test_unplugging_clears_handed_back_override_issue(make_site: MakeSite) -> None:
    site = await handed_back_site(make_site)
    site.sim.unplug()
    await site.clock.advance(60)
    assert site.box.issues == set()


async def test_leaving_server_load_group_clears_handed_back_override_issue(make_site: MakeSite) -> None:
    site = await handed_back_site(make_site)
    site.box.configure(ALONE)
    assert site.box.issues == set()


@pytest.mark.parametrize("how", ["taken_away", "died"])
async def test_server_loss_clears_unsafe_server_issue(make_site: MakeSite, how: str) -> None:
    site = make_site(config=ALONE)
    await site.start()
    await site.clock.advance(60)
    await site.maker.set_trouble(ServerTrouble.UNSAFE_CURRENT)
    await site.clock.advance(60)
    assert site.box.issues == {BoxIssue.UNSAFE_SERVER}
    if how == "died":
        await lose(site)
        await site.clock.advance(200)
    else:
        site.ours.set_upstream(None)
    assert (site.mode, site.box.issues) == (Mode.KEEP, set())


async def test_offline_current_change_survives_command_ignored_before(make_site: MakeSite) -> None:
    site = make_site(served=False, config=ALONE)
    await site.start()
    await site.clock.advance(400)
    site.sim.obeys = False
    site.box.set_current(10)
    await site.clock.advance_until(lambda: site.box.state.online == 10, within=31)
    await site.clock.advance(21)  # two statuses without the new current; after a third the command counts as ignored
    assert site.box.issues == set()
    site.box.change_offline(20)
    site.sim.obeys = True
    await site.clock.advance(100)
    assert (site.sim.stored, site.box.state.offline, site.sim.amperes, site.box.issues) == (20, 20, 10, set())
