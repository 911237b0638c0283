"""The time-of-use override: pursues the user's intent until it ends, over outages, restarts and other people's changes.

What to do next is decided by `journal.decide`; here it is done. Every step is journaled before anything is sent.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
import logging
from math import inf

from . import schedule
from .context import Context
from .journal import Decision, End, Intent, IntentState, Seen, Step, Until, begin_end, decide
from .model import (
    OVERRIDE_IN_EFFECT,
    SCHEDULE,
    SESSION_ENERGY,
    STATUS,
    Capability,
    Outcome,
    Override,
    Problem,
    Status,
)
from .paths import (
    ChargerError,
    ChargerPath,
    NotAllowed,
    NotApplicable,
    PathBusy,
    PathDown,
    Presence,
    SetOverride,
    Unsupported,
    Word,
)
from .routing import Router, usable

LOGGER = logging.getLogger(__name__)

EFFECT_AFTER = 15.0
"""Seconds after which an acknowledged override that does not show counts as without effect."""

FULL_AFTER_WAITING = 600.0
"""Seconds for which the car takes nothing until it counts as full, after at least `FULL_ENERGY` kWh."""
FULL_ENERGY = 0.2

DISTURBING = frozenset({Status.OFFLINE, Status.UPDATING, Status.RESTARTING, Status.ERROR})
"""After these the charger may have forgotten the override."""


class OverridePursuit:
    """The override of one charger. `lower_for_start` brings the current below the ceiling before a start."""

    def __init__(self, context: Context, router: Router, lower_for_start: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._clock = context.clock
        self._journal = context.journal
        self._router = router
        self._lower_for_start = lower_for_start
        self._pursuing = False
        self._asked_at = -inf  # when the user asked for it, in this run
        self._sent_at = -inf
        self._told_pending = True  # what the journal gave back was pending at least for a while
        self._disturbed = True
        self._inside_at_confirm: bool | None = None
        self._waiting_car_since: float | None = None

    @property
    def shown(self) -> Override:
        """What the switch shows."""
        intent = self._journal.entries.override
        if intent is None or intent.state is IntentState.ENDING:
            return Override()
        return Override(on=True, applied=intent.state is not IntentState.PENDING)

    @property
    def until_at(self) -> datetime | None:
        """The moment at which the override ends by itself, if one was given and lies ahead."""
        intent = self._journal.entries.override
        until_at = None if intent is None or intent.state is IntentState.ENDING else intent.until_at
        return until_at if until_at is not None and until_at > self._clock.now() else None

    @property
    def full_at(self) -> float | None:
        """The monotonic moment at which a car that takes nothing counts as full, if it is waiting."""
        return None if self._waiting_car_since is None else self._waiting_car_since + FULL_AFTER_WAITING

    def disturb(self) -> None:
        """Something happened after which the charger may have dropped the override."""
        self._disturbed = True

    def heard(self, path: ChargerPath) -> None:
        """A path brought an answer or changed."""
        if not usable(path):
            self._disturbed = True
        said = path.said
        if said is None:
            return
        if said.status in DISTURBING:
            self._disturbed = True
        if said.status is not Status.WAITING_CAR:
            self._waiting_car_since = None
        elif self._waiting_car_since is None:
            self._waiting_car_since = self._clock.monotonic()
        if said.car_connected is False:
            self._context.problems -= {Problem.OVERRIDE_SUPERSEDED, Problem.OVERRIDE_FAILED}

    async def switch(self, *, on: bool, until: Until, until_at: datetime | None) -> Outcome:
        """As `Keeper.set_override`."""
        if not any(Capability.OVERRIDE in path.capabilities for path in self._router):
            raise Unsupported("unsupported", Capability.OVERRIDE)
        async with self._context.lock:
            intent = self._journal.entries.override
            if on:
                await self._want(intent, until, until_at)
            elif intent is None or intent.state is IntentState.ENDING:
                return Outcome.VERIFIED
            else:
                await self._end(intent, End.CANCELLED)
            await self._pursue(raising=on)
            return self._outcome()

    async def end_for_good(self) -> tuple[str, ...]:
        """End the override before the charger is given up; the windows that stay disabled, as text."""
        async with self._context.lock:
            intent = self._journal.entries.override
            if intent is not None and intent.state is not IntentState.ENDING:
                await self._end(intent, End.CANCELLED)
            await self._pursue(raising=False)
            intent = self._journal.entries.override
            windows = () if intent is None else intent.originals
            return tuple(f"{window.start:%H:%M} to {window.end:%H:%M} {window.zone}" for window in windows)

    def pursue_soon(self) -> None:
        """See whether a next step is due; at most one task does."""
        if not self._pursuing and self._journal.entries.override is not None:
            self._pursuing = True
            self._context.spawn(self._pursue_alone())

    async def _pursue_alone(self) -> None:
        try:
            async with self._context.lock:
                await self._pursue(raising=False)
        finally:
            self._pursuing = False

    async def _want(self, intent: Intent | None, until: Until, until_at: datetime | None) -> None:
        status = self._context.ledger.get(STATUS)
        if self._context.ledger.fresh(STATUS, self._clock.monotonic()) is Status.LOCKED:
            raise NotAllowed("locked")
        self._context.problems -= {Problem.OVERRIDE_SUPERSEDED, Problem.OVERRIDE_FAILED}
        if intent is None:
            self._asked_at, self._told_pending = self._clock.monotonic(), False
            intent = Intent(created_at=self._clock.now(), base=None if status is None else status.value)
        elif intent.state is IntentState.ENDING:
            # What it left at the charger is still there: the same intent goes on.
            state = IntentState.APPLIED if intent.originals else IntentState.PENDING
            intent = replace(intent, state=state, end=None, theirs=None)
        await self._journal.write(override=replace(intent, until=until, until_at=until_at))
        self._context.publish()

    async def _end(self, intent: Intent, end: End) -> None:
        said = self._said()
        theirs = None if said is None else said.status
        await self._journal.write(override=begin_end(intent, end, theirs))
        if end is End.SUPERSEDED:
            self._context.problems.add(Problem.OVERRIDE_SUPERSEDED)
            details = {"ours": Status.CHARGING.value, "theirs": "" if theirs is None else theirs.value}
            self._context.emit("connection", "override_superseded", details)
        else:
            if end is End.FAILED:
                self._context.problems.add(Problem.OVERRIDE_FAILED)
            self._context.emit("connection", "override_ended", {"reason": end.value})
        self._context.publish()

    def _outcome(self) -> Outcome:
        intent = self._journal.entries.override
        if intent is None or intent.state is IntentState.VERIFIED:
            return Outcome.VERIFIED
        if intent.state is IntentState.APPLIED:
            return Outcome.ACCEPTED
        if intent.end is End.FAILED:
            return Outcome.FAILED
        if intent.state is IntentState.PENDING and not self._told_pending:
            self._told_pending = True
            self._context.emit("connection", "override_pending")
        return Outcome.PENDING

    async def _pursue(self, *, raising: bool) -> None:
        """Take steps until there is nothing to do but wait.

        A path that fails means waiting too; a refusal ends the override, and is raised for whoever asked for it.
        """
        while (intent := self._journal.entries.override) is not None:
            decision = self._next_step(intent)
            if decision.step is Step.WAIT or self._context.stopping:
                return
            try:
                if not await self._take_step(intent, decision):
                    return
            except (PathDown, PathBusy) as err:
                LOGGER.debug("The override waits: %s", err)
                return
            except ChargerError as err:
                await self._give_up(err)
                if raising:
                    raise
            self._context.publish()

    def _next_step(self, intent: Intent) -> Decision:
        path = self._router.first(Capability.OVERRIDE)
        said = self._said()
        status = None if said is None else said.status
        asked_at = -inf if path is None or path.asked_at is None else path.asked_at
        if status in OVERRIDE_IN_EFFECT and asked_at <= self._asked_at:
            status = None  # seen before the user asked: it may have changed since
        return decide(
            intent,
            Seen(
                now=self._clock.now(),
                status=status,
                car_connected=None if said is None else said.car_connected,
                full=self._is_full(status),
                effect_due=asked_at >= self._sent_at + EFFECT_AFTER,
                disturbed=self._disturbed or self._inside() is not self._inside_at_confirm,
            ),
        )

    def _said(self) -> Word | None:
        path = self._router.first(Capability.OVERRIDE)
        return None if path is None else path.said

    def _inside(self) -> bool:
        windows = self._context.ledger.get(SCHEDULE)
        return windows is not None and schedule.inside(windows.value, self._clock.now())

    def _is_full(self, status: Status | None) -> bool:
        if status is Status.COMPLETED:
            return True
        energy = self._context.ledger.get(SESSION_ENERGY)
        waited = self.full_at is not None and self._clock.monotonic() >= self.full_at
        return status is Status.WAITING_CAR and waited and energy is not None and energy.value >= FULL_ENERGY

    async def _take_step(self, intent: Intent, decision: Decision) -> bool:
        """Take one step; False where it has to wait for a path. Raises ChargerError."""
        said = self._said()
        if said is not None and said.car_connected and not intent.seen_plugged:
            intent = replace(intent, seen_plugged=True)
        if decision.step is Step.END:
            await self._end(intent, decision.end or End.FAILED)
            return True
        if decision.step is Step.FINISH and not intent.sent:
            await self._journal.write(override=None)
            return True
        if decision.step is Step.CONFIRM:
            self._disturbed, self._inside_at_confirm = False, self._inside()
            await self._journal.write(override=replace(intent, state=IntentState.VERIFIED))
            return True
        path = self._router.first(Capability.OVERRIDE)
        if path is None:
            return False
        steps = {Step.SEND: self._apply, Step.DISABLE_SCHEDULE: self._disable_schedule, Step.FINISH: self._finish}
        await steps[decision.step](path, intent)
        return True

    async def _apply(self, path: ChargerPath, intent: Intent) -> None:
        """Ask the charger to charge now."""
        again = intent.sent or self._told_pending
        intent = replace(intent, sent=True, applications=intent.applications + 1)
        await self._journal.write(override=intent)
        await self._lower_for_start()
        applied = replace(intent, state=IntentState.APPLIED)
        try:
            await self._router.send(path, SetOverride(on=True))
        except NotApplicable:
            # Perhaps it charges already, perhaps its schedule holds it: the next answer tells, and is sought at once.
            await self._journal.write(override=applied)
            self._sent_at = -inf
            await path.check()
        else:
            await self._journal.write(override=applied)
            self._sent_at = self._clock.monotonic()
            self._router.read_back(path)
        if again:
            self._context.emit("connection", "override_reapplied")

    async def _disable_schedule(self, path: ChargerPath, intent: Intent) -> None:
        """Asking had no effect: take the schedule out of the way, the originals journaled first."""
        windows = await path.read_schedule()
        originals = tuple(window for window in windows if window.enabled)
        if not originals:
            raise NotApplicable("wrong_state")
        await self._journal.write(override=replace(intent, originals=originals))
        await path.write_schedule(schedule.disabled(originals))
        self._sent_at = self._clock.monotonic()
        self._router.read_back(path)

    async def _finish(self, path: ChargerPath, intent: Intent) -> None:
        """Undo what the override left: enable again what we disabled and nobody changed since; hand back control."""
        if intent.originals:
            present = await path.read_schedule()
            ours = tuple(window for window in intent.originals if replace(window, enabled=False) in present)
            if ours:
                await path.write_schedule(ours)
            intent = replace(intent, originals=())
            await self._journal.write(override=intent)
        if intent.end in {End.CANCELLED, End.TIME, End.FULL}:
            try:
                await self._router.send(path, SetOverride(on=False))
            except NotApplicable:
                LOGGER.debug("The charger was under its schedule already")
        await self._journal.write(override=None)
        if path.presence is Presence.ONLINE:
            self._router.read_back(path)

    async def _give_up(self, err: ChargerError) -> None:
        """The charger or its cloud refuses: the override ends, or what it left there stays."""
        LOGGER.warning("The time-of-use override could not be carried out: %s", err)
        intent = self._journal.entries.override
        if intent is not None and intent.state is not IntentState.ENDING:
            await self._end(intent, End.FAILED)
            return
        self._context.problems.add(Problem.OVERRIDE_FAILED)
        await self._journal.write(override=None)
