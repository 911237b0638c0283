"""Provide what the parts of one charger share: clock, options, intent store, readings, tasks and events."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
import logging
from math import inf
from types import EllipsisType

from ..clock import Clock
from ..cooldown import Backoff, Cooldown
from ..errors import ChargerError, NoConnection, NotSaved
from ..limits import MINIMUM_CURRENT
from ..model import ChargerIssue, Prefer
from ..signal import subscribe
from ..transport import SAVE_WITHIN
from .intents import IntentStore, OverrideIntent, PauseIntent
from .lock import ChargerLock
from .readings import ReadingsStore

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerOptions:
    """User options of a charger. `load_group_limit` is in A; None if the user entered none."""

    prefer: Prefer = Prefer.AUTO
    read_only: bool = False
    restart_while_charging: bool = False
    load_group_limit: float | None = None


@dataclass(frozen=True, slots=True)
class ChargerEvent:
    """An event of one charger. `kind` is `restart` or `connection`, or `replay` for the outage record only."""

    kind: str
    type: str
    details: Mapping[str, str] = field(default_factory=dict)


class Context:
    """The state that the parts of a charger share. `Charger` sets `publish`, which composes a new snapshot."""

    def __init__(self, clock: Clock, options: ChargerOptions, intents: IntentStore) -> None:
        self.clock = clock
        self.options = options
        self.intents = intents
        self.readings_store = ReadingsStore()
        self.cooldown = Cooldown(clock)
        self.issues: set[ChargerIssue] = set()
        self.stopping = False
        self.group_share: float | None = None
        """Current that the load group allots, in A; None outside a load group."""
        self.group_room: Callable[[], float] = unlimited
        """Returns the current in A that the load group leaves beside what its other members may draw now."""
        self.group_pause_sent = False
        """True if a load group, not the user, paused the charger and no transport saw the charger resume later."""
        self.lock = ChargerLock()
        """Held while a command is sent, so that commands to one charger follow one another. See `Router.turn`."""
        self.publish: Callable[[], None] = lambda: None
        self._event_listeners: list[Callable[[ChargerEvent], None]] = []
        self._tasks: set[asyncio.Task[object]] = set()
        self._save_retry = Backoff(clock)

    @property
    def paused_by_group(self) -> bool:
        """True if a visible pause comes from the load group: the charger waits for power."""
        return self.group_pause_sent or (self.group_share is not None and self.group_share < MINIMUM_CURRENT)

    async def save_or_keep(
        self,
        *,
        override: OverrideIntent | EllipsisType | None = ...,
        pause: PauseIntent | EllipsisType | None = ...,
        lowering: bool | EllipsisType = ...,
    ) -> None:
        """Save the changed records of a reduction, within `SAVE_WITHIN` seconds. Otherwise keep them in memory.

        A full or slow disk holds up no reduction.
        """
        try:
            async with self.clock.timeout(SAVE_WITHIN):
                await self.intents.write(override=override, pause=pause, lowering=lowering)
        except (NotSaved, TimeoutError) as err:
            if not self.intents.unsaved:
                LOGGER.warning("What is to be undone at a charger could not be saved yet (%r)", err)
            self.intents.keep(override=override, pause=pause, lowering=lowering)
            self.publish()

    async def save_again(self) -> None:
        """Save what could not be saved before, if the next try is due."""
        if not self._save_retry.is_due():
            return
        try:
            await self.intents.write()
        except NotSaved:
            self._save_retry.failed()
        else:
            self._save_retry.reset()
            self.publish()

    def listen_events(self, callback: Callable[[ChargerEvent], None]) -> Callable[[], None]:
        """Call `callback` with each event. Return a function that removes the listener."""
        return subscribe(self._event_listeners, callback)

    def emit(self, kind: str, type_: str, details: Mapping[str, str] | None = None) -> None:
        """Notify the listeners of an event."""
        event = ChargerEvent(kind, str(type_), details or {})
        for listener in list(self._event_listeners):
            listener(event)

    def spawn[T](self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run `work` in the background until it ends or `end_tasks` cancels it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def run[T](self, work: Coroutine[object, object, T]) -> T:
        """Run `work` to its end even if the caller is canceled. Raise what `work` raises.

        Raises:
            NoConnection: `stopping`, if `work` was canceled because ChargeKeeper stops.
        """
        return await result_of(self.spawn(work))

    async def end_tasks(self) -> None:
        """Cancel the background tasks and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (err := task.exception()) is not None and not isinstance(err, ChargerError):
            LOGGER.error("Unexpected error in the background", exc_info=err)


class SingleFlight:
    """Runs one job in the background, never twice at the same time."""

    def __init__(self, context: Context, work: Callable[[], Coroutine[object, object, None]]) -> None:
        self._context = context
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the job unless it is running."""
        if self._task is None or self._task.done():
            self._task = self._context.spawn(self._work())


async def result_of[T](work: asyncio.Future[T]) -> T:
    """Return the result of `work`, which others may await too. Raise what `work` raises.

    Canceling this call does not cancel `work`.

    Raises:
        NoConnection: `stopping`, if `work` was canceled because ChargeKeeper stops.
    """
    await asyncio.wait([work])
    if work.cancelled():
        raise NoConnection("stopping")
    return work.result()


def unlimited() -> float:
    """Return the room of a charger outside a load group, in A: infinity."""
    return inf
