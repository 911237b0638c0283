"""Tests of a stranger that imitates a box: the real box wins back, and the stranger's values end.

The box's Wi-Fi is off for two minutes. The stranger knows the serial number and sends plausible statuses.
"""

from collections.abc import AsyncIterator

import pytest

from custom_components.chargekeeper.juicebox.box import BoxIssue, Mode
from custom_components.chargekeeper.juicebox.listener import SILENT_BEFORE_MOVE

from .conftest import MakeSite
from .rig import HERE, THERE, Sender, line
from .site import Site


@pytest.fixture
async def taken_over(make_site: MakeSite) -> AsyncIterator[tuple[Site, Sender]]:
    """Yield a site with a kept, paused box, and a stranger that the listener accepted in place of the box."""
    site = make_site(served=False)
    await site.start()
    await site.clock.advance(400)
    assert site.mode is Mode.KEEP
    site.box.set_charging(on=False)
    await site.clock.advance(60)
    assert site.sim.amperes == 0
    stranger = Sender(THERE)
    site.sim.wifi = False
    await site.clock.advance(SILENT_BEFORE_MOVE)
    for _ in range(3):
        await send_status(site, stranger)
    assert site.ours.listener.host_of(site.box.config.serial) == THERE
    assert stranger.received(), "it is answered"
    yield site, stranger
    stranger.close()


async def send_status(site: Site, stranger: Sender) -> None:
    """Send a status of the stranger with slightly more energy than the box has."""
    uptime = site.clock.monotonic()
    stranger.send(line(uptime=uptime, lifetime=int(site.sim.lifetime_wh) + 900), site.port)
    await site.clock.advance(20)


async def test_stranger_with_absurd_energy_is_rejected(make_site: MakeSite) -> None:
    site = make_site(served=False)
    await site.start()
    await site.clock.advance(400)
    stranger = Sender(THERE)
    before = site.box.state.lifetime
    site.sim.wifi = False
    await site.clock.advance(SILENT_BEFORE_MOVE)
    for _ in range(4):
        stranger.send(line(uptime=site.clock.monotonic(), lifetime=4_000_000_000), site.port)
        await site.clock.advance(20)
    assert stranger.received() == []
    stranger.close()
    assert site.box.state.lifetime == before
    assert site.ours.listener.host_of(site.box.config.serial) == HERE


async def test_real_box_is_served_again_before_fallback(taken_over: tuple[Site, Sender]) -> None:
    site, stranger = taken_over
    site.sim.wifi = True
    issues = set()
    site.mark()
    for _ in range(5):
        await send_status(site, stranger)
        issues |= site.box.issues
    assert BoxIssue.TWO_ADDRESSES in issues, "the user is told while both speak"
    assert site.box.issues == set()
    assert site.ours.listener.host_of(site.box.config.serial) == HERE
    assert site.commands()
    assert (site.sim.fallbacks, site.sim.amperes) == (0, 0), "it is still paused"
    assert site.box.state.lifetime == int(site.sim.lifetime_wh)


async def test_real_box_wins_back_after_restart(taken_over: tuple[Site, Sender]) -> None:
    site, _ = taken_over
    await site.restart()
    assert site.ours.listener.host_of(site.box.config.serial) == THERE, "a box that moved is followed over a restart"
    site.sim.wifi = True
    await site.clock.advance(95)
    assert site.ours.listener.host_of(site.box.config.serial) == HERE
    assert site.sim.amperes == 0


async def test_stranger_with_absurd_energy_is_rejected_after_restart(make_site: MakeSite) -> None:
    site = make_site(served=False)
    await site.start()
    await site.clock.advance(400)
    site.sim.wifi = False
    await site.restart()
    await site.clock.advance(SILENT_BEFORE_MOVE)
    stranger = Sender(THERE)
    for _ in range(4):
        stranger.send(line(uptime=site.clock.monotonic(), lifetime=4_000_000_000), site.port)
        await site.clock.advance(20)
    stranger.close()
    assert site.ours.listener.host_of(site.box.config.serial) == HERE


async def test_address_confirmed_by_user_counts_at_once(taken_over: tuple[Site, Sender]) -> None:
    site, stranger = taken_over
    serial = site.box.config.serial
    site.ours.trust(serial, HERE)
    stranger.received()
    await send_status(site, stranger)
    assert stranger.received() == [], "it is not answered any more"
    assert (site.ours.listener.host_of(serial), site.box.state.host, site.box.state.pinned) == (HERE, HERE, HERE)
    site.ours.trust("1", HERE)
    assert site.ours.listener.host_of("1") is None, "nothing is known of that box"


async def test_address_dispute_ends_when_only_new_address_sends(taken_over: tuple[Site, Sender]) -> None:
    """Move the box while its old address sends an implausible status."""
    site, stranger = taken_over
    replay = Sender(HERE)
    replay.send(line(uptime=1, lifetime=10**6), site.port)
    await send_status(site, stranger)
    assert BoxIssue.TWO_ADDRESSES in site.box.issues
    for _ in range(31):
        await send_status(site, stranger)
    replay.close()
    assert BoxIssue.TWO_ADDRESSES not in site.box.issues
