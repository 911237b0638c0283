"""The page that breaks and heals the simulated world, and the addresses behind its buttons."""

from collections.abc import Callable
import json
from pathlib import Path

from aiohttp import web

from tests.simulators.demo.boxes import BOX_ACTIONS, MAKER, MAKER_ACTIONS, Boxes
from tests.simulators.demo.client import Client
from tests.simulators.demo.home_assistant import HOST, HomeAssistant
from tests.simulators.juicebox_server import Site
from tests.simulators.local_side import LocalSide, Refused
from tests.simulators.wallbox_cloud import Account, Fault, WallboxCloud
from tests.simulators.world import RestartPlan, SimulatedCharger

PAGE = Path(__file__).with_name("control.html")
RETRY_AFTER = 300  # seconds
WRONG_PASSWORD = "changed-elsewhere"

CLOUD = {
    "up": "works",
    "down": "refuses every connection",
    "hang": "takes requests and never answers",
    "error-500": "answers 500",
    "busy": "answers 429, come back in 5 minutes",
    "maintenance": "answers with a web page",
    "bad-password": "does not know the password any more",
}
FAULTS = {
    "up": Fault.NONE,
    "down": Fault.REFUSE,
    "hang": Fault.HANG,
    "error-500": Fault.ERROR_500,
    "busy": Fault.TOO_MANY,
    "maintenance": Fault.HTML,
    "bad-password": Fault.NONE,
}


WORKING = RestartPlan(away_for=180.0)
"""Away for the few minutes of the maker's article, which is three reads of the cloud. With the fast clock of the tests
the reads are 1.5 s apart, and a busy machine may miss one of them."""


def _offline(charger: SimulatedCharger) -> None:
    charger.cloud_shows_offline = True
    charger.cloud_link = False


def _online(charger: SimulatedCharger) -> None:
    charger.cloud_link = True


def _restarts_fail(charger: SimulatedCharger) -> None:
    charger.restart_plan = RestartPlan(comes_back=False)


def _restarts_work(charger: SimulatedCharger) -> None:
    charger.restart_plan = WORKING
    if charger.away:
        charger.power_cycle()


def _window(state: bool | None) -> Callable[[SimulatedCharger], None]:
    def change(charger: SimulatedCharger) -> None:
        charger.window_open = state

    return change


ACTIONS: dict[str, tuple[str, Callable[[SimulatedCharger], None]]] = {
    "plug-in": ("Plug a car in", SimulatedCharger.plug_in),
    "unplug": ("Unplug the car", SimulatedCharger.unplug),
    "offline": ("Goes offline", _offline),
    "online": ("Comes online", _online),
    "window-open": ("Window opens", _window(True)),
    "window-closed": ("Window closes", _window(False)),
    "window-by-clock": ("Window by the clock", _window(None)),
    "restarts-fail": ("Restarts never come back", _restarts_fail),
    "restarts-work": ("Restarts work", _restarts_work),
    "power-cycle": ("Power off and on", SimulatedCharger.power_cycle),
}


def _link(state: bool) -> Callable[[LocalSide], None]:
    def change(side: LocalSide) -> None:
        side.link = state

    return change


LOCAL_ACTIONS: dict[str, tuple[str, Callable[[LocalSide], None]]] = {
    "local-lost": ("Local entities unavailable", _link(False)),
    "local-found": ("Local entities available", _link(True)),
}


class Control:
    """The web server of the page, on the loopback interface."""

    def __init__(self, cloud: WallboxCloud, account: Account, site: Site, home_assistant: HomeAssistant) -> None:
        self._cloud = cloud
        self._boxes = Boxes(site)
        self._account = account
        self._password = account.password
        self._home_assistant = home_assistant
        self._sides = {serial: LocalSide(cloud.world, serial) for serial in cloud.world.chargers}
        for charger in cloud.world.chargers.values():
            charger.restart_plan = WORKING
        self._condition = "up"
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> str:
        """Listen on a port; 0 takes a free port. Return the URL. Raise `OSError` if the port is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/state", self._state),
                web.post("/cloud/{condition}", self._on_cloud),
                web.post("/chargers/{charger}/{action}", self._on_charger),
                web.post("/maker/{condition}", self._on_maker),
                web.post("/boxes/{box}/{action}", self._on_box),
                web.get("/local", self._local),
                web.post("/local/{serial}/{what}", self._on_local),
                web.post("/home-assistant/restart", self._on_restart),
                web.post("/home-assistant/kill", self._on_kill),
                web.post("/heal", self._on_heal),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, port).start()
        return f"http://{HOST}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE)

    async def _state(self, request: web.Request) -> web.Response:
        self._cloud.world.advance()
        return web.json_response(
            {
                "home_assistant": {"url": self._home_assistant.url, "starts": self._home_assistant.starts},
                "factor": self._home_assistant.factor,
                "cloud": self._condition,
                "answered": sum(1 for request in self._cloud.requests if request.status == 200),
                "conditions": CLOUD,
                "actions": {key: label for key, (label, _) in (ACTIONS | LOCAL_ACTIONS).items()},
                "chargers": [_shown(side) | {"commands": self._commands(side)} for side in self._sides.values()],
                **self._boxes.shown(),
            }
        )

    async def _on_cloud(self, request: web.Request) -> web.Response:
        condition = request.match_info["condition"]
        if condition not in CLOUD:
            raise web.HTTPNotFound(text=f"one of: {', '.join(CLOUD)}\n")
        await self._set_cloud(condition)
        return _done(f"The cloud {CLOUD[condition]}.")

    async def _set_cloud(self, condition: str) -> None:
        self._condition = condition
        self._account.password = WRONG_PASSWORD if condition == "bad-password" else self._password
        if condition == "bad-password":
            self._cloud.expire_access()
            self._cloud.revoke_refresh()
        fault = FAULTS[condition]
        await self._cloud.set_fault(fault, retry_after=RETRY_AFTER if fault is Fault.TOO_MANY else None)

    def _commands(self, side: LocalSide) -> list[str]:
        """Return the write requests to the cloud for a charger, oldest first."""
        asked = (each for each in self._cloud.requests if each.method != "GET" and side.serial in each.path.split("/"))
        return [f"{each.method} {each.path} {each.body}" for each in asked]

    async def _on_charger(self, request: web.Request) -> web.Response:
        wanted, action = request.match_info["charger"], request.match_info["action"]
        sides = {side.charger.name.lower(): side for side in self._sides.values()}
        if wanted not in sides or action not in ACTIONS | LOCAL_ACTIONS:
            actions = ", ".join(ACTIONS | LOCAL_ACTIONS)
            raise web.HTTPNotFound(text=f"one of: {', '.join(sides)}; then one of: {actions}\n")
        side = sides[wanted]
        if action in LOCAL_ACTIONS:
            label, change = LOCAL_ACTIONS[action]
            change(side)
        else:
            label, carry_out = ACTIONS[action]
            carry_out(side.charger)
        return _done(f"{side.charger.name}: {label}.")

    async def _on_maker(self, request: web.Request) -> web.Response:
        condition = request.match_info["condition"]
        if condition not in MAKER:
            raise web.HTTPNotFound(text=f"one of: {', '.join(MAKER)}\n")
        return _done(f"The boxes' server {await self._boxes.set_maker(condition)}.")

    async def _on_box(self, request: web.Request) -> web.Response:
        box, action = request.match_info["box"], request.match_info["action"]
        actions = (*BOX_ACTIONS, *MAKER_ACTIONS)
        if box not in self._boxes.names or action not in actions:
            raise web.HTTPNotFound(text=f"one of: {', '.join(self._boxes.names)}; then one of: {', '.join(actions)}\n")
        return _done(self._boxes.act(box, action))

    async def _local(self, request: web.Request) -> web.Response:
        """Return all chargers as a local integration sees them, regardless of the cloud's condition."""
        return web.json_response({serial: _shown_locally(side) for serial, side in self._sides.items()})

    async def _on_local(self, request: web.Request) -> web.Response:
        """Carry out a command of the local integration. Answer 503 without the charger, 409 for a refusal."""
        side = self._sides.get(request.match_info["serial"])
        if side is None:
            raise web.HTTPNotFound
        if not side.answers:
            raise web.HTTPServiceUnavailable
        value = json.loads(await request.text())["value"]
        try:
            match request.match_info["what"]:
                case "charging":
                    side.set_charging(on=value)
                case "current":
                    side.set_max_current(value)
                case "restart":
                    side.restart()
                case _:
                    raise web.HTTPNotFound
        except Refused:
            raise web.HTTPConflict from None
        return _done("done")

    async def _on_restart(self, request: web.Request) -> web.Response:
        await self._home_assistant.restart()
        return await self._when_up("Home Assistant was restarted.")

    async def _on_kill(self, request: web.Request) -> web.Response:
        await self._home_assistant.restart(kill=True)
        return await self._when_up("Home Assistant was killed and started again.")

    async def _when_up(self, text: str) -> web.Response:
        async with Client(self._home_assistant.url) as client:
            await client.wait_until_it_answers()
        return _done(text)

    async def _on_heal(self, request: web.Request) -> web.Response:
        await self._set_cloud("up")
        await self._boxes.heal()
        for side in self._sides.values():
            side.link = True
            _online(side.charger)
            _restarts_work(side.charger)
        return _done("Everything works again.")


def _shown(side: LocalSide) -> dict[str, object]:
    charger = side.charger
    return {
        "key": charger.name.lower(),
        "name": charger.name,
        "state": charger.state.value.replace("_", " "),
        "power_kw": round(charger.power_kw, 1),
        "car": charger.car is not None,
        "online": charger.reaches_cloud,
        "window": {None: "by the clock", True: "open", False: "closed"}[charger.window_open]
        if charger.schedules
        else None,
        "local": side.answers,
        "restarts": "work" if charger.restart_plan.comes_back else "never come back",
    }


def _shown_locally(side: LocalSide) -> dict[str, object]:
    shown: dict[str, object] = {"name": side.charger.name, "available": side.answers}
    if not side.answers:
        return shown
    return shown | {
        "status": side.status,
        "power": round(side.power, 3),
        "current": side.current,
        "max_current": side.max_current,
        "may_charge": side.may_charge,
    }


def _done(text: str) -> web.Response:
    return web.Response(text=f"{text}\n")
