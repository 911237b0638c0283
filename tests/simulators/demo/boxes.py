"""The demo's JuiceBoxes: actions on the boxes and their maker's server, and data for the page."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise

from tests.simulators.juicebox import LOWEST_CURRENT, JuiceBox
from tests.simulators.juicebox_server import BoxIssue, Schedule, Site, Unit
from tests.simulators.juicebox_wire import Command

MAKER: Mapping[str, tuple[BoxIssue, str]] = {
    "up": (BoxIssue.NONE, "works"),
    "down": (BoxIssue.DEAD, "is gone"),
    "hang": (BoxIssue.HANG, "hears the boxes and never answers"),
    "garbage": (BoxIssue.GARBAGE, "answers with garbage"),
    "unsafe": (BoxIssue.UNSAFE_CURRENT, "allows each box 80 A"),
}
"""Conditions of the maker's server, and their texts on the page."""

type Action = Callable[[JuiceBox], None]


def _power_cycle(box: JuiceBox) -> None:
    box.switch_off()
    box.switch_on()


def _network(state: bool) -> Action:
    def change(box: JuiceBox) -> None:
        box.wifi = state

    return change


BOX_ACTIONS: Mapping[str, tuple[str, Action]] = {
    "plug-in": ("Plug a car in", JuiceBox.plug_in),
    "unplug": ("Unplug the car", JuiceBox.unplug),
    "network-lost": ("Loses the network", _network(state=False)),
    "network-found": ("Finds the network", _network(state=True)),
    "power-cycle": ("Power off and on", _power_cycle),
}

type Setting = Callable[[Unit, Schedule], None]


def _always(unit: Unit, _hours: Schedule) -> None:
    unit.schedule = Schedule()


def _by_hours(unit: Unit, hours: Schedule) -> None:
    unit.schedule = hours


def _limit(amperes: int) -> Setting:
    def change(unit: Unit, _hours: Schedule) -> None:
        unit.limit = amperes

    return change


MAKER_ACTIONS: Mapping[str, tuple[str, Setting]] = {
    "maker-always": ("Maker's server: any time", _always),
    "maker-by-hours": ("Maker's server: by its hours", _by_hours),
    "maker-16": ("Maker's server: 16 A", _limit(16)),
    "maker-30": ("Maker's server: 30 A", _limit(30)),
}
"""Settings of the owner in the maker's app. 30 A for each box exceeds the rating of the shared wire."""


class Boxes:
    """The boxes of a site by their lower-case names, and their maker's server."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._serials = {unit.name.lower(): serial for serial, unit in site.server.units.items()}
        self._settings = {serial: (unit.schedule, unit.limit) for serial, unit in site.server.units.items()}
        self._condition = "up"

    @property
    def names(self) -> list[str]:
        """The names of the boxes in addresses."""
        return list(self._serials)

    async def set_maker(self, condition: str) -> str:
        """Set the maker's server to a condition. Return its text. Raise KeyError for an unknown condition."""
        trouble, text = MAKER[condition]
        await self.site.server.set_trouble(trouble)
        self._condition = condition
        return text

    def act(self, name: str, action: str) -> str:
        """Carry out an action on a box. Return its text. Raise KeyError for an unknown box or action."""
        serial = self._serials[name]
        unit = self.site.server.units[serial]
        if action in MAKER_ACTIONS:
            label, change = MAKER_ACTIONS[action]
            change(unit, self._settings[serial][0])
        else:
            label, carry_out = BOX_ACTIONS[action]
            carry_out(self.site.boxes[serial])
        return f"{unit.name}: {label}."

    async def heal(self) -> None:
        """Restore network, server and the original settings."""
        await self.set_maker("up")
        for serial, box in self.site.boxes.items():
            box.wifi = True
            unit = self.site.server.units[serial]
            unit.schedule, unit.limit = self._settings[serial]

    def shown(self) -> dict[str, object]:
        """Return the state of all boxes for the page."""
        site = self.site
        return {
            "maker": self._condition,
            "maker_conditions": {key: text for key, (_, text) in MAKER.items()},
            "box_actions": _labels(BOX_ACTIONS) | _labels(MAKER_ACTIONS),
            "boxes": [self._shown_box(name, serial) for name, serial in self._serials.items()],
            "circuit": {
                "limit": site.limit,
                "drawn": site.circuit.drawn,
                "peak": site.circuit.peak,
                "seconds_above": site.circuit.seconds_above(site.limit),
            },
        }

    def _shown_box(self, name: str, serial: str) -> dict[str, object]:
        box, unit = self.site.boxes[serial], self.site.server.units[serial]
        commands = [taken.command for taken in box.commands]
        return {
            "key": name,
            "name": unit.name,
            "protocol": f"v{box.wire.version}",
            "state": box.state.name.lower().replace("_", " "),
            "car": box.car is not None,
            "amperes": box.amperes,
            "stored": box.stored,
            "served": box.online,
            "fallbacks": box.fallbacks,
            "writes": box.writes,
            "stops": sum(later.online < LOWEST_CURRENT <= earlier.online for earlier, later in pairwise(commands)),
            "told": _shown_command(commands[-1] if commands else None),
            "maker": self._shown_unit(unit),
        }

    def _shown_unit(self, unit: Unit) -> dict[str, object]:
        return {
            "always": not unit.schedule.custom,
            "answered": unit.answered,
            "told": _shown_command(unit.command),
        }


def _labels(actions: Mapping[str, tuple[str, object]]) -> dict[str, str]:
    return {key: label for key, (label, _) in actions.items()}


def _shown_command(command: Command | None) -> dict[str, object] | None:
    return None if command is None else asdict(command)
