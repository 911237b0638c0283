"""What a box's statuses prove of a command: only a limit that had to change, and did (docs/design.md, section 0.1)."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.model import CHARGING_CURRENT, LIMIT_IN_FORCE, OFFLINE_CURRENT, Capability
from custom_components.chargekeeper.core.transport import SetCurrent
from custom_components.chargekeeper.juicebox.box import BoxConfig, BoxIssue
from custom_components.chargekeeper.juicebox.command_tracker import IGNORED_IN_A_ROW, SHOWS_WITHIN, CommandTracker
from custom_components.chargekeeper.juicebox.datagram import StatusMessage
from tests.simulators.juicebox import Shows

from .conftest import MakeSite
from .rig import HERE
from .site import Site
from .test_transport import ChargerRig
from .vectors import SERIAL

WIRED_FOR_40 = BoxConfig(serial=SERIAL, host=HERE, wire_rating=40, in_maker_load_group=False)

AMPS = st.sampled_from([0, 6, 8, 14, 16, 32, 38, 40])


def limits(first: int | None, second: int | None) -> StatusMessage:
    """Return a status with these two limits, in A."""
    shown = {"M": first, "C": second, "m": 40}
    return StatusMessage(SERIAL, "09u", {letter: amps for letter, amps in shown.items() if amps is not None})


def outcomes(rig: ChargerRig) -> list[str]:
    """Return what became of the commands, from the first to the last."""
    commands = rig.charger.diagnostics()["commands"]
    assert isinstance(commands, list)
    return [each["outcome"] for each in commands]


async def alone(make_site: MakeSite, *, offline: int, config: BoxConfig = WIRED_FOR_40, **box: object) -> ChargerRig:
    """Return a plugged-in v09u box without a server, whose offline current the user confirmed."""
    site: Site = make_site(served=False, config=config)
    for name, value in box.items():
        setattr(site.sim, name, value)
    await site.start()
    site.box.confirm_offline(offline)
    rig = ChargerRig(site)
    await site.clock.advance(31)
    return rig


async def test_constant_second_limit_hides_no_ignored_command(make_site: MakeSite) -> None:
    rig = await alone(make_site, offline=8, stored=32, constants={"C": 8})
    site = rig.site
    site.sim.online_may_exceed = True
    await rig.charger.command(SetCurrent(32))
    await site.clock.advance(60)
    assert (rig.charger.snapshot.value(CHARGING_CURRENT), site.box.issues) == (32, set())
    site.sim.constants = {"M": 32, "C": 8}
    site.sim.obeys = False
    await rig.charger.command(SetCurrent(14))
    await site.clock.advance(3 * 10 + 5)
    assert site.last.online == 32
    assert BoxIssue.IGNORES_COMMANDS in site.box.issues
    assert rig.charger.snapshot.value(CHARGING_CURRENT) == 32
    assert rig.charger.snapshot.value(LIMIT_IN_FORCE) == 32
    await site.clock.advance(700)
    assert outcomes(rig)[-1] == "failed"


async def test_box_from_the_start_at_constants_shows_its_own_current(make_site: MakeSite) -> None:
    """No command has shown which limit is in force, and the second one always equals the stored limit."""
    rig = await alone(make_site, offline=8, stored=32, obeys=False, constants={"M": 32, "C": 8})
    rig.site.box.set_current(32)
    await rig.clock.advance(60)
    rig.site.box.set_current(14)
    await rig.clock.advance(60)
    assert rig.site.box.issues == {BoxIssue.IGNORES_COMMANDS}
    assert rig.site.box.shown_setting == 32
    rig.site.box.set_current(32)
    await rig.clock.advance(60)
    assert rig.site.box.issues == {BoxIssue.IGNORES_COMMANDS}, "32 A is what it shows anyway"


async def test_lower_offline_current_that_the_box_keeps_is_reported(make_site: MakeSite) -> None:
    rig = await alone(make_site, offline=38, stored=38, stores=False, config=WIRED_FOR_40)
    site = rig.site
    site.config = replace(WIRED_FOR_40, wire_rating=32)
    site.box.configure(site.config)
    await rig.charger.command(SetCurrent(20))
    await site.clock.advance(60)
    assert (site.sim.in_force, site.box.issues) == (20, {BoxIssue.OFFLINE_ABOVE_WIRE})
    site.box.change_offline(32)
    await site.clock.advance(120)
    assert rig.charger.snapshot.value(OFFLINE_CURRENT) == 38
    assert site.box.issues == {BoxIssue.OFFLINE_ABOVE_WIRE, BoxIssue.OFFLINE_NOT_STORED}
    assert {each.offline for each in site.commands()[-3:]} == {32}, "only what the user confirmed is sent"
    await site.restart()
    await site.clock.advance(60)
    assert site.box.issues == {BoxIssue.OFFLINE_ABOVE_WIRE, BoxIssue.OFFLINE_NOT_STORED}
    site.sim.stores = True
    await site.clock.advance(30)
    assert (site.box.state.stored, site.box.issues, site.sim.writes) == (32, set(), 1)


async def test_higher_offline_current_that_the_box_keeps_is_reverted(make_site: MakeSite) -> None:
    rig = await alone(make_site, offline=16, stored=16, stores=False)
    site = rig.site
    await rig.charger.command(SetCurrent(10))
    await site.clock.advance(60)
    site.box.change_offline(20)
    await site.clock.advance(120)
    assert (site.box.state.stored, site.box.issues) == (16, {BoxIssue.OFFLINE_NOT_STORED})
    site.box.change_offline(20)
    assert site.box.issues == set()


async def test_limit_kept_by_the_server_is_no_issue_of_the_user(site: Site) -> None:
    site.sim.stores = False
    site.unit.limit = 10
    await site.clock.advance(60)
    site.unit.stored = 12
    await site.clock.advance(120)
    assert (site.box.state.offline, site.box.state.stored, site.box.issues) == (12, 16, set())


@pytest.mark.parametrize("swapped", [False, True])
async def test_roles_of_the_limits_are_learned_from_one_command(make_site: MakeSite, swapped: bool) -> None:
    """The stored limit is one of the values that the command allows, so only the change tells the limits apart."""
    rig = await alone(
        make_site,
        offline=16,
        stored=16,
        online_may_exceed=True,
        state_key=Shows.C_IN_FORCE if swapped else Shows.M_IN_FORCE,
    )
    await rig.charger.command(SetCurrent(32))
    await rig.clock.advance(60)
    assert (rig.site.box.in_force, rig.site.box.state.second_in_force) == (32, swapped)
    assert outcomes(rig) == ["accepted", "verified"]
    await rig.site.restart()
    await rig.clock.advance(60)
    assert (rig.site.box.in_force, rig.site.box.issues) == (32, set())


async def test_roles_of_the_limits_are_forgotten_with_the_firmware(make_site: MakeSite) -> None:
    rig = await alone(make_site, offline=16, stored=16, state_key=Shows.C_IN_FORCE)
    rig.site.box.set_current(10)
    await rig.clock.advance(60)
    assert rig.site.box.state.second_in_force
    rig.site.box.state.version = "07"
    await rig.clock.advance(31)
    assert rig.site.box.state.second_in_force is None


async def test_current_masked_by_the_offline_current_is_not_proven(make_site: MakeSite) -> None:
    """The box shows its offline current before and after the command."""
    rig = await alone(make_site, offline=16, stored=16)
    await rig.charger.command(SetCurrent(32))
    await rig.clock.advance(60)
    assert not rig.udp.proves(Capability.CURRENT)
    assert rig.site.box.issues == set()
    assert "verified" not in outcomes(rig)


def test_second_limit_may_be_in_force_while_nothing_tells() -> None:
    """It neither proves the command nor refutes it: it showed the commanded current before."""
    tracker = CommandTracker()
    tracker.record_command(10, 16, limits(16, 10))
    for _ in range(IGNORED_IN_A_ROW):
        tracker.check_status(limits(16, 10), 10, 16)
    assert (tracker.ignored, tracker.proven, tracker.follows) == (False, False, False)


def test_limit_that_takes_the_new_stored_value_tells_no_roles() -> None:
    tracker = CommandTracker()
    tracker.record_command(16, 16, limits(16, 16))
    tracker.record_command(16, 10, limits(16, 16))
    tracker.check_status(limits(10, 16), 16, 10)
    assert (tracker.proven, tracker.second_in_force) == (False, None)
    assert not tracker.keeps_stored(limits(10, 16), 10, 16), "the first limit may be the stored one"


@pytest.mark.parametrize(("offline", "overwritten"), [(32, 38), (40, 48)])
def test_stored_limit_is_kept_if_the_field_shows_it(offline: int, overwritten: int) -> None:
    tracker = CommandTracker(second_in_force=False)
    assert tracker.keeps_stored(limits(20, 38), offline, overwritten) is (overwritten == 38)
    assert not tracker.keeps_stored(limits(20, None), offline, overwritten), "it does not report it"


def test_status_without_the_limit_refutes_nothing() -> None:
    tracker = CommandTracker()
    tracker.record_command(10, 16, None)
    for _ in range(SHOWS_WITHIN):
        tracker.check_status(limits(None, None), 10, 16)
    assert (tracker.contradicted, tracker.proven) == (False, False)


@given(
    start=st.tuples(AMPS, AMPS),
    role=st.sampled_from([None, False, True]),
    steps=st.lists(st.tuples(AMPS, AMPS, st.lists(st.tuples(AMPS, AMPS), max_size=4)), max_size=5),
)
def test_limit_that_did_not_have_to_change_never_proves_a_command(
    start: tuple[int, int], role: bool | None, steps: list[tuple[int, int, list[tuple[int, int]]]]
) -> None:
    """Whatever a box shows: each proof is a change to a demanded value, since the command it proves."""
    tracker = CommandTracker(second_in_force=role)
    last = limits(*start)
    for online, offline, statuses in steps:
        tracker.record_user_change()
        tracker.record_command(online, offline, last)
        seen = [last]
        for shown in statuses:
            last = limits(*shown)
            seen.append(last)
            tracker.check_status(last, online, offline)
        demanded = {min(online, 40), min(online, offline, 40)}
        assert not tracker.proven or any(
            now in demanded and now != earlier
            for before, after in pairwise(seen)
            for earlier, now in (
                (before.limit_in_force, after.limit_in_force),
                (before.second_limit, after.second_limit),
            )
        )


@given(constant=st.tuples(AMPS, AMPS), commands=st.lists(st.tuples(AMPS, AMPS), min_size=1, max_size=8))
def test_constants_never_prove_a_command(constant: tuple[int, int], commands: list[tuple[int, int]]) -> None:
    tracker = CommandTracker()
    shown = limits(*constant)
    for online, offline in commands:
        tracker.record_command(online, offline, shown)
        for _ in range(SHOWS_WITHIN):
            tracker.check_status(shown, online, offline)
            assert not tracker.proven
    assert tracker.second_in_force is None
