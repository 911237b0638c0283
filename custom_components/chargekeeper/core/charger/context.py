"""What the parts of one charger's keeper share: its clock, its journal, its readings, its tasks and whom to tell."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
import logging
from math import inf

from ..clock import Clock
from ..cooldown import Cooldown
from ..errors import ChargerError, NoConnection
from ..limits import MINIMUM_CURRENT
from ..model import ChargerIssue, Prefer
from ..signal import subscribe
from .intents import IntentStore
from .readings import ReadingsStore

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerOptions:
    """What the user chose for a charger. `load_group_limit` in A, None where none was entered."""

    prefer: Prefer = Prefer.AUTO
    read_only: bool = False
    restart_while_charging: bool = False
    load_group_limit: float | None = None


@dataclass(frozen=True, slots=True)
class ChargerEvent:
    """Something that happened: `kind` is `restart` or `connection`, and `replay` for the record of outages alone."""

    kind: str
    type: str
    details: Mapping[str, str] = field(default_factory=dict)


class Context:
    """The common ground of a keeper's parts. `publish` is set by the keeper and makes a new snapshot."""

    def __init__(self, clock: Clock, options: ChargerOptions, intents: IntentStore) -> None:
        self.clock = clock
        self.options = options
        self.intents = intents
        self.readings_store = ReadingsStore()
        self.cooldown = Cooldown(clock)
        self.issues: set[ChargerIssue] = set()
        self.stopping = False
        self.group_share: float | None = None
        """What a load group allots, A; None outside of one."""
        self.group_room: Callable[[], float] = unlimited
        """Returns what a load group leaves for this charger beside what its other members may draw now, A."""
        self.group_pause_sent = False
        """Whether a load group, not the user, had the charger paused, and it was not seen to go on since."""
        self.lock = asyncio.Lock()
        """Held while something is sent, so that commands to one charger follow one another."""
        self.publish: Callable[[], None] = lambda: None
        self._event_listeners: list[Callable[[ChargerEvent], None]] = []
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def paused_by_group(self) -> bool:
        """Whether a pause that shows is the load group's doing: the charger waits for power."""
        return self.group_pause_sent or (self.group_share is not None and self.group_share < MINIMUM_CURRENT)

    def listen_events(self, callback: Callable[[ChargerEvent], None]) -> Callable[[], None]:
        """Be told what happens."""
        return subscribe(self._event_listeners, callback)

    def emit(self, kind: str, type_: str, details: Mapping[str, str] | None = None) -> None:
        """Tell what happened."""
        event = ChargerEvent(kind, str(type_), details or {})
        for listener in list(self._event_listeners):
            listener(event)

    def spawn[T](self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run something in the background; it ends with `end_tasks`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def run[T](self, work: Coroutine[object, object, T]) -> T:
        """Run something that goes on to its end even if whoever waits for it gives up. Raises what it raises.

        Raises:
            NoConnection: `stopping`, where it was cut short because ChargeKeeper ends.
        """
        return await result_of(self.spawn(work))

    async def end_tasks(self) -> None:
        """Cancel what runs in the background and wait until it is gone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (err := task.exception()) is not None and not isinstance(err, ChargerError):
            LOGGER.error("Unexpected error in the background", exc_info=err)


class SingleFlight:
    """Does one thing in the background, never twice at the same time."""

    def __init__(self, context: Context, work: Callable[[], Coroutine[object, object, None]]) -> None:
        self._context = context
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless it is being done."""
        if self._task is None or self._task.done():
            self._task = self._context.spawn(self._work())


async def result_of[T](work: asyncio.Future[T]) -> T:
    """The result of a task that others may wait for as well: giving up here leaves it alone. Raises what it raises.

    Raises:
        NoConnection: `stopping`, where it was cut short because ChargeKeeper ends.
    """
    await asyncio.wait([work])
    if work.cancelled():
        raise NoConnection("stopping")
    return work.result()


def unlimited() -> float:
    """Return the room of a charger outside of a load group, A."""
    return inf
