"""The intent store: saved before each command and restored after a restart; the next step of override and pause."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
import json

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.charger.intents import (
    APPLICATIONS,
    Decision,
    End,
    InstallRecord,
    Intents,
    IntentState,
    IntentStore,
    Observation,
    OverrideIntent,
    PauseIntent,
    PauseStep,
    RestartRecord,
    Step,
    Until,
    decide,
    decide_pause,
    end_override,
)
from custom_components.chargekeeper.core.model import OVERRIDE_IN_EFFECT, Outcome, Status
from tests.core.fake_transport import NIGHT
from tests.simulators.clock import VirtualClock

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)

PENDING, APPLIED, VERIFIED, ENDING = IntentState
INTENT = OverrideIntent(created_at=NOW, base=Status.WAITING_SCHEDULE)
SEEN = Observation(
    now=NOW, status=Status.WAITING_SCHEDULE, car_connected=True, full=False, effect_due=True, unconfirmed=False
)


def steps_of(intent: OverrideIntent, seen: Observation) -> Step | End:
    decision = decide(intent, seen)
    return decision.end or decision.step


# Deciding


@pytest.mark.parametrize("end", [None, *End])
def test_ending_override_only_needs_finishing(end: End | None) -> None:
    intent = replace(INTENT, state=ENDING, end=end, seen_plugged=True)
    seen = replace(SEEN, car_connected=False, full=True, effect_due=False)
    assert decide(intent, seen) == Decision(Step.FINISH)
    tried = replace(intent, applications=1)
    assert decide(tried, seen) == Decision(Step.WAIT)
    assert decide(tried, replace(seen, effect_due=True)) == Decision(Step.FINISH)


@pytest.mark.parametrize("state", [PENDING, APPLIED, VERIFIED])
def test_override_ends_on_unplug_full_battery_or_end_time(state: IntentState) -> None:
    intent = replace(INTENT, state=state, seen_plugged=True)
    charging = replace(SEEN, status=Status.CHARGING)
    assert steps_of(intent, replace(charging, car_connected=False)) is End.UNPLUGGED
    assert steps_of(replace(intent, seen_plugged=False), replace(charging, car_connected=False)) is not End.UNPLUGGED
    assert steps_of(intent, replace(charging, car_connected=None)) is not End.UNPLUGGED
    assert steps_of(intent, replace(charging, full=True)) is End.FULL
    assert steps_of(replace(intent, until=Until.UNPLUGGED), replace(charging, full=True)) is not End.FULL
    timed = replace(intent, until=Until.TIME, until_at=NOW)
    assert steps_of(timed, charging) is End.TIME
    assert steps_of(timed, replace(charging, now=NOW - timedelta(seconds=1), full=True)) not in End
    assert steps_of(replace(timed, until_at=None), charging) not in End
    assert steps_of(timed, replace(charging, car_connected=False)) is End.TIME
    assert steps_of(replace(intent, until=Until.UNPLUGGED), replace(charging, car_connected=False)) is End.UNPLUGGED


@pytest.mark.parametrize("status", OVERRIDE_IN_EFFECT)
def test_override_in_effect_confirmed_once(status: Status) -> None:
    seen = replace(SEEN, status=status)
    assert steps_of(INTENT, seen) is Step.CONFIRM
    assert steps_of(replace(INTENT, state=APPLIED), seen) is Step.CONFIRM
    assert steps_of(replace(INTENT, state=VERIFIED), seen) is Step.WAIT
    assert steps_of(replace(INTENT, state=VERIFIED), replace(seen, unconfirmed=True)) is Step.CONFIRM


@pytest.mark.parametrize("state", [PENDING, APPLIED, VERIFIED])
@pytest.mark.parametrize("unconfirmed", [False, True])
def test_override_superseded_by_external_pause(state: IntentState, unconfirmed: bool) -> None:
    seen = replace(SEEN, status=Status.PAUSED, unconfirmed=unconfirmed)
    assert steps_of(replace(INTENT, state=state), seen) is End.SUPERSEDED
    assert steps_of(replace(INTENT, state=state, base=None), seen) is End.SUPERSEDED


def test_override_sent_to_charger_paused_before_override() -> None:
    paused, seen = replace(INTENT, base=Status.PAUSED), replace(SEEN, status=Status.PAUSED)
    assert steps_of(paused, seen) is Step.SEND
    assert steps_of(replace(paused, state=VERIFIED), seen) is End.SUPERSEDED
    assert steps_of(replace(paused, state=VERIFIED), replace(seen, unconfirmed=True)) is Step.SEND


def test_override_sent_to_charger_waiting_for_schedule() -> None:
    assert steps_of(INTENT, SEEN) is Step.SEND
    assert steps_of(INTENT, replace(SEEN, effect_due=False)) is Step.SEND


def test_override_without_effect_disables_schedule_then_fails() -> None:
    applied = replace(INTENT, state=APPLIED, applications=1)
    assert steps_of(applied, replace(SEEN, effect_due=False)) is Step.WAIT
    assert steps_of(applied, SEEN) is Step.DISABLE_SCHEDULE
    assert steps_of(applied, replace(SEEN, unconfirmed=True)) is Step.SEND  # the command may be lost
    assert steps_of(replace(applied, applications=3), replace(SEEN, unconfirmed=True)) is End.FAILED
    # Saved but not acknowledged: the command may not have arrived.
    assert steps_of(replace(applied, originals=(NIGHT,)), SEEN) is Step.DISABLE_SCHEDULE
    assert steps_of(replace(applied, originals=(NIGHT,), disabled=True), SEEN) is End.FAILED


def test_dropped_override_sent_again_externally_changed_override_superseded() -> None:
    verified = replace(INTENT, state=VERIFIED, applications=1)
    assert steps_of(verified, SEEN) is End.SUPERSEDED
    assert steps_of(verified, replace(SEEN, unconfirmed=True)) is Step.SEND
    worn = replace(verified, applications=APPLICATIONS)
    assert steps_of(worn, replace(SEEN, unconfirmed=True)) is End.FAILED
    assert steps_of(replace(worn, state=PENDING), SEEN) is End.FAILED


OTHERS = set(Status) - OVERRIDE_IN_EFFECT - {Status.WAITING_SCHEDULE, Status.PAUSED}


@pytest.mark.parametrize(
    ("state", "status", "unconfirmed"), product([PENDING, APPLIED, VERIFIED], [None, *sorted(OTHERS)], [False, True])
)
def test_override_waits_in_every_other_status(state: IntentState, status: Status | None, unconfirmed: bool) -> None:
    seen = replace(SEEN, status=status, unconfirmed=unconfirmed)
    assert decide(replace(INTENT, state=state, seen_plugged=True), seen) == Decision(Step.WAIT)


def test_end_override_records_reason_and_external_status() -> None:
    ended = end_override(replace(INTENT, applications=2), End.SUPERSEDED, Status.PAUSED)
    assert ended == replace(INTENT, state=ENDING, end=End.SUPERSEDED, external_status=Status.PAUSED)


# Deciding on a pause

HELD = PauseIntent(created_at=NOW, state=VERIFIED, base=Status.CHARGING)
PAUSED = replace(SEEN, status=Status.PAUSED)
CHARGES = replace(SEEN, status=Status.CHARGING)


def pause_step(pause: PauseIntent, seen: Observation) -> PauseStep | End:
    decision = decide_pause(pause, seen)
    return decision.end or decision.step


@pytest.mark.parametrize("state", [APPLIED, VERIFIED])
def test_pause_ends_on_unplug_or_full_battery(state: IntentState) -> None:
    for seen in (PAUSED, CHARGES):
        assert pause_step(replace(HELD, state=state), replace(seen, car_connected=False)) is End.UNPLUGGED
        assert pause_step(replace(HELD, state=state), replace(seen, full=True)) is End.FULL


def test_pause_shown_by_charger_confirmed_once() -> None:
    assert pause_step(replace(HELD, state=APPLIED), PAUSED) is PauseStep.CONFIRM
    assert pause_step(HELD, PAUSED) is PauseStep.WAIT
    assert pause_step(HELD, replace(PAUSED, unconfirmed=True)) is PauseStep.CONFIRM


@pytest.mark.parametrize("status", OVERRIDE_IN_EFFECT)
def test_dropped_pause_restored_externally_ended_pause_not(status: Status) -> None:
    seen = replace(SEEN, status=status)
    assert pause_step(HELD, seen) is End.SUPERSEDED
    assert pause_step(HELD, replace(seen, unconfirmed=True)) is PauseStep.SEND
    worn = replace(HELD, applications=APPLICATIONS)
    assert pause_step(worn, replace(seen, unconfirmed=True)) is End.FAILED
    sent = replace(HELD, state=APPLIED)
    assert pause_step(sent, replace(seen, effect_due=False, unconfirmed=True)) is PauseStep.WAIT
    assert pause_step(sent, seen) is End.FAILED
    assert pause_step(sent, replace(seen, unconfirmed=True)) is PauseStep.SEND


@pytest.mark.parametrize("status", [None, *sorted(OTHERS - {Status.COMPLETED}), Status.WAITING_SCHEDULE])
def test_pause_waits_while_charger_does_not_charge(status: Status | None) -> None:
    for unconfirmed in (False, True):
        assert pause_step(HELD, replace(SEEN, status=status, unconfirmed=unconfirmed)) is PauseStep.WAIT


# Saving


class Disk:
    """The storage of the intent store, which may hang or fail."""

    def __init__(self) -> None:
        self.saved: list[dict[str, object]] = []
        self.broken = False
        self.gate: asyncio.Event | None = None

    async def save(self, record: dict[str, object]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            raise OSError("disk full")
        self.saved.append(record)


async def test_intent_change_takes_effect_only_after_save() -> None:
    disk = Disk()
    intents = IntentStore(disk.save)
    disk.gate = asyncio.Event()
    writing = asyncio.ensure_future(intents.write(override=INTENT))
    clock = VirtualClock()
    await clock.settle()
    assert intents.entries == Intents()
    disk.gate.set()
    await writing
    assert intents.entries == Intents(override=INTENT)
    assert disk.saved == [intents.export()]


async def test_intent_store_saves_only_changes_and_each_part_separately() -> None:
    disk = Disk()
    intents = IntentStore(disk.save)
    restart, install = RestartRecord(NOW), InstallRecord(NOW, "2.0")
    await intents.write()
    assert disk.saved == []
    await intents.write(override=INTENT)
    await intents.write(override=INTENT)
    assert len(disk.saved) == 1
    await intents.write(restart=restart)
    await intents.write(install=install)
    assert intents.entries == Intents(override=INTENT, restart=restart, install=install)
    await intents.write(override=None)
    await intents.write(restart=None)
    await intents.write(install=None)
    await intents.write(pause=PauseIntent(created_at=NOW))
    assert intents.entries == Intents(pause=PauseIntent(created_at=NOW))
    await intents.write(pause=None)
    await intents.write(lowering=True)
    assert intents.entries == Intents(lowering=True)
    await intents.write(lowering=False)
    assert intents.entries == Intents()
    assert disk.saved[-1] == {
        "override": None,
        "restart": None,
        "install": None,
        "pause": None,
        "lowering": False,
        "updates": [],
    }


async def test_intent_change_without_effect_when_save_fails() -> None:
    disk = Disk()
    intents = IntentStore(disk.save)
    disk.broken = True
    with pytest.raises(OSError, match="disk full"):
        await intents.write(override=INTENT)
    assert intents.entries == Intents()
    disk.broken = False
    await intents.write(override=INTENT)  # a later write of the same override is saved
    assert len(disk.saved) == 1


async def test_cancelled_intent_write_takes_effect_and_is_saved_by_next_write() -> None:
    disk = Disk()
    intents = IntentStore(disk.save)
    disk.gate = asyncio.Event()
    writing = asyncio.create_task(intents.write(override=INTENT))
    await VirtualClock().settle()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert intents.entries == Intents(override=INTENT)  # a thread may still be writing the change
    disk.gate = None
    await intents.write(override=INTENT)
    assert disk.saved == [intents.export()]
    await intents.write(override=INTENT)
    assert len(disk.saved) == 1


async def test_simultaneous_intent_writes_both_kept() -> None:
    disk = Disk()
    intents = IntentStore(disk.save)
    disk.gate = asyncio.Event()
    both = asyncio.gather(intents.write(override=INTENT), intents.write(restart=RestartRecord(NOW)))
    await VirtualClock().settle()
    disk.gate.set()
    await both
    assert intents.entries == Intents(override=INTENT, restart=RestartRecord(NOW))
    assert disk.saved[-1] == intents.export()


# Restoring

moments = st.datetimes(timezones=st.just(UTC))
statuses = st.none() | st.sampled_from(Status)
intents = st.builds(
    OverrideIntent,
    created_at=moments,
    state=st.sampled_from(IntentState),
    until=st.sampled_from(Until),
    until_at=st.none() | moments,
    base=statuses,
    seen_plugged=st.booleans(),
    sent=st.booleans(),
    applications=st.integers(0, 5),
    originals=st.sampled_from([(), (NIGHT,)]),
    disabled=st.booleans(),
    end=st.none() | st.sampled_from(End),
    external_status=statuses,
)
all_entries = st.builds(
    Intents,
    override=st.none() | intents,
    restart=st.none() | st.builds(RestartRecord, moments, st.none() | moments, st.none() | st.sampled_from(Outcome)),
    install=st.none() | st.builds(InstallRecord, moments, st.text()),
    pause=st.none()
    | st.builds(
        PauseIntent,
        created_at=moments,
        state=st.sampled_from([APPLIED, VERIFIED]),
        base=statuses,
        applications=st.integers(0, 5),
    ),
    lowering=st.booleans(),
)


def restored(stored: object) -> IntentStore:
    intents = IntentStore(Disk().save)
    intents.restore(stored)
    return intents


@given(all_entries)
def test_intents_restored_unchanged_from_store(entries: Intents) -> None:
    intents = IntentStore(Disk().save)
    intents.entries = entries
    assert restored(json.loads(json.dumps(intents.export()))).entries == entries


OVERRIDE = {"created_at": NOW.isoformat(), "state": "verified"}


def test_override_record_with_missing_fields_counts_as_sent_once() -> None:
    intent = restored({"override": OVERRIDE}).entries.override
    assert intent == OverrideIntent(created_at=NOW, state=VERIFIED, sent=True, applications=1)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("until", "doomsday", replace(INTENT, state=VERIFIED, base=None, sent=True, applications=1)),
        ("until_at", "2026-11-02T12:00:00", replace(INTENT, state=VERIFIED, base=None, sent=True, applications=1)),
        ("applications", -7, replace(INTENT, state=VERIFIED, base=None, sent=True, applications=1)),
        ("applications", True, replace(INTENT, state=VERIFIED, base=None, sent=True, applications=1)),
        ("sent", False, replace(INTENT, state=VERIFIED, base=None, sent=False, applications=1)),
        ("originals", [{}], replace(INTENT, state=VERIFIED, base=None, sent=True, applications=1)),
        ("created_at", None, None),
        ("created_at", "noon", None),
        ("state", "bored", None),
    ],
)
def test_invalid_field_of_override_record_left_out_or_record_dropped(
    key: str, value: object, expected: OverrideIntent | None
) -> None:
    assert restored({"override": OVERRIDE | {key: value}}).entries.override == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, PauseIntent(created_at=NOW)),
        ({"state": "pending", "base": "moon", "applications": "many"}, PauseIntent(created_at=NOW)),
        ({"state": "verified", "base": "charging", "applications": 3}, replace(HELD, applications=3)),
    ],
)
def test_pause_record_with_missing_or_invalid_fields_gets_defaults(
    entry: dict[str, object], expected: PauseIntent
) -> None:
    assert restored({"pause": {"created_at": NOW.isoformat(), **entry}}).entries.pause == expected


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {"override": [], "restart": 7, "install": "x", "pause": 3},
        {"pause": {"created_at": "noon", "state": "verified"}},
        {"restart": {}, "install": {}, "lowering": 1},
        {"restart": {"pressed_at": 5}, "install": {"started_at": NOW.isoformat(), "target": 2}},
    ],
)
def test_invalid_intent_record_left_out(stored: object) -> None:
    assert restored(stored).entries == Intents()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(
    json_values
    | st.dictionaries(
        st.sampled_from(["override", "restart", "install", "pause", "lowering"]),
        st.dictionaries(
            st.sampled_from(["created_at", "state", "until", "until_at", "originals", "pressed_at", "started_at"]),
            json_values | st.just(NOW.isoformat()) | st.just("pending"),
        ),
    )
)
def test_intent_store_restores_any_content_without_error(stored: object) -> None:
    intents = restored(stored)
    assert restored(intents.export()).entries == intents.entries
