"""Routing: which transports may carry a command, in which order, and the refusal if there is none."""

import pytest

from custom_components.chargekeeper.core.breaker import Failure
from custom_components.chargekeeper.core.charger.context import ChargerOptions, Context
from custom_components.chargekeeper.core.charger.intents import IntentStore
from custom_components.chargekeeper.core.charger.router import PATIENCE, PATIENCE_IN_DOUBT, Router, usable
from custom_components.chargekeeper.core.errors import NoConnection, TransportBusy, TransportDown, Unsupported
from custom_components.chargekeeper.core.model import Capability, Prefer, Source, Status
from custom_components.chargekeeper.core.transport import Presence, SetCurrent
from tests.core.fake_transport import FakeDevice, FakeTransport
from tests.simulators.clock import VirtualClock

CURRENT = Capability.CURRENT
CLOUD, BLUETOOTH, LINKED = Source.CLOUD, Source.BLUETOOTH, Source.LINKED


class Routing:
    """A router over a cloud and two local transports, all healthy."""

    def __init__(self, prefer: Prefer = Prefer.AUTO) -> None:
        async def save(intents: dict[str, object]) -> None:
            """Save nothing."""

        self.clock = VirtualClock()
        self.device = FakeDevice(clock=self.clock)
        self.context = Context(self.clock, ChargerOptions(prefer=prefer), IntentStore(save))
        self.router = Router(self.context)
        self.cloud, self.bluetooth, self.linked = (self.add(source) for source in (CLOUD, BLUETOOTH, LINKED))

    def add(self, source: Source) -> FakeTransport:
        transport = self.router.transports[source] = FakeTransport(self.device, source=source)
        transport.tell()
        return transport

    @property
    def route(self) -> list[Source]:
        return [transport.source for transport in self.router.route(CURRENT)]


async def lose(transport: FakeTransport) -> None:
    await transport.lose()
    assert not transport.breaker.usable


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        (Prefer.AUTO, [CLOUD, BLUETOOTH, LINKED]),
        (Prefer.LOCAL_FIRST, [BLUETOOTH, LINKED, CLOUD]),
        (Prefer.CLOUD_ONLY, [CLOUD]),
        (Prefer.LOCAL_ONLY, [BLUETOOTH, LINKED]),
    ],
)
def test_route_follows_user_preference(prefer: Prefer, expected: list[Source]) -> None:
    assert Routing(prefer).route == expected


async def test_lost_transport_left_out_of_route() -> None:
    routing = Routing()
    await lose(routing.cloud)
    assert routing.route == [BLUETOOTH, LINKED]
    routing.cloud.tell()  # half-open after one good answer counts
    assert not routing.cloud.breaker.closed
    assert routing.route == [CLOUD, BLUETOOTH, LINKED]


def test_transport_that_sees_charger_comes_first_offline_transport_left_out() -> None:
    routing = Routing()
    routing.cloud.is_present, routing.bluetooth.is_present = Presence.UNKNOWN, Presence.OFFLINE
    assert routing.route == [LINKED, CLOUD]
    assert [transport.source for transport in routing.router.ordered()] == [LINKED, CLOUD, BLUETOOTH]
    routing.linked.is_present = Presence.OFFLINE
    assert next(transport.source for transport in routing.router.ordered()) is CLOUD


def test_busy_transport_comes_after_others_with_same_presence() -> None:
    routing = Routing()
    routing.cloud.breaker.throttled(60)
    assert routing.route == [BLUETOOTH, LINKED, CLOUD]
    routing.linked.is_present = Presence.UNKNOWN
    assert routing.route == [BLUETOOTH, CLOUD, LINKED]


def test_route_holds_only_transports_with_capability() -> None:
    routing = Routing()
    routing.cloud.can = frozenset({Capability.RESTART})
    assert routing.route == [BLUETOOTH, LINKED]
    first = routing.router.first(Capability.RESTART)
    assert first is not None
    routing.cloud.can = frozenset()
    assert routing.router.first(Capability.RESTART) is routing.bluetooth
    assert [transport.source for transport in routing.router.require(CURRENT)] == [BLUETOOTH, LINKED]


def test_transport_usable_only_while_charger_is_present() -> None:
    routing = Routing()
    assert usable(routing.cloud)
    routing.cloud.is_present = Presence.UNKNOWN
    assert not usable(routing.cloud)


def refused(routing: Routing, capability: Capability = CURRENT) -> tuple[type[Exception], str, str]:
    with pytest.raises((TransportDown, Unsupported)) as caught:
        routing.router.require(capability)
    assert routing.router.first(capability) is None
    return caught.type, caught.value.reason, caught.value.detail


async def test_refusal_names_start_of_outage() -> None:
    routing = Routing(Prefer.CLOUD_ONLY)
    began = routing.clock.now()
    await lose(routing.cloud)
    assert refused(routing) == (TransportDown, "no_path", began.isoformat())


def test_refusal_brings_next_probe_forward() -> None:
    routing = Routing(Prefer.LOCAL_ONLY)
    routing.bluetooth.is_present = routing.linked.is_present = Presence.OFFLINE
    routing.cloud.breaker.bad(Failure.OTHER)
    assert refused(routing) == (TransportDown, "local_lost", "")
    assert routing.cloud.breaker.due == routing.clock.monotonic()


async def test_refusal_names_outage_although_local_transports_are_lost_too() -> None:
    routing = Routing()
    began = routing.clock.now()
    await lose(routing.cloud)
    routing.bluetooth.is_present = routing.linked.is_present = Presence.OFFLINE
    assert refused(routing) == (TransportDown, "no_path", began.isoformat())
    routing.cloud.tell(Status.OFFLINE)
    assert refused(routing) == (TransportDown, "charger_offline", "")


@pytest.mark.parametrize(("prefer", "capable"), [(Prefer.LOCAL_ONLY, CLOUD), (Prefer.CLOUD_ONLY, LINKED)])
async def test_command_not_admitted_if_only_excluded_transport_is_capable(prefer: Prefer, capable: Source) -> None:
    routing = Routing(prefer)
    for transport in (routing.cloud, routing.bluetooth, routing.linked):
        transport.can = frozenset({CURRENT} if transport.source is capable else ())
    assert refused(routing) == (TransportDown, "no_admitted_path", "")
    await lose(routing.cloud)
    assert refused(routing) == (TransportDown, "no_admitted_path", ""), "whatever the cloud does"
    with pytest.raises(TransportDown, match="no_admitted_path"):
        routing.router.admit(CURRENT)


def test_command_without_capable_transport_unsupported_when_local_only() -> None:
    routing = Routing(Prefer.LOCAL_ONLY)
    routing.cloud.can = routing.bluetooth.can = routing.linked.can = frozenset()
    routing.router.admit(CURRENT)
    assert refused(routing) == (Unsupported, "unsupported", "current")


def test_command_without_capable_transport_unsupported_after_report() -> None:
    routing = Routing()
    routing.cloud.can = routing.bluetooth.can = routing.linked.can = frozenset()
    assert refused(routing) == (Unsupported, "unsupported", "current")


def test_command_refused_without_transports_or_reports() -> None:
    routing = Routing()
    routing.router.transports = {}
    assert refused(routing) == (TransportDown, "no_path", "")
    routing.router.transports = {CLOUD: FakeTransport(routing.device)}
    routing.router.transports[CLOUD].can = frozenset()  # type: ignore[attr-defined]
    assert refused(routing) == (TransportDown, "no_path", "")


async def test_patience_depends_on_breaker_state() -> None:
    routing = Routing()
    await routing.router.send(routing.cloud, SetCurrent(10))
    routing.cloud.breaker.bad(Failure.OTHER)
    await routing.router.send(routing.cloud, SetCurrent(12))
    assert routing.cloud.patience == [PATIENCE, PATIENCE_IN_DOUBT] == [5.0, 3.0]


async def test_command_refused_while_home_assistant_stops() -> None:
    routing = Routing()
    routing.context.stopping = True
    with pytest.raises(NoConnection, match="stopping") as caught:
        await routing.router.send(routing.cloud, SetCurrent(10))
    assert caught.value.surely_not_sent
    assert routing.cloud.commands == []


async def test_read_back_happens_at_delays_of_transport() -> None:
    routing = Routing()
    routing.cloud.read_back_delays = (2.0, 7.0, 15.0)
    looked: list[float] = []
    begun = routing.clock.monotonic()
    routing.router.read_back(routing.cloud)
    for _ in range(20):
        before = routing.cloud.checks
        await routing.clock.advance(1)
        looked += [routing.clock.monotonic() - begun] * (routing.cloud.checks - before)
    assert looked == [2, 7, 15]
    await routing.context.end_tasks()


async def test_status_read_on_busy_transport_keeps_earlier_status() -> None:
    routing = Routing()
    status_received_at = routing.cloud.status_received_at
    await routing.clock.advance(5)
    routing.cloud.check_error = TransportBusy("no_room", 30)
    await routing.router.read_status(routing.cloud)
    assert (routing.cloud.checks, routing.cloud.status_received_at) == (1, status_received_at)
    routing.cloud.check_error = None
    await routing.router.read_status(routing.cloud)
    assert routing.cloud.status_received_at == routing.clock.monotonic()
    assert routing.cloud.last_report is not None
    assert routing.cloud.last_report.status is Status.WAITING_SCHEDULE
