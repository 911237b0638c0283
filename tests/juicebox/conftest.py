"""Real loopback sockets on virtual time."""

from collections.abc import AsyncIterator

import pytest

from tests.simulators.clock import VirtualClock

from .rig import ListenerRig


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[ListenerRig]:
    """A listener on two ports, with nothing listed."""
    rig = ListenerRig(VirtualClock())
    rig.listener.open("127.0.0.1", rig.ports)
    yield rig
    rig.close()
