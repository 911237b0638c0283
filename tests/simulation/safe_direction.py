"""What lowers a draw goes out within seconds, whatever else is queued."""

from collections import deque
from dataclasses import dataclass
import json
from typing import TYPE_CHECKING, override

from custom_components.chargekeeper.core.errors import TransportBusy, TransportDown
from custom_components.chargekeeper.core.transport import Command, SetCharging, SetCurrent, SetOverride
from tests.simulation.invariants import RESTART, RESUME, Invariant, serial_of
from tests.simulators.http_server import Request
from tests.simulators.wallbox_payloads import JsonObject
from tests.simulators.world import Manual, State

if TYPE_CHECKING:
    from tests.simulation.house import House

REDUCING_ACTIONS = frozenset({2, 9})
GOES_ON = ("lock", "eco", "wait", "install")
"""Acts of the user that leave a wanted reduction as it is."""


@dataclass(eq=False, slots=True)
class Wanted:
    """A reduction that the user wants and that is not on the wire yet."""

    serial: str
    what: str
    since: float
    within: float
    late: bool = False


class SafeDirection(Invariant):
    """The first two reductions of an account in a minute are on the wire within 5 s of their cause.

    20 s are allowed while the cloud hangs. A further one goes before whatever does not reduce. The cloud accepts
    writes, and the charger hears it, all the while; reads may be refused.
    """

    name = "safe direction"
    SETTLED = 240.0
    WITHIN = 5.0
    WITHIN_HANGING = 20.0
    LANE = 2
    MINUTE = 60.0

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._wanted: list[Wanted] = []
        self._reduced_at: deque[float] = deque(maxlen=self.LANE)

    @override
    def starting(self) -> None:
        self._wanted.clear()

    @override
    def killed(self) -> None:
        self._wanted.clear()

    @override
    def stopped(self, home: object) -> None:
        self._wanted.clear()

    @override
    def unloaded(self, home: object) -> None:
        self._wanted.clear()

    @override
    def interrupted(self) -> None:
        self._wanted.clear()

    @override
    def asked(self, serial: str, what: str) -> None:
        if what.startswith(GOES_ON):
            return
        self._wanted = [wanted for wanted in self._wanted if wanted.serial != serial]
        if self._reduces(serial, what) and self._is_well(serial):
            hangs = self.house.health.hung_for < self.SETTLED
            within = self.WITHIN_HANGING if hangs else self.WITHIN
            self._wanted.append(Wanted(serial, what, self.house.now, within))

    @override
    def answered(self, serial: str, what: str, answer: object) -> None:
        for wanted in [each for each in self._wanted if (each.serial, each.what) == (serial, what)]:
            busy = isinstance(answer, TransportBusy | TransportDown)
            if busy and self._is_well(serial) and self.house.health.hung_for > self.SETTLED:
                self.fail(f"{serial}: {what} was refused ({answer!r}) although the cloud takes commands")
            if not what.startswith("override") or isinstance(answer, Exception):
                self._wanted.remove(wanted)

    @override
    def request_arrived(self, request: Request) -> None:
        self.look()
        serial = serial_of(request)
        if serial is None or request.method == "GET":
            return
        body = json.loads(request.body or "{}")
        present = self.house.world.chargers[serial].max_charging_current
        amps = body.get("maxChargingCurrent")
        lowers = isinstance(amps, int) and amps < present
        if lowers or body.get("action") in REDUCING_ACTIONS:
            self._sent(serial)
        elif (isinstance(amps, int) and amps > present) or body.get("action") in {RESUME, RESTART}:
            self._not_before(f"{request.method} {request.path} {request.body}")

    @override
    def sent_locally(self, serial: str, command: Command) -> None:
        self.look()
        if isinstance(command, SetCurrent) or command in {SetCharging(on=False), SetOverride(on=False)}:
            self._wanted = [wanted for wanted in self._wanted if wanted.serial != serial]

    @override
    def request_answered(self, request: Request, answer: JsonObject | None) -> None:
        self.look()

    @override
    def look(self) -> None:
        now = self.house.now
        for wanted in self._wanted[:]:
            charger = self.house.world.chargers[wanted.serial]
            if not self._is_well(wanted.serial) or charger.state is not State.CHARGING:
                self._wanted.remove(wanted)
            elif now > wanted.since + wanted.within + 0.01 and not wanted.late:
                wanted.late = True
                before = [at for at in self._reduced_at if at > wanted.since - self.MINUTE]
                if len(before) < self.LANE:
                    self.fail(
                        f"{wanted.serial}: {wanted.what} is not on the wire {now - wanted.since:.1f} s after it was "
                        f"wanted; {len(before)} other reductions went out in the minute before"
                    )

    def _is_well(self, serial: str) -> bool:
        return self.house.health.writes_for(serial) > self.SETTLED

    def _reduces(self, serial: str, what: str) -> bool:
        charger = self.house.charger(serial)
        if charger.state is not State.CHARGING:
            return False
        match what.split():
            case ["current", amps]:
                return 6 <= int(amps) < charger.max_charging_current
            case ["charging", "False"]:
                return True
            case ["override", "False", *_]:
                return charger.manual is Manual.CHARGE and not charger.in_window
        return False

    def _sent(self, serial: str) -> None:
        self._reduced_at.append(self.house.now)
        self._wanted = [wanted for wanted in self._wanted if wanted.serial != serial]

    def _not_before(self, what: str) -> None:
        for wanted in self._wanted:
            if wanted.since < self.house.now - wanted.within:
                waits = self.house.now - wanted.since
                self.fail(f"{what} went before {wanted.what} for {wanted.serial}, which waits since {waits:.0f} s")
