"""No command counts as verified before the charger itself reported after it."""

import json
from math import inf
from typing import TYPE_CHECKING, override

from custom_components.chargekeeper.core.model import Outcome
from custom_components.chargekeeper.core.transport import Command, SetCharging, SetCurrent, SetEcoMode, SetLock
from tests.simulation.invariants import Invariant, serial_of
from tests.simulation.labels import label_of_kind
from tests.simulators.http_server import Request
from tests.simulators.wallbox_payloads import JsonObject

if TYPE_CHECKING:
    from tests.simulation.house import House

SETTINGS = (SetCurrent, SetCharging, SetLock, SetEcoMode)
PAUSE = 2
RESUME = 1


class Evidence(Invariant):
    """A command is verified only by a report that the charger made after it was sent, and that reached us.

    An acknowledgment, an echo, a cloud that shows what it wrote down, and a repeated old report are none.
    """

    name = "evidence"
    OVER = 900.0
    """Seconds after which nothing is judged any more that was sent."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._sent: dict[tuple[str, str], float] = {}
        self._reported: dict[str, float] = {}
        self._judged: dict[str, object] = {}

    @override
    def starting(self) -> None:
        self._sent.clear()
        self._reported.clear()
        self._judged.clear()

    @override
    def request_arrived(self, request: Request) -> None:
        serial = serial_of(request)
        if serial is None or request.method == "GET":
            return
        body = json.loads(request.body or "{}")
        if body.get("maxChargingCurrent") is not None:
            self._note_sent(serial, SetCurrent)
        if body.get("locked") is not None:
            self._note_sent(serial, SetLock)
        if body.get("action") in {PAUSE, RESUME}:
            self._note_sent(serial, SetCharging)
        if request.path.endswith("/eco-smart"):
            self._note_sent(serial, SetEcoMode)

    @override
    def request_answered(self, request: Request, answer: JsonObject | None) -> None:
        """Note which report the cloud has; a listing shows those of all chargers."""
        if answer is None:
            return
        serial = serial_of(request)
        for shown in [serial] if serial is not None else list(self.house.options):
            reported_at, _ = self.house.cloud.reported(self.house.world.chargers[shown])
            self._reported[shown] = max(self._reported.get(shown, -inf), reported_at)

    @override
    def sent_locally(self, serial: str, command: Command) -> None:
        if isinstance(command, SETTINGS):
            self._note_sent(serial, type(command))

    @override
    def answered(self, serial: str, what: str, answer: object) -> None:
        if answer is Outcome.VERIFIED:
            self._judge(serial, what.split(maxsplit=1)[0], what)

    @override
    def look(self) -> None:
        for (serial, _), at in list(self._sent.items()):
            if at > self.house.now - self.OVER:
                self._judge_outcomes(serial)

    def _note_sent(self, serial: str, kind: type) -> None:
        self._judge_outcomes(serial)
        self._sent[serial, label_of_kind(kind)] = self.house.now

    def _judge_outcomes(self, serial: str) -> None:
        """Judge what was verified since the last time."""
        home = self.house.home
        if home is None or home.dead:
            return
        outcomes = home.chargers[serial].diagnostics()["commands"]
        assert isinstance(outcomes, list)
        before = self._judged.get(serial, [])
        self._judged[serial] = outcomes
        if outcomes == before:
            return
        assert isinstance(before, list)
        for outcome in outcomes:
            if outcome not in before and outcome["outcome"] == Outcome.VERIFIED:
                kind = next(kind for kind in SETTINGS if kind.__name__ == outcome["command"])
                self._judge(serial, label_of_kind(kind), f"a command ({label_of_kind(kind)})")

    def _judge(self, serial: str, kind: str, what: str) -> None:
        sent_at = self._sent.get((serial, kind), -inf)
        link = self.house.links.get(serial)
        reported_at = max(self._reported.get(serial, -inf), -inf if link is None else link.reported_at)
        if reported_at < sent_at > self.house.now - self.OVER:
            self.fail(
                f"{serial}: {what} counts as verified {self.house.now - sent_at:.0f} s after it was sent; the last "
                f"report that reached us was made {sent_at - reported_at:.0f} s before that"
            )
