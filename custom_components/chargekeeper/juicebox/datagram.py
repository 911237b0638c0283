"""Datagrams of a JuiceBox and the commands that answer them (docs/protocols/juicebox.md, sections 2.3 to 2.5).

Each datagram becomes one of the types here, a `Rejection` included: no function in this module raises on bad input.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
import re
from struct import Struct

LONGEST = 1024
"""Bytes; all known datagrams are far shorter, and longer ones are not parsed."""

WIDE_VERSION = "09u"
"""The version whose commands have wide fields."""

NARROW = (2, 2)
WIDE = (4, 3)
"""Digits of the online and the offline limit in a command."""

NO_DATA = -1
"""Energy of a quarter-hour slot without data."""

_ALPHABET = b"0123456789ABCDEFGHIJKLMNZPQRSTUVWXY"
_BASE = len(_ALPHABET)
_MASK = 0xFFFF

HEADS = 64
SHAPES = 128
"""Cached beginnings and shapes of status lines: a box has one beginning and two to four shapes."""

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
    """Datagram without usable content."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class DebugMessage:
    """Line of the box's log. It is never answered (section 2.3.3)."""

    serial: str
    level: str
    text: str

    @property
    def booted(self) -> bool:
        """True if the box has just booted, so that what was learned of it no longer holds."""
        return self.text.startswith("BOT:")

    @property
    def firmware(self) -> str | None:
        """The firmware's banner without the module's part, if a boot line has it (section 2.1)."""
        banner = self.text.removeprefix("BOT:")
        return banner.split(",")[0].strip() if self.booted and banner.startswith("EMWERK") else None


@dataclass(frozen=True, slots=True)
class EncryptedMessage:
    """Datagram that only the manufacturer's server can read (section 2.3.4)."""

    serial: str
    version: str


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """Status line. `fields` has the raw numbers by letter, unknown letters included.

    `version` is `07`, `09u`, or empty for boxes older than versions. If a letter occurs several times, `fields` has its
    first number and `repeated` the others. The properties return physical units, None if the line lacks the value.
    """

    serial: str
    version: str
    fields: Mapping[str, int]
    repeated: tuple[tuple[str, int], ...] = ()

    @property
    def state(self) -> int | None:
        """The state code (section 2.3.2). If older boxes omit it, the current implies it (2.3.1)."""
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
        """Real power in W; apparent power if the box reports no power factor."""
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
        """Wh since the box last changed to charging; reported while charging only.

        The single `E` of an old box is something else (section 2.3.1).
        """
        is_reported = bool(self.version) or any(letter == "E" for letter, _ in self.repeated)
        return self.fields.get("E") if is_reported else None

    @property
    def temperature(self) -> int | None:
        """Temperature inside the box, in °C."""
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
        """A: the highest current of the hardware."""
        return self.fields.get("m")

    @property
    def quarter_hour(self) -> tuple[int, int | None] | None:
        """Slot 0 to 95 of the box's local day, and its energy in Wh, None if the box has no data for that slot."""
        slot = self.fields.get("i")
        energy = self.fields.get("e")
        if slot is None or energy is None or not 0 <= slot < 96:
            return None
        return slot, energy if energy > NO_DATA else None

    @property
    def frequency(self) -> float | None:
        """Grid frequency in Hz."""
        raw = self.fields.get("f")
        return None if raw is None else raw / 100

    @property
    def uptime(self) -> tuple[float, float] | None:
        """Seconds on the box's counter, and its period until it wraps to zero; None without a counter."""
        raw = self.fields.get("u")
        if raw is None:
            return None
        return (raw, float("inf")) if self.version == WIDE_VERSION else (raw / 100, 655.36)


type Datagram = StatusMessage | DebugMessage | EncryptedMessage | Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandMessage:
    """Answer of a server to a status (section 2.5).

    `weekday` (0 is Sunday), `hour` and `minute` are the box's local time. `online` and `offline` are the limits in A.
    `flags` is of unknown meaning, 0 to 999; `index` is 1 to 999. `wide` selects the field widths of version 09u.

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
        """Return the bytes that go to the box."""
        online, offline = WIDE if self.wide else NARROW
        body = (
            f"CMD{self.weekday}{self.hour:02}{self.minute:02}A{self.online:0{online}}M{self.offline:0{offline}}"
            f"C{self.flags:03}S{self.index:03}"
        ).encode()
        return body + b"!" + checksum(body) + b"$"


def checksum(data: bytes) -> bytes:
    """Return the three symbols that follow `!`, computed over all bytes before it (section 2.4)."""
    return _symbols(_hashed(data, 0))


def serial_of(data: bytes) -> str | None:
    """Return the serial at the beginning of a datagram; None if no box can have sent it. This is cheap."""
    found = _SERIAL.match(data)
    return None if found is None else found[1].decode("ascii")


def parse(data: bytes) -> Datagram:
    """Parse a datagram of a box."""
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
    """Parse a datagram of a server."""
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
    """Beginning of the status lines of one box, `length` bytes. `state` is the checksum's state after these bytes."""

    serial: str
    version: str
    length: int
    state: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """Letters of a status line in order, and the function that cuts out their numbers."""

    letters: tuple[str, ...]
    numbers: Callable[[bytes], tuple[bytes, ...]]


@lru_cache(maxsize=HEADS)
def _head(data: bytes) -> _Head | None:
    """Parse the bytes up to the first comma."""
    found = _HEAD.fullmatch(data)
    if found is None:
        return None
    return _Head(found[1].decode("ascii"), found[2].decode("ascii"), len(data), _hashed(data, 0))


@lru_cache(maxsize=SHAPES)
def _shape(blurred: bytes) -> _Shape | None:
    """Parse fields whose digits are all zeroed. A box sends the same few shapes all the time."""
    if _FIELDS.fullmatch(blurred) is None:
        return None
    parts = blurred.split(b",")
    cut = Struct("x".join(f"x{len(part) - 1}s" for part in parts))
    return _Shape(tuple(chr(part[0]) for part in parts), cut.unpack)


def _hashed(data: bytes, h: int) -> int:
    """Return the state of the checksum after these bytes, from the state `h` before them.

    There is no lookup table on purpose: its 65,536 entries would be hit at random. A box sends one line in ten seconds,
    so that each look-up would miss the processor's caches. That would cost more than the sum.
    """
    for byte in data:
        h = (h ^ ((h * 129 >> 2) + byte)) & _MASK  # h * 32 + h // 4 is h * 129 // 4
    return h


def _symbols(h: int) -> bytes:
    return bytes((_ALPHABET[h % _BASE], _ALPHABET[h // _BASE % _BASE], _ALPHABET[h // _BASE**2 % _BASE]))


def _checked(head: _Head, data: bytes) -> StatusMessage | Rejection:
    """Parse a line of a version with a checksum."""
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
    """Return a name for counting: the reason of a rejection, or the type of a datagram."""
    return datagram.reason if isinstance(datagram, Rejection) else type(datagram).__name__
