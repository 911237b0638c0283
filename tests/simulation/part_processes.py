"""What happens to the house with the cloud only where a part of the simulation is switched on; see parts.py."""

from math import inf
from typing import override

from custom_components.chargekeeper.core.transport import STOP, SetCurrent, Setting
from tests.simulation.danger import AnyDanger
from tests.simulation.happenings import MINUTE
from tests.simulation.labels import label_of_command
from tests.simulation.parts import Part
from tests.simulation.processes import ALL, Process, User
from tests.simulation.scene import HOUR
from tests.simulators.http_server import Breakage, Fault
from tests.simulators.world import Car, Manual, State


class SilentLinks(Process):
    """Something local goes on to look well, and reports nothing for hours."""

    label = "SilentLinks"

    @override
    async def turn(self) -> float:
        if not self.house.links:
            return self.wait(24)
        link = self.house.links[self.random.choice(list(self.house.links))]
        link.silent = not link.silent
        self.house.note(f"{link.serial}: link silent {link.silent}")
        self.house.counts.events["links fall silent"] += link.silent
        return self.random.uniform(0.2, 6) * HOUR if link.silent else self.wait(8)

    @override
    async def heal(self) -> None:
        for link in self.house.links.values():
            link.silent = False


class Throttle(Process):
    """The cloud answers reads with 429 and would take commands."""

    label = "Throttle"
    fault: Breakage | None = None

    @override
    async def turn(self) -> float:
        house = self.house
        if self.fault is not None:
            await self.heal()
            return self.wait(12)
        house.note("cloud: reads are throttled")
        house.counts.events["reads throttled"] += 1
        house.healed_at = None
        house.cloud.add_fault(Fault.TOO_MANY, method="GET", matches=lambda _method, path: house.cloud.is_data(path))
        self.fault = house.cloud.breakages[-1]
        return self.random.uniform(0.3, 2) * HOUR

    @override
    async def heal(self) -> None:
        if self.fault is not None:
            self.house.note("cloud: reads are answered again")
            self.house.cloud.remove_fault(self.fault)
            self.fault = None
            self.house.healed_at = None


class Automation(Process):
    """An automation sets the currents of chargers every few seconds; then somebody wants less at once."""

    label = "Automation"
    left = 0

    @override
    async def turn(self) -> float:
        if self.left:
            return self._command()
        self.left = self.random.randrange(8, 40)
        self.house.counts.events["busy automations"] += 1
        return 0

    def _command(self) -> float:
        random = self.random
        house = self.house
        self.left -= 1
        charging = [serial for serial in house.options if house.charger(serial).state is State.CHARGING]
        if charging and (not self.left or random.random() < 0.1):
            reductions: list[Setting] = [STOP, STOP, SetCurrent(6)]
            self._set(random.choice(charging), random.choice(reductions))
            return random.uniform(6, 60) if self.left else self.wait(10)
        self._set(self.some_charger().serial, SetCurrent(random.randint(6, 16)))
        return random.choice([1.0, 5.0, 5.0]) if self.left else self.wait(10)

    def _set(self, serial: str, setting: Setting) -> None:
        self.house.act(serial, label_of_command(setting), lambda charger: charger.command(setting))

    @override
    async def heal(self) -> None:
        self.left = 0


class Suspensions(Process):
    """The host of Home Assistant is suspended, as a notebook or a virtual machine is."""

    label = "Suspensions"

    @override
    async def turn(self) -> float:
        await self.house.suspend_host(self.random.choice([5 * MINUTE, HOUR, self.random.uniform(1, 10) * HOUR]))
        return self.wait(20)


class BusyCircuit(Process):
    """Cars come to all members of the load group, and somebody wants as much as possible."""

    label = "BusyCircuit"

    @override
    async def turn(self) -> float:
        house = self.house
        random = self.random
        if house.spec is None:
            return inf
        members = [house.charger(member.key[1]) for member in house.spec.members]
        for charger in members:
            if charger.car is None:
                house.note(f"{charger.serial}: a car comes to the circuit")
                charger.plug_in(Car(wants_kwh=random.uniform(5, 50)))
            if charger.reaches_cloud and random.random() < 0.5:
                house.note(f"{charger.serial}: somebody else: resume")
                charger.manual = Manual.CHARGE
        self._set(random.choice(members).serial, SetCurrent(random.choice([10, 16, 32])))
        return random.choice([10 * MINUTE, self.wait(4)])

    def _set(self, serial: str, setting: Setting) -> None:
        self.house.act(serial, label_of_command(setting), lambda charger: charger.command(setting))


class Contradictions(Process):
    """A local link repeats an old status while an update runs that the cloud knows of, and somebody restarts."""

    label = "Contradictions"
    serial: str | None = None
    pressed = False

    @override
    async def turn(self) -> float:
        house = self.house
        if self.serial is not None and not self.pressed:
            self.pressed = True
            watch = next(invariant for invariant in house.invariants if isinstance(invariant, AnyDanger))
            if watch.told(self.serial, "cloud") is State.UPDATING:
                User(house, self.random, self.cooldown).restart(self.serial)
            return 10 * MINUTE
        if self.serial is not None:
            await self.heal()
            return self.wait(12)
        serials = [serial for serial, link in house.links.items() if link.told and link.told[1] in QUIET and link.up]
        if not serials:
            return self.wait(2)
        serial = self.random.choice(serials)
        charger = house.charger(serial)
        if charger.updating or not charger.reaches_cloud:
            return self.wait(2)
        house.note(f"{serial}: an update begins, and the link repeats its last status")
        house.links[serial].stuck = True
        charger.firmware_latest = f"6.8.{self.random.randrange(100)}"
        house.update_began[serial] = house.now
        charger.update_firmware()
        self.serial = serial
        self.pressed = False
        return 200.0

    @override
    async def heal(self) -> None:
        for link in self.house.links.values():
            link.stuck = False
        self.serial = None


QUIET = frozenset({State.FREE, State.PAUSED, State.WAITING_SCHEDULE, State.WAITING_CAR})
KINDS: tuple[tuple[Part, type[Process]], ...] = (
    (Part.LOAD_GROUP, BusyCircuit),
    (Part.ANY_DANGER, Contradictions),
    (Part.SILENT_LINKS, SilentLinks),
    (Part.THROTTLE, Throttle),
    (Part.THROTTLE, Automation),
    (Part.SUSPEND, Suspensions),
)


def kinds_with(parts: frozenset[Part]) -> list[type[Process]]:
    """All that happens where these parts are switched on."""
    return [*ALL, *(kind for part, kind in KINDS if part in parts)]
