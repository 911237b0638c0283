"""A setting that timed out may arrive late. It is corrected downward only: somebody may have chosen the lower one."""

import pytest

from custom_components.chargekeeper.core.errors import TransportDown
from custom_components.chargekeeper.core.transport import START, STOP, SetCurrent
from tests.core.fake_transport import Bench


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.start()
    bench.device.amps = 16
    await bench.tell()
    return bench


async def test_lower_current_chosen_in_the_app_after_timed_out_command_stays(bench: Bench) -> None:
    """10 A timed out and never arrived, and 14 A took effect. Then the user sets 10 A in the manufacturer's app."""
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(SetCurrent(10))
    await bench.poll(1)
    await bench.charger.command(SetCurrent(14))
    await bench.poll(2)
    assert bench.device.amps == 14
    bench.device.amps = 10
    await bench.poll(3)
    assert bench.device.amps == 10
    assert bench.sent == [SetCurrent(10), SetCurrent(14)]


async def test_higher_current_that_arrived_late_corrected(bench: Bench) -> None:
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(SetCurrent(20))
    await bench.poll(1)
    await bench.charger.command(SetCurrent(14))
    await bench.poll(2)
    bench.device.amps = 20
    await bench.poll(2)
    assert bench.device.amps == 14
    assert bench.sent == [SetCurrent(20), SetCurrent(14), SetCurrent(14)]


async def test_pause_chosen_in_the_app_after_timed_out_pause_stays(bench: Bench) -> None:
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(STOP)
    await bench.poll(1)
    await bench.charger.command(START)
    await bench.poll(2)
    bench.device.obey(STOP)
    await bench.poll(3)
    assert START not in bench.sent[2:]
