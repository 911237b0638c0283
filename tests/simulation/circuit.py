"""The circuit that some chargers share: what their cars draw together, and who could have prevented it."""

import json
from math import inf
from typing import TYPE_CHECKING, override

from custom_components.chargekeeper.core.transport import Command, SetCharging, SetCurrent, SetOverride
from tests.simulation.invariants import RESUME, Invariant, serial_of, serials_told
from tests.simulators.http_server import Request
from tests.simulators.wallbox_payloads import JsonObject
from tests.simulators.world import Manual, SimulatedCharger, State

if TYPE_CHECKING:
    from tests.simulation.house import House

PAUSE = 2
RESUME_SCHEDULE = 9


class Circuit(Invariant):
    """The cars of a load group draw no more than its limit, as far as a command of ours could prevent it.

    A member counts as known with what its last report that reached us shows, or what it really draws, if that is less.
    No command may raise a draw above what the known draws of the others leave. A known excess ends within `RELIEF`
    while nothing is wrong, if those members together make it up that can be commanded. All other seconds are counted.
    """

    name = "circuit"
    SETTLED = 240.0
    RELIEF = 60.0
    ON_ITS_WAY = 10.0
    """Seconds until the surroundings count as well, for a reduction, and from a report until a command heeds it."""
    UNKNOWN = "a circuit, before the report"
    HELPLESS = "a circuit, while commands could not get through"
    RELIEVING = "a circuit, for the moment until it is relieved"

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._told: dict[str, list[tuple[float, float, int, bool]]] = {}
        """Per charger what we were told: when, when it was reported, the setting (A), and True while it charges."""
        self._looked_at = house.now
        self._excess_since: float | None = None
        self._why = ""

    @override
    def killed(self) -> None:
        self._told.clear()

    @override
    def stopped(self, home: object) -> None:
        self._told.clear()

    @override
    def request_answered(self, request: Request, answer: JsonObject | None) -> None:
        if answer is None or request.method != "GET":
            return
        for serial in serials_told(request, answer):
            reported_at, report = self.house.cloud.reported(self.house.world.chargers[serial])
            charges = report.state is State.CHARGING
            self._note(serial, self.house.now, reported_at, report.max_charging_current, charges)
        self.look()

    @override
    def request_arrived(self, request: Request) -> None:
        serial = serial_of(request)
        self.look()
        if request.method == "GET" or serial is None or not self._is_member(serial):
            return
        body = json.loads(request.body or "{}")
        charger = self.house.world.chargers[serial]
        action = body.get("action")
        if not charger.reaches_cloud:
            return
        if isinstance(amps := body.get("maxChargingCurrent"), int):
            self._raise(charger, amps)
        elif action == RESUME or (action == RESUME_SCHEDULE and charger.manual is Manual.PAUSE and charger.in_window):
            self._start(charger)

    @override
    def sent_locally(self, serial: str, command: Command) -> None:
        if not self._is_member(serial):
            return
        self.look()
        match command:
            case SetCurrent(amps):
                self._raise(self.house.world.chargers[serial], amps)
            case SetCharging(True) | SetOverride(True):
                self._start(self.house.world.chargers[serial])

    @override
    def look(self) -> None:
        spec = self.house.spec
        now = self.house.now
        if spec is None:
            return
        passed = now - self._looked_at
        self._looked_at = now
        if self._why:
            self.house.counts.add_above(self._why, passed)
        serials = [member.key[1] for member in spec.members]
        self._why = ""
        if sum(map(self._draw, serials)) <= spec.limit:
            self._excess_since = None
            return
        known = {serial: self._known(serial, now) for serial in serials}
        stubborn = sum(amps for serial, amps in known.items() if not self._is_well(serial))
        if sum(known.values()) <= spec.limit:
            self._why = self.UNKNOWN
            self._excess_since = None
        elif stubborn > spec.limit or stubborn == sum(known.values()):
            self._why = self.HELPLESS
            self._excess_since = None
        else:
            self._why = self.RELIEVING
            self._excess_since = now if self._excess_since is None else self._excess_since
            if now - self._excess_since > self.RELIEF:
                self.fail(f"{known} A have been drawn for {now - self._excess_since:.0f} s on {spec.limit:g} A")

    def _is_member(self, serial: str) -> bool:
        return self.house.limit_of_group(serial) is not None

    def _is_well(self, serial: str) -> bool:
        return self.house.health.well_for(serial) > self.SETTLED

    def _draw(self, serial: str) -> int:
        charger = self.house.world.chargers[serial]
        return charger.amperes if charger.state is State.CHARGING else 0

    def _note(self, serial: str, told_at: float, reported_at: float, amps: int, charges: bool) -> None:
        told = self._told.setdefault(serial, [])
        told.append((told_at, reported_at, amps, charges))
        del told[:-12]

    def _known(self, serial: str, until: float) -> int:
        """Return what the charger draws, in A, as far as a report that reached us before `until` shows it."""
        link = self.house.links.get(serial)
        known = self._told.get(serial, [])
        if link is not None and link.told is not None and link.reported_at >= self.house.home_since:
            amps, state = link.told
            if not known or known[-1][1] < link.reported_at:
                self._note(serial, link.reported_at, link.reported_at, amps, state is State.CHARGING)
                known = self._told[serial]
        before = [told for told in known if told[0] <= until]
        _, _, setting, charges = max(before, key=lambda told: told[1], default=(-inf, -inf, 0, False))
        return min(self._draw(serial), setting) if charges else 0

    def _raise(self, charger: SimulatedCharger, amps: int) -> None:
        if charger.state is State.CHARGING and amps > charger.max_charging_current:
            self._grant(charger, amps)

    def _start(self, charger: SimulatedCharger) -> None:
        waits = charger.state in {State.PAUSED, State.WAITING_SCHEDULE}
        if waits and charger.car is not None and charger.car.wants_kwh > 0:
            self._grant(charger, charger.max_charging_current)

    def _grant(self, charger: SimulatedCharger, setting: int) -> None:
        """Judge a command of ours that is about to raise what a charger draws."""
        spec = self.house.spec
        assert spec is not None
        bounds = [setting, charger.max_available_current, 0 if charger.car is None else charger.car.max_amperes]
        if charger.home_sharing and charger.icp_max_current:
            bounds.append(charger.icp_max_current)
        others = [member.key[1] for member in spec.members if member.key[1] != charger.serial]
        known = {serial: self._known(serial, self.house.now - self.ON_ITS_WAY) for serial in others}
        if min(bounds) > self._draw(charger.serial) and min(bounds) + sum(known.values()) > spec.limit:
            self.fail(f"{charger.serial} was let draw {min(bounds)} A beside {known} A on {spec.limit:g} A")
