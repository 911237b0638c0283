"""Datagrams of a JuiceBox: reading speed, no error for any bytes, and the cost of a flood."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from random import Random
from time import perf_counter, sleep

from custom_components.chargekeeper.core.clock import SystemClock
from custom_components.chargekeeper.juicebox.box import Mode
from custom_components.chargekeeper.juicebox.datagram import CommandMessage, StatusMessage, checksum, parse
from custom_components.chargekeeper.juicebox.listener import Arrival, Discovered, Listener
from tests.juicebox import fuzz
from tests.juicebox.rig import HERE, THERE, Sender, free_ports, line
from tests.juicebox.site import Site
from tests.juicebox.vectors import S1, S2, S3
from tests.simulators.juicebox_server import BoxIssue

from .figures import Figure

ROUNDS = 60
FUZZED = 1_000_000
BOXES, FOREIGN_PER_SECOND, FLOOD_SECONDS = 50, 2_000, 6
HOURS, OUTAGE_EVERY = 1000, 9 * 3600.0
EVERY = 0.5  # s between two statuses of a box here; a real box takes 10 to 30
LITERAL_SHARE, ASKED_SHARE = 0.65, 0.2
"""The present share is 0.5. The checksum, byte by byte, takes seven of our ten µs: see `_hashed`."""
SLOWEST_READ = 71.0
"""µs: the only public tool for these boxes reads 14,000 statuses per second."""
LINES = 300
ALPHABET = "0123456789ABCDEFGHIJKLMNZPQRSTUVWXY"


async def decoding() -> AsyncIterator[Figure]:
    """Yield the reading time of 09u statuses, compared in turns with a literal decoder of the protocol page.

    As with a real box, no line occurs twice in a round: a repeated line would come from the processor's caches.
    """
    lines = list(_lines(Random(5)))
    for data in (S1, S2, S3, *lines):
        read = parse(data)
        assert isinstance(read, StatusMessage)
        assert (read.serial, read.version, dict(read.fields)) == read_literally(data)
    ours, literal = [], []
    for _ in range(ROUNDS):
        ours.append(_seconds(parse, lines))
        literal.append(_seconds(read_literally, lines))
    best, other = min(ours), min(literal)
    yield Figure(
        "status decoded, as a share of byte for byte by the formulas", best / other, LITERAL_SHARE, "", ASKED_SHARE
    )
    yield Figure("status decoded, values and checksum", best / LINES * 1e6, SLOWEST_READ, "µs")
    giant = S1[:-5].ljust(65_507, b"1")
    took = min(_once(giant) for _ in range(ROUNDS))
    yield Figure("datagram of 65,507 bytes read", took * 1e3, 1, "ms")


async def fuzzing() -> AsyncIterator[Figure]:
    """Yield the results of mutated datagrams and commands: no error, and each kind of outcome."""
    statuses, commands = fuzz.outcomes(seed=2, number=FUZZED)
    missed = (fuzz.KINDS - set(statuses)) | (fuzz.COMMAND_KINDS - set(commands))
    yield Figure(f"kinds of outcome not seen in {statuses.total():,} fuzzed datagrams", len(missed), 0, "kinds")


async def flood() -> AsyncIterator[Figure]:
    """Yield the figures of fifty listed boxes among foreign datagrams, on loopback, for seconds of real time."""
    command = CommandMessage(weekday=1, hour=2, minute=3, online=16, offline=16, flags=6, index=1, wide=True).encode()

    def answer(arrival: Arrival) -> None:
        arrival.answer(command)

    def ignore(_: Discovered) -> None:
        """Ignore discovered boxes."""

    listener = Listener(SystemClock(), answer, ignore)
    ports = free_ports(2)
    listener.open("127.0.0.1", ports)
    for number in range(BOXES):
        listener.add(f"{number:028}", HERE)
    boxes = _Boxes(ports[0])
    await asyncio.gather(asyncio.to_thread(boxes.run), asyncio.to_thread(_shout, ports))
    listener.close()
    waits = sorted(boxes.waits)
    yield Figure(f"statuses of {BOXES} boxes unanswered in a flood", boxes.sent - len(waits), 0, "statuses")
    yield Figure("answer in a flood, 99th percentile", waits[int(len(waits) * 0.99)] * 1e3, 50, "ms")
    yield Figure("foreign datagrams short of 2,000 per second", boxes.foreign_missing(listener), 0, "datagrams")


class _Boxes:
    """Fifty boxes that send and wait for their answers, in a thread."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self.waits: list[float] = []
        self._port = port

    def run(self) -> None:
        """Send in turns, and record the time of each answer."""
        senders = [Sender(HERE) for _ in range(BOXES)]
        for sender in senders:
            sender.sock.settimeout(1.0)
        end = perf_counter() + FLOOD_SECONDS
        for number in count():
            begun = perf_counter()
            if begun >= end:
                break
            box = number % BOXES
            data = line(serial=f"{box:028}", uptime=number)
            senders[box].send(data, self._port)
            self.sent += 1
            try:
                senders[box].sock.recvfrom(2048)
            except TimeoutError:
                continue
            self.waits.append(perf_counter() - begun)
            sleep(max(0.0, EVERY / BOXES - (perf_counter() - begun)))
        for sender in senders:
            sender.close()

    @staticmethod
    def foreign_missing(listener: Listener) -> int:
        """Return the number of foreign datagrams that never arrived, or were not sent in time."""
        arrived = sum(
            listener.dropped[reason] for reason in ("rate", "unknown_box", "wrong_source", "not_a_box", "checksum")
        )
        return max(0, FOREIGN_PER_SECOND * FLOOD_SECONDS - arrived)


def _shout(ports: tuple[int, ...]) -> None:
    """Send foreign datagrams of several kinds at a constant rate."""
    sender = Sender(THERE)
    kinds = (line(serial="1" * 28), line(serial=f"{1:028}"), S1[:-5] + b"!AAA:", b"g4rbl3d")
    begun = perf_counter()
    for number in range(FOREIGN_PER_SECOND * FLOOD_SECONDS):
        sender.send(kinds[number % len(kinds)], ports[number % 2])
        sleep(max(0.0, begun + number / FOREIGN_PER_SECOND - perf_counter()))
    sender.close()


async def keeping() -> AsyncIterator[Figure]:
    """Yield how long a box is unserved while its server comes and goes, and its EEPROM writes, on virtual time."""
    random, taken_over, handed_back, unanswered, slowest = Random(3), [], [], 0, 0.0
    site = Site()
    await site.start(plugged=False)
    while site.clock.monotonic() < HOURS * 3600:
        await site.clock.advance(random.uniform(600, 2 * OUTAGE_EVERY))
        await site.maker.set_trouble(random.choice((BoxIssue.DEAD, BoxIssue.HANG, BoxIssue.GARBAGE)))
        served_at = site.sim.commands[-1].at
        await site.clock.advance_until(lambda: site.mode is Mode.KEEP, within=300)
        taken_over.append(site.clock.monotonic() - served_at)
        before, site.sim.slowest_answer = site.sim.unanswered, 0.0
        await site.clock.advance(random.uniform(600, 2 * OUTAGE_EVERY))
        unanswered += site.sim.unanswered - before
        slowest = max(slowest, site.sim.slowest_answer)
        await site.maker.set_trouble(BoxIssue.NONE)
        handed_back.append(await site.clock.advance_until(lambda: site.mode is Mode.RELAY, within=600))
    await site.stop()
    outages = f"{len(taken_over)} outages"
    yield Figure(f"server gone, box taken over: worst of {outages}", max(taken_over), 120, "s")
    yield Figure(f"server back, box handed back: worst of {outages}", max(handed_back), 180, "s")
    yield Figure("statuses of a kept box not answered", unanswered, 0, "statuses")
    yield Figure("answer to a kept box: worst, simulated", slowest, 1, "s")
    yield Figure(f"falls back to the stored limit in {HOURS} simulated hours", site.sim.fallbacks, 0, "times")
    yield Figure(f"EEPROM writes in {HOURS} simulated hours", site.sim.writes, 0, "writes")


def read_literally(data: bytes) -> tuple[str, str, dict[str, int]] | None:
    """Read a status literally: the grammar and the checksum of the protocol page, byte for byte.

    See docs/protocols/juicebox.md, sections 2.3 and 2.4.
    """
    text, at = data.decode("ascii"), 0
    while text[at].isdigit():
        at += 1
    serial, begin = text[:at], at + 2
    if not 9 <= at <= 30 or text[at:begin] != ":v":
        return None
    at = begin
    while text[at].isalnum():
        at += 1
    version, fields = text[begin:at], {}
    while text[at] == ",":
        letter, sign, number = text[at + 1], 1, 0
        at += 2
        if text[at] == "-":
            sign, at = -1, at + 1
        while text[at].isdigit():
            number = number * 10 + int(text[at])
            at += 1
        fields[letter] = sign * number
    h = 0
    for c in data[:at]:
        h = (h ^ ((h * 32) + h // 4 + c)) % 65536
    symbols = "".join(ALPHABET[h // 35**k % 35] for k in (0, 1, 2))
    return (serial, version, fields) if text[at : at + 4] == "!" + symbols else None


def _lines(random: Random) -> Iterator[bytes]:
    """Yield the statuses of docs/protocols/juicebox.md with other numbers."""
    for number in range(LINES):
        head, _, fields = (S1, S2, S3)[number % 3].partition(b"!")[0].partition(b",")
        changed = bytes(random.choice(b"0123456789") if chr(byte).isdigit() else byte for byte in fields)
        body = head + b"," + changed
        yield body + b"!" + checksum(body) + b":"


def _seconds(read: Callable[[bytes], object], lines: list[bytes]) -> float:
    begun = perf_counter()
    for data in lines:
        read(data)
    return perf_counter() - begun


def _once(data: bytes) -> float:
    begun = perf_counter()
    parse(data)
    return perf_counter() - begun


def measurements() -> Iterator[AsyncIterator[Figure]]:
    """Yield all measurements of this module."""
    yield decoding()
    yield fuzzing()
    yield flood()
    yield keeping()
