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


class Roads:
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
    assert Roads(prefer).route == expected


async def test_lost_transport_left_out_of_route() -> None:
    roads = Roads()
    await lose(roads.cloud)
    assert roads.route == [BLUETOOTH, LINKED]
    roads.cloud.tell()  # half-open after one good answer counts
    assert not roads.cloud.breaker.closed
    assert roads.route == [CLOUD, BLUETOOTH, LINKED]


def test_transport_that_sees_charger_comes_first_offline_transport_left_out() -> None:
    roads = Roads()
    roads.cloud.is_present, roads.bluetooth.is_present = Presence.UNKNOWN, Presence.OFFLINE
    assert roads.route == [LINKED, CLOUD]
    assert [transport.source for transport in roads.router.ordered()] == [LINKED, CLOUD, BLUETOOTH]
    roads.linked.is_present = Presence.OFFLINE
    assert next(transport.source for transport in roads.router.ordered()) is CLOUD


def test_busy_transport_comes_after_others_with_same_presence() -> None:
    roads = Roads()
    roads.cloud.breaker.throttled(60)
    assert roads.route == [BLUETOOTH, LINKED, CLOUD]
    roads.linked.is_present = Presence.UNKNOWN
    assert roads.route == [BLUETOOTH, CLOUD, LINKED]


def test_route_holds_only_transports_with_capability() -> None:
    roads = Roads()
    roads.cloud.can = frozenset({Capability.RESTART})
    assert roads.route == [BLUETOOTH, LINKED]
    first = roads.router.first(Capability.RESTART)
    assert first is not None
    roads.cloud.can = frozenset()
    assert roads.router.first(Capability.RESTART) is roads.bluetooth
    assert [transport.source for transport in roads.router.require(CURRENT)] == [BLUETOOTH, LINKED]


def test_transport_usable_only_while_charger_is_present() -> None:
    roads = Roads()
    assert usable(roads.cloud)
    roads.cloud.is_present = Presence.UNKNOWN
    assert not usable(roads.cloud)


def refused(roads: Roads, capability: Capability = CURRENT) -> tuple[type[Exception], str, str]:
    with pytest.raises((TransportDown, Unsupported)) as caught:
        roads.router.require(capability)
    assert roads.router.first(capability) is None
    return caught.type, caught.value.reason, caught.value.detail


async def test_refusal_names_start_of_outage() -> None:
    roads = Roads(Prefer.CLOUD_ONLY)
    began = roads.clock.now()
    await lose(roads.cloud)
    assert refused(roads) == (TransportDown, "no_path", began.isoformat())


def test_refusal_brings_next_probe_forward() -> None:
    roads = Roads(Prefer.LOCAL_ONLY)
    roads.bluetooth.is_present = roads.linked.is_present = Presence.OFFLINE
    roads.cloud.breaker.bad(Failure.OTHER)
    assert refused(roads) == (TransportDown, "local_lost", "")
    assert roads.cloud.breaker.due == roads.clock.monotonic()


async def test_refusal_names_outage_although_local_transports_are_lost_too() -> None:
    roads = Roads()
    began = roads.clock.now()
    await lose(roads.cloud)
    roads.bluetooth.is_present = roads.linked.is_present = Presence.OFFLINE
    assert refused(roads) == (TransportDown, "no_path", began.isoformat())
    roads.cloud.tell(Status.OFFLINE)
    assert refused(roads) == (TransportDown, "charger_offline", "")


@pytest.mark.parametrize(("prefer", "capable"), [(Prefer.LOCAL_ONLY, CLOUD), (Prefer.CLOUD_ONLY, LINKED)])
async def test_command_not_admitted_if_only_excluded_transport_is_capable(prefer: Prefer, capable: Source) -> None:
    roads = Roads(prefer)
    for transport in (roads.cloud, roads.bluetooth, roads.linked):
        transport.can = frozenset({CURRENT} if transport.source is capable else ())
    assert refused(roads) == (TransportDown, "no_admitted_path", "")
    await lose(roads.cloud)
    assert refused(roads) == (TransportDown, "no_admitted_path", ""), "whatever the cloud does"
    with pytest.raises(TransportDown, match="no_admitted_path"):
        roads.router.admit(CURRENT)


def test_command_without_capable_transport_unsupported_when_local_only() -> None:
    roads = Roads(Prefer.LOCAL_ONLY)
    roads.cloud.can = roads.bluetooth.can = roads.linked.can = frozenset()
    roads.router.admit(CURRENT)
    assert refused(roads) == (Unsupported, "unsupported", "current")


def test_command_without_capable_transport_unsupported_after_report() -> None:
    roads = Roads()
    roads.cloud.can = roads.bluetooth.can = roads.linked.can = frozenset()
    assert refused(roads) == (Unsupported, "unsupported", "current")


def test_command_refused_without_transports_or_reports() -> None:
    roads = Roads()
    roads.router.transports = {}
    assert refused(roads) == (TransportDown, "no_path", "")
    roads.router.transports = {CLOUD: FakeTransport(roads.device)}
    roads.router.transports[CLOUD].can = frozenset()  # type: ignore[attr-defined]
    assert refused(roads) == (TransportDown, "no_path", "")


async def test_patience_depends_on_breaker_state() -> None:
    roads = Roads()
    await roads.router.send(roads.cloud, SetCurrent(10))
    roads.cloud.breaker.bad(Failure.OTHER)
    await roads.router.send(roads.cloud, SetCurrent(12))
    assert roads.cloud.patience == [PATIENCE, PATIENCE_IN_DOUBT] == [5.0, 3.0]


async def test_command_refused_while_home_assistant_stops() -> None:
    roads = Roads()
    roads.context.stopping = True
    with pytest.raises(NoConnection, match="stopping") as caught:
        await roads.router.send(roads.cloud, SetCurrent(10))
    assert caught.value.surely_not_sent
    assert roads.cloud.commands == []


async def test_read_back_happens_at_delays_of_transport() -> None:
    roads = Roads()
    roads.cloud.read_back_delays = (2.0, 7.0, 15.0)
    looked: list[float] = []
    begun = roads.clock.monotonic()
    roads.router.read_back(roads.cloud)
    for _ in range(20):
        before = roads.cloud.checks
        await roads.clock.advance(1)
        looked += [roads.clock.monotonic() - begun] * (roads.cloud.checks - before)
    assert looked == [2, 7, 15]
    await roads.context.end_tasks()


async def test_status_read_on_busy_transport_keeps_earlier_status() -> None:
    roads = Roads()
    status_received_at = roads.cloud.status_received_at
    await roads.clock.advance(5)
    roads.cloud.check_error = TransportBusy("no_room", 30)
    await roads.router.read_status(roads.cloud)
    assert (roads.cloud.checks, roads.cloud.status_received_at) == (1, status_received_at)
    roads.cloud.check_error = None
    await roads.router.read_status(roads.cloud)
    assert roads.cloud.status_received_at == roads.clock.monotonic()
    assert roads.cloud.last_report is not None
    assert roads.cloud.last_report.status is Status.WAITING_SCHEDULE
