"""What the cloud showed before the host was suspended proves nothing after it."""

import pytest

from custom_components.chargekeeper.core.model import STATUS, Source, Status
from custom_components.chargekeeper.core.transport import Presence
from tests.wallbox.test_transport import _Charger


@pytest.mark.parametrize(("jumped", "alive"), [(0.0, True), (3 * 3600.0, False), (-3 * 3600.0, False)])
async def test_change_since_before_a_divergence_is_no_sign_of_life(jumped: float, alive: bool) -> None:
    charger = _Charger()
    await charger.listed()
    await charger.clock.advance(5)
    charger.clock.jump(jumped)
    await charger.listed(status=194)
    assert (charger.transport.evidence_at == charger.clock.monotonic()) is alive
    assert (charger.status_value() is Status.CHARGING) is alive


async def test_evidence_of_before_a_divergence_dates_no_later_answer() -> None:
    charger = _Charger()
    await charger.listed()
    await charger.listed(status=194)
    assert charger.presence() is Presence.ONLINE
    await charger.clock.advance(5)
    charger.clock.jump(3 * 3600)
    await charger.listed(status=194)
    assert charger.presence() is Presence.UNKNOWN
    assert charger.transport.charger_reported_at is None
    assert charger.transport.status_refresh.due_at(0.0) <= charger.clock.monotonic(), "a status is read soon"


async def test_live_values_of_before_a_divergence_not_given_to_a_new_listener() -> None:
    charger = _Charger()
    await charger.listed()
    await charger.listed(status=194)
    charger.listener.latest.remove_live()
    await charger.clock.advance(1)
    charger.clock.jump(3 * 3600)
    charger.transport.listen(charger.listener)
    assert charger.listener.latest.get(STATUS) is None
    assert charger.transport.source is Source.CLOUD
