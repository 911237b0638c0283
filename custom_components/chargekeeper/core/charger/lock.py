"""The lock of one charger: its commands follow one another, and reductions come first."""

import asyncio
from collections import deque
from typing import Self


class ChargerLock:
    """A lock that a waiting reduction gets before everything else. Within each kind, first come is first served."""

    def __init__(self) -> None:
        self._locked = False
        self._reductions: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @property
    def reduction_waits(self) -> bool:
        """True while a reduction waits for the lock."""
        return any(not turn.done() for turn in self._reductions)

    def locked(self) -> bool:
        """Return True while the lock is held."""
        return self._locked

    async def acquire(self, *, urgent: bool = False) -> None:
        """Wait for the lock; `urgent` is True for a reduction."""
        if not self._locked:
            self._locked = True
            return
        queue = self._reductions if urgent else self._others
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the lock was passed on to this task already
                self.release()
            raise

    def release(self) -> None:
        """Pass the lock on to the next task that waits."""
        for queue in (self._reductions, self._others):
            while queue:
                turn = queue.popleft()
                if not turn.done():  # a canceled task waits no longer
                    turn.set_result(None)
                    return
        self._locked = False

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
