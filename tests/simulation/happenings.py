"""Events of both houses: the base class of processes, and the parts that the processes of both houses share."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import ClassVar, override

from custom_components.chargekeeper.core.charger import Charger, Until
from tests.simulation.home import Run
from tests.simulation.scene import HOUR, Call, Fuse, Scene

MINUTE = 60.0


@dataclass(eq=False)
class Process[S: Scene]:
    """One source of events. `cooldown` scales its pauses: 1 is usual."""

    house: S
    random: Random
    cooldown: float
    label: ClassVar[str]
    """The seed of the process's dice, in place of the class name. A renamed class keeps its label."""
    first_after: ClassVar[float] = 2.0
    """Hours to the first turn, at the usual rate."""

    def wait(self, hours: float) -> float:
        """Return seconds to the next event, for a mean interval of this number of hours."""
        return self.random.expovariate(self.cooldown / hours) * HOUR

    def begin(self) -> float:
        """Return the seconds to the first turn."""
        return self.wait(self.first_after)

    async def turn(self) -> float:
        """Cause one event; return the seconds to the next turn."""
        return 0

    async def heal(self) -> None:
        """Repair all disturbances of this process, at the end of the episode."""

    def home_died(self) -> float | None:
        """Return the seconds to the next turn after another process killed the run, or None if irrelevant."""
        return None


class Operator[S: Scene](Process[S]):
    """Restarts of Home Assistant, and starts after kills."""

    downs: ClassVar[tuple[float, ...]]
    """Seconds for which Home Assistant may be down."""

    @override
    async def heal(self) -> None:
        self.house.fuse = None

    @override
    def home_died(self) -> float | None:
        return self.down()

    def down(self) -> float:
        """Return the seconds for which Home Assistant is down after a kill."""
        return self.random.choice(self.downs)


def outage_length(random: Random) -> float:
    """Return the seconds of an outage: mostly minutes, at times hours, rarely a night."""
    low, high = random.choices([(10, 180), (180, 1800), (1800, 4 * HOUR), (8 * HOUR, 14 * HOUR)], [30, 40, 28, 2])[0]
    return random.uniform(low, high)


def some_override(random: Random, home: Run, serial: str) -> tuple[str, Call]:
    """Return the name and the call of an override that the user switches on or off."""
    on = not home.chargers[serial].snapshot.override.on or random.random() < 0.3
    until = random.choice([Until.FULL, Until.FULL, Until.UNPLUGGED, Until.TIME])
    until_at = home.clock.now() + timedelta(hours=random.uniform(0.1, 12)) if until is Until.TIME else None

    def switch(charger: Charger) -> Awaitable[object]:
        return charger.set_override(on, until=until, until_at=until_at)

    return f"override {on} until {until}", switch


def set_clock(house: Scene, random: Random) -> None:
    """Set the clock of the machine that Home Assistant runs on."""
    seconds = random.choice([HOUR, -HOUR, 5.0, -5.0, 90.0])
    house.note(f"the clock of the host is set by {seconds:g} s")
    house.counts.events["clock jumps"] += 1
    house.clock.jump(seconds)


def arm_fuse(house: Scene, random: Random, points: tuple[str, ...]) -> None:
    """Arrange a kill of Home Assistant at one of the next passes of one of these points."""
    house.fuse = Fuse(random.choice(points), random.choice([1, 1, 2, 3, 5]))
    house.note(f"armed: {house.fuse.point}, {house.fuse.left}")


async def spin(poller: int) -> None:
    """Run the loop for a number of iterations, so that pending work stops at an arbitrary await."""
    for _ in range(poller):
        await asyncio.sleep(0)
