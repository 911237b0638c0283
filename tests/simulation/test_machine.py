"""The simulated household as a state machine: here Hypothesis chooses what happens, and shrinks what breaks it.

It watches what the simulation watches, the invariants I1 to I8, I12 and I13 among them; see invariants.py.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from datetime import timedelta
import random as global_random
from random import Random
from typing import override

from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
import pytest

from tests.simulation.episode import Episode, listening
from tests.simulation.house import House
from tests.simulation.plants import planted
from tests.simulation.processes import ALL, CHANGES_OF_CLOCKS
from tests.simulation.report import Broken
from tests.simulation.scene import Process

SETTINGS = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,  # what is new is for the long run to find: the suite is the same every time
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class HouseMachine(RuleBasedStateMachine):
    """A house with three chargers: time passes, or a process takes its turn with dice that Hypothesis chose."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = ExitStack()
        self.broken = False

    def run(self, work: Coroutine[object, object, None]) -> None:
        try:
            self.loop.run_until_complete(work)
        except Broken:
            self.broken = True
            raise

    @initialize(dice=st.integers(0, 99), hours=st.sampled_from([1, 30, 2000]))
    def begin(self, dice: int, hours: int) -> None:
        """A house furnished by dice, so many hours before the clocks change."""
        global_random.seed(dice)
        self.house = House(f"{dice}", CHANGES_OF_CLOCKS[0] - timedelta(hours=hours), chargers=3)
        self.episode = Episode(self.house, Random(dice), ALL)
        self.run(self._begin())

    async def _begin(self) -> None:
        self.stack.enter_context(listening(self.house))
        await self.house.cloud.start()
        self.house.start_home()
        await self.episode.rest()

    @rule(minutes=st.sampled_from([0.05, 0.5, 2, 20, 90]))
    def time_passes(self, minutes: float) -> None:
        self.run(self.episode.pass_time(self.house.now + minutes * 60))

    @rule(kind=st.sampled_from(ALL), dice=st.integers(0, 999))
    def something_happens(self, kind: type, dice: int) -> None:
        process = next(process for process in self.episode.processes if isinstance(process, kind))
        process.random = Random(dice)
        self.run(self._turn(process))

    async def _turn(self, process: Process) -> None:
        await process.turn()
        await self.episode.rest()

    @override
    def teardown(self) -> None:
        """When all is well again, every intent comes to its end (I4), and everything stops (I13)."""
        try:
            if not self.broken:
                self.run(self.episode.calm_down())
        finally:
            self.run(self._end())
            self.loop.close()

    async def _end(self) -> None:
        self.house.kill_home()
        await self.house.bury_home()
        await self.house.cloud.stop()
        self.stack.close()


def test_i1_to_i8_i12_i13_hold_whatever_happens_in_the_house() -> None:
    run_state_machine_as_test(HouseMachine, settings=SETTINGS)


def test_the_machine_finds_a_planted_defect() -> None:
    with planted("journal-not-restored"), pytest.raises(Broken, match=r"^I4 "):
        run_state_machine_as_test(HouseMachine, settings=settings(SETTINGS, phases=[Phase.generate]))
