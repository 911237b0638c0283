"""A maker's web server on the loopback interface, with the faults that a real server may have.

The simulated clouds add their routes; this module has the socket, the log of requests and the faults.
"""

from abc import ABC, abstractmethod
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
import json
from typing import TypedDict, Unpack

from aiohttp import hdrs, web

from custom_components.chargekeeper.core.clock import Clock

HOST = "127.0.0.1"
CLOSING_GRACE = 0.05  # real seconds; hardly ever used, because `stop` cancels all requests first
GARBAGE = b'\x00\xff{"result":[[[\xc3('
MAINTENANCE = "<!doctype html><title>Maintenance</title><p>We will be back soon.</p>"

type Json = dict[str, Json] | list[Json] | str | int | float | None
type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
type Matches = Callable[[str, str], bool]


class Fault(StrEnum):
    """A fault of the server."""

    NONE = "none"
    REFUSE = "refuse"
    """The server closes its socket and all connections. Once healed, it listens on the same port again."""
    HANG = "hang"
    """The server accepts the request and never answers."""
    SLOW = "slow"
    """The server carries out and answers the request after `slow_seconds`, even if the client no longer waits."""
    ERROR_500 = "error_500"
    TOO_MANY = "too_many"
    """429, with `Retry-After` where `retry_after` is given."""
    UNAUTHORIZED = "unauthorized"
    """401 on data, never on signing in."""
    FORBIDDEN = "forbidden"
    """403 on data, never on signing in."""
    GARBAGE = "garbage"
    """200 and a JSON content type, with bytes that are neither JSON nor UTF-8."""
    HALF = "half"
    """Half of a good answer whose header promises the full length; then the connection closes."""
    HTML = "html"
    """200 with a maintenance page."""
    NULLS = "nulls"
    """A good answer with null for every value; with `missing`, only objects and lists remain."""
    RESET = "reset"
    """The server closes the connection without an answer."""


_DATA_ONLY = frozenset({Fault.UNAUTHORIZED, Fault.FORBIDDEN})
_STATUS = {Fault.ERROR_500: 500, Fault.TOO_MANY: 429, Fault.UNAUTHORIZED: 401, Fault.FORBIDDEN: 403}


class Authorization(StrEnum):
    """The kind of authorization that a request carries."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that arrived at monotonic time `at`; `status` is `None` until the server answers."""

    at: float
    method: str
    path: str
    body: str
    authorization: Authorization
    status: int | None = None


class Where(TypedDict, total=False):
    """The options of a fault; see `Breakage`."""

    path_prefix: str
    method: str | None
    matches: Matches | None
    next_requests: int | None
    slow_seconds: float
    retry_after: int | None
    missing: bool
    carried_out: bool


@dataclass(slots=True, kw_only=True)
class Breakage:
    """A fault and the requests it hits, by path prefix, method, a test of (method, path), and number."""

    fault: Fault
    path_prefix: str = ""
    method: str | None = None
    matches: Matches | None = None
    next_requests: int | None = None
    slow_seconds: float = 30.0
    retry_after: int | None = None
    missing: bool = False
    carried_out: bool = False
    """The request takes effect although its answer is lost or bad."""

    def hits(self, method: str, path: str, *, is_data: bool) -> bool:
        """Return True if the fault breaks that request, and count the request then."""
        hit = (
            (is_data or self.fault not in _DATA_ONLY)
            and path.startswith(self.path_prefix)
            and self.method in {None, method}
            and (self.matches is None or self.matches(method, path))
            and self.next_requests != 0
        )
        if hit and self.next_requests is not None:
            self.next_requests -= 1
        return hit


class FaultyServer(ABC):
    """A web server that logs its requests and breaks on demand."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.clock_offset = 0.0
        """Seconds by which the server's wall clock is ahead of ours."""
        self.requests: list[Request] = []
        """All requests, oldest first; the server only appends (`count` counts a part of them)."""
        self._breakages: list[Breakage] = []
        self._under_way: set[asyncio.Task[object]] = set()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._started = False

    @abstractmethod
    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes of the server."""

    @abstractmethod
    def is_data(self, path: str) -> bool:
        """Return True if the path serves data, not sign-ins."""

    @property
    def url(self) -> str:
        """The address of the server, without a slash at the end. Raises `RuntimeError` before the first start."""
        if not self._port:
            raise RuntimeError("the server has not been started")
        return f"http://{HOST}:{self._port}"

    @property
    def fault(self) -> Fault:
        """The fault set last, or `NONE`."""
        return self._breakages[-1].fault if self._breakages else Fault.NONE

    @property
    def breakages(self) -> tuple[Breakage, ...]:
        """The faults that may still hit a request."""
        return tuple(breakage for breakage in self._breakages if breakage.next_requests != 0)

    def remove_fault(self, breakage: Breakage) -> None:
        """Remove one fault, unless it is gone already."""
        if breakage in self._breakages:
            self._breakages.remove(breakage)

    def now(self) -> datetime:
        """Return the time of the server's wall clock, UTC."""
        return self.clock.now() + timedelta(seconds=self.clock_offset)

    def count(self, method: str | None = None, path_prefix: str | None = None, since: float = 0.0) -> int:
        """Count the requests that arrived at or after monotonic time `since`."""
        return sum(
            request.at >= since
            and method in {None, request.method}
            and (path_prefix is None or request.path.startswith(path_prefix))
            for request in self.requests
        )

    async def start(self, port: int = 0) -> None:
        """Listen on the loopback interface; port 0 takes a free one. Raises `OSError` when the port is taken."""
        self._started = True
        self._port = port
        await self._listen()

    async def stop(self) -> None:
        """Stop listening and drop every connection, answered or not."""
        self._started = False
        await self._close()

    async def set_fault(self, fault: Fault, **options: Unpack[Where]) -> None:
        """Replace all faults by this one; requests that already hang continue to hang.

        `Fault.REFUSE` hits every request and ignores the options.
        """
        self._breakages = [] if fault is Fault.NONE else [Breakage(fault=fault, **options)]
        if fault is Fault.REFUSE:
            await self._close()
        elif self._started and self._runner is None:
            await self._listen()

    def add_fault(self, fault: Fault, **options: Unpack[Where]) -> None:
        """Add a fault for some requests; where several faults hit a request, the oldest one applies.

        Raises `ValueError` for `Fault.REFUSE`, which closes the socket for every request.
        """
        if fault is Fault.REFUSE:
            raise ValueError("a closed socket refuses everybody: use set_fault")
        self._breakages.append(Breakage(fault=fault, **options))

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._serve])
        app.add_routes(self.routes())
        # Without handler cancellation, a slow command takes effect after its client has timed out, as in reality.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=False, shutdown_timeout=CLOSING_GRACE, keepalive_timeout=3600
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        for task in self._under_way:
            task.cancel()
        await runner.cleanup()

    @web.middleware
    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await self._log_and_answer(request, handler)
        finally:
            self._under_way.discard(task)

    async def _log_and_answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        body = (await request.read()).decode(errors="replace")
        number = len(self.requests)
        arrived = Request(
            at=self.clock.monotonic(),
            method=request.method,
            path=request.path,
            body=body,
            authorization=_kind_of(request),
        )
        self.requests.append(arrived)
        breakage = self._breakage_for(request)
        response = await (
            self._answer(request, handler) if breakage is None else self._break(breakage, request, handler)
        )
        self.requests[number] = replace(arrived, status=response.status)
        return response

    def _breakage_for(self, request: web.Request) -> Breakage | None:
        is_data = self.is_data(request.path)
        hit = next((b for b in self._breakages if b.hits(request.method, request.path, is_data=is_data)), None)
        self._breakages = [breakage for breakage in self._breakages if breakage.next_requests != 0]
        return hit

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            # No protocol page describes the body of a refusal, so there is none.
            response = web.Response(status=refusal.status, headers=_kept_headers(refusal))
        return self._dated(response)

    def _dated[R: web.StreamResponse](self, response: R) -> R:
        response.headers[hdrs.DATE] = format_datetime(self.now(), usegmt=True)
        return response

    async def _break(self, breakage: Breakage, request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = breakage.fault
        if fault is Fault.SLOW:
            await self.clock.sleep(breakage.slow_seconds)
            return await self._answer(request, handler)
        if fault in {Fault.HALF, Fault.NULLS}:
            return await self._spoil(breakage, request, await self._answer(request, handler))
        if breakage.carried_out:
            await self._answer(request, handler)
        if fault is Fault.HANG:
            await asyncio.get_running_loop().create_future()
        if fault is Fault.RESET:
            _cut(request)
            raise asyncio.CancelledError
        if fault is Fault.GARBAGE:
            return self._dated(web.Response(body=GARBAGE, content_type="application/json"))
        if fault is Fault.HTML:
            return self._dated(web.Response(text=MAINTENANCE, content_type="text/html"))
        headers = {} if breakage.retry_after is None else {hdrs.RETRY_AFTER: str(breakage.retry_after)}
        return self._dated(web.Response(status=_STATUS[fault], headers=headers))

    async def _spoil(self, breakage: Breakage, request: web.Request, good: web.StreamResponse) -> web.StreamResponse:
        """Halve or empty a good answer; leave an answer without a body unchanged."""
        if not isinstance(good, web.Response) or not good.text:
            return good
        if breakage.fault is Fault.NULLS:
            emptied = _emptied(json.loads(good.text), missing=breakage.missing)
            return self._dated(web.json_response(emptied, status=good.status))
        whole = good.text.encode()
        half = web.StreamResponse(status=good.status, headers={hdrs.CONTENT_TYPE: "application/json"})
        half.content_length = len(whole)
        await self._dated(half).prepare(request)
        await half.write(whole[: len(whole) // 2])
        if request.transport is not None:
            request.transport.close()
        return half


def _kind_of(request: web.Request) -> Authorization:
    scheme = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")[0].lower()
    if not scheme:
        return Authorization.NONE
    return Authorization(scheme) if scheme in {"basic", "bearer"} else Authorization.OTHER


def _kept_headers(refusal: web.HTTPException) -> dict[str, str]:
    kept = refusal.headers.get(hdrs.RETRY_AFTER)
    return {} if kept is None else {hdrs.RETRY_AFTER: kept}


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _emptied(value: Json, *, missing: bool) -> Json:
    """Return the same objects and lists with null for every other value, or without the other values."""
    if isinstance(value, list):
        return [_emptied(item, missing=missing) for item in value]
    if isinstance(value, dict):
        return {
            key: _emptied(item, missing=missing)
            for key, item in value.items()
            if isinstance(item, dict | list) or not missing
        }
    return None
