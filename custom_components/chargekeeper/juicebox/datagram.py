"""The datagrams of a JuiceBox and the commands that answer them (docs/protocols/juicebox.md, sections 2.3 to 2.5).

Whatever arrives becomes one of the types here, a `Rejection` included: nothing in this module raises on bad input.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
import re
from struct import Struct

LONGEST = 1024
"""Bytes; all known datagrams are far shorter, and what is longer is not looked at."""

WIDE_VERSION = "09u"
"""The version whose commands have wide fields."""

NARROW = (2, 2)
WIDE = (4, 3)
"""Digits of the online and the offline limit in a command."""

NO_DATA = -1
"""The energy of a quarter-hour slot for which the box has none."""

_ALPHABET = b"0123456789ABCDEFGHIJKLMNZPQRSTUVWXY"
_BASE = len(_ALPHABET)
_MASK = 0xFFFF

HEADS = 64
SHAPES = 128
"""How many beginnings and shapes of status lines are kept: one and two to four per box."""

_SERIAL = re.compile(rb"([0-9]{9,30}):")
_HEAD = re.compile(rb"([0-9]{9,30}):v(07|09u),")
_FIELDS = re.compile(rb"[A-Za-z]-?[0-9]{1,12}(?:,[A-Za-z]-?[0-9]{1,12})*")
_BLUR = bytes.maketrans(b"123456789", b"000000000")
_ENDINGS = frozenset({b"", b":", b"\n", b":\n", b"\r\n", b":\r\n"})
_LEGACY = re.compile(rb"(?!v)([A-Za-z0-9,-]+?):?\r?\n?")
_VERSION = re.compile(rb"v([0-9]{2}[a-z]?)")
_DEBUG = re.compile(rb"DBG,([A-Z]{1,8}):(.*?):?\r?\n?", re.DOTALL)
_COMMAND = re.compile(
    rb"CMD([0-6])([01][0-9]|2[0-3])([0-5][0-9])A([0-9]{2}|[0-9]{4})M([0-9]{2,3})C([0-9]{3})S([0-9]{1,3})"
    rb"!([0-9A-Z]{3})\$\r?\n?"
)
_ENCRYPTED = frozenset({"08", "09e"})
_KNOWN = frozenset({"07", WIDE_VERSION})


class Reason(StrEnum):
    """Why a datagram was rejected."""

    TOO_LONG = "too_long"
    NOT_A_BOX = "not_a_box"  # does not begin with a serial
    UNKNOWN_VERSION = "unknown_version"
    MALFORMED = "malformed"
    CHECKSUM = "checksum"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A datagram that says nothing."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class DebugMessage:
    """A line of the box's log. It is never answered (section 2.3.3)."""

    serial: str
    level: str
    text: str

    @property
    def booted(self) -> bool:
        """Whether the box has just started, so that what was learnt of it no longer holds."""
        return self.text.startswith("BOT:")

    @property
    def firmware(self) -> str | None:
        """The firmware's banner without the module's part, where a line of the start names it (section 2.1)."""
        banner = self.text.removeprefix("BOT:")
        return banner.split(",")[0].strip() if self.booted and banner.startswith("EMWERK") else None


@dataclass(frozen=True, slots=True)
class EncryptedMessage:
    """A datagram that nobody can read but the maker's server (section 2.3.4)."""

    serial: str
    version: str


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """A status line. `fields` has the raw numbers by letter, unknown letters included.

    `version` is `07`, `09u`, or empty for boxes older than versions. Where a letter comes more than once `fields` has
    the first, `repeated` the others. The properties give physical units, None where the line does not tell.
    """

    serial: str
    version: str
    fields: Mapping[str, int]
    repeated: tuple[tuple[str, int], ...] = ()

    @property
    def state(self) -> int | None:
        """The state code (section 2.3.2). Older boxes leave it out; the current then implies it (2.3.1)."""
        state = self.fields.get("S")
        if state is None and not self.version:
            return 2 if self.fields.get("A", 0) > 0 else 1
        return state

    @property
    def voltage(self) -> float | None:
        """V. Old boxes report whole volts, in three digits."""
        raw = self.fields.get("V")
        if raw is None:
            return None
        return float(raw) if not self.version and raw < 1000 else raw / 10

    @property
    def current(self) -> float:
        """A; the field is absent while the car draws nothing."""
        return self.fields.get("A", 0) / 10

    @property
    def power_factor(self) -> float | None:
        """0 to 1; absent while the car draws nothing."""
        raw = self.fields.get("p")
        return None if raw is None else raw / 1000

    @property
    def power(self) -> float | None:
        """Real power, W. Boxes without a power factor tell the apparent power only."""
        voltage = self.voltage
        factor = self.power_factor
        if voltage is None:
            return None
        return voltage * self.current * (1.0 if factor is None else factor)

    @property
    def lifetime_energy(self) -> int | None:
        """Wh; never falls. Old boxes report whole kWh."""
        raw = self.fields.get("L")
        return raw if raw is None or self.version else raw * 1000

    @property
    def session_energy(self) -> int | None:
        """Wh since the box last changed to charging; told while charging only.

        The single `E` of an old box is something else (section 2.3.1).
        """
        is_reported = bool(self.version) or any(letter == "E" for letter, _ in self.repeated)
        return self.fields.get("E") if is_reported else None

    @property
    def temperature(self) -> int | None:
        """Inside the box, °C."""
        return self.fields.get("T")

    @property
    def limit_in_force(self) -> int | None:
        """A: the online limit while the box is commanded, the stored one while it is not (section 2.3)."""
        return self.fields.get("M")

    @property
    def second_limit(self) -> int | None:
        """A: probably the stored offline limit; disputed (section 2.3)."""
        return self.fields.get("C")

    @property
    def unit_rating(self) -> int | None:
        """A: what the hardware can."""
        return self.fields.get("m")

    @property
    def quarter_hour(self) -> tuple[int, int | None] | None:
        """A slot 0 to 95 of the box's local day and its energy, Wh; None where the box has no data for that slot."""
        slot = self.fields.get("i")
        energy = self.fields.get("e")
        if slot is None or energy is None or not 0 <= slot < 96:
            return None
        return slot, energy if energy > NO_DATA else None

    @property
    def frequency(self) -> float | None:
        """Of the grid, Hz."""
        raw = self.fields.get("f")
        return None if raw is None else raw / 100

    @property
    def uptime(self) -> tuple[float, float] | None:
        """Seconds on the box's counter, and after how many it starts again at zero; None where it has none."""
        raw = self.fields.get("u")
        if raw is None:
            return None
        return (raw, float("inf")) if self.version == WIDE_VERSION else (raw / 100, 655.36)


type Datagram = StatusMessage | DebugMessage | EncryptedMessage | Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandMessage:
    """A server's answer to a status (section 2.5).

    `weekday` (0 is Sunday), `hour` and `minute` are the box's local time; `online` and `offline` the limits in A;
    `flags` is of unknown meaning, 0 to 999; `index` 1 to 999. `wide` chooses the field widths of version 09u.

    Raises:
        ValueError: a number does not fit its field.
    """

    weekday: int
    hour: int
    minute: int
    online: int
    offline: int
    flags: int
    index: int
    wide: bool

    def __post_init__(self) -> None:
        online, offline = WIDE if self.wide else NARROW
        fits = (
            (self.weekday, 6),
            (self.hour, 23),
            (self.minute, 59),
            (self.online, 10**online - 1),
            (self.offline, 10**offline - 1),
            (self.flags, 999),
            (self.index, 999),
        )
        if not all(0 <= number <= highest for number, highest in fits):
            raise ValueError(f"does not fit: {self}")

    def encode(self) -> bytes:
        """The bytes as they go to the box."""
        online, offline = WIDE if self.wide else NARROW
        body = (
            f"CMD{self.weekday}{self.hour:02}{self.minute:02}A{self.online:0{online}}M{self.offline:0{offline}}"
            f"C{self.flags:03}S{self.index:03}"
        ).encode()
        return body + b"!" + checksum(body) + b"$"


def checksum(data: bytes) -> bytes:
    """The three symbols that follow `!`, of all bytes before it (section 2.4)."""
    return _symbols(_hashed(data, 0))


def serial_of(data: bytes) -> str | None:
    """The serial with which a datagram begins; None where it cannot come from a box. Costs next to nothing."""
    found = _SERIAL.match(data)
    return None if found is None else found[1].decode("ascii")


def parse(data: bytes) -> Datagram:
    """What a box sent."""
    if len(data) > LONGEST:
        return Rejection(Reason.TOO_LONG)
    head = _head(data[: data.find(b",") + 1])
    if head is not None:
        return _checked(head, data)
    begin = _SERIAL.match(data)
    if begin is None:
        return Rejection(Reason.NOT_A_BOX)
    serial = begin[1].decode("ascii")
    if (found := _VERSION.match(data, begin.end())) is not None:
        return _without_fields(serial, found[1].decode("ascii"))
    if (found := _DEBUG.fullmatch(data, begin.end())) is not None:
        return DebugMessage(serial, found[1].decode("ascii"), found[2].decode("ascii", "replace"))
    if (found := _LEGACY.fullmatch(data, begin.end())) is not None:
        return _status(serial, "", found[1])
    return Rejection(Reason.MALFORMED)


def parse_command(data: bytes) -> CommandMessage | Rejection:
    """What a server sent."""
    if len(data) > LONGEST:
        return Rejection(Reason.TOO_LONG)
    found = _COMMAND.fullmatch(data)
    if found is None:
        return Rejection(Reason.MALFORMED)
    widths = len(found[4]), len(found[5])
    if widths not in {NARROW, WIDE}:
        return Rejection(Reason.MALFORMED)
    if checksum(data[: found.end(7)]) != found[8]:
        return Rejection(Reason.CHECKSUM)
    weekday, hour, minute, online, offline, flags, index = (int(found[group]) for group in range(1, 8))
    return CommandMessage(
        weekday=weekday,
        hour=hour,
        minute=minute,
        online=online,
        offline=offline,
        flags=flags,
        index=index,
        wide=widths == WIDE,
    )


@dataclass(frozen=True, slots=True)
class _Head:
    """How the status lines of one box begin: the state of the checksum after that many bytes is always the same."""

    serial: str
    version: str
    length: int
    state: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which letters a status line has, in order, and how to cut out their numbers."""

    letters: tuple[str, ...]
    numbers: Callable[[bytes], tuple[bytes, ...]]


@lru_cache(maxsize=HEADS)
def _head(data: bytes) -> _Head | None:
    """Of the bytes up to the first comma."""
    found = _HEAD.fullmatch(data)
    if found is None:
        return None
    return _Head(found[1].decode("ascii"), found[2].decode("ascii"), len(data), _hashed(data, 0))


@lru_cache(maxsize=SHAPES)
def _shape(blurred: bytes) -> _Shape | None:
    """Of fields whose digits were all made the same; a box sends the same few shapes all the time."""
    if _FIELDS.fullmatch(blurred) is None:
        return None
    parts = blurred.split(b",")
    cut = Struct("x".join(f"x{len(part) - 1}s" for part in parts))
    return _Shape(tuple(chr(part[0]) for part in parts), cut.unpack)


def _hashed(data: bytes, h: int) -> int:
    """The state of the checksum after these bytes, from the state `h` before them.

    There is no table on purpose: its 65,536 entries are hit at random, and the box sends one line in ten seconds, so
    that each look-up would miss the processor's caches and cost more than the sum.
    """
    for byte in data:
        h = (h ^ ((h * 129 >> 2) + byte)) & _MASK  # h * 32 + h // 4 is h * 129 // 4
    return h


def _symbols(h: int) -> bytes:
    return bytes((_ALPHABET[h % _BASE], _ALPHABET[h // _BASE % _BASE], _ALPHABET[h // _BASE**2 % _BASE]))


def _checked(head: _Head, data: bytes) -> StatusMessage | Rejection:
    """A line of a version that carries a checksum."""
    text, _, rest = data.partition(b"!")
    raw = text[head.length :]
    if rest[3:] not in _ENDINGS:
        return Rejection(Reason.MALFORMED)
    message = _status(head.serial, head.version, raw)
    if isinstance(message, StatusMessage) and _symbols(_hashed(raw, head.state)) != rest[:3]:
        return Rejection(Reason.CHECKSUM)
    return message


def _status(serial: str, version: str, raw: bytes) -> StatusMessage | Rejection:
    shape = _shape(raw.translate(_BLUR))
    if shape is None:
        return Rejection(Reason.MALFORMED)
    numbers = tuple(map(int, shape.numbers(raw)))
    fields = dict(zip(shape.letters, numbers, strict=True))
    if len(fields) == len(numbers):
        return StatusMessage(serial, version, fields)
    return _with_repeated(serial, version, shape.letters, numbers)


def _with_repeated(serial: str, version: str, letters: tuple[str, ...], numbers: tuple[int, ...]) -> StatusMessage:
    fields: dict[str, int] = {}
    repeated: list[tuple[str, int]] = []
    for letter, number in zip(letters, numbers, strict=True):
        if letter in fields:
            repeated.append((letter, number))
        else:
            fields[letter] = number
    return StatusMessage(serial, version, fields, tuple(repeated))


def _without_fields(serial: str, version: str) -> EncryptedMessage | Rejection:
    if version in _ENCRYPTED:
        return EncryptedMessage(serial, version)
    return Rejection(Reason.MALFORMED if version in _KNOWN else Reason.UNKNOWN_VERSION)


def kind(datagram: Datagram | CommandMessage) -> str:
    """A word for the kind of a datagram, for counting: the reason of a rejection, or what it is."""
    return datagram.reason if isinstance(datagram, Rejection) else type(datagram).__name__
