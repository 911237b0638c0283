"""The invariants of the design, observed from outside: each violation names the observation.

The invariants check requests on arrival at the simulated cloud and the links, saved data, snapshots and the world
itself. They use no rule of the code that they judge.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
import json
from math import inf
from typing import TYPE_CHECKING, Any, override

from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    HOUSE_LIMIT,
    LIFETIME_ENERGY,
    LOAD_GROUP_LIMIT,
    STATUS,
    WIRE_RATING,
    Reading,
    ReadingClass,
    Snapshot,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import Command, Restart, SetCharging, SetCurrent, SetOverride
from tests.simulation.scene import HOUR, IntentLives, Secrets, Watch
from tests.simulators.http_server import Request
from tests.simulators.wallbox_payloads import JsonObject
from tests.simulators.world import SimulatedCharger, State

if TYPE_CHECKING:
    from tests.simulation.home import Run
    from tests.simulation.house import House

SLACK = 2.0  # seconds; dates of the cloud are in whole seconds
RESUME, RESTART = 1, 3
LIVE_AGE, IDLE_AGE = 900.0, 3600.0
SAVED_AFTER = 130.0  # seconds after which a change is surely on the disk


class Invariant(Watch):
    """An invariant of the house with the cloud; it also sees arrivals at the cloud and the links."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.house = house

    def request_arrived(self, request: Request) -> None:
        """Handle a request that arrived at the cloud and has no effect yet."""

    def request_answered(self, request: Request, answer: JsonObject | None) -> None:
        """Handle an answer of the cloud; `answer` is None if it is unreadable."""

    def sent_locally(self, serial: str, command: Command) -> None:
        """Handle a command that reached the link of a charger."""


@dataclass(slots=True)
class Setting:
    """The charging current that a charger is set to, and its cause."""

    amps: int
    why: str


class Ceiling(Invariant):
    """I1: no command raises current above the ceiling, cached limits included, or without a known wire rating.

    Seconds of charging above a limit are counted by cause; seconds that we caused are a violation.
    """

    name = "I1"
    BEFORE, OTHERS = "set before we knew", "set by somebody in the app"
    LIMIT, LOWERED = "the limit came down later", "lowered by us, as far as the user wished"
    UNAWARE = "raised by us over a lowering in the app that nobody could know"
    LATEST_EFFECT = 900.0
    """Seconds after which a command has surely taken effect, or never will."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._looked_at = house.now
        self._settings: dict[str, Setting] = {}
        self._sent: dict[str, dict[int, tuple[float, str]]] = {}
        """The currents that we sent, per charger: the last time, and the cause to count above a limit."""

    @override
    def request_arrived(self, request: Request) -> None:
        if request.method == "GET":
            return
        serial, body = serial_of(request), json.loads(request.body or "{}")
        if serial is not None and isinstance(amps := body.get("maxChargingCurrent"), int):
            self._set(serial, amps)
        elif serial is not None and body.get("action") == RESUME and self.house.charger(serial).reaches_cloud:
            self._begin_charge(serial)

    @override
    def sent_locally(self, serial: str, command: Command) -> None:
        match command:
            case SetCurrent(amps):
                self._set(serial, amps)
            case SetCharging(True) | SetOverride(True):
                self._begin_charge(serial)

    @override
    def look(self) -> None:
        passed, self._looked_at = self.house.now - self._looked_at, self.house.now
        for serial, shown in self.snapshots():
            charger, setting = self.house.world.chargers[serial], self._setting(serial)
            if charger.state is State.CHARGING and charger.amperes > self._ceiling(serial, shown):
                self.house.counts.add_above(setting.why, passed)

    def _ceiling(self, serial: str, shown: Snapshot) -> float:
        limits = [shown.value(WIRE_RATING), shown.value(HOUSE_LIMIT), self.house.options[serial].load_group_limit]
        return min((limit for limit in limits if limit is not None), default=inf)

    def _setting(self, serial: str) -> Setting:
        """Return the setting of a charger and its cause."""
        amps = self.house.world.chargers[serial].max_charging_current
        known = self._settings.setdefault(serial, Setting(amps, self.BEFORE))
        if amps != known.amps:
            at, why = self._sent.get(serial, {}).get(amps, (-inf, self.OTHERS))
            known.amps, known.why = amps, why if self.house.now - at < self.LATEST_EFFECT else self.OTHERS
        return known

    def _set(self, serial: str, amps: int) -> None:
        shown, present = self.snapshot(serial), self.house.charger(serial).max_charging_current
        if shown is None:
            return
        ceiling = self._ceiling(serial, shown)
        why = self.LIMIT if amps <= ceiling else self.LOWERED
        if amps > present and self._changed_just_now(amps, shown):
            why = self.UNAWARE
        elif amps > present and shown.value(WIRE_RATING) is None:
            self.fail(f"{serial} was told {amps} A (it is set to {present} A) with its wire rating unknown")
        elif present < amps and amps > ceiling:
            self.fail(
                f"{serial} was told {amps} A with a ceiling of {ceiling:g} A: it is set to {present} A, shown as "
                f"{shown.readings.get(CHARGING_CURRENT)}"
            )
        self._setting(serial)
        self._sent.setdefault(serial, {})[amps] = (self.house.now, why)

    def _changed_just_now(self, amps: int, shown: Snapshot) -> bool:
        """Return True if a working transport showed at least `amps`; an unseen external change lowered it since."""
        known = shown.readings.get(CHARGING_CURRENT)
        return known is not None and known.source is not Source.CACHE and known.value >= amps

    def _begin_charge(self, serial: str) -> None:
        """Handle a start: the current rises from 0 to the setting."""
        shown, present = self.snapshot(serial), self.house.charger(serial).max_charging_current
        known = None if shown is None else shown.value(CHARGING_CURRENT)
        if shown is None or known is None or min(known, present) <= self._ceiling(serial, shown):
            return
        self.fail(
            f"a charge was started on {serial} set to {present} A with a ceiling of {self._ceiling(serial, shown):g} A"
        )


class ConfigKept(Invariant):
    """I2: outages and restarts make no configuration value unknown, and no value is invented."""

    name = "I2"

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._known: dict[tuple[str, str], float] = {}

    @override
    def killed(self) -> None:
        surely_saved = self.house.now - SAVED_AFTER
        self._known = {key: since for key, since in self._known.items() if since < surely_saved}

    @override
    def look(self) -> None:
        home = self.house.home
        for serial, shown in self.snapshots():
            charger = self.house.world.chargers[serial]
            has = {prop.key: reading for prop, reading in shown.readings.items() if prop.kind is ReadingClass.CONFIG}
            if home is not None and not home.account.breaker.usable:
                fresh = sorted(key for key, reading in has.items() if reading.source is Source.CLOUD)
                if fresh:
                    self.fail(f"{serial}: {fresh} are shown as the cloud's while it is lost")
            self._check_values(serial, charger, shown)
            for known_serial, key in list(self._known):
                if known_serial != serial or key in has:
                    continue
                if key not in {HOUSE_LIMIT.key, LOAD_GROUP_LIMIT.key}:
                    self.fail(f"{serial}: {key} became unknown")
                if key == HOUSE_LIMIT.key and charger.home_sharing and charger.icp_max_current is not None:
                    self.fail(f"{serial}: the house limit became unknown although it is in force")
                del self._known[known_serial, key]
            for key in has:
                self._known.setdefault((serial, key), self.house.now)

    def _check_values(self, serial: str, charger: SimulatedCharger, shown: Snapshot) -> None:
        wire, group = shown.value(WIRE_RATING), shown.value(LOAD_GROUP_LIMIT)
        if wire is not None and wire != charger.max_available_current:
            self.fail(f"{serial}: the wire rating is shown as {wire}, it is {charger.max_available_current}")
        entered = self.house.options[serial].load_group_limit
        shared = self.house.limit_of_group(serial)
        if group != entered and (shared is None or group is None or group > min(entered or inf, shared)):
            self.fail(f"{serial}: the load group limit is shown as {group}")


@dataclass(slots=True)
class Heard:
    """The reports of the cloud on one charger."""

    told_at: float = -inf
    code: int | None = None
    reported_at: float = -inf  # when the charger made the last report that the cloud passed on
    changed_at: float = -inf  # when an answer last differed from a recent one
    flows: bool = False
    signs: tuple[object, ...] | None = None
    groups_at: float = -inf
    charger_reported_at: float = -inf  # of the last `last_sync` in an answer


class LiveFresh(Invariant):
    """I3: no live value is shown past its age, counted from the true report of the charger."""

    name = "I3"
    LONGEST_GAP = 300.0
    """Maximum seconds between two groups answers for a change between them to count as a present sign of life."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.heard: dict[str, Heard] = {}

    @override
    def request_answered(self, request: Request, answer: JsonObject | None) -> None:
        if answer is None or request.method != "GET":
            return
        if request.path.startswith("/v2/charger/"):
            serial = str(serial_of(request))
            charger = self.house.world.chargers[serial]
            self.heard.setdefault(serial, Heard()).charger_reported_at = self.house.cloud.reported(charger)[0]
        else:
            for serial, code, signs in _told(request, answer):
                self._note(serial, code, signs, answer)

    def _note(self, serial: str, code: int | None, signs: tuple[object, ...] | None, answer: JsonObject) -> None:
        now, charger = self.house.now, self.house.world.chargers[serial]
        heard = self.heard.setdefault(serial, Heard())
        heard.told_at, heard.code = now, code
        heard.reported_at, report = self.house.cloud.reported(charger)
        heard.flows = report.state is State.CHARGING
        if "last_sync" in answer:
            heard.charger_reported_at = heard.reported_at
        if signs is not None:
            if heard.signs is not None and signs != heard.signs and now - heard.groups_at <= self.LONGEST_GAP:
                heard.changed_at = now
            heard.signs, heard.groups_at = signs, now

    @override
    def look(self) -> None:
        for serial, shown in self.snapshots():
            for prop, reading in shown.readings.items():
                if prop.kind is not ReadingClass.LIVE or reading.value is Status.RESTARTING:
                    continue
                until = self._until(serial, prop.key, reading)
                if self.house.now > until + SLACK:
                    late = self.house.now - until
                    self.fail(
                        f"{serial}: {prop.key} = {reading.value} ({reading.source}) is shown {late:.0f} s too long"
                    )

    def _until(self, serial: str, key: str, reading: Reading[object]) -> float:
        if reading.source is Source.LINKED:
            return self.house.links[serial].reported_at + LIVE_AGE
        heard = self.heard.get(serial, Heard())
        if key == STATUS.key and reading.value is Status.OFFLINE:
            return heard.told_at + IDLE_AGE
        return max(heard.reported_at, heard.changed_at) + (LIVE_AGE if heard.flows else IDLE_AGE)


class Intents(Invariant, IntentLives):
    """I4: an override is saved before it sends a command, and windows that it disabled are enabled again."""

    name = "I4"

    @override
    def request_arrived(self, request: Request) -> None:
        """Check that the override of a command is already on the disk."""
        serial, intent = serial_of(request), None
        if serial is None or request.method == "GET":
            return
        intent = self._on_disk.get(serial)
        body = json.loads(request.body or "{}")
        disables = any(not window["enable"] for window in body.get("schedules", ()))
        if disables and (intent is None or not intent["originals"]):
            self.fail(f"{serial}: its schedule is being disabled, but the disk holds no originals")
        starts = body.get("action") == RESUME and not self.house.asked_to_charge(serial)
        starts = starts and self.house.limit_of_group(serial) is None  # a load group lifts its pauses by itself
        if starts and (intent is None or not intent["sent"]):
            self._sent_unsaved(serial, intent)

    @override
    def sent_locally(self, serial: str, command: Command) -> None:
        intent = self._on_disk.get(serial)
        if isinstance(command, SetOverride) and command.on and (intent is None or not intent["sent"]):
            self._sent_unsaved(serial, intent)

    def _sent_unsaved(self, serial: str, intent: JsonObject | None) -> None:
        self.fail(f"{serial}: an override was sent, but the disk holds {intent}")

    @override
    def look(self) -> None:
        super().look()
        for serial in self.house.owners_schedule:
            if self._on_disk.get(serial) is None and self._gone_at.get(serial, -inf) < self.house.now - 120:
                self._schedule_restored(serial)

    def _schedule_restored(self, serial: str) -> None:
        wanted, present = self.house.owners_schedule[serial], self.house.charger(serial).schedules
        if present != wanted:
            self.fail(f"{serial}: no override is left, but the owner's schedule {wanted} is {present}")

    @override
    def ended(self) -> None:
        super().ended()
        for serial in self._on_disk:
            self._schedule_restored(serial)


@dataclass(eq=False, slots=True)
class Press:
    """A press of the restart button that has no answer yet."""

    serial: str
    sent: int = 0


class Restarts(Invariant):
    """I5: at most one restart per press; none while updating or charging, or on an unknown or old status."""

    name = "I5"
    COOLING_DOWN, STATUS_FRESH, EVIDENCE_FRESH = 600.0, 60.0, 600.0

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._open: list[Press] = []
        self._last: dict[str, float] = {}
        self._before_last: dict[str, float] = {}
        self._idle_at: dict[str, float] = {}
        self._sending: Press | None = None

    def press(self, serial: str) -> Press:
        """Record a press of the user."""
        press = Press(serial)
        self._open.append(press)
        return press

    def done(self, press: Press, *, counted: bool) -> None:
        """Record the answer to a press; `counted` is False if the press surely had no effect."""
        if press in self._open:
            self._open.remove(press)
            self.house.counts.restarts_per_press[press.sent] += 1
        if press.sent and not counted:
            self._last[press.serial] = self._before_last.get(press.serial, -inf)

    @override
    def killed(self) -> None:
        self._open = []

    @override
    def stopped(self, home: Run) -> None:
        self._open = []

    @override
    def request_arrived(self, request: Request) -> None:
        serial = serial_of(request)
        if serial is None or not asks_for_restart(request):
            return
        heard = next(i for i in self.house.invariants if isinstance(i, LiveFresh)).heard.get(serial, Heard())
        now = self.house.now
        if now - heard.told_at > self.STATUS_FRESH + SLACK:
            self.fail(f"{serial} was restarted on a status told {now - heard.told_at:.0f} s ago")
        if now - heard.charger_reported_at > self.EVIDENCE_FRESH + SLACK:
            self.fail(f"{serial} was restarted though it last reported {now - heard.charger_reported_at:.0f} s ago")
        if heard.code in {None, 0, 5, 163, 166, 193, 194, 195, 196}:
            self.fail(f"{serial} was restarted though the cloud last told status {heard.code}")
        self._restart(serial)

    @override
    def sent_locally(self, serial: str, command: Command) -> None:
        if isinstance(command, Restart):
            if self.house.charger(serial).state is State.CHARGING and self._charges_for(serial) > self.STATUS_FRESH:
                self.fail(f"{serial} was restarted over its link while charging")
            self._restart(serial)

    @override
    def request_answered(self, request: Request, answer: JsonObject | None) -> None:
        """Handle a request refused for an old token: it had no effect and may be repeated with a new token."""
        press = self._sending
        if request.status == 401 and press is not None and asks_for_restart(request):
            press.sent -= 1
            self._last[press.serial] = self._before_last.get(press.serial, -inf)
            self._sending = None

    def _charges_for(self, serial: str) -> float:
        return self.house.now - self._idle_at.get(serial, -inf)

    def _restart(self, serial: str) -> None:
        now = self.house.now
        presses = [press for press in self._open if press.serial == serial]
        press = next((press for press in presses if not press.sent), None)
        if press is None:
            self.fail(f"{serial} was restarted without a press ({len(presses)} under way have sent theirs)")
        else:
            press.sent += 1
            self._sending = press
        if self.house.charger(serial).updating and now - self.house.update_began[serial] > self.STATUS_FRESH:
            self.fail(f"{serial} was restarted while its firmware was being updated")
        if now - self._last.get(serial, -inf) < self.COOLING_DOWN - SLACK:
            self.fail(f"{serial} was restarted again after {now - self._last[serial]:.0f} s")
        self._before_last[serial], self._last[serial] = self._last.get(serial, -inf), now

    @override
    def look(self) -> None:
        for serial, charger in self.house.world.chargers.items():
            if charger.state is not State.CHARGING:
                self._idle_at[serial] = self.house.now
            if charger.bricked:
                self.fail(f"{serial} was ruined by a restart during an update")
        if self.house.cloud.factory_resets:
            self.fail("a factory reset was asked for")


@dataclass(slots=True)
class Window:
    """A sliding window over one kind of request."""

    name: str
    room: int
    seconds: float
    stamps: deque[float] = field(default_factory=deque)

    def take(self, now: float) -> int:
        """Count one request; return the number in the window."""
        self._pass(now)
        self.stamps.append(now)
        return len(self.stamps)

    def full(self, now: float) -> bool:
        """Return True if the window has no room for another request."""
        self._pass(now)
        return len(self.stamps) >= self.room

    def _pass(self, now: float) -> None:
        while self.stamps and self.stamps[0] <= now - self.seconds + 1e-3:
            self.stamps.popleft()


class PursesKept(Invariant):
    """I6: requests counted at the cloud never exceed the budgets, even after restarts and kills.

    For a reduction, one token may be refreshed out of turn, and two more commands may follow a kill (docs/design.md,
    section 0.4).
    """

    name = "I6"

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._reads = Window("reads per h", 60, HOUR)
        self._sign_ins = Window("sign-ins per min", 3, 60.0)
        self._commands = Window("commands per min", 5, 60.0)
        self._probes = Window("probes per h", 60, HOUR)
        self._reserve = Window("reserve per h", 20, HOUR)
        self._last: Request | None = None  # GET of data
        self._regular_at = -inf  # the last GET that took a regular slot
        self._throttled_at = -inf
        self._login: Request | None = None
        self._was_killed = False
        self._unclean_start = -inf
        self._signed_in_at = -inf  # the last sign-in or refresh of the regular budget
        self._urgent_refresh_at = -inf  # one beyond it, that reductions may have needed

    @override
    def killed(self) -> None:
        self._was_killed = True

    @override
    def starting(self) -> None:
        if self._was_killed:
            self._unclean_start = self.house.now
        self._was_killed = False

    @override
    def request_answered(self, request: Request, answer: JsonObject | None) -> None:
        if request.status == 429 and self.house.cloud.is_data(request.path):
            self._throttled_at = self.house.now
        if self._last is not None and (self._last.at, self._last.path) == (request.at, request.path):
            self._last = request
        if self._login is not None and (self._login.at, self._login.path) == (request.at, request.path):
            self._login = request

    @override
    def request_arrived(self, request: Request) -> None:
        if not self.house.cloud.is_data(request.path):
            self._sign_in(request)
        elif request.method == "GET":
            self._read(request)
        else:
            self._take(self._commands, request)

    def _take(self, window: Window, request: Request) -> None:
        """Count a request; fail if the window has no room for it."""
        used, name = window.take(request.at), f"{window.name} (room for {window.room})"
        busiest = self.house.counts.busiest
        busiest[name] = max(busiest[name], used)
        just_started = window is self._commands and request.at < self._unclean_start + 60.0
        if used > (7 if just_started else window.room):  # the slots of reductions are free after an unclean stop
            self.fail(f"{request.method} {request.path} is number {used} of the {window.name}")

    def _sign_in(self, request: Request) -> None:
        self._take(self._sign_ins, request)
        last, self._login = self._login, request
        refused_at = -inf
        if last is not None and last.path.endswith("refresh-token") and last.status in {401, 403}:
            refused_at = last.at
        if request.at >= self._signed_in_at + 60.0 - 1e-3:
            self._signed_in_at = request.at
        elif request.path.endswith("signin") and refused_at > -inf:  # it belongs to the refused refresh
            if refused_at != self._urgent_refresh_at:
                self._signed_in_at = request.at
        elif request.path.endswith("refresh-token") and request.at >= self._urgent_refresh_at + 300.0 - 1e-3:
            self._urgent_refresh_at = request.at
        else:
            self.fail(f"{request.path} came {request.at - self._signed_in_at:.1f} s after the last paced sign-in")

    def _read(self, request: Request) -> None:
        last, self._last = self._last, request
        if last is not None and last.status == 401 and last.path == request.path and request.at - last.at < 60:
            self._last = None  # only one repetition is allowed
            return
        home = self.house.home
        slot_free = request.at - self._regular_at >= 60.0 - 1e-3
        doubt = request.path.endswith("/groups") and home is not None and not home.account.breaker.closed
        # A failed command may have made the breaker doubtful during a regular poll.
        if doubt and not (slot_free and self._probes.full(request.at)):
            self._take(self._probes, request)
        elif slot_free:
            self._regular_at = request.at
            self._take(self._reads, request)
        elif last is not None and request.at - last.at < 20.0 - 1e-3:
            self.fail(f"GET {request.path} came {request.at - last.at:.1f} s after GET {last.path}")
        elif request.at - self._throttled_at < 24 * HOUR - 1:
            self.fail(f"GET {request.path} out of turn, {request.at - self._throttled_at:.0f} s after a 429")
        else:
            self._regular_at = request.at
            self._take(self._reserve, request)


class NoLoginInOutage(Invariant):
    """I7: an outage never asks for a password."""

    name = "I7"

    @override
    def look(self) -> None:
        home = self.house.home
        if home is not None and home.account.snapshot.needs_login and self.house.password_right:
            self.fail("the password is asked for although it is right")


class StartsAtOnce(Invariant):
    """I8: all stored values are shown at once after a start, whatever the cloud does."""

    name = "I8"

    @override
    def started(self) -> None:
        home = self.house.home
        assert home is not None
        for serial, text in self.house.disk.snapshots.items():
            shown = {prop.key for prop, _ in home.chargers[serial].snapshot.readings.items()}
            missing = sorted(set(json.loads(text)) - shown)
            if missing:
                self.fail(f"{serial}: {missing} are stored, but not shown at once after a start")


class HouseSecrets(Secrets):
    """I12, including the diagnostics of the account."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.house = house

    @override
    def diagnostics(self, home: Run) -> Iterator[object]:
        if self.house.home is not None:
            yield self.house.home.account.diagnostics()
        yield from super().diagnostics(home)


class ReadOnly(Invariant):
    """Read-only allows no command, except the end of an earlier override (docs/design.md, section 5.7)."""

    name = "read-only"

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._pursued: dict[str, bool] = {}

    @override
    def journal_saved(self, serial: str, before: JsonObject | None, after: JsonObject | None) -> None:
        self._pursued[serial] = after is not None

    @override
    def request_arrived(self, request: Request) -> None:
        serial = serial_of(request)
        if serial is not None and request.method != "GET":
            self._commanded(serial, f"{request.method} {request.path} {request.body}")

    @override
    def sent_locally(self, serial: str, command: Command) -> None:
        self._commanded(serial, f"{command}")

    def _commanded(self, serial: str, what: str) -> None:
        if self.house.read_only_since(serial) < self.house.now - 600 and not self._pursued.get(serial):
            self.fail(f"{serial} is read-only, and was sent {what}")


class Energy(Invariant):
    """The lifetime energy never falls in a run, and never exceeds the energy that the charger delivered.

    See docs/design.md, section 4.2.
    """

    name = "energy"

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._before: dict[str, float] = {}

    @override
    def starting(self) -> None:
        self._before = {}

    @override
    def look(self) -> None:
        for serial, shown in self.snapshots():
            total = shown.value(LIFETIME_ENERGY)
            if total is None:
                continue
            if total < self._before.get(serial, 0):
                self.fail(f"{serial}: the lifetime energy fell from {self._before[serial]} to {total}")
            truth = self.house.world.chargers[serial].lifetime_kwh
            if total > truth + 0.01:
                self.fail(f"{serial}: the lifetime energy is shown as {total}, the charger delivered {truth:.3f}")
            self._before[serial] = total


ALL = (
    Ceiling,
    ConfigKept,
    LiveFresh,
    Intents,
    Restarts,
    PursesKept,
    NoLoginInOutage,
    StartsAtOnce,
    ReadOnly,
    Energy,
)


def serial_of(request: Request) -> str | None:
    """Return the serial number of the charger that a request is about."""
    parts = request.path.split("/")
    for before, part in pairwise(parts):
        if before in {"charger", "chargers", "status"} and part.isdecimal():
            return part
    return None


def serials_told(request: Request, answer: JsonObject) -> Iterator[str]:
    """Yield the chargers of which an answer to a read shows the last report."""
    if request.path.startswith("/v2/charger/"):
        yield str(serial_of(request))
    else:
        yield from (serial for serial, _, _ in _told(request, answer))


def asks_for_restart(request: Request) -> bool:
    return request.method == "POST" and json.loads(request.body or "{}").get("action") == RESTART


def _told(request: Request, answer: JsonObject) -> Iterator[tuple[str, int | None, tuple[object, ...] | None]]:
    """Yield the chargers of an answer: serial, status code, and the values that change with its reports."""
    content: Any = answer
    if request.path.endswith("/groups"):
        for group in content["result"]["groups"] if content.get("result") else ():
            for entry in group["chargers"]:
                if entry.get("id") is not None and "status" in entry:
                    signs = tuple(entry[key] for key in ("status", "chargingPower", "addedEnergy", "chargingTime"))
                    yield str(entry["id"]), entry["status"], signs
    elif "/status/" in request.path and content.get("name") is not None:
        yield str(serial_of(request)), content["status_id"], None
