"""Store what must survive a power cut: the user's override and pause, the last restart, a firmware install, updates.

The record is saved before a command is sent. After an interruption, the next start finds what may have happened. Pure
functions in this module choose the next step from an intent and the observed charger.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import EllipsisType

from ..coerce import member, moment, number
from ..model import OVERRIDE_IN_EFFECT, Outcome, Schedule, Source, Status
from ..schedule import decode as decode_schedule, encode as encode_schedule

APPLICATIONS = 3
"""Maximum number of times that one override or pause is sent to a charger."""


class Until(StrEnum):
    """What ends an override; unplugging ends it in any case."""

    FULL = "full"
    UNPLUGGED = "unplugged"
    TIME = "time"


class IntentState(StrEnum):
    """Progress of an intent."""

    PENDING = "pending"  # requested, not sent to the charger
    APPLIED = "applied"  # acknowledged by a transport
    VERIFIED = "verified"  # seen at the charger
    ENDING = "ending"  # over for the user; its effects at the charger are still to be undone


class End(StrEnum):
    """How an intent ended. Each intent has exactly one end."""

    FULL = "full"
    UNPLUGGED = "unplugged"
    TIME = "time"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideIntent:
    """A time-of-use override that the user wants to hold.

    Attributes:
        base: the charger's status when the user requested the override.
        sent: True once the charger may be under an override: only then can control be handed back.
        applications: how often ChargeKeeper sent the override; once it is ending, how often it handed control back.
        originals: the schedule windows that ChargeKeeper disables, as they were before.
        disabled: True once the disabling was acknowledged.
        left_paused: True once the override is ending and a transport that can only pause has ended it.
        external_status: the charger's status when the override ended; an external change may have caused it.
    """

    created_at: datetime
    state: IntentState = IntentState.PENDING
    until: Until = Until.FULL
    until_at: datetime | None = None
    base: Status | None = None
    seen_plugged: bool = False
    sent: bool = False
    applications: int = 0
    originals: Schedule = ()
    disabled: bool = False
    left_paused: bool = False
    end: End | None = None
    external_status: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseIntent:
    """A pause that the user requested and a transport accepted.

    `base` is the charger's status before the pause; `applications` counts how often the pause was sent. The state is
    never `PENDING`. It is `ENDING` once the car has left, while the charger would keep the pause for the next car
    and the pause cannot be taken back yet. An ended pause is removed.
    """

    created_at: datetime
    state: IntentState = IntentState.APPLIED
    base: Status | None = None
    applications: int = 1


@dataclass(frozen=True, slots=True)
class RestartRecord:
    """The last restart that was sent; `outcome` is None while the restart is being watched."""

    pressed_at: datetime
    away_at: datetime | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class InstallRecord:
    """A firmware install in progress, towards version `target`."""

    started_at: datetime
    target: str


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """A firmware update that a transport reported, and whose end that transport did not report.

    `age` is the time since that report in seconds, counted only while ChargeKeeper runs: no jump of the wall clock
    shortens `age`. `firmware` is the version at that report, if known. `dismissed` is True once the user said that the
    update is over.
    """

    source: Source
    age: float
    firmware: str | None
    dismissed: bool = False


@dataclass(frozen=True, slots=True)
class RefutedRecord:
    """The last command that the charger's reports refuted. `again` is True if another one came within a day before."""

    at: datetime
    again: bool = False


@dataclass(frozen=True, slots=True)
class Intents:
    """All records in the intent store of one charger."""

    override: OverrideIntent | None = None
    restart: RestartRecord | None = None
    install: InstallRecord | None = None
    pause: PauseIntent | None = None
    lowering: bool = False
    """True while a limit has fallen and the charger's setting is still to be lowered to it."""
    updates: tuple[UpdateRecord, ...] = ()
    refuted: RefutedRecord | None = None


class IntentStore:
    """The durable record of one charger.

    `entries` holds the records on the disk; `write` saves the new records before it changes `entries`.
    `save` returns once its record is on the disk, and raises `NotSaved` if the record could not be saved.
    """

    def __init__(self, save: Callable[[dict[str, object]], Awaitable[None]]) -> None:
        self._save = save
        self._lock = asyncio.Lock()
        self._in_doubt = False  # True while `entries` may not be on the disk
        self.entries = Intents()

    def restore(self, stored: object) -> None:
        """Restore the records that `save` received earlier. Skip garbled entries."""
        entries = stored if isinstance(stored, Mapping) else {}
        self.entries = Intents(
            override=_override_from(entries.get("override")),
            restart=_restart_from(entries.get("restart")),
            install=_install_from(entries.get("install")),
            pause=_pause_from(entries.get("pause")),
            lowering=entries.get("lowering") is True,
            updates=_updates_from(entries.get("updates")),
            refuted=_refuted_from(entries.get("refuted")),
        )

    async def write(
        self,
        *,
        override: OverrideIntent | EllipsisType | None = ...,
        restart: RestartRecord | EllipsisType | None = ...,
        install: InstallRecord | EllipsisType | None = ...,
        pause: PauseIntent | EllipsisType | None = ...,
        lowering: bool | EllipsisType = ...,
        updates: tuple[UpdateRecord, ...] | EllipsisType = ...,
        refuted: RefutedRecord | EllipsisType | None = ...,
    ) -> None:
        """Save the changed records; omitted records stay as they are.

        If `save` fails, raise its error and change nothing. A canceled write still changes the records in memory. The
        next write then saves even if nothing else changes.
        """
        async with self._lock:
            old = self.entries
            new = Intents(
                override=old.override if override is ... else override,
                restart=old.restart if restart is ... else restart,
                install=old.install if install is ... else install,
                pause=old.pause if pause is ... else pause,
                lowering=old.lowering if lowering is ... else lowering,
                updates=old.updates if updates is ... else updates,
                refuted=old.refuted if refuted is ... else refuted,
            )
            if new == old and not self._in_doubt:
                return
            try:
                await self._save(_json_of(new))
            except asyncio.CancelledError:
                # A save in progress cannot be recalled: the record may be on the disk already, or get there later.
                self.entries = new
                self._in_doubt = True
                raise
            self.entries = new
            self._in_doubt = False

    def export(self) -> dict[str, object]:
        """Return the record as JSON."""
        return _json_of(self.entries)


class Step(StrEnum):
    """The next step for an override."""

    WAIT = "wait"
    SEND = "send"  # ask the charger to charge now
    DISABLE_SCHEDULE = "disable_schedule"  # the charger did not start
    CONFIRM = "confirm"  # the charger does what the user wants
    END = "end"  # with `Decision.end`
    FINISH = "finish"  # undo what the override left at the charger


@dataclass(frozen=True, slots=True)
class Decision:
    """A step; for `Step.END` also the end."""

    step: Step
    end: End | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The observed state of the charger when the next step is chosen.

    `effect_due`: enough time has passed for the status to show the last command. `unconfirmed`: the charger may have
    dropped the override or pause after it was sent or last seen in effect (outage, restart, update, a window's edge).
    """

    now: datetime
    status: Status | None
    car_connected: bool | None
    full: bool
    effect_due: bool
    unconfirmed: bool


def decide(intent: OverrideIntent, seen: Observation) -> Decision:
    """Return the next step for an override (docs/design.md, section 5.6)."""
    if intent.state is IntentState.ENDING:
        return Decision(Step.FINISH if intent.applications == 0 or seen.effect_due else Step.WAIT)
    if (end := _end_reason(intent, seen)) is not None:
        return Decision(Step.END, end)
    if seen.status in OVERRIDE_IN_EFFECT:
        return Decision(Step.WAIT if intent.state is IntentState.VERIFIED and not seen.unconfirmed else Step.CONFIRM)
    if seen.status is Status.PAUSED and intent.base is not Status.PAUSED:
        return Decision(Step.END, End.SUPERSEDED)
    if seen.status in {Status.WAITING_SCHEDULE, Status.PAUSED}:
        return _decide_while_not_charging(intent, seen)
    return Decision(Step.WAIT)


def _end_reason(intent: OverrideIntent, seen: Observation) -> End | None:
    if intent.until is Until.TIME and intent.until_at is not None and seen.now >= intent.until_at:
        return End.TIME
    if intent.seen_plugged and seen.car_connected is False:
        return End.UNPLUGGED
    if intent.until is Until.FULL and seen.full:
        return End.FULL
    return None


def _decide_while_not_charging(intent: OverrideIntent, seen: Observation) -> Decision:
    """Return the next step if the charger does not charge although the user wants it to charge."""
    match intent.state:
        case IntentState.PENDING:
            pass
        case IntentState.APPLIED:
            if not seen.effect_due:
                return Decision(Step.WAIT)
            if not seen.unconfirmed:
                return Decision(Step.END, End.FAILED) if intent.disabled else Decision(Step.DISABLE_SCHEDULE)
        case _:
            # The override is no longer in effect: the charger dropped it, or somebody changed the charger.
            if not seen.unconfirmed:
                return Decision(Step.END, End.SUPERSEDED)
    return Decision(Step.SEND) if intent.applications < APPLICATIONS else Decision(Step.END, End.FAILED)


class PauseStep(StrEnum):
    """The next step for a pause."""

    WAIT = "wait"
    SEND = "send"  # send the pause again
    CONFIRM = "confirm"  # the charger is paused
    END = "end"  # with `PauseDecision.end`


@dataclass(frozen=True, slots=True)
class PauseDecision:
    """A step; for `PauseStep.END` also the end."""

    step: PauseStep
    end: End | None = None


def decide_pause(pause: PauseIntent, seen: Observation) -> PauseDecision:
    """Return the next step for a pause.

    A paused charger confirms the pause. If the charger charges, the pause is sent again after an event that may have
    dropped it. Without such an event the pause failed, or somebody else started the charger.
    """
    if seen.car_connected is False or pause.state is IntentState.ENDING:
        return PauseDecision(PauseStep.END, End.UNPLUGGED)
    if seen.full:
        return PauseDecision(PauseStep.END, End.FULL)
    verified = pause.state is IntentState.VERIFIED
    if seen.status is Status.PAUSED:
        return PauseDecision(PauseStep.WAIT if verified and not seen.unconfirmed else PauseStep.CONFIRM)
    if seen.status not in OVERRIDE_IN_EFFECT or not (verified or seen.effect_due):
        return PauseDecision(PauseStep.WAIT)
    if not seen.unconfirmed:
        return PauseDecision(PauseStep.END, End.SUPERSEDED if verified else End.FAILED)
    if pause.applications < APPLICATIONS:
        return PauseDecision(PauseStep.SEND)
    return PauseDecision(PauseStep.END, End.FAILED)


def end_override(intent: OverrideIntent, end: End, external_status: Status | None = None) -> OverrideIntent:
    """Return the intent in the state `ENDING`: the override is over for the user."""
    return replace(intent, state=IntentState.ENDING, end=end, external_status=external_status, applications=0)


def _json_of(entries: Intents) -> dict[str, object]:
    override = entries.override
    restart = entries.restart
    install = entries.install
    pause = entries.pause
    refuted = entries.refuted
    return {
        "override": None
        if override is None
        else {
            "created_at": override.created_at.isoformat(),
            "state": override.state,
            "until": override.until,
            "until_at": _iso(override.until_at),
            "base": override.base,
            "seen_plugged": override.seen_plugged,
            "sent": override.sent,
            "applications": override.applications,
            "originals": encode_schedule(override.originals),
            "disabled": override.disabled,
            "held": override.left_paused,
            "end": override.end,
            "theirs": override.external_status,
        },
        "restart": None
        if restart is None
        else {
            "pressed_at": restart.pressed_at.isoformat(),
            "away_at": _iso(restart.away_at),
            "outcome": restart.outcome,
        },
        "install": None
        if install is None
        else {"started_at": install.started_at.isoformat(), "target": install.target},
        "pause": None
        if pause is None
        else {
            "created_at": pause.created_at.isoformat(),
            "state": pause.state,
            "base": pause.base,
            "applications": pause.applications,
        },
        "lowering": entries.lowering,
        "updates": [
            {"source": each.source, "age": each.age, "firmware": each.firmware, "dismissed": each.dismissed}
            for each in entries.updates
        ],
        **({} if refuted is None else {"refuted": {"at": refuted.at.isoformat(), "again": refuted.again}}),
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _override_from(stored: object) -> OverrideIntent | None:
    if not isinstance(stored, Mapping):
        return None
    created_at = moment(stored.get("created_at"))
    state = member(IntentState, stored.get("state"))
    if created_at is None or state is None:
        return None
    return OverrideIntent(
        created_at=created_at,
        state=state,
        until=member(Until, stored.get("until")) or Until.FULL,
        until_at=moment(stored.get("until_at")),
        base=member(Status, stored.get("base")),
        seen_plugged=stored.get("seen_plugged") is True,
        # A record without this value may belong to an override that was sent.
        sent=stored.get("sent") is not False,
        applications=_count(stored.get("applications")),
        originals=decode_schedule(stored.get("originals")) or (),
        disabled=stored.get("disabled") is True,
        left_paused=stored.get("held") is True,
        end=member(End, stored.get("end")),
        external_status=member(Status, stored.get("theirs")),
    )


def _count(stored: object) -> int:
    return stored if type(stored) is int and stored >= 0 else 1


def _pause_from(stored: object) -> PauseIntent | None:
    if not isinstance(stored, Mapping) or (created_at := moment(stored.get("created_at"))) is None:
        return None
    state = member(IntentState, stored.get("state"))
    return PauseIntent(
        created_at=created_at,
        state=state if state in {IntentState.VERIFIED, IntentState.ENDING} else IntentState.APPLIED,
        base=member(Status, stored.get("base")),
        applications=_count(stored.get("applications")),
    )


def _restart_from(stored: object) -> RestartRecord | None:
    if not isinstance(stored, Mapping) or (pressed_at := moment(stored.get("pressed_at"))) is None:
        return None
    return RestartRecord(pressed_at, moment(stored.get("away_at")), member(Outcome, stored.get("outcome")))


def _install_from(stored: object) -> InstallRecord | None:
    if not isinstance(stored, Mapping) or (started_at := moment(stored.get("started_at"))) is None:
        return None
    target = stored.get("target")
    return InstallRecord(started_at, target) if isinstance(target, str) else None


def _refuted_from(stored: object) -> RefutedRecord | None:
    if not isinstance(stored, Mapping) or (at := moment(stored.get("at"))) is None:
        return None
    return RefutedRecord(at, stored.get("again") is True)


def _updates_from(stored: object) -> tuple[UpdateRecord, ...]:
    records = (_update_from(each) for each in (stored if isinstance(stored, list) else ()))
    return tuple(record for record in records if record is not None)


def _update_from(stored: object) -> UpdateRecord | None:
    if not isinstance(stored, Mapping) or (source := member(Source, stored.get("source"))) is None:
        return None
    age = number(stored.get("age"))
    firmware = stored.get("firmware")
    # An update of unknown age counts in full.
    return UpdateRecord(
        source,
        0.0 if age is None else max(age, 0.0),
        firmware if isinstance(firmware, str) else None,
        stored.get("dismissed") is True,
    )
