"""No restart while the last word of any way to a charger forbids it, however the restart would get there."""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, override

from custom_components.chargekeeper.core.transport import Command, Restart
from tests.simulation.invariants import (
    LIVE_AGE,
    SAVED_AFTER,
    Invariant,
    asks_for_restart,
    serial_of,
    serials_told,
)
from tests.simulation.scene import HOUR
from tests.simulators.http_server import Request
from tests.simulators.wallbox_payloads import JsonObject
from tests.simulators.world import State

if TYPE_CHECKING:
    from tests.simulation.house import House


@dataclass(frozen=True, slots=True)
class Word:
    """What one way last told of a charger: when, when the charger reported it, its state and its firmware."""

    told_at: float
    reported_at: float
    state: State
    firmware: str


class AnyDanger(Invariant):
    """The last word of each way counts: an update until it is surely over, a charge until its report is too old."""

    name = "any danger"
    UPDATE_WITHIN = 3 * HOUR - 60.0

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._words: dict[tuple[str, str], Word] = {}
        self._updating: dict[tuple[str, str], Word] = {}

    @override
    def killed(self) -> None:
        surely_saved = self.house.now - SAVED_AFTER
        self._updating = {key: word for key, word in self._updating.items() if word.told_at < surely_saved}
        self._words.clear()

    @override
    def stopped(self, home: object) -> None:
        self._words.clear()

    @override
    def request_answered(self, request: Request, answer: JsonObject | None) -> None:
        if answer is None or request.method != "GET" or request.path.startswith("/v2/charger/"):
            return
        for serial in serials_told(request, answer):
            charger = self.house.world.chargers[serial]
            if not charger.shown_offline:
                reported_at, report = self.house.cloud.reported(charger)
                self._note(serial, "cloud", Word(self.house.now, reported_at, report.state, report.firmware))

    @override
    def request_arrived(self, request: Request) -> None:
        serial = serial_of(request)
        if serial is not None and asks_for_restart(request):
            self._check(serial, "cloud")

    @override
    def sent_locally(self, serial: str, command: Command) -> None:
        if isinstance(command, Restart):
            self._check(serial, "link")

    @override
    def look(self) -> None:
        for serial, link in self.house.links.items():
            known = self._words.get((serial, "link"))
            if link.told is not None and link.reported_at > (-inf if known is None else known.told_at):
                firmware = self.house.world.chargers[serial].firmware
                self._note(serial, "link", Word(link.reported_at, link.reported_at, link.told[1], firmware))

    def told(self, serial: str, way: str) -> State | None:
        """Return the state that one way last told of a charger."""
        word = self._words.get((serial, way))
        return None if word is None else word.state

    def _note(self, serial: str, way: str, word: Word) -> None:
        self._words[serial, way] = word
        if word.state is not State.UPDATING:
            self._updating.pop((serial, way), None)
        else:
            self._updating.setdefault((serial, way), word)

    def _check(self, serial: str, over: str) -> None:
        self.look()
        now = self.house.now
        home_since = self.house.home_since
        firmware = self.house.world.chargers[serial].firmware
        for way in ("cloud", "link"):
            word = self._words.get((serial, way))
            update = self._updating.get((serial, way))
            if update is not None and update.firmware == firmware and now - update.told_at < self.UPDATE_WITHIN:
                self.fail(
                    f"{serial} was restarted over {over}, though {way} told an update {now - update.told_at:.0f} s ago"
                )
            charges = word is not None and word.state is State.CHARGING and word.told_at > home_since
            if word is not None and charges and now - word.reported_at < LIVE_AGE - 60.0:
                self.fail(
                    f"{serial} was restarted over {over}, though {way} told a charge {now - word.told_at:.0f} s ago"
                )
