"""The poller: it asks when due, sooner when woken, and continues until it is stopped."""

from custom_components.chargekeeper.core.errors import TransportDown
from custom_components.chargekeeper.core.poller import Poller
from tests.simulators.clock import VirtualClock

EVERY = 30.0


class Server:
    """A server that a poller asks; its answers may fail."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.status_received_at: list[float] = []
        self.due_at = self.clock.monotonic()
        self.failure: TransportDown | None = None
        self.poller = Poller(self.clock, "a server", lambda: self.due_at, self.ask)

    async def ask(self) -> None:
        self.status_received_at.append(self.clock.monotonic())
        self.due_at = self.clock.monotonic() + EVERY
        if self.failure is not None:
            raise self.failure


async def test_poller_asks_when_due_and_continues_after_failure() -> None:
    server = Server()
    begun_at = server.clock.monotonic()
    server.failure = TransportDown("timeout")
    server.poller.start()
    await server.clock.advance(2.5 * EVERY)
    assert server.poller.running
    assert server.status_received_at == [begun_at, begun_at + EVERY, begun_at + 2 * EVERY]
    await server.poller.stop()


async def test_woken_poller_asks_only_when_due() -> None:
    server = Server()
    server.poller.start()
    await server.clock.advance(10)
    server.poller.wake()  # too early: nothing is due
    await server.clock.settle()
    assert len(server.status_received_at) == 1
    server.due_at = server.clock.monotonic()
    server.poller.wake()
    await server.clock.settle()
    assert server.status_received_at[1:] == [server.clock.monotonic()]
    await server.poller.stop()


async def test_poller_can_be_stopped_and_started_again() -> None:
    server = Server()
    await server.poller.stop()
    server.poller.start()
    await server.clock.settle()
    await server.poller.stop()
    assert not server.poller.running
    await server.clock.advance(3 * EVERY)
    assert len(server.status_received_at) == 1
    server.poller.start()
    await server.clock.settle()
    assert len(server.status_received_at) == 2
    await server.poller.stop()
