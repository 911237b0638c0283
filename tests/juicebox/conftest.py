"""Fixtures with real loopback sockets and virtual time."""

from collections.abc import AsyncIterator, Callable

import pytest

from tests.simulators.clock import VirtualClock

from .rig import ListenerRig
from .site import Site


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[ListenerRig]:
    """Yield a listener on two ports that has no listed box."""
    rig = ListenerRig(VirtualClock())
    rig.listener.open("127.0.0.1", rig.ports)
    yield rig
    rig.close()


type MakeSite = Callable[..., Site]


@pytest.fixture
async def make_site(socket_enabled: None) -> AsyncIterator[MakeSite]:
    """Yield a factory of sites. Stop its sites after the test."""
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
    """Return a started site: a v09u box with a car, answered by the maker's server through the hub."""
    site = make_site()
    await site.start()
    await site.clock.advance(60)
    site.mark()
    return site
