"""The common part of the state machines of the simulated houses."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from random import Random
from typing import override

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.simulation.episode import Episode
from tests.simulation.happenings import Process
from tests.simulation.report import Broken
from tests.simulation.scene import Scene

SETTINGS = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,  # the suite is the same every time; the long run explores
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class SceneMachine[S: Scene](RuleBasedStateMachine):
    """A house: time passes, or a process takes its turn with dice that Hypothesis chose."""

    episode: Episode[S]

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

    @rule(minutes=st.sampled_from([0.05, 0.5, 2, 20, 90]))
    def time_passes(self, minutes: float) -> None:
        self.run(self.episode.pass_time(self.episode.house.now + minutes * 60))

    def happens(self, kind: type, dice: int) -> None:
        process = next(process for process in self.episode.processes if isinstance(process, kind))
        process.random = Random(dice)
        self.run(self._turn(process))

    async def _turn(self, process: Process[S]) -> None:
        await process.turn()
        await self.episode.rest()

    @override
    def teardown(self) -> None:
        """Check that every intent ends after recovery (I4), and that everything stops (I13)."""
        try:
            if not self.broken:
                self.run(self.episode.calm_down())
        finally:
            self.run(self._end())
            self.loop.close()

    async def close(self) -> None:
        """Stop everything outside of Home Assistant."""

    async def _end(self) -> None:
        self.episode.house.kill_home()
        await self.episode.house.bury_home()
        await self.close()
        self.stack.close()
