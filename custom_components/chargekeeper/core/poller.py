"""A task that polls a server whenever a poll is due."""

import asyncio
from collections.abc import Awaitable, Callable
import logging

from .clock import Clock
from .errors import ChargerError

LOGGER = logging.getLogger(__name__)


class Poller:
    """The task. The poller can be stopped and started again.

    Args:
        clock: the source of time.
        server: the name of the server for the log.
        due_at: returns when the next poll is due (monotonic seconds). Called after each poll and each `wake`.
        poll: makes one poll. A `ChargerError` that it raises is logged, and polling continues.
    """

    def __init__(
        self, clock: Clock, server: str, due_at: Callable[[], float], poll: Callable[[], Awaitable[None]]
    ) -> None:
        self._clock = clock
        self._server = server
        self._due_at = due_at
        self._poll = poll
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()

    @property
    def running(self) -> bool:
        """True if started and not stopped."""
        return self._task is not None

    def start(self) -> None:
        """Start polling. The poller must not be running."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"chargekeeper rounds: {self._server}")

    async def stop(self) -> None:
        """Stop polling; cancel a poll that is under way."""
        task = self._task
        self._task = None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def wake(self) -> None:
        """Ask `due_at` again, since the time of the next poll may have changed."""
        self._woken.set()

    async def _run(self) -> None:
        while True:
            wait = self._due_at() - self._clock.monotonic()
            if wait > 0:
                await self._wait(wait)
                continue
            try:
                await self._poll()
            except ChargerError as err:
                LOGGER.debug("A request to %s failed: %s", self._server, err)

    async def _wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until `wake` is called."""
        self._woken.clear()
        cancel = self._clock.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            cancel()
