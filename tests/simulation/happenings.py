"""What happens to either house: the shape of a process, and what the processes of both houses have in common."""

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
    """One source of events. `cooldown` is how lively it is: 1 is usual."""

    house: S
    random: Random
    cooldown: float
    label: ClassVar[str]
    """Seeds its dice, in place of the name of its class: whoever renames the class leaves this as it is."""
    first_after: ClassVar[float] = 2.0
    """Hours to the first turn, at the usual pace."""

    def wait(self, hours: float) -> float:
        """Seconds to the next event, of a kind that comes every so many hours."""
        return self.random.expovariate(self.cooldown / hours) * HOUR

    def begin(self) -> float:
        """Seconds to the first turn."""
        return self.wait(self.first_after)

    async def turn(self) -> float:
        """Let something happen; the seconds to the next turn."""
        return 0

    async def heal(self) -> None:
        """Undo what is out of order, at the end of the episode."""

    def home_died(self) -> float | None:
        """A run was killed behind our back: the seconds until it is this process's turn, if that matters to it."""
        return None


class Operator[S: Scene](Process[S]):
    """Whoever restarts Home Assistant, and starts it again where it was killed."""

    downs: ClassVar[tuple[float, ...]]
    """Seconds for which it may be down."""

    @override
    async def heal(self) -> None:
        self.house.fuse = None

    @override
    def home_died(self) -> float | None:
        return self.down()

    def down(self) -> float:
        """For how long it is down after a kill."""
        return self.random.choice(self.downs)


def outage_length(random: Random) -> float:
    """Seconds: mostly minutes, at times hours, rarely a night."""
    low, high = random.choices([(10, 180), (180, 1800), (1800, 4 * HOUR), (8 * HOUR, 14 * HOUR)], [30, 40, 28, 2])[0]
    return random.uniform(low, high)


def some_override(random: Random, home: Run, serial: str) -> tuple[str, Call]:
    """An override that the user switches on or off: how it is called, and what he does."""
    on = not home.chargers[serial].snapshot.override.on or random.random() < 0.3
    until = random.choice([Until.FULL, Until.FULL, Until.UNPLUGGED, Until.TIME])
    until_at = home.clock.now() + timedelta(hours=random.uniform(0.1, 12)) if until is Until.TIME else None

    def switch(charger: Charger) -> Awaitable[object]:
        return charger.set_override(on, until=until, until_at=until_at)

    return f"override {on} until {until}", switch


def set_clock(house: Scene, random: Random) -> None:
    """Somebody sets the clock of the machine that Home Assistant runs on."""
    seconds = random.choice([HOUR, -HOUR, 5.0, -5.0, 90.0])
    house.note(f"the clock of the host is set by {seconds:g} s")
    house.counts.events["clock jumps"] += 1
    house.clock.jump(seconds)


def arm_fuse(house: Scene, random: Random, points: tuple[str, ...]) -> None:
    """Home Assistant will be killed one of the next times that it passes one of these points."""
    house.fuse = Fuse(random.choice(points), random.choice([1, 1, 2, 3, 5]))
    house.note(f"armed: {house.fuse.point}, {house.fuse.left}")


async def spin(poller: int) -> None:
    """Let what is under way go on for so many rounds of the loop: it then stands at any of its awaits."""
    for _ in range(poller):
        await asyncio.sleep(0)
