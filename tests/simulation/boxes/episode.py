"""One episode of the house with boxes."""

from datetime import timedelta
import random as global_random
from random import Random
import time

from tests.simulation.boxes.house import BoxHouse
from tests.simulation.boxes.invariants import ALL as INVARIANTS
from tests.simulation.boxes.processes import ALL as PROCESSES
from tests.simulation.episode import Episode, listening, to_its_end, told
from tests.simulation.processes import CHANGES_OF_CLOCKS
from tests.simulation.report import Counts, Violation


async def play(seed: int, number: int, hours: float) -> tuple[Counts, Violation | None]:
    """Play episode `number` of a seed for `hours`; return the counts, and the violation that ended the episode."""
    name = f"boxes {seed}/{number}"
    random = Random(name)
    global_random.seed(name)
    begun = time.perf_counter()  # real time, for the report only
    start = random.choice(CHANGES_OF_CLOCKS) - timedelta(hours=random.uniform(-100, 90))
    house = BoxHouse(name, start, INVARIANTS)
    with house.network.installed(), listening(house):
        await house.open()
        try:
            violation = await to_its_end(Episode(house, random, PROCESSES), hours)
        finally:
            await house.close()
    house.counts.box_hours = house.hours
    return told(house, begun, number, violation)
