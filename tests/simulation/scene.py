"""The common part of simulated houses: time, a disk, a run of Home Assistant that can be killed, and watches."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
import json
import logging
from math import inf
from random import Random
from typing import override

from custom_components.chargekeeper.core.charger import Charger, ChargerEvent
from custom_components.chargekeeper.core.errors import ChargerError
from custom_components.chargekeeper.core.model import Snapshot
from tests.simulation.clocks import TrueClock
from tests.simulation.home import Disk, Observer, Run, Text
from tests.simulation.labels import label_of_answer
from tests.simulation.report import Broken, Counts, Violation, hash_of
from tests.simulators.clock import VirtualClock
from tests.simulators.wallbox_payloads import JsonObject

HOUR = 3600.0
TRACE = 60
type Call = Callable[[Charger], Awaitable[object]]
"""An action of the user on a charger."""
type Told = Callable[[object], None]
"""A callback for the answer or the error."""
LOGGER = logging.getLogger("custom_components.chargekeeper")


class Watch:
    """An observer of a house; every hook may call `fail`. `name` is the name of the invariant in the design."""

    name = ""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def fail(self, reason: str) -> None:
        """Report a violation."""
        self.scene.fail(self.name, reason)

    def starting(self) -> None:
        """Handle that Home Assistant is about to start."""

    def started(self) -> None:
        """Handle the start of Home Assistant, before anything is awaited."""

    def stopped(self, home: Run) -> None:
        """Handle a clean stop of a run."""

    def unloaded(self, home: Run) -> None:
        """Handle that the entry was unloaded while the run continues."""

    def killed(self) -> None:
        """Handle the kill of a run."""

    def journal_saved(self, serial: str, before: JsonObject | None, after: JsonObject | None) -> None:
        """Handle a saved intent store; its override may have changed."""

    def keeper_event(self, serial: str, event: ChargerEvent) -> None:
        """Handle an event of a charger."""

    def asked(self, serial: str, what: str) -> None:
        """Handle that the user is about to act on a charger."""

    def answered(self, serial: str, what: str, answer: object) -> None:
        """Handle the end of a user's command, with its answer or error."""

    def interrupted(self) -> None:
        """Handle that a call of the user was cancelled; no answer follows."""

    def look(self) -> None:
        """Check the house after a minute or an event, while no work is pending."""

    def ended(self) -> None:
        """Check the house after the episode: healed hours ago, and without actions since."""

    def snapshots(self) -> Iterator[tuple[str, Snapshot]]:
        """Yield the present snapshots by serial number."""
        home = self.scene.run
        if home is not None and not home.dead:
            for serial, charger in home.chargers.items():
                yield serial, charger.snapshot

    def snapshot(self, serial: str) -> Snapshot | None:
        """Return the present snapshot of a charger."""
        return next((shown for found, shown in self.snapshots() if found == serial), None)


@dataclass(slots=True)
class Life:
    """One intent from its start to its end."""

    ends: int = 0
    end: str | None = None
    reopened: bool = False


class IntentLives(Watch):
    """I4: an intent, once acknowledged, survives power loss and reaches exactly one end."""

    name = "I4"
    APPLICATIONS = 3

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._on_disk: dict[str, JsonObject | None] = {}
        self._lives: dict[str, Life] = {}
        self._ends: dict[str, int] = {}
        self._events: dict[str, int] = {}
        self._gone_at: dict[str, float] = {}

    @override
    def starting(self) -> None:
        self._ends, self._events = {}, {}

    @override
    def journal_saved(self, serial: str, before: JsonObject | None, after: JsonObject | None) -> None:
        self._on_disk[serial] = after
        if before is not None and (after is None or after["created_at"] != before["created_at"]):
            self._gone(serial, before)
            before = None
        if after is None:
            return
        life = self._lives.setdefault(f"{serial} {after['created_at']}", Life())
        was_ending = before is not None and before["state"] == "ending"
        if after["state"] != "ending":
            life.reopened = life.reopened or was_ending
            if was_ending:
                life.ends, life.end = 0, None
        elif not was_ending:
            life.ends += 1
            life.end = str(after["end"])
            self._ends[serial] = self._ends.get(serial, 0) + 1
            self.scene.counts.ends[life.end] += 1
        elif after["end"] != life.end:
            self.fail(f"{serial}: the override ended as {life.end} and again as {after['end']}")
        if int(str(after["applications"])) > self.APPLICATIONS:
            self.fail(f"{serial}: the override was applied {after['applications']} times")

    def _gone(self, serial: str, last: JsonObject) -> None:
        """Check an intent that left the intent store."""
        self._gone_at[serial] = self.scene.now
        life = self._lives.pop(f"{serial} {last['created_at']}", Life())
        if life.ends != 1:
            self.fail(f"{serial}: the override of {last['created_at']} left the journal with {life.ends} ends")

    @override
    def answered(self, serial: str, what: str, answer: object) -> None:
        """Check that an acknowledged override is on the disk, or has just ended."""
        if not what.startswith("override True") or isinstance(answer, ChargerError):
            return
        if self._on_disk.get(serial) is None and self._gone_at.get(serial, -inf) < self.scene.now - 700:
            self.fail(f"{serial}: an override was acknowledged ({answer}), but the disk holds none")

    @override
    def keeper_event(self, serial: str, event: ChargerEvent) -> None:
        if event.kind == "connection" and event.type in {"override_ended", "override_superseded"}:
            self._events[serial] = self._events.get(serial, 0) + 1

    @override
    def look(self) -> None:
        for serial, shown in self.snapshots():
            intent = self._on_disk.get(serial)
            if shown.override.on is not (intent is not None and intent["state"] != "ending"):
                self.fail(f"{serial}: the override is shown as {shown.override}, but the disk holds {intent}")
            ends, events = self._ends.get(serial, 0), self._events.get(serial, 0)
            if ends != events:
                self.fail(f"{serial}: {ends} overrides ended in this run, {events} were told")

    @override
    def ended(self) -> None:
        for serial, intent in self._on_disk.items():
            if intent is not None:
                self.fail(f"{serial}: all was healed and the car left hours ago, and the journal still holds {intent}")


class Secrets(Watch):
    """I12: logs and errors contain no secret and nothing unexpected."""

    name = "I12"

    class Handler(logging.Handler):
        """A handler that keeps the log."""

        def __init__(self) -> None:
            super().__init__(logging.DEBUG)
            self.records: list[logging.LogRecord] = []

        @override
        def emit(self, record: logging.LogRecord) -> None:
            self.records.append(record)

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.handler = Secrets.Handler()
        self._formatter = logging.Formatter()

    @override
    def answered(self, serial: str, what: str, answer: object) -> None:
        if isinstance(answer, ChargerError):
            self.search(f"{answer} {answer.reason} {answer.detail}", "an error")

    @override
    def look(self) -> None:
        records = self.handler.records[:]
        self.handler.records.clear()
        for record in records:
            text = self._formatter.format(record)
            self.search(text, "the log")
            if record.levelno >= logging.ERROR:
                self.scene.fail("unexpected", text)
        home = self.scene.run
        if home is not None and self.scene.random.random() < 0.02:
            for content in self.diagnostics(home):
                self.search(json.dumps(content, default=str), "diagnostics")

    def diagnostics(self, home: Run) -> Iterator[object]:
        """Yield the diagnostics that a user may publish."""
        for charger in home.chargers.values():
            yield charger.diagnostics()

    def search(self, text: str, where: str) -> None:
        """Fail if a secret is in a text."""
        found = [secret for secret in self.scene.secrets if secret in text]
        if found:
            self.fail(f"{found} in {where}: {text}")


class AllStopped(Watch):
    """I13: everything started is stopped."""

    name = "I13"
    LONGEST_COMMAND = 1800.0

    @override
    def stopped(self, home: Run) -> None:
        self.nothing_left(home, home.tasks())

    @override
    def unloaded(self, home: Run) -> None:
        # Calls of the user belong to Home Assistant; they end by themselves, with an error.
        self.nothing_left(home, [task for task in home.tasks() if task not in home.commands])

    def nothing_left(self, home: Run, tasks: list[asyncio.Task[object]]) -> None:
        """Fail if a timer waits or one of these tasks runs."""
        if home.clock.pending:
            self.fail(f"timers are left after a stop: {home.clock.pending}")
        if tasks:
            self.fail(f"tasks are left after a stop: {[task.get_coro() for task in tasks]}")

    @override
    def look(self) -> None:
        home = self.scene.run
        for begun in () if home is None else home.commands.values():
            if home is not None and home.clock.monotonic() - begun > self.LONGEST_COMMAND:
                waits = [task.get_stack() for task in home.tasks()]
                self.fail(f"a command of the user has had no answer for half an hour: {waits}")


@dataclass(slots=True)
class Fuse:
    """A kill of the run at its `left`-th pass of `point`."""

    point: str
    left: int


class Scene(Observer):
    """A house without its contents."""

    calm_hours, last_hours = 3.0, 1.0
    """Hours at the end of an episode with only charging cars, and hours of each last step."""

    def __init__(self, name: str, clock: VirtualClock) -> None:
        self.name = name
        self.random = Random(f"{name} house")
        self.clock = clock
        self.true_clock = TrueClock(clock)
        self.disk = Disk()
        self.counts = Counts()
        self.fuse: Fuse | None = None
        self.watches: Sequence[Watch] = ()
        self._trace: deque[str] = deque(maxlen=TRACE)
        self._violations: list[Violation] = []
        self._begun = clock.monotonic()

    @property
    def run(self) -> Run | None:
        """The run of Home Assistant, or None."""
        return None

    @property
    def secrets(self) -> list[str]:
        """The texts that must not occur in logs and diagnostics."""
        return []

    @property
    def now(self) -> float:
        """The monotonic time of the house in seconds."""
        return self.clock.monotonic()

    @property
    def hours(self) -> float:
        """The hours since the start of the episode."""
        return (self.now - self._begun) / HOUR

    def note(self, text: str, *, shown: bool = True, aside: str = "") -> None:
        """Add a line to the fingerprint, and to the trace that a violation shows.

        Args:
            text: fixed words and values only, never the name of a class, field or member: a renamed one must not
                change the fingerprint (see labels.py).
            shown: False keeps it out of the trace.
            aside: text that only the trace shows.
        """
        line = f"{self.hours:9.4f} h  {text}"
        if shown:
            self._trace.append(f"{line}  ({aside})" if aside else line)
        self.counts.fingerprint = hash_of(self.counts.fingerprint + line)

    def fail(self, invariant: str, reason: str) -> None:
        """Record a violated invariant: the episode ends at the next check."""
        self._violations.append(Violation(invariant, reason, self.hours))

    def raise_if_broken(self) -> None:
        """Raise `Broken` for the first violation."""
        if self._violations:
            raise Broken(replace(self._violations[0], trace=tuple(self._trace)))

    def look(self) -> None:
        """Let all watches check the house. Raises Broken."""
        for watch in self.watches:
            watch.look()
        self.raise_if_broken()

    # Home Assistant

    def begin_run(self) -> Run:
        """Start Home Assistant; return the run, which `run` returns from now on."""
        raise AssertionError("a house without Home Assistant")

    def end_run(self) -> None:
        """Forget the run: `run` is None from now on."""

    def start_home(self) -> None:
        """Start Home Assistant."""
        assert self.run is None
        self.note("Home Assistant starts")
        self.counts.events["starts"] += 1
        for watch in self.watches:
            watch.starting()
        self.begin_run()
        for watch in self.watches:
            watch.started()

    async def stop_home(self) -> None:
        """Stop Home Assistant."""
        home = self.run
        if home is None:
            return
        self.note("Home Assistant stops")
        self.counts.events["clean stops"] += 1
        try:
            await home.stop()
        except asyncio.CancelledError:
            if not home.dead:  # otherwise the run was killed while it stopped
                raise
            return
        self.end_run()
        for watch in self.watches:
            watch.stopped(home)
        home.kill()  # ends any work that is left
        await home.bury()

    def kill_home(self) -> None:
        """Cut the power of Home Assistant in the middle of its work; `bury_home` must follow."""
        if self.run is not None and not self.run.dead:
            self.note("Home Assistant is killed")
            self.counts.events["kills"] += 1
            self.run.kill()

    async def bury_home(self) -> None:
        """Clear away a killed run."""
        home = self.run
        self.end_run()
        self.fuse = None
        if home is not None:
            await home.bury()
            for watch in self.watches:
                watch.killed()

    async def reload_home(self) -> None:
        """Set up the entry again, with the present choices of the user."""
        home = self.run
        if home is None or home.dead:
            return
        self.note("the entry is reloaded")
        self.counts.events["reloads"] += 1
        with unless_killed(home):
            await self.reload_entry()

    async def reload_entry(self) -> None:
        """Set the entry of the present run up again."""

    def plug_all_in(self) -> None:
        """Plug a car into every charger."""

    def unplug_all(self) -> None:
        """Unplug all cars."""

    def act(self, serial: str, what: str, call: Call, told: Told = lambda _answer: None) -> None:
        """Let the user act on a charger, if Home Assistant runs."""
        if self.run is None or self.run.dead:
            return
        self.note(f"{serial}: the user: {what}")
        for watch in self.watches:
            watch.asked(serial, what)

        def answered(answer: object) -> None:
            label = label_of_answer(answer)
            if isinstance(answer, ChargerError):
                self.note(f"{serial}: {what} → {label}", aside=repr(answer))
                self.counts.commands[answer.reason] += 1
            else:
                self.note(f"{serial}: {what} → {label}")
                self.counts.commands[label] += 1
            for watch in self.watches:
                watch.answered(serial, what, answer)
            told(answer)

        self.run.act(serial, call, answered)

    # Events of the run

    @override
    def point(self, name: str) -> None:
        fuse = self.fuse
        if fuse is None or fuse.point != name:
            return
        fuse.left -= 1
        if fuse.left <= 0:
            self.fuse = None
            self.note(f"the fuse blows: {name}")
            self.kill_home()

    @override
    def journal_saved(self, serial: str, before: Text | None, after: Text) -> None:
        old, new = _override_in(before), _override_in(after)
        if old != new:
            self.note(f"{serial}: journal {_brief(new)}")
        for watch in self.watches:
            watch.journal_saved(serial, old, new)

    @override
    def keeper_event(self, serial: str, event: ChargerEvent) -> None:
        if self.run is not None and self.run.dead:
            return
        self.note(f"{serial}: event {event.kind} {event.type} {' '.join(event.details.values())}")
        for watch in self.watches:
            watch.keeper_event(serial, event)


@contextmanager
def unless_killed(home: Run) -> Iterator[None]:
    """Ignore a cancellation in the block if the run was killed meanwhile, but no other cancellation."""
    try:
        yield
    except asyncio.CancelledError:
        if not home.dead:
            raise


def _override_in(intents: Text | None) -> JsonObject | None:
    return None if intents is None else json.loads(intents)["override"]


def _brief(intent: JsonObject | None) -> str:
    if intent is None:
        return "no override"
    shown = {key: intent[key] for key in ("state", "sent", "applications", "end", "originals") if intent[key]}
    return f"override of {intent['created_at']}: {shown}"
