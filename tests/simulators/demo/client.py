"""Client of Home Assistant's HTTP API with the actions of a user: first user, sign-in, config, options."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiohttp

USER = "demo"
PASSWORD = "demo"
PATIENCE = 180.0  # real seconds for a first start on a slow machine
BETWEEN_TRIES = 0.2

type Entered = Mapping[str, object]
"""The fields of a form."""


class Client:
    """Client of Home Assistant's API. Raises `RuntimeError` for every unexpected answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._id = f"{url}/"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE))
        self._headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def wait_until_it_answers(self) -> None:
        """Wait until the web server answers."""
        await self.wait_until(self._answers, "Home Assistant does not answer")

    async def wait_until_started(self) -> None:
        """Wait until every integration is set up. Requires a signed-in user."""
        await self.wait_until(self._is_running, "Home Assistant does not finish its start")

    async def wait_until_loaded(self) -> None:
        """Wait until every entry of ChargeKeeper is set up, also again after a change of its options."""
        await self.wait_until(self._is_loaded, "ChargeKeeper is not set up")

    async def wait_until(self, condition: Callable[[], Awaitable[bool]], problem: str) -> None:
        """Wait until a condition holds. Raise RuntimeError with `problem` after `PATIENCE` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while not await condition():
            if loop.time() > deadline:
                raise RuntimeError(problem)
            await asyncio.sleep(BETWEEN_TRIES)

    async def _answers(self) -> bool:
        try:
            async with self._session.get(f"{self._url}/manifest.json") as response:
                return response.ok
        except aiohttp.ClientError:
            return False

    async def _is_running(self) -> bool:
        return bool((await self._call("GET", "/api/config"))["state"] == "RUNNING")

    async def _is_loaded(self) -> bool:
        return all(entry["state"] == "loaded" for entry in await self.entries())

    async def sign_in(self) -> None:
        """Sign in. Create the first user if there is no user yet."""
        await self._create_first_user()
        flow = await self._call(
            "POST",
            "/auth/login_flow",
            {"client_id": self._id, "handler": ["homeassistant", None], "redirect_uri": self._id},
        )
        done = await self._call(
            "POST",
            f"/auth/login_flow/{flow['flow_id']}",
            {"client_id": self._id, "username": USER, "password": PASSWORD},
        )
        form = {"grant_type": "authorization_code", "code": done["result"], "client_id": self._id}
        async with self._session.post(f"{self._url}/auth/token", data=form) as response:
            token = await _read(response)
        self._headers = {"Authorization": f"Bearer {token['access_token']}"}

    async def _create_first_user(self) -> None:
        user = {"client_id": self._id, "name": "Demo", "username": USER, "password": PASSWORD, "language": "en"}
        async with self._session.post(f"{self._url}/api/onboarding/users", json=user) as response:
            if response.status not in {
                403,
                404,
            }:  # the user exists: the request is refused, or the endpoint is gone after a start
                await _read(response)

    async def entries(self) -> list[dict[str, Any]]:
        """Return ChargeKeeper's config entries."""
        found: list[dict[str, Any]] = await self._call("GET", "/api/config/config_entries/entry?domain=chargekeeper")
        return found

    async def add_account(self, email: str, password: str, server: str) -> str:
        """Add a Wallbox account through the config flow, with every field. Return the id of its entry."""
        path = await self._begin("wallbox_account")
        servers = {"user_api_url": server, "api_url": server}
        step = await self._call("POST", path, {"email": email, "password": password, "server": servers})
        _expect(step, "create_entry")
        return str(step["result"]["entry_id"])

    async def set_load_group_limit(self, entry_id: str, serial: str, amperes: int) -> None:
        """Enter the load-group limit of one charger through the options flow."""
        path = "/api/config/config_entries/options/flow"
        step = await self._call("POST", path, {"handler": entry_id})
        path = f"{path}/{step['flow_id']}"
        _expect(step, "menu")
        for entered, kind in (
            ({"next_step_id": "load_group"}, "form"),
            ({"charger": serial}, "form"),
            ({"limit": amperes}, "create_entry"),
        ):
            step = await self._call("POST", path, entered)
            _expect(step, kind)

    async def add_boxes(self, settings: Entered, boxes: Mapping[str, Entered]) -> None:
        """Add JuiceBoxes through the config flow with the settings of the entry and the form input of each serial."""
        path = await self._begin("juicebox")
        _expect(await self._call("POST", path, settings), "progress")
        await self.wait_until(partial(self._finds_box, path), "no box is heard")
        step = await self._call("GET", path)
        _expect(step, "form")
        first = step["description_placeholders"]["serial"]
        step = await self._call("POST", path, boxes[first])
        _expect(step, "create_entry")
        entry_id = str(step["result"]["entry_id"])
        for serial in boxes.keys() - {first}:
            add = partial(self._adds_box, entry_id, serial, boxes[serial])
            await self.wait_until(add, f"box {serial} is not heard")

    async def _finds_box(self, path: str) -> bool:
        """Return True if a flow has found a box. Let the flow wait again after its timeout."""
        step = await self._call("GET", path)
        if step["type"] == "menu":
            await self._call("POST", path, {"next_step_id": "wait"})
        return bool(step["type"] == "form")

    async def _adds_box(self, entry_id: str, serial: str, entered: Entered) -> bool:
        """Add a box to the entry. Return False if the box is not discovered yet."""
        path = "/api/config/config_entries/subentries/flow"
        step = await self._call("POST", path, {"handler": [entry_id, "juicebox"], "show_advanced_options": False})
        if step["type"] == "abort":
            return False
        path = f"{path}/{step['flow_id']}"
        _expect(step, "form")
        step = await self._call("POST", path, {"box": serial})
        _expect(step, "form")
        step = await self._call("POST", path, entered)
        _expect(step, "create_entry")
        return True

    async def add_load_group(self, name: str, limit: int, members: Sequence[str]) -> None:
        """Add a load group through the config flow, with the defaults of the form for its members."""
        path = await self._begin("load_group")
        for entered in ({"name": name, "limit": limit}, {"members": list(members)}):
            step = await self._call("POST", path, entered)
            _expect(step, "form")
        step = await self._call("POST", path, {field["name"]: field["default"] for field in step["data_schema"]})
        _expect(step, "create_entry")

    async def _begin(self, kind: str) -> str:
        """Start a flow of a kind. Return the address of the flow, which shows its first form."""
        path = "/api/config/config_entries/flow"
        step = await self._call("POST", path, {"handler": "chargekeeper", "show_advanced_options": False})
        path = f"{path}/{step['flow_id']}"
        _expect(step, "menu")
        _expect(await self._call("POST", path, {"next_step_id": kind}), "form")
        return path

    async def wait_until_shown(self, entity_id: str, state: str) -> None:
        """Wait until an entity has a state."""
        await self.wait_until(partial(self._shows, entity_id, state), f"{entity_id} does not become {state}")

    async def _shows(self, entity_id: str, state: str) -> bool:
        states = await self._call("GET", "/api/states")
        return any((each["entity_id"], each["state"]) == (entity_id, state) for each in states)

    async def link(self, entry_id: str, serial: str, entities: Mapping[str, str]) -> None:
        """Add local control of a charger through the subentry flow."""
        path = "/api/config/config_entries/subentries/flow"
        step = await self._call("POST", path, {"handler": [entry_id, "linked"], "show_advanced_options": False})
        _expect(step, "form")
        step = await self._call("POST", f"{path}/{step['flow_id']}", {"charger": serial, **entities})
        _expect(step, "create_entry")

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(method, self._url + path, json=body, headers=self._headers) as response:
            return await _read(response)


async def _read(response: aiohttp.ClientResponse) -> Any:
    if not response.ok:
        raise RuntimeError(f"{response.method} {response.url.path}: {response.status} {await response.text()}")
    return await response.json()


def _expect(step: dict[str, Any], kind: str) -> None:
    if step["type"] != kind:
        raise RuntimeError(f"a flow was to go on with a {kind}, but: {step}")
