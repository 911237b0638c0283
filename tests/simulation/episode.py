"""One episode: a house of its own, furnished and driven by dice that its seed alone decides, for at most 100 hours."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
import logging
import random as global_random
from random import Random
import time

from tests.simulation.house import HOUR, House
from tests.simulation.invariants import LOGGER, Secrets
from tests.simulation.processes import ALL, CHANGES_OF_CLOCKS, Operator, Process
from tests.simulation.report import Broken, Counts, Violation

EPISODE_HOURS = 100.0
LOOK_EVERY = 60.0
CALM_HOURS = 3.0


async def play(seed: int, number: int, hours: float) -> tuple[Counts, Violation | None]:
    """Play episode `number` of a seed, `hours` long; what was counted, and the violation that ended it, if any."""
    name = f"{seed}/{number}"
    random = Random(name)
    start = random.choice(CHANGES_OF_CLOCKS) - timedelta(hours=random.uniform(-200, 90))
    global_random.seed(name)
    begun = time.perf_counter()  # of this machine, only to be printed
    house = House(name, start, chargers=random.choice([3, 4]))
    with listening(house):
        violation = await _play(house, hours=hours, random=random)
    house.counts.hours = house.hours
    house.counts.seconds = time.perf_counter() - begun
    if violation is not None:
        violation = Violation(violation.invariant, violation.reason, violation.hours, number, violation.trace)
    return house.counts, violation


async def _play(house: House, *, hours: float, random: Random) -> Violation | None:
    await house.cloud.start()
    try:
        await Episode(house, random).run(hours)
    except Broken as broken:
        return broken.violation
    finally:
        house.kill_home()
        await house.bury_home()
        await house.cloud.stop()
    return None


class Episode:
    """The processes of a house, taken in the order of their turns."""

    def __init__(self, house: House, random: Random) -> None:
        self._house = house
        pace = random.choice([0.5, 1.0, 2.0, 4.0])
        self.processes = [make(house, Random(f"{random.random()} {make.__name__}"), pace) for make in ALL]
        self._due: dict[Process, float] = {}

    async def run(self, hours: float) -> None:
        """Play it to the end. Raises Broken."""
        house = self._house
        end = house.now + hours * HOUR
        house.start_home()
        self._due = {process: house.now + process.begin() for process in self.processes}
        while house.now < end:
            process = min(self.processes, key=self._due.__getitem__)
            due = min(self._due[process], end)
            await self.pass_time(due)
            if due < end:
                wait = await process.turn()
                self._due[process] = house.now + wait
                await self.rest()
        await self.calm_down()

    async def pass_time(self, until: float) -> None:
        """Let time pass up to a moment of the house, and look every minute. Raises Broken."""
        house = self._house
        while house.now < until:
            await house.clock.advance(min(LOOK_EVERY, until - house.now))
            await self.rest()

    async def rest(self) -> None:
        """Everything comes to rest; a run that was killed is buried; the invariants look."""
        house = self._house
        await house.clock.settle()
        if house.home is not None and house.home.dead:
            await house.bury_home()
            await house.clock.settle()
            operator = next(process for process in self.processes if isinstance(process, Operator))
            self._due[operator] = house.now + operator.down(operator.random)
        house.look()

    async def calm_down(self) -> None:
        """All is healed and the cars leave: every intent must come to its end."""
        house = self._house
        house.note("all is healed")
        for process in self.processes:
            await process.heal()
        if house.home is None:
            house.start_home()
        await self.pass_time(house.now + CALM_HOURS * HOUR)
        for serial in house.options:
            charger = house.charger(serial)
            if charger.car is None:
                charger.plug_in()
        await self.pass_time(house.now + HOUR)
        for serial in house.options:
            house.charger(serial).unplug()
        await self.pass_time(house.now + HOUR)
        for invariant in house.invariants:
            invariant.ended()
        house.raise_if_broken()
        await house.stop_home()
        await house.clock.settle()
        house.raise_if_broken()


@contextmanager
def listening(house: House) -> Iterator[None]:
    """Our log goes to the invariants, and so does what the loop calls an unhandled error."""
    loop = asyncio.get_running_loop()
    handler = next(invariant.handler for invariant in house.invariants if isinstance(invariant, Secrets))
    level, propagate, debug = LOGGER.level, LOGGER.propagate, loop.get_debug()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.propagate = False
    loop.set_debug(False)
    previous = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: house.fail("unexpected", f"{context}"))
    try:
        yield
    finally:
        loop.set_exception_handler(previous)
        loop.set_debug(debug)
        LOGGER.propagate = propagate
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
