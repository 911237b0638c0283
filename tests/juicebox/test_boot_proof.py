"""A boot of a box is proven by a boot line and a counter that started again, never by one of them alone."""

from math import inf

import pytest

from custom_components.chargekeeper.juicebox.command_clock import CommandClock
from custom_components.chargekeeper.juicebox.datagram import StatusMessage, counter_continues
from custom_components.chargekeeper.juicebox.transport import JuiceBoxTransport
from tests.juicebox.conftest import MakeSite
from tests.juicebox.vectors import D1, SERIAL
from tests.simulators.juicebox_wire import Wire


@pytest.mark.parametrize("wire", [Wire.V09U, Wire.V07])
async def test_boot_proven_by_the_next_status_after_a_power_cut(make_site: MakeSite, wire: Wire) -> None:
    site = make_site(wire=wire)
    await site.start()
    transport = JuiceBoxTransport(site.box, site.clock)
    await site.clock.advance(300)
    assert site.box.command_clock.booted_at is None
    site.sim.switch_off()
    await site.clock.advance(20)
    off_until = site.clock.monotonic()
    site.sim.switch_on()
    await site.clock.advance(40)
    assert site.box.counts["boots"] == 1
    assert transport.booted_at is not None
    assert off_until < transport.booted_at < off_until + 40
    before = transport.booted_at
    await site.clock.advance(120)
    assert transport.booted_at == before
    transport.close()


async def test_boot_not_proven_by_a_boot_line_alone(make_site: MakeSite) -> None:
    """Anybody on the network can send such a line; the counter goes on as before."""
    site = make_site()
    await site.start()
    await site.clock.advance(300)
    site.sim._send(D1)
    await site.clock.advance(90)
    assert site.box.counts["boots"] == 1
    assert site.box.command_clock.booted_at is None


def test_boot_line_right_after_a_start_proves_no_second_boot() -> None:
    """The counter is low because the box started shortly before; it continues."""
    command_clock = CommandClock(-inf)
    command_clock.record_status(StatusMessage(SERIAL, "09u", {"u": 20}), 100.0)
    assert command_clock.record_boot(105.0)
    command_clock.record_status(StatusMessage(SERIAL, "09u", {"u": 30}), 110.0)
    assert command_clock.booted_at is None


async def test_boot_not_proven_by_the_counter_alone(make_site: MakeSite) -> None:
    site = make_site()
    await site.start()
    await site.clock.advance(300)
    send = site.sim._send
    site.sim._send = lambda message: None if b"BOT:" in message else send(message)  # type: ignore[method-assign]
    site.sim.switch_off()
    site.sim.switch_on()
    await site.clock.advance(60)
    assert site.box.counts["boots"] == 0
    assert site.box.command_clock.booted_at is None


@pytest.mark.parametrize(
    ("before", "after", "passed", "continues"),
    [
        (100.0, 110.0, 10.0, True),
        (100.0, 114.5, 10.0, True),
        (100.0, 114.6, 10.0, False),
        (100.0, 5.0, 10.0, False),
        (650.0, 4.64, 10.0, True),
        (650.0, 20.0, 10.0, False),
    ],
)
def test_counter_continues_with_time_over_its_wrap(before: float, after: float, passed: float, continues: bool) -> None:
    wrap = 655.36 if before > 600 else float("inf")
    assert counter_continues((before, wrap), (after, wrap), passed) is continues
