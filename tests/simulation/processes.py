"""Events of the house, each kind by its own seeded dice: failures of the cloud, links, power, cars and people.

A process is an object with `turn`, which causes an event and returns the seconds to the next turn.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import override

from custom_components.chargekeeper.core.charger import RestartRun
from custom_components.chargekeeper.core.errors import ChargerError, UnsafeRequest
from custom_components.chargekeeper.core.model import EcoMode, Prefer
from custom_components.chargekeeper.core.transport import SetCharging, SetCurrent, SetEcoMode, SetLock, Setting
from tests.simulation import happenings
from tests.simulation.happenings import MINUTE, arm_fuse, outage_length, set_clock, some_override, spin
from tests.simulation.house import NEW_PASSWORD, PASSWORD, House
from tests.simulation.invariants import Restarts
from tests.simulation.labels import label_of_car, label_of_command, label_of_windows
from tests.simulation.scene import HOUR
from tests.simulators.http_server import Fault
from tests.simulators.world import Car, Manual, RestartPlan, SimulatedCharger, Window

CHANGES_OF_CLOCKS = (datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2027, 3, 28, 1, tzinfo=UTC))
"""The changes to and from winter time in Europe."""
HICCUPS = (Fault.RESET, Fault.ERROR_500, Fault.HANG, Fault.GARBAGE, Fault.HALF, Fault.UNAUTHORIZED, Fault.SLOW)
POINTS = (
    "journal not saved yet",
    "journal saved",
    "budgets not saved yet",
    "budgets saved",
    "request arrived",
    "request answered",
    "sent locally",
)


class Process(happenings.Process[House]):
    """A source of events for the house with the cloud."""

    def some_charger(self) -> SimulatedCharger:
        """Return any of the chargers."""
        return self.house.charger(self.random.choice(list(self.house.options)))


class Weather(Process):
    """The cloud fails in every way, for seconds or hours, and heals."""

    label = "Weather"
    bad = False
    flaps = 0

    @override
    async def turn(self) -> float:
        if self.flaps:
            self.flaps -= 1
            await self._set(Fault.NONE if self.bad else self.random.choice([Fault.REFUSE, Fault.HANG, Fault.ERROR_500]))
            return self.random.uniform(5, 90)
        if self.bad:
            await self.heal()
            return self.wait(3)
        if self.random.random() < 0.1:
            self.flaps = self.random.randrange(6, 30) * 2
            return 0
        return await self._break()

    @override
    async def heal(self) -> None:
        self.flaps = 0
        await self._set(Fault.NONE)

    async def _break(self) -> float:
        random = self.random
        fault = random.choices(
            [
                *(Fault.REFUSE, Fault.HANG, Fault.SLOW, Fault.ERROR_500, Fault.TOO_MANY, Fault.UNAUTHORIZED),
                *(Fault.FORBIDDEN, Fault.GARBAGE, Fault.HALF, Fault.HTML, Fault.NULLS, Fault.RESET),
            ],
            [20, 16, 10, 12, 3, 5, 3, 5, 5, 5, 5, 6],
        )[0]
        options: dict[str, object] = {}
        if fault is Fault.SLOW:
            options["slow_seconds"] = random.uniform(2, 40)
        if fault is Fault.TOO_MANY and random.random() < 0.5:
            options["retry_after"] = random.choice([5, 60, 300, 3600])
        if fault is Fault.NULLS:
            options["missing"] = random.random() < 0.5
        if fault in {Fault.RESET, Fault.ERROR_500, Fault.GARBAGE, Fault.HTML, Fault.HANG}:
            options["carried_out"] = random.random() < 0.4
        if fault is not Fault.REFUSE and random.random() < 0.25:
            options |= random.choice(
                [{"method": "PUT"}, {"method": "POST"}, {"path_prefix": "/chargers/"}, {"path_prefix": "/users/"}]
            )
        await self._set(fault, **options)
        length = outage_length(random)
        return min(length, HOUR) if fault in {Fault.TOO_MANY, Fault.FORBIDDEN} else length

    async def _set(self, fault: Fault, **options: object) -> None:
        house = self.house
        house.note(f"cloud: {fault} {' '.join(str(value) for value in options.values())}")
        self.bad = fault is not Fault.NONE
        house.counts.events[f"fault {fault}"] += 1
        house.healed_at = None
        home = house.home
        if not self.bad and house.password_right and home is not None and not home.dead:
            breaker = home.account.breaker
            house.healed_at = house.now if not breaker.usable and not breaker.busy else None
        await house.cloud.set_fault(fault, **options)  # type: ignore[arg-type]


class Hiccups(Process):
    """Single requests fail, tokens end early, the cloud's clock goes wrong."""

    label = "Hiccups"

    @override
    async def turn(self) -> float:
        house, random = self.house, self.random
        house.counts.events["hiccups"] += 1
        house.healed_at = None
        match random.randrange(5):
            case 0:
                house.note("cloud: access tokens end early")
                house.cloud.expire_access()
            case 1:
                house.note("cloud: all tokens end early")
                house.cloud.expire_access()
                house.cloud.revoke_refresh()
            case 2:
                house.cloud.clock_offset = random.choice([0.0, -90.0, 45.0, 3000.0])
                house.note(f"cloud: its clock is {house.cloud.clock_offset:g} s ahead")
            case _:
                fault = random.choice(
                    [
                        Fault.RESET,
                        Fault.ERROR_500,
                        Fault.HANG,
                        Fault.GARBAGE,
                        Fault.HALF,
                        Fault.UNAUTHORIZED,
                        Fault.SLOW,
                    ]
                )
                method = random.choice(["GET", "PUT", "POST", None])
                house.note(f"cloud: {fault} for the next {method or 'request'}")
                house.cloud.add_fault(
                    fault,
                    method=method,
                    next_requests=random.choice([1, 1, 2]),
                    carried_out=random.random() < 0.5 and fault is not Fault.UNAUTHORIZED,
                    slow_seconds=random.uniform(1, 12),
                )
        return self.wait(4)


class CloudLinks(Process):
    """Chargers lose their connection to the cloud, which may or may not notice."""

    label = "CloudLinks"

    @override
    async def turn(self) -> float:
        charger = self.some_charger()
        charger.cloud_link = not charger.cloud_link
        self.house.note(f"{charger.serial}: cloud link {charger.cloud_link}")
        self.house.counts.events["cloud links lost"] += not charger.cloud_link
        return self.wait(4)

    @override
    async def heal(self) -> None:
        for charger in self.house.world.chargers.values():
            charger.cloud_link = True


class LocalLinks(Process):
    """Local links are cut, slow, or refuse."""

    label = "LocalLinks"

    @override
    async def turn(self) -> float:
        if self.house.links:
            random = self.random
            link = self.house.links[random.choice(list(self.house.links))]
            link.up = random.random() < 0.55
            link.latency = random.choice([0.1, 0.5, 2.0, 4.0, 8.0])
            link.refuses = random.random() < 0.1
            home = self.house.home
            if home is not None and random.random() < 0.2:
                (home.unplug_link if link.serial in home.local else lambda _serial: home.plug_link(link))(link.serial)
            self.house.note(f"{link.serial}: link up {link.up}, latency {link.latency}, refuses {link.refuses}")
            self.house.counts.events["local links lost"] += not link.up
        return self.wait(3)

    @override
    async def heal(self) -> None:
        for link in self.house.links.values():
            link.up, link.latency, link.refuses = True, 0.2, False


class Power(Process):
    """The power of a charger is cut for a moment; restarts go well or not."""

    label = "Power"

    @override
    async def turn(self) -> float:
        charger, random = self.some_charger(), self.random
        charger.restart_plan = RestartPlan(
            carried_out=random.random() < 0.85,
            online_for=random.choice([0.0, 10.0, 100.0]),
            away_for=random.choice([20.0, 90.0, 300.0, 700.0]),
            comes_back=random.random() < 0.9,
            shown_away=random.random() < 0.8,
        )
        if charger.away:
            self.house.note(f"{charger.serial}: switched off and on")
            charger.power_cycle()
        elif not charger.updating and random.random() < 0.5:
            self.house.note(f"{charger.serial}: power cut")
            self.house.counts.events["power cuts"] += 1
            plan = charger.restart_plan
            charger.restart_plan = RestartPlan(
                online_for=0.0, away_for=random.uniform(1, 200), shown_away=plan.shown_away
            )
            charger.restart()
            charger.restart_plan = plan
        return self.wait(5)

    @override
    async def heal(self) -> None:
        for charger in self.house.world.chargers.values():
            charger.power_cycle()


class Season(Process):
    """At clock changes, the manufacturer's app moves the windows, which are in UTC, so that local times stay."""

    label = "Season"

    @override
    def begin(self) -> float:
        now = self.house.true_clock.now()
        return min(((change - now).total_seconds() for change in CHANGES_OF_CLOCKS if change > now), default=inf)

    @override
    async def turn(self) -> float:
        hours = 1 if self.house.true_clock.now().month > 6 else -1
        self.house.note("the clocks change: all windows move")
        self.house.counts.events["changes of the clocks"] += 1
        for charger in self.house.world.chargers.values():
            if charger.reaches_cloud:
                self.house.edit_schedule(charger, tuple(_moved(window, hours) for window in charger.schedules))
        return inf


class Cars(Process):
    """Cars come, charge and leave."""

    label = "Cars"
    first_after = 0.5

    @override
    async def turn(self) -> float:
        charger, random = self.some_charger(), self.random
        if charger.car is None:
            car = Car(
                wants_kwh=random.choice([0.0, 0.3, random.uniform(2, 60)]),
                max_amperes=random.choice([10, 16, 32]),
                phases=random.choice([1, 3]),
            )
            self.house.note(f"{charger.serial}: a car comes: {label_of_car(car)}")
            charger.plug_in(car)
            self.house.counts.events["sessions"] += 1
        elif random.random() < 0.5:
            self.house.note(f"{charger.serial}: the car leaves")
            charger.unplug()
        return self.wait(1.5)


class Others(Process):
    """Other people act in the manufacturer's app, and the charger changes state by itself."""

    label = "Others"

    @override
    async def turn(self) -> float:
        charger, random, house = self.some_charger(), self.random, self.house
        if not charger.reaches_cloud:
            return self.wait(3)
        house.counts.events["acts of others"] += 1
        deeds: list[Callable[[SimulatedCharger], str]] = [
            *(self._pause, self._resume, self._current, self._current, self._schedule, self._schedule),
            *(self._lock, self._ocpp, self._house_limit, self._update, self._fault, self._price),
        ]
        house.note(f"{charger.serial}: somebody else: {random.choice(deeds)(charger)}")
        return self.wait(3)

    @override
    async def heal(self) -> None:
        for charger in self.house.world.chargers.values():
            charger.locked = charger.ocpp = charger.fault = False

    def _pause(self, charger: SimulatedCharger) -> str:
        if charger.car is not None:
            charger.manual = Manual.PAUSE
        return "pause"

    def _resume(self, charger: SimulatedCharger) -> str:
        if charger.car is not None:
            charger.manual = Manual.CHARGE
        return "resume"

    def _current(self, charger: SimulatedCharger) -> str:
        charger.max_charging_current = self.random.randint(6, charger.max_available_current)
        return f"{charger.max_charging_current} A"

    def _schedule(self, charger: SimulatedCharger) -> str:
        """Move a window of the owner's, or switch it on or off."""
        windows = list(charger.schedules)
        if not windows:
            windows = [Window(start="2200", stop="0600")]
        else:
            slot = self.random.randrange(len(windows))
            start = f"{self.random.randrange(24):02}{self.random.choice(['00', '30'])}"
            windows[slot] = replace(windows[slot], start=start, enabled=self.random.random() < 0.8)
        self.house.edit_schedule(charger, tuple(windows))
        return f"schedule {label_of_windows(charger.schedules)}"

    def _lock(self, charger: SimulatedCharger) -> str:
        charger.locked = not charger.locked
        return f"locked {charger.locked}"

    def _ocpp(self, charger: SimulatedCharger) -> str:
        charger.ocpp = not charger.ocpp and self.random.random() < 0.3
        return f"ocpp {charger.ocpp}"

    def _house_limit(self, charger: SimulatedCharger) -> str:
        charger.icp_max_current = self.random.choice([None, 10, 20, 25, 40])
        charger.home_sharing = charger.icp_max_current is not None
        return f"house limit {charger.icp_max_current}"

    def _update(self, charger: SimulatedCharger) -> str:
        if charger.firmware != charger.firmware_latest and not charger.updating and not charger.away:
            self.house.update_began[charger.serial] = self.house.now
            charger.update_firmware()
        elif charger.firmware == charger.firmware_latest:
            charger.firmware_latest = f"6.7.{self.random.randrange(60, 99)}"
        return f"firmware {charger.firmware} of {charger.firmware_latest}, updating {charger.updating}"

    def _fault(self, charger: SimulatedCharger) -> str:
        charger.fault = not charger.fault and self.random.random() < 0.5
        return f"fault {charger.fault}"

    def _price(self, charger: SimulatedCharger) -> str:
        charger.energy_price = round(self.random.uniform(0.1, 0.5), 2)
        return f"price {charger.energy_price}"


class User(Process):
    """The user acts in Home Assistant, at times several times in a row."""

    label = "User"
    first_after = 0.3

    @override
    async def turn(self) -> float:
        for serial, options in self.house.options.items():
            if options.read_only and self.random.random() < 0.2:
                self._read_only(serial)
        times = self.random.choices([1, 2, 9], [85, 12, 3])[0]
        serial = self.some_charger().serial
        for _ in range(times):
            self.act(serial)
            if self.random.random() < 0.5:
                await self.house.clock.advance(self.random.choice([0.0, 0.3, 1.0]))
        if self.random.random() < 0.06:
            await self._interrupt()
        return self.wait(1)

    @override
    async def heal(self) -> None:
        if not self.house.password_right:
            self._enter_password()
        for serial in self.house.options:
            self._options(serial, read_only=False, prefer=Prefer.AUTO)

    def act(self, serial: str) -> None:
        """Perform one random action."""
        random = self.random
        deeds: list[tuple[Callable[[str], None], int]] = [
            (self._override, 8),
            (self._current, 6),
            (self._charging, 4),
            (self._lock, 2),
            (self._eco, 1),
            (self.restart, 4),
            (self._install, 1),
            (self._options_changed, 2),
            (self._password, 1),
        ]
        random.choices([deed for deed, _ in deeds], [weight for _, weight in deeds])[0](serial)

    async def _interrupt(self) -> None:
        """Cancel a service call at an arbitrary point."""
        home = self.house.home
        if home is None or home.dead:
            return
        await spin(self.random.randrange(40))
        for task in list(home.commands)[-1:]:
            self.house.note("the service call is cancelled")
            self.house.counts.events["calls cancelled"] += 1
            self.house.interrupted()
            task.cancel()

    def _set(self, serial: str, setting: Setting) -> None:
        self.house.act(serial, label_of_command(setting), lambda charger: charger.command(setting))

    def _override(self, serial: str) -> None:
        home = self.house.home
        if home is not None:
            self.house.act(serial, *some_override(self.random, home, serial))

    def _current(self, serial: str) -> None:
        self._set(serial, SetCurrent(self.random.choice([5, 6, 8, 10, 13, 16, 18, 20, 22, 25, 32, 40])))

    def _charging(self, serial: str) -> None:
        self._set(serial, SetCharging(self.random.random() < 0.6))

    def _lock(self, serial: str) -> None:
        self._set(serial, SetLock(self.random.random() < 0.3))

    def _eco(self, serial: str) -> None:
        self._set(serial, SetEcoMode(self.random.choice(list(EcoMode))))

    def restart(self, serial: str) -> None:
        """Press the restart button."""
        house = self.house
        if house.home is None or house.home.dead:
            return
        if house.now - house.update_began.get(serial, 0.0) < 2 * MINUTE:
            return  # no status is fresh enough to show the update
        watch = next(invariant for invariant in house.invariants if isinstance(invariant, Restarts))
        press = watch.press(serial)

        def told(answer: object) -> None:
            if isinstance(answer, RestartRun):
                house.act(serial, "wait for the restart", lambda _charger: answer.wait(), outcome)
            else:
                house.counts.restarts[f"{getattr(answer, 'reason', answer)}"] += 1
            # An unclear outcome counts as sent, a refused one does not.
            unclear = isinstance(answer, RestartRun) or getattr(answer, "reason", "") == "restart_unclear"
            guarded = isinstance(answer, UnsafeRequest)
            watch.done(press, counted=unclear or guarded or not isinstance(answer, ChargerError))

        def outcome(answer: object) -> None:
            house.counts.restarts[f"{getattr(answer, 'reason', answer)}"] += 1

        house.act(serial, "restart", lambda charger: charger.restart(), told)

    def _install(self, serial: str) -> None:
        charger = self.house.charger(serial)
        if not charger.updating:
            self.house.update_began[serial] = self.house.now + 10 * MINUTE  # the latest possible start of the update
            self.house.act(
                serial, "install", lambda charger: charger.install(), lambda _answer: self._installed(serial)
            )

    def _installed(self, serial: str) -> None:
        self.house.update_began[serial] = self.house.now

    def _options_changed(self, serial: str) -> None:
        random = self.random
        match random.randrange(5):
            case 0:
                self._options(serial, prefer=random.choice(list(Prefer)))
            case 1:
                self._options(serial, prefer=Prefer.AUTO)
            case 2:
                self._read_only(serial)
            case _:
                self._options(serial, load_group_limit=random.choice([None, 8.0, 12.5, 16.0, 20.0, 32.0]))

    def _options(self, serial: str, **changes: object) -> None:
        options = replace(self.house.options[serial], **changes)  # type: ignore[arg-type]
        if options != self.house.options[serial]:
            self.house.set_options(serial, options)

    def _read_only(self, serial: str) -> None:
        """Switch read-only on or off; the override is ended before."""
        if self.house.options[serial].read_only:
            self._options(serial, read_only=False)
            return
        self.house.act(
            serial,
            "go read-only",
            lambda charger: charger.cancel_override(),
            lambda _answer: self._options(serial, read_only=True),
        )

    def _password(self, serial: str) -> None:
        """Change the password at the manufacturer; later enter it in Home Assistant."""
        if self.house.password_right:
            if self.random.random() < 0.2:
                self.house.note("the password is changed with the maker")
                self.house.healed_at = None
                self.house.account.password = NEW_PASSWORD if self.house.account.password == PASSWORD else PASSWORD
                self.house.cloud.expire_access()
                self.house.cloud.revoke_refresh()
        elif self.house.home is not None:
            self._enter_password()

    def _enter_password(self) -> None:
        home = self.house.home
        self.house.entered_password = self.house.account.password
        self.house.note("the new password is entered")
        if home is not None and not home.dead:
            home.account.set_credentials(self.house.account.email, self.house.entered_password)


class Operator(Process, happenings.Operator[House]):
    """Home Assistant is restarted, killed at any point, and down for a while; its clock is set."""

    label = "Operator"
    downs = (1.0, 5.0, 20.0, 45.0, 10 * MINUTE)
    storm = 0

    @override
    async def turn(self) -> float:
        house, random = self.house, self.random
        if house.home is None:
            house.start_home()
            if self.storm:
                self.storm -= 1
                return random.uniform(1, 240)
            return self.wait(6)
        kinds = ["reload", "restart", "kill", "kill in a command", "fuse", "storm", "clock"]
        match random.choices(kinds, [12, 15, 12, 22, 20, 4, 15])[0]:
            case "reload":
                await house.reload_home()
                return self.wait(6)
            case "restart":
                await house.stop_home()
                return random.choice([1.0, 20.0, 10 * MINUTE])
            case "clock":
                set_clock(house, random)
                return self.wait(6)
            case "fuse":
                arm_fuse(house, random, POINTS)
                return self.wait(6)
            case "storm":
                self.storm = random.randrange(2, 7)
            case "kill in a command":
                User(house, random, self.cooldown).act(self.some_charger().serial)
                await spin(random.randrange(60))
            case _:
                pass
        house.kill_home()
        return self.down()

    @override
    async def heal(self) -> None:
        await super().heal()
        self.storm = 0


def _moved(window: Window, hours: int) -> Window:
    start, stop = (f"{(int(hhmm[:2]) + hours) % 24:02}{hhmm[2:]}" for hhmm in (window.start, window.stop))
    return replace(window, start=start, stop=stop)


ALL: tuple[type[Process], ...] = (Weather, Hiccups, CloudLinks, LocalLinks, Power, Season, Cars, Others, User, Operator)
