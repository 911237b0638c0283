"""Real loopback sockets on virtual time."""

from collections.abc import AsyncIterator, Callable

import pytest

from tests.simulators.clock import VirtualClock

from .rig import ListenerRig
from .site import Site


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[ListenerRig]:
    """A listener on two ports, with nothing listed."""
    rig = ListenerRig(VirtualClock())
    rig.listener.open("127.0.0.1", rig.ports)
    yield rig
    rig.close()


type MakeSite = Callable[..., Site]


@pytest.fixture
async def make_site(socket_enabled: None) -> AsyncIterator[MakeSite]:
    """Builds sites, and stops them after the test."""
    sites: list[Site] = []

    def make(**given: object) -> Site:
        site = Site(**given)  # type: ignore[arg-type]
        sites.append(site)
        return site

    yield make
    for site in sites:
        await site.stop()


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    """A plugged-in v09u box that its maker's server answers through us."""
    site = make_site()
    await site.start()
    await site.clock.advance(60)
    site.mark()
    return site
