"""A task that asks a server again and again, whenever that falls due."""

import asyncio
from collections.abc import Awaitable, Callable
import logging

from .clock import Clock
from .errors import ChargerError

LOGGER = logging.getLogger(__name__)


class Poller:
    """The task; it may be stopped and started again.

    Args:
        clock: gives the time.
        whom: is asked, for the log.
        due_at: when the next turn is due (monotonic seconds); asked anew after each turn and whenever woken.
        turn: takes it; what it raises of the one tree of errors is logged, and the rounds go on.
    """

    def __init__(
        self, clock: Clock, whom: str, due_at: Callable[[], float], turn: Callable[[], Awaitable[None]]
    ) -> None:
        self._clock = clock
        self._whom = whom
        self._due_at = due_at
        self._turn = turn
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._task is not None

    def start(self) -> None:
        """Begin; it must not be running."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"chargekeeper rounds: {self._whom}")

    async def stop(self) -> None:
        """End, whatever it is doing."""
        task = self._task
        self._task = None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def wake(self) -> None:
        """The next turn may be due at another time than was told."""
        self._woken.set()

    async def _run(self) -> None:
        while True:
            wait = self._due_at() - self._clock.monotonic()
            if wait > 0:
                await self._pause(wait)
                continue
            try:
                await self._turn()
            except ChargerError as err:
                LOGGER.debug("A request to %s failed: %s", self._whom, err)

    async def _pause(self, seconds: float) -> None:
        """Wait, or less if something woke the rounds."""
        self._woken.clear()
        cancel = self._clock.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            cancel()
