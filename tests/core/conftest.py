"""Stop every bench of a test after the test."""

from collections.abc import AsyncIterator

import pytest

from tests.core.fake_transport import BENCHES


@pytest.fixture(autouse=True)
async def stop_benches() -> AsyncIterator[None]:
    yield
    while BENCHES:
        await BENCHES.pop().stop()
