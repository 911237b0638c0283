"""The rounds: a turn when it is due, sooner when woken, and no end but the one that was asked for."""

from custom_components.chargekeeper.core.errors import PathDown
from custom_components.chargekeeper.core.poller import Rounds
from tests.simulators.clock import VirtualClock

EVERY = 30.0


class Server:
    """What is asked; it may fail."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.asked_at: list[float] = []
        self.due_at = self.clock.monotonic()
        self.failure: PathDown | None = None
        self.rounds = Rounds(self.clock, "a server", lambda: self.due_at, self.ask)

    async def ask(self) -> None:
        self.asked_at.append(self.clock.monotonic())
        self.due_at = self.clock.monotonic() + EVERY
        if self.failure is not None:
            raise self.failure


async def test_a_turn_is_taken_when_it_is_due_and_a_failure_ends_nothing() -> None:
    server = Server()
    begun_at = server.clock.monotonic()
    server.failure = PathDown("timeout")
    server.rounds.start()
    await server.clock.advance(2.5 * EVERY)
    assert server.rounds.running
    assert server.asked_at == [begun_at, begun_at + EVERY, begun_at + 2 * EVERY]
    await server.rounds.stop()


async def test_whoever_is_woken_asks_anew_when_the_next_turn_is_due() -> None:
    server = Server()
    server.rounds.start()
    await server.clock.advance(10)
    server.rounds.wake()  # for nothing
    await server.clock.settle()
    assert len(server.asked_at) == 1
    server.due_at = server.clock.monotonic()
    server.rounds.wake()
    await server.clock.settle()
    assert server.asked_at[1:] == [server.clock.monotonic()]
    await server.rounds.stop()


async def test_the_rounds_may_be_stopped_and_started_again() -> None:
    server = Server()
    await server.rounds.stop()
    server.rounds.start()
    await server.clock.settle()
    await server.rounds.stop()
    assert not server.rounds.running
    await server.clock.advance(3 * EVERY)
    assert len(server.asked_at) == 1
    server.rounds.start()
    await server.clock.settle()
    assert len(server.asked_at) == 2
    await server.rounds.stop()
