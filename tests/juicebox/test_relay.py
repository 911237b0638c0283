"""Tests of the relay: the permitted part of the server's current reaches the box, the rest passes unchanged.

This file implements the rule a second time (docs/design.md, section 0.3). Overrides, during which no command of the
server passes, are tested in test_box.py.
"""

from dataclasses import dataclass, field, replace
from math import floor, inf

from hypothesis import example, given, strategies as st
import pytest

from custom_components.chargekeeper.juicebox.box import Box, BoxConfig, BoxIssue, Mode
from custom_components.chargekeeper.juicebox.datagram import CommandMessage, parse, parse_command
from custom_components.chargekeeper.juicebox.listener import Arrival
from custom_components.chargekeeper.juicebox.state import BoxState
from tests.simulators.clock import VirtualClock

from .conftest import MakeSite
from .rig import HERE, line
from .site import Site
from .vectors import SERIAL

LOWEST = 6
UNIT_RATING = 40


@dataclass(frozen=True, kw_only=True)
class Step:
    """Limits that hold from now on, and the server's next command."""

    online: int
    stored: int
    wire: int | None = 32
    own_limit: int | None = None
    share: float | None = None
    wanted: int | None = None
    paused: bool = False
    read_only: bool = False


@dataclass
class BoxLine:
    """A box without a network, with the commands that reach it."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    arrived: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = BoxConfig(serial=SERIAL, host=HERE)
        self.box = Box(self.clock, self.config, BoxState(), lambda _data, _suspect: None)

    def send(self, step: Step) -> bytes:
        """Let the box report and the server answer. Return the server's command."""
        self.config = replace(
            self.config, wire_rating=step.wire, load_group_limit=step.own_limit, read_only=step.read_only
        )
        self.box.configure(self.config)
        self.box.share = step.share
        self.box.state.charging_current = step.wanted
        self.box.state.paused = step.paused
        data = line(uptime=self.clock.monotonic())
        message = parse(data)
        self.box.arrived(Arrival(message, data, (HERE, 9), self._answer))  # type: ignore[arg-type]
        index = self.box.state.index % 999 + 1
        order = CommandMessage(
            weekday=1, hour=2, minute=3, online=step.online, offline=step.stored, flags=6, index=index, wide=True
        )
        self.box.from_server(order.encode())
        return order.encode()

    def _answer(self, data: bytes) -> bool:
        self.arrived.append(data)
        return True


def permitted(step: Step) -> int:
    """Return the current in A that may reach the box."""
    limits = [step.online, UNIT_RATING, step.wire, step.own_limit, step.share]
    if not step.read_only:
        limits += [step.wanted, 0 if step.paused else None]
    left = floor(min(limit for limit in limits if limit is not None))
    return left if left >= LOWEST else 0


AMPERES = st.integers(LOWEST, 80)
STEPS = st.builds(
    Step,
    online=st.integers(0, 99),
    stored=st.integers(0, 99),
    wire=st.none() | AMPERES,
    own_limit=st.none() | AMPERES,
    share=st.none() | st.floats(0, 80),
    wanted=st.none() | AMPERES,
    paused=st.booleans(),
    read_only=st.booleans(),
)


@given(steps=st.lists(STEPS, min_size=1, max_size=12))
@example(steps=[Step(online=30, stored=16), *(Step(online=amps, stored=40) for amps in (30, 10, 0))])
@example(steps=[Step(online=16, stored=40)])
@example(steps=[Step(online=amps, stored=16) for amps in (24, 0, 40)])
def test_relay_passes_permitted_part_of_each_command(steps: list[Step]) -> None:
    rig = BoxLine()
    known: int | None = None
    for step in steps:
        order = rig.send(step)
        highest = max(80 if step.wire is None else step.wire, inf if known is None else known)
        stored = step.stored if step.stored <= highest else known
        [data] = rig.arrived
        rig.arrived.clear()
        found = parse_command(data)
        asked = parse_command(order)
        assert isinstance(found, CommandMessage)
        assert isinstance(asked, CommandMessage)
        assert (found.online, found.offline) == (permitted(step), stored)
        assert replace(found, online=asked.online, offline=asked.offline) == asked, "the rest passes as it is"
        if found == asked:
            assert data == order
        assert rig.box.state.offline == stored
        issues = rig.box.issues
        borne = min(limit for limit in (UNIT_RATING, step.wire, step.own_limit) if limit is not None)
        assert (BoxIssue.UNSAFE_SERVER in issues) is (step.online > borne)
        assert (BoxIssue.UNSAFE_STORED in issues) is (stored != step.stored)
        above_wire_rating = step.wire is not None and (rig.box.state.stored or 0) > step.wire
        assert (BoxIssue.OFFLINE_ABOVE_WIRE in issues) is above_wire_rating
        assert rig.box.mode is Mode.RELAY
        known = stored


async def amperes(site: Site, *currents: int) -> list[int]:
    """Set each current at the server. Return the currents that reach the box with its next status."""
    passed = []
    for amps in currents:
        site.unit.limit = amps
        await site.clock.advance(31)
        passed.append(site.last.online)
    return passed


async def server_with(site: Site, *, online: int, stored: int) -> None:
    """Change the limits at the maker's server, and wait for the next status."""
    site.unit.wire_rating = 40
    site.unit.limit = online
    site.unit.stored = stored
    await site.clock.advance(31)


async def test_lower_current_passes_at_once_while_offline_current_is_too_high(site: Site) -> None:
    await server_with(site, online=30, stored=40)
    assert site.box.issues == {BoxIssue.UNSAFE_STORED}
    assert await amperes(site, 30, 10, 0) == [30, 10, 0]
    assert (site.sim.amperes, site.sim.stored, site.sim.writes) == (0, 16, 0)


async def test_lower_current_passes_at_once_after_excessive_current(site: Site) -> None:
    await server_with(site, online=40, stored=16)
    assert (site.last.online, site.box.issues) == (32, {BoxIssue.UNSAFE_SERVER})
    assert await amperes(site, 30, 10, 0, 40) == [30, 10, 0, 32]


async def test_first_command_passes_despite_excessive_offline_current(make_site: MakeSite) -> None:
    """Pass an offline current that is too high while no lower value is known."""
    site = make_site()
    site.unit.wire_rating = 40
    site.unit.limit = 16
    site.unit.stored = site.sim.stored = 40
    await site.start()
    await site.clock.advance(1)
    assert (site.last.online, site.last.offline, site.masters()) == (16, 40, {"server"})
    assert site.box.issues == {BoxIssue.OFFLINE_ABOVE_WIRE}, "it is told at once"
    await site.clock.advance(600)
    assert (site.sim.fallbacks, site.sim.writes, site.box.state.offline) == (0, 0, 40)
    site.unit.stored = 48
    await site.clock.advance(31)
    assert (site.last.offline, site.box.issues) == (40, {BoxIssue.OFFLINE_ABOVE_WIRE, BoxIssue.UNSAFE_STORED})
    site.unit.stored = 36
    await site.clock.advance(31)
    assert (site.last.offline, site.box.state.offline) == (36, 36), "lower is always passed"


async def test_box_charges_again_after_server_sent_0(site: Site) -> None:
    site.unit.wire_rating = 40
    assert await amperes(site, 24, 0, 40) == [24, 0, 32]


@pytest.mark.parametrize("trouble", [BoxIssue.UNSAFE_SERVER, BoxIssue.UNSAFE_STORED])
async def test_take_over_clears_server_issues(site: Site, trouble: BoxIssue) -> None:
    await server_with(site, online=40 if trouble is BoxIssue.UNSAFE_SERVER else 30, stored=16)
    if trouble is BoxIssue.UNSAFE_STORED:
        site.unit.stored = 40
    await site.clock.advance(31)
    assert site.box.issues == {trouble}
    await site.maker.stop()
    await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=200)
    assert site.box.issues == set()
    assert site.last.online == (32 if trouble is BoxIssue.UNSAFE_SERVER else 30), "it goes on with what it had"


async def test_offline_current_from_server_survives_restart(make_site: MakeSite) -> None:
    """Restore even an excessive offline current, because the first command passed unchanged."""
    site = make_site()
    site.unit.wire_rating = 40
    site.unit.stored = 99
    await site.start()
    await site.clock.advance(60)
    await site.restart()
    assert site.box.state.offline == 99
