"""One episode: a new house for at most 100 hours; its seed alone decides its contents and events."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
import logging
import random as global_random
from random import Random
import time

from tests.simulation.happenings import Process
from tests.simulation.house import House
from tests.simulation.part_processes import kinds_with
from tests.simulation.parts import ON, Part
from tests.simulation.processes import CHANGES_OF_CLOCKS
from tests.simulation.report import Broken, Counts, Violation
from tests.simulation.scene import HOUR, LOGGER, Scene, Secrets

EPISODE_HOURS = 100.0
LOOK_EVERY = 60.0


async def play(seed: int, number: int, hours: float, parts: frozenset[Part] = ON) -> tuple[Counts, Violation | None]:
    """Play episode `number` of a seed for `hours`; return the counts, and the violation that ended the episode."""
    name = f"{seed}/{number}"
    random = Random(name)
    start = random.choice(CHANGES_OF_CLOCKS) - timedelta(hours=random.uniform(-200, 90))
    global_random.seed(name)
    begun = time.perf_counter()  # real time, for the report only
    house = House(name, start, chargers=random.choice([3, 4]), parts=parts)
    with listening(house):
        await house.cloud.start()
        try:
            violation = await to_its_end(Episode(house, random, kinds_with(parts)), hours)
        finally:
            await house.cloud.stop()
    house.counts.hours = house.hours
    return told(house, begun, number, violation)


async def to_its_end[S: Scene](episode: Episode[S], hours: float) -> Violation | None:
    """Play an episode; return the violation that ended it, if any."""
    house = episode.house
    try:
        await episode.run(hours)
    except Broken as broken:
        return broken.violation
    finally:
        house.kill_home()
        await house.bury_home()
    return None


def told(house: Scene, begun: float, number: int, violation: Violation | None) -> tuple[Counts, Violation | None]:
    """Return the counts and the violation of an episode; `begun` is its start in real time."""
    house.counts.seconds = time.perf_counter() - begun
    return house.counts, None if violation is None else replace(violation, episode=number)


class Episode[S: Scene]:
    """The processes of a house, in the order of their turns."""

    def __init__(self, house: S, random: Random, kinds: Iterable[type[Process[S]]]) -> None:
        self.house = house
        cooldown = random.choice([0.5, 1.0, 2.0, 4.0])
        self.processes = [kind(house, Random(f"{random.random()} {kind.label}"), cooldown) for kind in kinds]
        self._due: dict[Process[S], float] = {}

    async def run(self, hours: float) -> None:
        """Play the episode to its end. Raises Broken."""
        house = self.house
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
        """Let time pass up to a moment of the house, and check the invariants every minute. Raises Broken."""
        house = self.house
        while house.now < until:
            await house.clock.advance(min(LOOK_EVERY, until - house.now))
            await self.rest()

    async def rest(self) -> None:
        """Wait until all work is done, clear away a killed run, and check the invariants."""
        house = self.house
        await house.clock.settle()
        if house.run is not None and house.run.dead:
            await house.bury_home()
            await house.clock.settle()
            for process in self.processes:
                if (wait := process.home_died()) is not None:
                    self._due[process] = house.now + wait
        house.look()

    async def calm_down(self) -> None:
        """Heal everything and unplug all cars: every intent must reach its end."""
        house = self.house
        house.note("all is healed")
        for process in self.processes:
            await process.heal()
        if house.run is None:
            house.start_home()
        await self.pass_time(house.now + house.calm_hours * HOUR)
        for change in (house.plug_all_in, house.unplug_all):
            change()
            await self.pass_time(house.now + house.last_hours * HOUR)
        for watch in house.watches:
            watch.ended()
        house.raise_if_broken()
        await house.stop_home()
        await house.clock.settle()
        house.raise_if_broken()


@contextmanager
def listening(house: Scene) -> Iterator[None]:
    """Pass our log and unhandled errors of the loop to the invariants."""
    loop = asyncio.get_running_loop()
    handler = next(watch.handler for watch in house.watches if isinstance(watch, Secrets))
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
