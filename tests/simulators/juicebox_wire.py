"""The datagrams between boxes and their maker's server, exactly as in docs/protocols/juicebox.md, section 2.

The simulators on both ends use this module and no code of the integration, so that an error in the integration shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
import re

SHEET = "docs/protocols/juicebox.md"
ALPHABET = b"0123456789ABCDEFGHIJKLMNZPQRSTUVWXY"
"""The symbols of a checksum, with Z in place of the letter O (section 2.4)."""
CHECKSUM_LENGTH = 3
STATUS = re.compile(rb"(\d{9,30}):v(07|09u)((?:,[A-Za-z]-?\d+)*)!(.{3}):?\r?\n?", re.DOTALL)
LEGACY = re.compile(rb"(\d{9,30}):(?!v)((?:[A-Za-z]-?\d+,)*[A-Za-z]-?\d+):?\r?\n?")
COMMAND = re.compile(rb"CMD([0-6])(\d\d)(\d\d)A(\d{2}|\d{4})M(\d{2,3})C(\d{3})S(\d{3})(?:!(.{3}))?\$?", re.DOTALL)


class Wire(StrEnum):
    """The shapes of a plain status (sections 2.1, 2.3 and 5.1)."""

    LEGACY = "legacy"
    V07 = "v07"
    V07_UNPADDED = "v07_unpadded"
    """An early v07, whose numbers have no leading zeros and whose datagrams end with a line feed (vector S6)."""
    V09U = "v09u"

    @property
    def version(self) -> str:
        """The version after `v` in a status, empty for legacy boxes."""
        return _VERSIONS[self]


_VERSIONS = {Wire.LEGACY: "", Wire.V07: "07", Wire.V07_UNPADDED: "07", Wire.V09U: "09u"}
_V07 = "s:04d u:05d V:04d L:010d S:d T:02d M:02d m:02d t:02d i:02d e:04d f:04d X:d Y:d"
_V07_UNPADDED = "s:d u:d V:d L:d S:d T:d M:d m:d t:d i:d e:d f:d X:d Y:d"
_V09U = "s:03d F:02d u:08d V:04d L:011d S:02d T:02d M:04d C:04d m:04d t:02d i:02d e:05d f:04d r:02d b:03d B:07d"
_SHAPES = {
    Wire.LEGACY: ("V:d L:d S:d T:d E2:d i:d e:d t:d", "V:d L:d E:d A:d T:d t:d E2:d i:d e:d"),
    Wire.V07: (_V07, f"{_V07} E:06d A:04d p:04d"),
    Wire.V07_UNPADDED: (_V07_UNPADDED, f"{_V07_UNPADDED} E:d A:d p:d"),
    Wire.V09U: (_V09U, f"{_V09U} P:d E:07d A:05d p:04d"),
}
"""Order and width of the letters while idle and while charging, as in the captures of section 5.1."""


def _from(section: str, letters: str) -> dict[str, str]:
    return dict.fromkeys(letters.split(), f"{SHEET}, section {section}")


_NUMBERED = "u V L S T m t i e f E A"
LETTERS: Mapping[Wire, Mapping[str, str]] = {
    Wire.LEGACY: _from("2.3", "V L S T A i e t") | _from("2.3.1", "E"),
    Wire.V07: _from("2.3", f"v s M X Y p {_NUMBERED}"),
    Wire.V07_UNPADDED: _from("2.3", f"v s M X Y p {_NUMBERED}"),
    Wire.V09U: _from("2.3", f"v s M C F r b B P p {_NUMBERED}"),
}
"""Shape, to sent letter, to protocol page and section."""


class Flaw(StrEnum):
    """Reason for which a box refuses a command."""

    FORM = "form"
    """The datagram is no command."""
    WIDTH = "width"
    """A command with the digits of another generation (section 2.5)."""
    NO_CHECKSUM = "no_checksum"
    CHECKSUM = "checksum"
    IGNORED = "ignored"
    """The command is valid, but this box takes no commands."""
    STRANGER = "stranger"
    """The sender is not the address that the box reports to (section 2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as in section 2.5, with `online` and `stored` in A. `weekday` counts from Sunday = 0."""

    weekday: int
    hour: int
    minute: int
    online: int
    stored: int
    flags: int
    index: int


@dataclass(frozen=True, slots=True)
class Status:
    """A status with unscaled values by letter. `values` keeps the first of a letter that appears twice."""

    serial: str
    version: str
    values: Mapping[str, int]


def checksum(message: bytes) -> bytes:
    """Return the three symbols that follow `message` and `!` (section 2.4)."""
    h = 0
    for c in message:
        h = (h ^ (h * 32 + h // 4 + c)) % 65536
    return bytes(ALPHABET[h // 35**k % 35] for k in range(CHECKSUM_LENGTH))


def status(wire: Wire, serial: str, values: Mapping[str, int], *, charging: bool) -> bytes:
    """Return a status of a shape from integers by letter. `E2` is the second `E` of a legacy box.

    Raises `KeyError` for a letter without a number.
    """
    fields = [field.split(":") for field in _SHAPES[wire][charging].split()]
    body = ",".join(f"{name[0]}{values[name]:{spec}}" for name, spec in fields)
    if wire is Wire.LEGACY:
        return f"{serial}:{body}:".encode()
    signed = f"{serial}:v{wire.version},{body}".encode()
    end = b"\n" if wire is Wire.V07_UNPADDED else b""
    return signed + b"!" + checksum(signed) + b":" + end


def debug(serial: str, level: str, text: str) -> bytes:
    """Return a debug message (section 2.3.3)."""
    return f"{serial}:DBG,{level}:{text}:".encode()


def encrypted(serial: str, version: str, counter: int, secret: bytes) -> bytes:
    """Return an encrypted datagram: header, counter, two zero bytes, ciphertext (section 2.3.4)."""
    return f"{serial}:v{version}".encode() + counter.to_bytes(4, "little") + b"\0\0" + secret


def read_status(message: bytes) -> Status | None:
    """Return a status of any plain shape, or `None` for any other datagram (section 2.3)."""
    if (plain := STATUS.fullmatch(message)) is not None:
        serial, version, body, signs = plain.groups()
        if signs != checksum(message[: plain.end(3)]):
            return None
        return _status(serial, version, body)
    if (legacy := LEGACY.fullmatch(message)) is not None:
        return _status(legacy[1], b"", legacy[2])
    return None


def _status(serial: bytes, version: bytes, body: bytes) -> Status:
    values: dict[str, int] = {}
    for item in body.decode().split(","):
        if item:
            values.setdefault(item[0], int(item[1:]))
    return Status(serial.decode(), version.decode(), values)


def command(version: str, order: Command) -> bytes:
    """Return a command in the width of a version (section 2.5). Raise `KeyError` if the version has no commands."""
    online, stored = {"07": (2, 2), "09u": (4, 3)}[version]
    text = (
        f"CMD{order.weekday}{order.hour:02d}{order.minute:02d}"
        f"A{order.online:0{online}d}M{order.stored:0{stored}d}C{order.flags:03d}S{order.index:03d}"
    ).encode()
    return text + b"!" + checksum(text) + b"$"


def read_command(version: str, message: bytes) -> Command | Flaw:
    """Return the command in a datagram, or the flaw for which a box of that version refuses it (section 2.5)."""
    match = COMMAND.fullmatch(message)
    if match is None:
        return Flaw.FORM
    if match[8] is None:
        return Flaw.NO_CHECKSUM
    if match[8] != checksum(message[: message.index(b"!")]):
        return Flaw.CHECKSUM
    if (len(match[4]), len(match[5])) != ((4, 3) if version == "09u" else (2, 2)):
        return Flaw.WIDTH
    weekday, hour, minute, online, stored, flags, index = (int(part) for part in match.groups()[:7])
    if hour > 23 or minute > 59:
        return Flaw.FORM
    return Command(weekday=weekday, hour=hour, minute=minute, online=online, stored=stored, flags=flags, index=index)
