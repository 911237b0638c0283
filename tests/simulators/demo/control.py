"""The page, and the addresses behind its buttons, that break and heal the simulated world."""

from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from tests.simulators.demo.client import Client
from tests.simulators.demo.home_assistant import HOST, HomeAssistant
from tests.simulators.wallbox_cloud import Account, Fault, WallboxCloud
from tests.simulators.world import Charger, RestartPlan

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


def _offline(charger: Charger) -> None:
    charger.cloud_shows_offline = True
    charger.cloud_link = False


def _online(charger: Charger) -> None:
    charger.cloud_link = True


def _restarts_fail(charger: Charger) -> None:
    charger.restart_plan = RestartPlan(comes_back=False)


def _restarts_work(charger: Charger) -> None:
    charger.restart_plan = RestartPlan()
    if charger.away:
        charger.power_cycle()


def _window(state: bool | None) -> Callable[[Charger], None]:
    def change(charger: Charger) -> None:
        charger.window_open = state

    return change


ACTIONS: dict[str, tuple[str, Callable[[Charger], None]]] = {
    "plug-in": ("Plug a car in", Charger.plug_in),
    "unplug": ("Unplug the car", Charger.unplug),
    "offline": ("Goes offline", _offline),
    "online": ("Comes online", _online),
    "window-open": ("Window opens", _window(True)),
    "window-closed": ("Window closes", _window(False)),
    "window-by-clock": ("Window by the clock", _window(None)),
    "restarts-fail": ("Restarts never come back", _restarts_fail),
    "restarts-work": ("Restarts work", _restarts_work),
}


class Control:
    """Serves the page on the loopback interface."""

    def __init__(self, cloud: WallboxCloud, account: Account, home_assistant: HomeAssistant) -> None:
        self._cloud = cloud
        self._account = account
        self._password = account.password
        self._home_assistant = home_assistant
        self._condition = "up"
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> str:
        """Listen (port 0 takes a free one) and tell where. Raises `OSError` when the port is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/state", self._state),
                web.post("/cloud/{condition}", self._on_cloud),
                web.post("/chargers/{charger}/{action}", self._on_charger),
                web.post("/home-assistant/restart", self._on_restart),
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
                "conditions": CLOUD,
                "actions": {key: label for key, (label, _) in ACTIONS.items()},
                "chargers": [_shown(charger) for charger in self._cloud.world.chargers.values()],
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

    async def _on_charger(self, request: web.Request) -> web.Response:
        wanted, action = request.match_info["charger"], request.match_info["action"]
        chargers = {charger.name.lower(): charger for charger in self._cloud.world.chargers.values()}
        if wanted not in chargers or action not in ACTIONS:
            raise web.HTTPNotFound(text=f"one of: {', '.join(chargers)}; then one of: {', '.join(ACTIONS)}\n")
        label, carry_out = ACTIONS[action]
        carry_out(chargers[wanted])
        return _done(f"{chargers[wanted].name}: {label}.")

    async def _on_restart(self, request: web.Request) -> web.Response:
        await self._home_assistant.restart()
        async with Client(self._home_assistant.url) as client:
            await client.wait_until_it_answers()
        return _done("Home Assistant was restarted.")

    async def _on_heal(self, request: web.Request) -> web.Response:
        await self._set_cloud("up")
        for charger in self._cloud.world.chargers.values():
            _online(charger)
            _restarts_work(charger)
        return _done("Everything works again.")


def _shown(charger: Charger) -> dict[str, object]:
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
        "restarts": "work" if charger.restart_plan.comes_back else "never come back",
    }


def _done(text: str) -> web.Response:
    return web.Response(text=f"{text}\n")
