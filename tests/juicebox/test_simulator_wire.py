"""Tests of the simulators' own datagram code against every capture in docs/protocols/juicebox.md, section 5."""

import pytest

from tests.simulators import juicebox_wire as wire
from tests.simulators.juicebox_wire import Command, Flaw, Status, Wire

UNIT = "0910000000000000000000000000"
OTHER_UNIT = "0000000000000000000000000000"
CONSTANT = {Wire.LEGACY: "", Wire.V07: "XY", Wire.V07_UNPADDED: "XY", Wire.V09U: "bB"}
"""Letters that are always zero (section 2.3)."""


def parsed(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in (item.split("=") for item in text.split())}


STATUSES = {
    "S1": (
        Wire.V09U,
        (
            f"{UNIT}:v09u,s627,F10,u01254993,V2414,L00004555804,S01,T08,M0040,C0040,m0040,t29,i75,e00000,f5999,r61,b000,"
            "B0000000!S1H:"
        ),
        "s=627 F=10 u=1254993 V=2414 L=4555804 S=1 T=8 M=40 C=40 m=40 t=29 i=75 e=0 f=5999 r=61",
    ),
    "S2": (
        Wire.V09U,
        (
            f"{UNIT}:v09u,s001,F31,u00412974,V1366,L00004262804,S02,T28,M0024,C0024,m0032,t09,i23,e-0001,f5990,r99,b000,"
            "B0000000,P0,E0004501,A00161,p0996!ZW5:"
        ),
        "s=1 F=31 u=412974 V=1366 L=4262804 S=2 T=28 M=24 C=24 m=32 t=9 i=23 e=-1 f=5990 r=99 E=4501 A=161 p=996",
    ),
    "S3": (
        Wire.V09U,
        (
            f"{OTHER_UNIT}:v09u,s997,F11,u00083333,V2475,L00006302485,S02,T20,M0040,C0040,m0040,t09,i13,e00000,f6002,r38,"
            "b000,B0000000,P0,E0015458,A00013,p0009!ACI:"
        ),
        "s=997 F=11 u=83333 V=2475 L=6302485 S=2 T=20 M=40 C=40 m=40 t=9 i=13 e=0 f=6002 r=38 E=15458 A=13 p=9",
    ),
    "S4": (
        Wire.V07,
        f"{UNIT}:v07,s0001,u30048,V2400,L0024880114,S2,T62,M40,m40,t09,i78,e-001,f6001,X0,Y0,E006804,A0394,p0992!KKD:",
        "s=1 u=30048 V=2400 L=24880114 S=2 T=62 M=40 m=40 t=9 i=78 e=-1 f=6001 E=6804 A=394 p=992",
    ),
    "S5": (
        Wire.V07,
        f"{UNIT}:v07,s0177,u16708,V2422,L0024957914,S2,T61,M40,m40,t09,i51,e-001,f6001,X0,Y0,E019146,A0393,p0992!QBJ:",
        "s=177 u=16708 V=2422 L=24957914 S=2 T=61 M=40 m=40 t=9 i=51 e=-1 f=6001 E=19146 A=393 p=992",
    ),
    "S6": (
        Wire.V07_UNPADDED,
        "000000000000000000000000000:v07,s0,u6623,V2479,L20710648,S1,T25,M24,m32,t30,i50,e0,f6002,X0,Y0!JLA:\n",
        "s=0 u=6623 V=2479 L=20710648 S=1 T=25 M=24 m=32 t=30 i=50 e=0 f=6002",
    ),
    "S8": (Wire.LEGACY, f"{UNIT}:V247,L11097,S0,T34,E14,i84,e1,t30:", "V=247 L=11097 S=0 T=34 E2=14 i=84 e=1 t=30"),
    "S9": (
        Wire.LEGACY,
        f"{UNIT}:V247,L11097,E60,A137,T20,t10,E14,i94,e2:",
        "V=247 L=11097 E=60 A=137 T=20 t=10 E2=14 i=94 e=2",
    ),
}
"""Vector, to shape, datagram and its values. S7 is synthetic and mixes the widths of two shapes; see below."""

S7 = b"011111112:v07,s0121,u00000,V2201,L123,S2,T35,M40,m40,t10,i45,e-1,f6000,X0,Y0,E0,A0320,p1000!DPQ:"

COMMANDS = {
    "C1": ("09u", "CMD41325A0040M040C006S638!5N5$", (4, 13, 25, 40, 40, 6, 638)),
    "C2": ("09u", "CMD31353A0000M010C244S741!2B3$", (3, 13, 53, 0, 10, 244, 741)),
    "C3": ("07", "CMD62210A20M18C006S006!31Y$", (6, 22, 10, 20, 18, 6, 6)),
    "C4": ("07", "CMD62228A20M15C008S048!IR4$", (6, 22, 28, 20, 15, 8, 48)),
    "C5": ("07", "CMD62207A20M20C008S996!ZI4$", (6, 22, 7, 20, 20, 8, 996)),
    "C6": ("07", "CMD62207A20M20C244S997!R5Y$", (6, 22, 7, 20, 20, 244, 997)),
    "C7": ("07", "CMD41301A40M40C006S074!F0P$", (4, 13, 1, 40, 40, 6, 74)),
    "C8": ("07", "CMD41301A29M40C242S075!TJ5$", (4, 13, 1, 29, 40, 242, 75)),
    "C9": ("07", "CMD41301A40M40C008S076!YCA$", (4, 13, 1, 40, 40, 8, 76)),
    "C10": ("07", "CMD41301A40M40C244S077!B72$", (4, 13, 1, 40, 40, 244, 77)),
    "C11": ("07", "CMD41302A40M40C244S081!T2P$", (4, 13, 2, 40, 40, 244, 81)),
    "5.3 v07 0/0": ("07", "CMD52324A00M00C006S001!SHP$", (5, 23, 24, 0, 0, 6, 1)),
    "5.3 v07 20/16": ("07", "CMD52324A20M16C006S001!5RE$", (5, 23, 24, 20, 16, 6, 1)),
    "5.3 v09u 0/0": ("09u", "CMD52324A0000M000C006S001!ETK$", (5, 23, 24, 0, 0, 6, 1)),
    "5.3 v09u 20/16": ("09u", "CMD52324A0020M016C006S001!YUK$", (5, 23, 24, 20, 16, 6, 1)),
}


def order(numbers: tuple[int, int, int, int, int, int, int]) -> Command:
    weekday, hour, minute, online, stored, flags, index = numbers
    return Command(weekday=weekday, hour=hour, minute=minute, online=online, stored=stored, flags=flags, index=index)


@pytest.mark.parametrize("vector", STATUSES)
def test_status_vector_is_built_and_read(vector: str) -> None:
    shape, message, text = STATUSES[vector]
    values = parsed(text) | dict.fromkeys(CONSTANT[shape], 0)
    charging = "A" in values
    serial = message.partition(":")[0]
    assert wire.status(shape, serial, values | {"P": 0}, charging=charging) == message.encode()
    expected = ({"P": 0} if charging and shape is Wire.V09U else {}) | {
        name[0]: values.get(name[0], number) for name, number in values.items()
    }
    assert wire.read_status(message.encode()) == Status(serial, shape.version, expected)


def test_status_of_mixed_widths_is_read() -> None:
    read = wire.read_status(S7)
    assert read is not None
    assert (read.serial, read.version) == ("011111112", "07")
    assert read.values == {"X": 0, "Y": 0} | parsed(
        "s=121 u=0 V=2201 L=123 S=2 T=35 M=40 m=40 t=10 i=45 e=-1 f=6000 E=0 A=320 p=1000"
    )


@pytest.mark.parametrize(
    "message",
    [
        STATUSES["S6"][1].encode()[:1] + b"\xc3" + STATUSES["S6"][1].encode()[2:],  # S10
        b"g4rbl3d",  # S11
        STATUSES["S1"][1].encode().replace(b"V2414", b"V2415"),
        STATUSES["S1"][1].encode()[:-5] + b":",
        f"{UNIT}:DBG,NFO:BOT:FW Init.ENC.Y/ECDAYS.90/EVT.Y/ECHTTP.Y:".encode(),
        b"",
    ],
)
def test_invalid_status_is_not_read(message: bytes) -> None:
    assert wire.read_status(message) is None


@pytest.mark.parametrize("end", ["", ":\n", ":\r\n"])
def test_status_is_read_with_any_line_ending(end: str) -> None:
    message = STATUSES["S4"][1].removesuffix(":") + end
    assert wire.read_status(message.encode()) == wire.read_status(STATUSES["S4"][1].encode())


@pytest.mark.parametrize("vector", COMMANDS)
def test_command_vector_is_built_and_read(vector: str) -> None:
    version, message, values = COMMANDS[vector]
    assert wire.command(version, order(values)) == message.encode()
    assert wire.read_command(version, message.encode()) == order(values)
    other = "07" if version == "09u" else "09u"
    assert wire.read_command(other, message.encode()) is Flaw.WIDTH


@pytest.mark.parametrize(
    ("message", "flaw"),
    [
        ("CMD01216A27M30C006S23", Flaw.FORM),  # the command of the captured complaint, with two digits of index
        ("CMD41301A40M40C006S074", Flaw.NO_CHECKSUM),
        ("CMD41301A40M40C006S074!F0O$", Flaw.CHECKSUM),
        ("CMD41301A41M40C006S074!F0P$", Flaw.CHECKSUM),
        ("CMD71301A40M40C006S074!F0P$", Flaw.FORM),
        ("", Flaw.FORM),
        (STATUSES["S4"][1], Flaw.FORM),
    ],
)
def test_invalid_command_is_refused_with_matching_flaw(message: str, flaw: Flaw) -> None:
    assert wire.read_command("07", message.encode()) is flaw


def test_command_with_impossible_time_is_refused() -> None:
    assert wire.read_command("07", wire.command("07", order((0, 24, 0, 6, 6, 6, 1)))) is Flaw.FORM
    assert wire.read_command("07", wire.command("07", order((0, 23, 60, 6, 6, 6, 1)))) is Flaw.FORM


def test_debug_and_encrypted_messages_match_vectors() -> None:
    """Use the vectors of sections 2.3.3 and 5.5."""
    text = "BOT:EMWERK-JB_1_1-1.4.0.28, 2021-04-27T20:39:50Z, ZentriOS-WZ-3.6.4.0"
    assert wire.debug(UNIT, "NFO", text) == f"{UNIT}:DBG,NFO:{text}:".encode()
    head = wire.encrypted(UNIT, "08", 0x1DA09A, b"\x00\x94")
    assert head == f"{UNIT}:v08".encode() + bytes.fromhex("9A A0 1D 00 00 00 00 94")
    assert wire.encrypted(UNIT, "09e", 0x0AB112, b"")[-6:] == bytes.fromhex("12 B1 0A 00 00 00")


def test_command_for_legacy_box_cannot_be_built() -> None:
    with pytest.raises(KeyError):
        wire.command("", order((0, 0, 0, 6, 6, 6, 1)))
