"""The invariants for boxes, observed from outside: at the datagrams, the circuit of the boxes, and the snapshots.

The invariants check every datagram and every change of current. Their rules are written independently, from
docs/protocols/juicebox.md.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import floor, inf
from typing import override

from custom_components.chargekeeper.core.model import (
    LIFETIME_ENERGY,
    LOAD_GROUP_LIMIT,
    OFFLINE_CURRENT,
    UNIT_RATING,
    WIRE_RATING,
    ReadingClass,
    Status,
)
from custom_components.chargekeeper.juicebox.box import Mode
from tests.simulation.boxes.house import LOWEST, BoxHouse, BoxWatch, Sent
from tests.simulation.boxes.network import HOME
from tests.simulation.scene import IntentLives, Watch
from tests.simulators import juicebox_wire as wire
from tests.simulators.juicebox_wire import Command
from tests.simulators.wallbox_payloads import JsonObject

MINUTE = 60.0
SETTLED = 60.0
"""Seconds after which any exchange between a box and us is over."""
LIVE_AGE = 120.0
LONGEST_UNSERVED = 120.0
UNDISTURBED = 900.0
"""Seconds after which a box that fell back to its offline current has surely got a command again."""
GUARD = 330.0
"""Seconds by which a start or a stop may be late: the guard time for cars that latch, and the next status."""


class Ceiling(BoxWatch):
    """I1: no command above the wire rating, the user's limits, the unit's rating or the limit of the group."""

    name = "I1"

    @override
    def commanded(self, sent: Sent) -> None:
        highest = self.house.highest(sent.serial)
        if sent.command.online > highest:
            self.fail(f"{sent.serial} is told {sent.command.online} A, at most {highest:g} A are allowed")


@dataclass(slots=True)
class Load:
    """The currents between two changes: `alone` are the boxes without a command."""

    since: float
    drawn: float
    limit: float
    alone: frozenset[str]
    why: str


class GroupLimit(BoxWatch):
    """The boxes of a load group never draw more than its limit together, unless offline currents make that impossible.

    In that case a repair says so before. Such seconds are counted by cause; all other seconds are a violation.
    """

    name = "load group"
    TOLD = "stored limits that are too high together, as a repair said before"
    UNKNOWN = "a stored limit that no box has shown yet"

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self._load = self._present()

    @override
    def current_changes(self) -> None:
        self._pass()

    @override
    def current_changed(self) -> None:
        self._load = self._present()

    @override
    def look(self) -> None:
        self._pass()
        self._load = self._present()

    def _pass(self) -> None:
        load, now = self._load, self.house.now
        if now > load.since and load.drawn > load.limit:
            if not load.why:
                self.fail(
                    f"{load.drawn:g} A were drawn for {now - load.since:.0f} s, the limit is {load.limit:g} A; "
                    f"alone: {sorted(load.alone)}; {self._facts()}"
                )
            self.house.counts.add_above(load.why, now - load.since)
        load.since = now

    def _facts(self) -> str:
        boxes = self.house.boxes.values()
        facts = (
            (box.serial, f"{box.amperes:g} A", f"stored {box.stored}", f"in force {box.in_force}") for box in boxes
        )
        return ", ".join(" ".join(each) for each in facts)

    def _present(self) -> Load:
        house = self.house
        drawing = [box for box in house.boxes.values() if box.amperes > 0]
        alone = frozenset(box.serial for box in drawing if not box.online)
        drawn, limit = house.circuit.drawn, house.limit_in_force
        return Load(house.now, drawn, limit, alone, self._why(alone) if drawn > limit else "")

    def _why(self, alone: frozenset[str]) -> str:
        if alone and self.house.told_excess:
            return self.TOLD
        return self.UNKNOWN if alone - self.house.learnt else ""


class Masters(BoxWatch):
    """I10: a box that we serve gets an answer to each status at once; no box is unserved or has two masters."""

    name = "I10"

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self._kept: dict[str, bool] = {}
        self._sent: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._sent_at: dict[str, float] = {}
        self._masters: dict[str, set[str]] = {}
        self._known_since: dict[str, float] = {}

    @override
    def killed(self) -> None:
        self._masters.clear()

    @override
    def stopped(self, home: object) -> None:
        self._masters.clear()

    @override
    def status_arrives(self, serial: str, data: bytes) -> None:
        self._kept[serial] = self._mode(serial) is Mode.KEEP
        self._before[serial] = self._sent[serial]
        self._masters[serial] = set()

    @override
    def status_arrived(self, serial: str, data: bytes) -> None:
        box = self.house.boxes[serial]
        newest = next((message for _, message in reversed(box.sent) if b":DBG," not in message), b"")
        kept = self._kept[serial] and self._mode(serial) is Mode.KEEP
        if kept and data == newest and self._sent[serial] == self._before[serial]:
            self.fail(f"{serial} is kept by us, and its status was not answered")

    @override
    def commanded(self, sent: Sent) -> None:
        serial = sent.serial
        self._sent[serial] += 1
        self._sent_at[serial] = self.house.now
        self.house.counts.box_commands["relayed" if sent.relayed else "kept"] += 1
        masters = self._masters.setdefault(serial, set())
        masters.add("the server" if sent.relayed else "we")
        if len(masters) > 1:
            self.fail(f"{serial} has two masters: both {sorted(masters)} answered one status")

    @override
    def look(self) -> None:
        for serial in self.house.boxes:
            if self._mode(serial) not in {Mode.KEEP, Mode.RELAY}:
                self._known_since.pop(serial, None)
                continue
            known_since = self._known_since.setdefault(serial, self.house.now)
            since = self.house.now - max(known_since, self._sent_at.get(serial, -inf))
            if min(since, self.house.reachable_for(serial)) > LONGEST_UNSERVED:
                self.fail(f"{serial} ({self._mode(serial)}) has been left unserved for {since:.0f} s")

    def _mode(self, serial: str) -> Mode | None:
        home = self.house.home
        return None if home is None or home.dead else home.served[serial].mode


class Relay(BoxWatch):
    """In relay, each command of the server passes at once, with its current reduced to the permitted current.

    That is at most the limits and the user's current, and 0 for a pause or below 6 A. The rest of the command is
    unchanged, except an offline current above the wire rating (its replacement: I11).
    """

    name = "relay"

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self._ours: dict[str, bool] = {}
        self._newest: dict[str, float] = {}
        self._order: Command | None = None
        self._online = 0
        self._wire = 0.0
        self._passed: Command | None = None

    @override
    def status_arrives(self, serial: str, data: bytes) -> None:
        sent = reversed(self.house.boxes[serial].sent)
        sent_at = next((at for at, message in sent if message == data), -inf)
        if sent_at >= self._newest.get(serial, -inf):
            self._newest[serial] = sent_at
            self._ours[serial] = False  # a command overtaken by a newer status has no effect: it may be dropped

    @override
    def commanded(self, sent: Sent) -> None:
        if sent.relayed:
            self._passed = sent.command
        else:
            self._ours[sent.serial] = True

    @override
    def server_answers(self, serial: str, data: bytes) -> None:
        self._order = self._passed = None
        home, house = self.house.home, self.house
        order = wire.read_command(house.boxes[serial].wire.version, data)
        if home is None or not isinstance(order, Command) or self._ours.get(serial, True):
            return
        box = home.served[serial]
        config = house.configs[serial]
        if box.mode is Mode.KEEP or box.share is None or box.config != config:
            return
        limits = (order.online, house.highest(serial), box.share, box.state.charging_current)
        left = floor(min(limit for limit in limits if limit is not None))
        self._order = order
        self._wire = config.wire_rating or 0.0
        self._online = 0 if box.state.paused or left < LOWEST else left

    @override
    def server_answered(self, serial: str, data: bytes) -> None:
        order = self._order
        passed = self._passed
        if order is None:
            return
        expected = replace(order, online=self._online)
        if passed is not None and order.stored > self._wire:
            expected = replace(expected, stored=passed.stored)
        if passed != expected:
            self.fail(f"{serial}: of the server's {order} {passed} was passed on, not {expected}")


class StoredLimit(BoxWatch):
    """I11: `M` is the last known value or one that the user confirmed; our commands never wear the EEPROM."""

    name = "I11"

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self._passed: dict[str, int] = {}
        self._servers: dict[str, set[int]] = {}

    @override
    def booted(self, serial: str) -> None:
        self._passed.pop(serial, None)

    @override
    def server_answers(self, serial: str, data: bytes) -> None:
        order = wire.read_command(self.house.boxes[serial].wire.version, data)
        if isinstance(order, Command):
            self._servers.setdefault(serial, set()).add(order.stored)

    @override
    def commanded(self, sent: Sent) -> None:
        house, serial, stored = self.house, sent.serial, sent.command.stored
        theirs = None if sent.theirs is None else wire.read_command(house.boxes[serial].wire.version, sent.theirs)
        of_server = theirs.stored if isinstance(theirs, Command) else None
        wire_rating = house.configs[serial].wire_rating or 0
        known = {self._passed.get(serial, house.boxes[serial].stored), house.boxes[serial].stored}
        bound = max(wire_rating, self._passed.get(serial, inf))  # the first value of the server passes in any case
        if (stored == of_server and stored <= bound) or stored == house.confirmed.get(serial):
            self._passed[serial] = stored
        elif stored not in known:
            self.fail(f"{serial} is told to store {stored} A; known were {sorted(known)} A, the server's {of_server}")

    @override
    def wrote(self, serial: str, order: Command) -> None:
        house = self.house
        if order.stored == house.confirmed.get(serial):
            house.counts.events["EEPROM writes confirmed by the user"] += 1
        elif order.stored in self._servers.get(serial, ()):
            house.counts.events["EEPROM writes of the server"] += 1
        else:
            self.fail(f"{serial} wrote {order.stored} A to its EEPROM, and neither the server nor the user wanted that")


class Pauses(BoxWatch):
    """A pause holds in both modes and after restarts, until the user starts or overrides, or the car leaves."""

    name = "pause"

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self._since: dict[str, float] = {}
        self._touched_at: dict[str, float] = {}

    @override
    def pause_saved(self, serial: str, pause: JsonObject | None) -> None:
        if pause is None:
            since = self._since.pop(serial, None)
            freed = self.house.now - self._touched_at.get(serial, -inf) < 5 * MINUTE
            gone = self.house.boxes[serial].car is None or self.house.unplugged_at.get(serial, -inf) > (since or inf)
            if since is not None and not freed and not gone:
                self.house.counts.events["pauses ended by the charger"] += 1
                if self.house.reachable_for(serial) > UNDISTURBED:
                    self.fail(f"{serial}: a pause is over, though nobody ended it and the box was always served")
        else:
            self._since.setdefault(serial, self.house.now)

    def touched(self, serial: str) -> None:
        """Record an action of the user that may end a pause."""
        self._touched_at[serial] = self.house.now

    @override
    def commanded(self, sent: Sent) -> None:
        since = self._since.get(sent.serial, inf)
        settled = min(self.house.now - since, self.house.up_for, self.house.reachable_for(sent.serial)) > SETTLED
        quiet = self.house.now - self._touched_at.get(sent.serial, -inf) > SETTLED
        if settled and quiet and sent.command.online >= LOWEST and self.house.boxes[sent.serial].car is not None:
            self.fail(f"{sent.serial} is paused, and was told {sent.command.online} A")


class Windows(BoxWatch):
    """While we serve a box, the user's windows apply, if any; an override has priority, in relay too."""

    name = "windows"

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self._shut_since: dict[str, float] = {}
        self._open_since: dict[str, float] = {}
        self._overridden_since: dict[str, float] = {}
        self._held_since: dict[str, float] = {}
        """Since when a box has a command not to charge although the user's override is shown as applied."""

    @override
    def journal_saved(self, serial: str, before: JsonObject | None, after: JsonObject | None) -> None:
        home = self.house.home
        if after is None or after["end"] != "superseded" or home is None or self.house.reachable_for(serial) < SETTLED:
            return
        if home.served[serial].mode is Mode.KEEP and after["theirs"] == "waiting_schedule":
            self.fail(f"{serial}: an override was ended by our own windows")

    @override
    def commanded(self, sent: Sent) -> None:
        self._see(sent.serial)
        house, serial, amps = self.house, sent.serial, sent.command.online
        if amps >= LOWEST or house.now - self._overridden_since.get(serial, inf) < GUARD:
            self._held_since.pop(serial, None)
        elif house.now - self._held_since.setdefault(serial, house.now) > GUARD:
            self.fail(f"{serial} is told {amps} A all the time although an override shows as applied")
        if sent.relayed:
            return
        if amps >= LOWEST and house.now - self._shut_since.get(serial, inf) > GUARD:
            self.fail(f"{serial} is told {amps} A outside of its windows at {house.local():%a %H:%M}")
        if amps < LOWEST and house.now - self._open_since.get(serial, inf) > GUARD:
            self.fail(f"{serial} is told {amps} A inside its windows, or overridden, at {house.local():%a %H:%M}")

    @override
    def killed(self) -> None:
        self._shut_since.clear()
        self._open_since.clear()
        self._overridden_since.clear()

    @override
    def stopped(self, home: object) -> None:
        self.killed()

    @override
    def look(self) -> None:
        for serial in self.house.boxes:
            self._see(serial)

    def _see(self, serial: str) -> None:
        home, house = self.house.home, self.house
        if home is None or home.dead:
            return
        box, config = home.served[serial], house.configs[serial]
        shown = home.chargers[serial].snapshot
        served = house.reachable_for(serial) > SETTLED
        mine = box.mode is Mode.KEEP and served
        ruled = mine and house.windows[serial].custom and not shown.override.on
        shut = ruled and not house.inside(serial) and not config.minimal_energy
        limits = [house.highest(serial), box.share or 0, box.setting or 0]
        free = served and min(limits) >= LOWEST
        wide = free and ruled and not box.state.paused and house.inside(serial)
        applied = free and shown.override.applied and house.boxes[serial].car is not None
        states = ((self._shut_since, shut), (self._open_since, wide), (self._overridden_since, applied))
        for since, holds in states:
            if holds:
                since.setdefault(serial, house.now)
            else:
                since.pop(serial, None)


class Shown(BoxWatch):
    """I2 and I3: configuration stays, live values expire at their age, energy never falls.

    See docs/design.md, section 4.2.
    """

    name = "I2"
    KEPT = (WIRE_RATING, UNIT_RATING, LOAD_GROUP_LIMIT)

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self._heard_at: dict[str, float] = {}
        self._unit_known: set[str] = set()
        self._energy: dict[str, float] = {}

    @override
    def starting(self) -> None:
        self._energy = {}

    @override
    def killed(self) -> None:
        self._unit_known.clear()  # possibly not saved yet

    @override
    def status_arrived(self, serial: str, data: bytes) -> None:
        self._heard_at[serial] = self.house.now

    @override
    def look(self) -> None:
        for serial, shown in self.snapshots():
            config, readings = self.house.configs[serial], shown.readings
            if readings.value(WIRE_RATING) != config.wire_rating:
                self.fail(f"{serial}: the wire rating is shown as {readings.value(WIRE_RATING)}")
            group = readings.value(LOAD_GROUP_LIMIT)
            if group is None or group > min(config.load_group_limit or inf, self.house.limit):
                self.fail(f"{serial}: the load group limit is shown as {group}")
            if (readings.value(OFFLINE_CURRENT) or 0) >= self.house.boxes[serial].stored:
                self.house.learnt.add(serial)
            if readings.value(UNIT_RATING) is not None:
                self._unit_known.add(serial)
            elif serial in self._unit_known:
                self.fail(f"{serial}: the unit's rating became unknown")
            silent = self.house.now - self._heard_at.get(serial, -inf)
            for prop, reading in readings.items():
                fresh = reading.value is Status.OFFLINE or silent <= LIVE_AGE + 1
                if prop.kind is ReadingClass.LIVE and not fresh:
                    self.scene.fail("I3", f"{serial}: {prop.key} is shown {silent:.0f} s after the last status")
            self._check_energy(serial, readings.value(LIFETIME_ENERGY))

    def _check_energy(self, serial: str, total: float | None) -> None:
        if total is None:
            return
        truth = self.house.boxes[serial].lifetime_wh / 1000
        if total < self._energy.get(serial, 0) or total > truth + 0.01:
            self.scene.fail("energy", f"{serial}: the lifetime energy is shown as {total}, in truth {truth:.3f}")
        self._energy[serial] = total


class Foreign(BoxWatch):
    """I9: datagrams from strangers change nothing and get no answer. The `Strangers` process calls `compare`."""

    name = "I9"

    def unharmed(self) -> object:
        """Return everything that a datagram could change."""
        home = self.house.home
        if home is None or home.dead:
            return None
        return {
            serial: (
                box.state.export() | {"commanded_at": None},
                box.mode,
                frozenset(box.issues),
                box.status,
                box.command_clock.status_received_at,
                box.server_health.answered_at,
                dict(box.counts),
                home.chargers[serial].snapshot,
                home.boxes.server.listener.host_of(serial),
            )
            for serial, box in home.served.items()
        }

    def compare(self, before: object, after: object, data: bytes, answered: bool) -> None:
        """Fail if a foreign datagram had an effect."""
        if before != after:
            self.fail(f"a foreign datagram changed something: {data[:80]!r}")
        if answered:
            self.fail(f"a foreign datagram was answered: {data[:80]!r}")


class BoxesStopped(BoxWatch):
    """I13: an ended run leaves no open socket."""

    name = "I13"

    @override
    def stopped(self, home: object) -> None:
        self._no_endpoint()

    @override
    def killed(self) -> None:
        self._no_endpoint()

    def _no_endpoint(self) -> None:
        ours = [address for address in self.house.network.endpoints if address[0] == HOME]
        if ours:
            self.fail(f"sockets are left: {ours}")


ALL: tuple[Callable[[BoxHouse], Watch], ...] = (
    Ceiling,
    GroupLimit,
    Masters,
    Relay,
    StoredLimit,
    Pauses,
    Windows,
    Shown,
    Foreign,
    BoxesStopped,
    IntentLives,
)
