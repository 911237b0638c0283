"""The first two reductions per account and minute are sent within 5 s, whatever is queued; no budget is exceeded."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Never, override

import aiohttp
from hypothesis import given, settings, strategies as st
import pytest

from custom_components.chargekeeper.core.charger import Charger, ChargerOptions, commands
from custom_components.chargekeeper.core.errors import ChargerError, GaveWay
from custom_components.chargekeeper.core.transport import SetCharging, SetLock
from custom_components.chargekeeper.wallbox.account import WallboxAccount
from custom_components.chargekeeper.wallbox.client import RemoteAction, Tokens
from custom_components.chargekeeper.wallbox.transport import placeholder
from tests.simulators.clock import VirtualClock

SERIALS = ("700101", "700102", "700103")
WITHIN, WITHIN_WHILE_HANGING = 5.0, 20.0


@dataclass
class Sent:
    """A request on the wire."""

    at: float
    serial: str
    is_reduction: bool


@dataclass
class Requested:
    """A pause of the user. `is_covered` if the figure applies: it is one of the first two in its minute."""

    at: float
    serial: str
    is_covered: bool


class StubClient:
    """A cloud that takes every command at once, or answers none while it hangs."""

    def __init__(self, clock: VirtualClock) -> None:
        self.tokens = Tokens("token", "refresh", clock.now() + timedelta(days=30), "user")
        self.cloud_skew = timedelta(0)
        self.hangs = False
        self.sent: list[Sent] = []
        self._clock = clock

    async def set_locked(self, serial: str, locked: bool) -> None:
        """Lock or unlock."""
        await self._take(serial, is_reduction=False)

    async def remote_action(self, serial: str, action: RemoteAction) -> None:
        """Pause."""
        await self._take(serial, is_reduction=action is RemoteAction.PAUSE)

    async def schedules(self, serial: str) -> Never:
        """Show no schedule."""
        raise ChargerError("no_schedule")

    async def _take(self, serial: str, *, is_reduction: bool) -> None:
        self.sent.append(Sent(self._clock.monotonic(), serial, is_reduction))
        if self.hangs:
            await self._clock.sleep(3600)


@dataclass
class Household:
    """Three chargers of one account, without sockets."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    requested: list[Requested] = field(default_factory=list)
    late: list[Requested] = field(default_factory=list)
    hung_at: float = -1e9
    tasks: list[asyncio.Future[object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = StubClient(self.clock)
        session: aiohttp.ClientSession = None  # type: ignore[assignment]
        self.account = WallboxAccount(
            session, self.clock, email="a@b", password="x", user_api_url="http://x", api_url="http://x"
        )
        self.account._client = self.client  # type: ignore[assignment]
        self.chargers = {serial: self._charger(serial) for serial in SERIALS}

    def _charger(self, serial: str) -> Charger:
        async def save(_: dict[str, object]) -> None: ...

        charger = Charger(placeholder(serial), self.clock, ChargerOptions(), save)
        charger.add_transport(self.account.transport(serial))
        charger.start()
        return charger

    def lock(self, serial: str) -> None:
        """Send a command that is no reduction."""
        self._begin(self.chargers[serial].command(SetLock(len(self.tasks) % 2 == 0)))

    def flood(self, serial: str) -> None:
        """Send many such commands, without the lock of the charger."""
        for number in range(8):
            self._begin(self.account.transport(serial).execute(SetLock(number % 2 == 0), patience=5))

    def read(self, serial: str) -> None:
        """Wait for a read slot while holding the lock of the charger."""

        async def job() -> None:
            while True:
                async with self.chargers[serial]._router.turn():
                    try:
                        await self.account.transport(serial).read_schedule()
                    except GaveWay:
                        continue
                return

        self._begin(job())

    def pause(self, serial: str) -> None:
        """Send a reduction, unless another one for the charger waits: they would be one command."""
        now = self.clock.monotonic()
        recent = [each for each in self.requested if each.at > now - 60]
        if any(each.serial == serial and self.sent_at(each) is None for each in self.requested):
            return
        sent = [each for each in self.client.sent if each.is_reduction and each.at > now - 60]
        self.requested.append(Requested(now, serial, len(recent) < 2 and len(sent) < 2))
        self._begin(self.chargers[serial].command(SetCharging(on=False)))

    def hang(self) -> None:
        """Let the cloud hang, or answer again."""
        self.client.hangs = not self.client.hangs
        self.hung_at = self.clock.monotonic()

    def sent_at(self, requested: Requested) -> float | None:
        """Return the monotonic time at which a pause reached the wire, or None."""
        return next(
            (
                each.at
                for each in self.client.sent
                if each.is_reduction and each.serial == requested.serial and each.at >= requested.at
            ),
            None,
        )

    def _begin(self, work: Coroutine[object, object, object]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def advance(self, seconds: float) -> None:
        """Let time pass, and look every 2.5 s for reductions that are late."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.clock.advance(min(2.5, end - self.clock.monotonic()))
            self.note_late_reductions()

    def note_late_reductions(self) -> None:
        """Record in `late` each covered reduction that took longer than its figure, sent or not."""
        now = self.clock.monotonic()
        within = WITHIN_WHILE_HANGING if self.client.hangs or now - self.hung_at < 60 else WITHIN
        for each in self.requested:
            sent_at = self.sent_at(each)
            if each.is_covered and (now if sent_at is None else sent_at) - each.at > within:
                self.late.append(each)
            each.is_covered &= sent_at is None and each not in self.late

    def fullest_minute(self, *, reductions: bool) -> int:
        """Return the most commands sent within a minute, with or without the reductions."""
        times = [each.at for each in self.client.sent if reductions or not each.is_reduction]
        return max((sum(at <= later < at + 60 - 1e-6 for later in times) for at in times), default=0)


@dataclass(frozen=True)
class Turn:
    """What happens, and the seconds until the next turn."""

    what: str
    serial: str
    seconds: float

    @override
    def __repr__(self) -> str:
        return f"Turn({self.what!r}, {self.serial!r}, {self.seconds!r})"


TURNS = st.builds(
    Turn,
    st.sampled_from(["lock", "lock", "flood", "read", "pause", "pause", "pause", "hang"]),
    st.sampled_from(SERIALS),
    st.sampled_from([0.0, 0.0, 1.0, 4.0, 15.0, 31.0, 61.0]),
)


async def play(turns: Sequence[Turn]) -> Household:
    """Let these things happen."""
    home = Household()
    for turn in turns:
        if turn.what == "hang":
            home.hang()
        else:
            getattr(home, turn.what)(turn.serial)
        await home.clock.settle()
        home.note_late_reductions()
        await home.advance(turn.seconds)
    home.client.hangs = False
    await home.advance(20)
    for charger in home.chargers.values():
        await charger.stop()
    for task in home.tasks:
        task.cancel()
    await asyncio.gather(*home.tasks, return_exceptions=True)
    return home


@settings(max_examples=60, deadline=None)
@given(st.lists(TURNS, max_size=14))
def test_first_two_reductions_of_a_minute_are_sent_at_once_whatever_is_queued(turns: list[Turn]) -> None:
    home = asyncio.run(play(turns))
    assert home.late == []
    assert home.fullest_minute(reductions=True) <= 5
    assert home.fullest_minute(reductions=False) <= 3


def test_two_reductions_pass_a_flood_and_the_third_waits() -> None:
    turns = [Turn("flood", SERIALS[0], 0.0), *(Turn("pause", serial, 0.0) for serial in SERIALS)]
    home = asyncio.run(play(turns))
    assert [each.is_reduction for each in home.client.sent] == [False] * 3 + [True] * 2
    assert (len(home.requested), home.late) == (3, [])


def test_reduction_held_up_behind_a_flood_counts_as_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat each pause as any other command: the property above must see that."""
    monkeypatch.setattr(commands, "relief", lambda *_: 0.0)
    home = asyncio.run(play([Turn("flood", SERIALS[0], 0.0), Turn("pause", SERIALS[1], 15.0)]))
    assert [each.serial for each in home.late] == [SERIALS[1]]
