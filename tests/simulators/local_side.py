"""A simulated charger as a local integration sees it: no cloud between them, and nothing of ChargeKeeper's.

The demo offers it over HTTP to a component of its own; the tests put entities of Home Assistant right before it.
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
"""What the status sensor says."""


class Refused(Exception):
    """The charger cannot do that now."""


@dataclass(eq=False)
class LocalSide:
    """One charger; `link` False: whoever talks to it locally does not reach it, though it may be well."""

    world: World
    serial: str
    link: bool = True

    @property
    def charger(self) -> SimulatedCharger:
        """The charger as it is now."""
        return self.world.charger(self.serial)

    @property
    def answers(self) -> bool:
        """Whether the charger can be reached locally."""
        return self.link and not self.charger.away

    @property
    def status(self) -> str:
        """The status in words."""
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
        """The charging current that it is set to, A."""
        return self.charger.max_charging_current

    @property
    def may_charge(self) -> bool:
        """Whether nothing but the car holds it back: what the charge switch shows."""
        return self.charger.state in {State.CHARGING, State.WAITING_CAR}

    def set_max_current(self, amperes: int) -> None:
        """Set the charging current. Raises Refused for what the installation does not bear."""
        if not LOWEST_CURRENT <= amperes <= self.charger.max_available_current:
            raise Refused
        self.charger.max_charging_current = amperes

    def set_charging(self, *, on: bool) -> None:
        """Let the car charge whatever the schedule says, or pause it. Raises Refused while locked."""
        if self.charger.locked:
            raise Refused
        if on is not self.may_charge:
            self.charger.manual = Manual.CHARGE if on else Manual.PAUSE

    def restart(self) -> None:
        """Restart it."""
        self.charger.restart()
