"""A simulated charger as a local integration sees it, without a cloud and without code of ChargeKeeper.

The demo offers the charger over HTTP to its own component. The tests connect entities of Home Assistant directly.
"""

from dataclasses import dataclass

from tests.simulators.world import Manual, SimulatedCharger, State, World

LOWEST_CURRENT = 6
WORDS = {
    State.FREE: "Available",
    State.LOCKED: "Locked",
    State.LOCKED_WITH_CAR: "Locked, car connected",
    State.WAITING_SCHEDULE: "Waiting for schedule",
    State.CHARGING: "Charging",
    State.PAUSED: "Paused",
    State.WAITING_CAR: "Waiting for car",
    State.UPDATING: "Updating",
    State.ERROR: "Error",
}
"""The values of the status sensor."""


class Refused(Exception):
    """Error of a charger that cannot carry out a command now."""


@dataclass(eq=False)
class LocalSide:
    """The local interface of one charger. `link`: False cuts local access while the charger works."""

    world: World
    serial: str
    link: bool = True

    @property
    def charger(self) -> SimulatedCharger:
        """The charger as it is now."""
        return self.world.charger(self.serial)

    @property
    def answers(self) -> bool:
        """True if the charger can be reached locally."""
        return self.link and not self.charger.away

    @property
    def status(self) -> str:
        """The status as text."""
        return WORDS[self.charger.state]

    @property
    def power(self) -> float:
        """The power in kW."""
        return self.charger.power_kw

    @property
    def current(self) -> float:
        """The current per phase in A."""
        return float(self.charger.amperes) if self.charger.state is State.CHARGING else 0.0

    @property
    def max_current(self) -> int:
        """The charging current setting, A."""
        return self.charger.max_charging_current

    @property
    def may_charge(self) -> bool:
        """True if only the car can prevent charging, as the charge switch shows."""
        return self.charger.state in {State.CHARGING, State.WAITING_CAR}

    def set_max_current(self, amperes: int) -> None:
        """Set the charging current. Raise Refused if the current is outside the installation's limits."""
        if not LOWEST_CURRENT <= amperes <= self.charger.max_available_current:
            raise Refused
        self.charger.max_charging_current = amperes

    def set_charging(self, *, on: bool) -> None:
        """Charge regardless of the schedule, or pause. Raise Refused while the charger is locked."""
        if self.charger.locked:
            raise Refused
        if on is not self.may_charge:
            self.charger.manual = Manual.CHARGE if on else Manual.PAUSE

    def restart(self) -> None:
        """Restart the charger."""
        self.charger.restart()
