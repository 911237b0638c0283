"""The simulation: short runs hold every invariant, the same seed gives the same run, planted defects are caught."""

import pytest

from tests.simulation.episode import play
from tests.simulation.parts import ON, READY
from tests.simulation.plants import PLANTS, planted

CLEAN_HOURS = 48.0
PLANT_HOURS, PLANT_EPISODES = 60.0, 4
FIRST_EPISODES = {"room-is-limit": 2}
"""The first episode with a house that shows the defect."""


@pytest.mark.parametrize("seed", [11, 12])
async def test_no_invariant_violated_in_48_hours_of_trouble(seed: int) -> None:
    counts, violation = await play(seed, 0, CLEAN_HOURS)

    assert violation is None, str(violation)
    # A run without events proves nothing.
    assert counts.events["cloud lost"] > 0
    assert counts.events["kills"] > 0
    assert sum(counts.ends.values()) > 0


async def test_same_seed_gives_same_run() -> None:
    once, _ = await play(3, 0, 12.0)
    again, _ = await play(3, 0, 12.0)
    other, _ = await play(4, 0, 12.0)

    assert once.fingerprint == again.fingerprint
    assert once.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    "name", [name for name, plant in PLANTS.items() if not plant.boxes and plant.parts <= ON | READY]
)
async def test_planted_defect_caught_by_its_invariant(name: str) -> None:
    violation = None
    with planted(name):
        first = FIRST_EPISODES.get(name, 0)
        for episode in range(first, first + PLANT_EPISODES):
            _, violation = await play(7, episode, PLANT_HOURS, ON | PLANTS[name].parts)
            if violation is not None:
                break

    assert violation is not None, f"not caught in {PLANT_EPISODES * PLANT_HOURS:.0f} h"
    assert violation.invariant == PLANTS[name].invariant, str(violation)
