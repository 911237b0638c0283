"""Since when nothing stood between Home Assistant and a charger: what could have been prevented is judged by it."""

from math import inf
from typing import TYPE_CHECKING

from custom_components.chargekeeper.core.model import Prefer
from tests.simulators.http_server import Breakage, Fault, Request

if TYPE_CHECKING:
    from tests.simulation.house import House

ILL = frozenset({401, 429, 500})


class Health:
    """Looks at the cloud, the chargers and the run, by what the simulator knows of them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._cloud_ill_at = self._writes_ill_at = self._hung_at = -inf
        self._charger_ill_at: dict[str, float] = {}

    def well_for(self, serial: str) -> float:
        """Return for how many seconds commands and answers of the cloud have surely got through for a charger."""
        return self._seconds(serial, self._cloud_ill_at)

    def writes_for(self, serial: str) -> float:
        """Return the same for commands alone: reads may be refused with 429, and any request may hang."""
        return self._seconds(serial, self._writes_ill_at)

    @property
    def hung_for(self) -> float:
        """Seconds since a request could last hang or take long."""
        return self._house.now - self._hung_at

    def look(self) -> None:
        """Note what is wrong now."""
        house = self._house
        now = self._house.now
        cloud = house.cloud
        faults = cloud.breakages
        down = cloud.server is None or not house.password_right
        if down or faults:
            self._cloud_ill_at = now
        if down or not all(_only_reads_throttled(fault) or _takes_long(fault) for fault in faults):
            self._writes_ill_at = now
        if any(map(_takes_long, faults)):
            self._hung_at = now
        for serial in house.options:
            if self._is_ill(serial):
                self._charger_ill_at[serial] = now

    def answered(self, request: Request) -> None:
        """Note an answer of the cloud."""
        if request.status in ILL:
            self._cloud_ill_at = self._house.now
            if not (request.status == 429 and request.method == "GET"):
                self._writes_ill_at = self._house.now

    def _is_ill(self, serial: str) -> bool:
        charger = self._house.world.chargers[serial]
        options = self._house.options[serial]
        closed = charger.ocpp or charger.locked or charger.fault or charger.updating
        unwilling = options.read_only or options.prefer in {Prefer.LOCAL_ONLY, Prefer.LOCAL_FIRST}
        return closed or unwilling or not charger.reaches_cloud or charger.shown_offline

    def _seconds(self, serial: str, ill_at: float) -> float:
        house = self._house
        if house.home is None or house.home.dead:
            return -inf
        ill_at = max(ill_at, self._charger_ill_at.get(serial, -inf), house.home_since, house.resumed_at)
        return house.now - ill_at


def _only_reads_throttled(fault: Breakage) -> bool:
    return fault.fault is Fault.TOO_MANY and fault.method == "GET"


def _takes_long(fault: Breakage) -> bool:
    return fault.fault in {Fault.HANG, Fault.SLOW}
