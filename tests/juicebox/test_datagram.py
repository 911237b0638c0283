"""Tests of datagrams: every vector of the protocol page, round trips, and mutations that must not raise."""

from itertools import pairwise
from math import floor

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.juicebox.datagram import (
    LONGEST,
    CommandMessage,
    DebugMessage,
    EncryptedMessage,
    Reason,
    Rejection,
    StatusMessage,
    checksum,
    kind,
    parse,
    parse_command,
    serial_of,
)

from . import fuzz
from .vectors import (
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
    C8,
    C9,
    C10,
    C11,
    COMMANDS,
    D1,
    D2,
    D3,
    D4,
    D5,
    NEWER_LEGACY,
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
    S7,
    S8,
    S9,
    S10,
    S11,
    SERIAL,
    STATUSES,
    X1,
    X2,
    status,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DIGITS = st.integers(-99_999_999, 999_999_999_999).map(str)
FIELDS = st.lists(st.tuples(st.sampled_from(LETTERS), DIGITS), min_size=1, max_size=30)
SERIALS = st.text("0123456789", min_size=9, max_size=30)
RATED = {"limit_in_force": 40, "second_limit": None, "unit_rating": 40}


def of(data: bytes) -> StatusMessage:
    message = parse(data)
    assert isinstance(message, StatusMessage), message
    return message


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (
            S1,
            {"state": 1, "voltage": 241.4, "current": 0.0, "power": 0.0, "lifetime_energy": 4_555_804}
            | {"temperature": 8, "limit_in_force": 40, "second_limit": 40, "unit_rating": 40}
            | {"quarter_hour": (75, 0), "frequency": 59.99, "session_energy": None, "power_factor": None},
        ),
        (
            S2,
            {"state": 2, "voltage": 136.6, "current": 16.1, "power_factor": 0.996, "power": 2190, "temperature": 28}
            | {"session_energy": 4501, "lifetime_energy": 4_262_804, "limit_in_force": 24, "second_limit": 24}
            | {"unit_rating": 32, "quarter_hour": (23, None), "frequency": 59.9},
        ),
        (
            S3,
            {"state": 2, "voltage": 247.5, "current": 1.3, "power_factor": 0.009, "power": 3, "temperature": 20}
            | {"session_energy": 15_458, "frequency": 60.02, "quarter_hour": (13, 0)},
        ),
        (
            S4,
            RATED
            | {"state": 2, "voltage": 240.0, "current": 39.4, "power_factor": 0.992, "power": 9380, "temperature": 62}
            | {"session_energy": 6804, "lifetime_energy": 24_880_114, "uptime": (300.48, 655.36)},
        ),
        (S5, {"voltage": 242.2, "current": 39.3, "power": 9442, "session_energy": 19_146, "temperature": 61}),
        (
            S6,
            {"serial": "0" * 27, "state": 1, "voltage": 247.9, "limit_in_force": 24, "unit_rating": 32}
            | {"temperature": 25, "quarter_hour": (50, 0), "frequency": 60.02},
        ),
        (
            S7,
            {"serial": "011111112", "state": 2, "voltage": 220.1, "current": 32.0, "power_factor": 1.0, "power": 7043}
            | {"session_energy": 0, "temperature": 35},
        ),
        (
            S8,
            {"version": "", "state": 0, "voltage": 247.0, "temperature": 34, "lifetime_energy": 11_097_000}
            | {"quarter_hour": (84, 1), "session_energy": None, "current": 0.0, "uptime": None},
        ),
        (
            S9,
            {"state": 2, "voltage": 247.0, "current": 13.7, "power": 3384, "session_energy": 60, "temperature": 20}
            | {"repeated": (("E", 14),)},
        ),
        (NEWER_LEGACY, {"state": 0, "voltage": 228.4, "session_energy": None, "unit_rating": 40, "frequency": 59.15}),
    ],
)
def test_status_vector_is_parsed_to_documented_values(data: bytes, shown: dict[str, object]) -> None:
    message = of(data)
    found = {name: getattr(message, name) for name in shown}
    if isinstance(found.get("power"), float):
        found["power"] = round(found["power"])
    assert found == shown


def test_field_missing_in_status_is_unknown() -> None:
    message = of(b"123456789:T1:")
    assert (message.voltage, message.power, message.lifetime_energy, message.quarter_hour) == (None,) * 4
    assert (message.frequency, message.limit_in_force, message.power_factor) == (None,) * 3
    assert message.state == 1  # a legacy box without S draws nothing, so it is plugged in
    assert of(status("07", [("V", "2400")])).state is None
    assert of(status("07", [("i", "96"), ("e", "1")])).quarter_hour is None
    assert of(S1).uptime == (1_254_993, float("inf"))


@pytest.mark.parametrize("ending", [b":", b"", b":\n", b":\r\n", b"\n"])
def test_status_is_parsed_with_any_line_ending(ending: bytes) -> None:
    assert of(S1.rstrip(b":") + ending).serial == SERIAL


def test_invalid_datagram_is_rejected_with_matching_reason() -> None:
    assert parse(S10) == parse(S11) == Rejection(Reason.NOT_A_BOX)
    assert parse(S1.replace(b"M0040", b"M0041")) == Rejection(Reason.CHECKSUM)
    assert parse(S1.replace(b"!", b"?")) == Rejection(Reason.MALFORMED)
    assert parse(b"0910000000000000000000000000:v11,s1!AAA:") == Rejection(Reason.UNKNOWN_VERSION)
    assert parse(b"0910000000000000000000000000:hello") == Rejection(Reason.MALFORMED)
    assert parse(S1 + b" " * LONGEST) == Rejection(Reason.TOO_LONG)
    assert parse(b"") == Rejection(Reason.NOT_A_BOX)


def test_debug_message_reveals_boot_and_firmware() -> None:
    booted = parse(D1)
    assert isinstance(booted, DebugMessage)
    assert (booted.level, booted.booted, booted.firmware) == ("NFO", True, "EMWERK-JB_1_1-1.4.0.28")
    others = [parse(data) for data in (D2, D3, D4, D5)]
    assert [(m.booted, m.firmware) for m in others if isinstance(m, DebugMessage)] == [
        (True, None),
        (False, None),
        (False, None),
        (False, None),
    ]
    assert parse(D3) == DebugMessage(SERIAL, "ERR", "Miss CRC 'CMD01216A27M30C006S23'")
    assert parse(b"123456789:DBG,WRN:caf\xe9:") == DebugMessage("123456789", "WRN", "caf\ufffd")


def test_encrypted_datagram_yields_serial_and_version_only() -> None:
    assert parse(X1) == EncryptedMessage(SERIAL, "08")
    assert parse(X2) == EncryptedMessage(SERIAL, "09e")


@pytest.mark.parametrize(
    ("data", "decoded"),
    [
        (C1, (4, 13, 25, 40, 40, 6, 638, True)),
        (C2, (3, 13, 53, 0, 10, 244, 741, True)),
        (C3, (6, 22, 10, 20, 18, 6, 6, False)),
        (C4, (6, 22, 28, 20, 15, 8, 48, False)),
        (C5, (6, 22, 7, 20, 20, 8, 996, False)),
        (C6, (6, 22, 7, 20, 20, 244, 997, False)),
        (C7, (4, 13, 1, 40, 40, 6, 74, False)),
        (C8, (4, 13, 1, 29, 40, 242, 75, False)),
        (C9, (4, 13, 1, 40, 40, 8, 76, False)),
        (C10, (4, 13, 1, 40, 40, 244, 77, False)),
        (C11, (4, 13, 2, 40, 40, 244, 81, False)),
    ],
)
def test_command_vector_is_parsed_and_encoded_unchanged(data: bytes, decoded: tuple[object, ...]) -> None:
    command = parse_command(data)
    assert isinstance(command, CommandMessage)
    assert decoded == (
        *(command.weekday, command.hour, command.minute),
        *(command.online, command.offline, command.flags, command.index, command.wide),
    )
    assert command.encode() == data


@pytest.mark.parametrize(
    ("wide", "online", "offline", "built"),
    [
        (False, 0, 0, b"CMD52324A00M00C006S001!SHP$"),
        (False, 20, 16, b"CMD52324A20M16C006S001!5RE$"),
        (True, 0, 0, b"CMD52324A0000M000C006S001!ETK$"),
        (True, 20, 16, b"CMD52324A0020M016C006S001!YUK$"),
    ],
)
def test_command_is_built_as_documented(wide: bool, online: int, offline: int, built: bytes) -> None:
    command = CommandMessage(weekday=5, hour=23, minute=24, online=online, offline=offline, flags=6, index=1, wide=wide)
    assert command.encode() == built


def test_invalid_command_is_rejected_with_matching_reason() -> None:
    assert parse_command(C1.replace(b"A0040", b"A0041")) == Rejection(Reason.CHECKSUM)
    assert parse_command(C1.replace(b"M040", b"M40")) == Rejection(Reason.MALFORMED)
    assert parse_command(C3.replace(b"A20", b"A200")) == Rejection(Reason.MALFORMED)
    assert parse_command(C1.replace(b"1325", b"2525")) == Rejection(Reason.MALFORMED)
    assert parse_command(b"CMD" * LONGEST) == Rejection(Reason.TOO_LONG)


@pytest.mark.parametrize(
    "numbers", [{"online": 100}, {"offline": 100}, {"index": 1000}, {"weekday": 7}, {"online": -1}]
)
def test_number_that_does_not_fit_its_field_is_refused(numbers: dict[str, int]) -> None:
    good = {"weekday": 0, "hour": 0, "minute": 0, "online": 16, "offline": 16, "flags": 6, "index": 1}
    with pytest.raises(ValueError, match="does not fit"):
        CommandMessage(**(good | numbers), wide=False)


@given(
    weekday=st.integers(0, 6),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    amps=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    flags=st.integers(0, 999),
    index=st.integers(0, 999),
    wide=st.booleans(),
)
def test_command_survives_round_trip(
    weekday: int, hour: int, minute: int, amps: tuple[int, int], flags: int, index: int, wide: bool
) -> None:
    command = CommandMessage(
        weekday=weekday,
        hour=hour,
        minute=minute,
        online=amps[0],
        offline=amps[1],
        flags=flags,
        index=index,
        wide=wide,
    )
    assert parse_command(command.encode()) == command


@given(SERIALS, st.sampled_from(["07", "09u", ""]), FIELDS)
def test_status_survives_round_trip(serial: str, version: str, fields: list[tuple[str, str]]) -> None:
    if not version and fields[0][0] == "v":  # reads as a version
        fields[0] = ("w", fields[0][1])
    message = of(status(version, fields, serial))
    assert (message.serial, message.version) == (serial, version)
    first = dict(reversed([(letter, int(digits)) for letter, digits in fields]))
    assert message.fields == first
    all_fields = [*message.fields.items(), *message.repeated]
    assert sorted(all_fields) == sorted((letter, int(digits)) for letter, digits in fields)
    assert serial_of(status(version, fields, serial)) == serial


@given(st.binary(max_size=200))
def test_checksum_matches_documented_formula(data: bytes) -> None:
    h = 0
    for byte in data:
        h = (h ^ ((h * 32) + floor(h / 4) + byte)) % 65536
    alphabet = "0123456789ABCDEFGHIJKLMNZPQRSTUVWXY"
    assert checksum(data).decode() == "".join(alphabet[h // 35**k % 35] for k in range(3))


@given(st.binary(max_size=2000))
def test_parsers_never_raise_on_random_bytes(data: bytes) -> None:
    assert kind(parse(data)) in fuzz.KINDS
    assert kind(parse(b"123456789:" + data)) in fuzz.KINDS
    assert kind(parse_command(b"CMD" + data)) in fuzz.COMMAND_KINDS


@pytest.mark.parametrize("data", STATUSES)
def test_truncated_status_never_parses_to_other_values(data: bytes) -> None:
    whole = of(data)
    for shorter, longer in pairwise(range(len(data))):
        cut = parse(data[:shorter])
        # A cut never passes a checksum. Without a checksum a cut reads as a shorter status at most.
        if whole.version:
            assert isinstance(cut, Rejection) or cut == whole, data[:longer]
        elif not isinstance(cut, Rejection):
            assert isinstance(cut, StatusMessage)
            complete = list(cut.fields.items())[:-1]  # the last number may be cut
            assert (cut.serial, complete) == (whole.serial, list(whole.fields.items())[: len(complete)]), data[:longer]


def test_mutated_datagrams_reach_every_outcome_without_raising() -> None:
    statuses, commands = fuzz.outcomes(seed=1, number=6000)
    assert set(statuses) == fuzz.KINDS
    assert set(commands) == fuzz.COMMAND_KINDS
    assert statuses.total() == commands.total() == 6000


def test_flipped_bit_never_passes_checksum_with_other_meaning() -> None:
    for data in (S1, S4, *COMMANDS):
        read = parse_command if data.startswith(b"CMD") else parse
        whole = read(data)
        for where in range(len(data)):
            changed = data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]
            message = read(changed)
            assert isinstance(message, Rejection) or message == whole
