"""Datagrams of a JuiceBox: how fast they are read, and that no bytes make the reader raise."""

from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter

from custom_components.chargekeeper.juicebox.datagram import StatusMessage, parse
from tests.juicebox import fuzz
from tests.juicebox.vectors import S1, S2, S3

from .figures import Figure

ROUNDS, READS = 15, 400
FUZZED = 1_000_000
LITERAL_SHARE = 0.5
"""A loop over the bytes with one table look-up each takes 5 of about 10 µs: no Python is five times as fast as that."""
ALPHABET = "0123456789ABCDEFGHIJKLMNZPQRSTUVWXY"


async def decoding() -> AsyncIterator[Figure]:
    """Statuses of version 09u, values and checksum, by turns with a decoder that takes the fact sheet literally."""
    ours, literal = [], []
    for data in (S1, S2, S3):
        read = parse(data)
        assert isinstance(read, StatusMessage)
        assert dict(read.fields) == read_literally(data)
    for _ in range(ROUNDS):
        ours.append(_seconds(parse))
        literal.append(_seconds(read_literally))
    yield Figure(
        "status decoded, as a share of byte for byte by the formulas", min(ours) / min(literal), LITERAL_SHARE, ""
    )
    giant = S1[:-5].ljust(65_507, b"1")
    took = min(_once(giant) for _ in range(ROUNDS))
    yield Figure("datagram of 65,507 bytes read", took * 1e3, 1, "ms")


async def fuzzing() -> AsyncIterator[Figure]:
    """Mutated datagrams and commands: none raises, and each kind of outcome is seen."""
    statuses, commands = fuzz.outcomes(seed=2, number=FUZZED)
    missed = (fuzz.KINDS - set(statuses)) | (fuzz.COMMAND_KINDS - set(commands))
    yield Figure(f"kinds of outcome not seen in {statuses.total():,} fuzzed datagrams", len(missed), 0, "kinds")


def read_literally(data: bytes) -> dict[str, int] | None:
    """The grammar and the checksum of the fact sheet (2.3, 2.4) as they are written: byte for byte."""
    h, end = 0, data.index(b"!")
    for byte in data[:end]:
        h = (h ^ ((h * 32) + (h // 4) + byte)) % 65536
    wanted = "".join(ALPHABET[h // 35**k % 35] for k in range(3))
    if data[end + 1 : end + 4].decode() != wanted:
        return None
    fields, letter, sign, number = {}, "", 1, 0
    for byte in data[data.index(b",") + 1 : end] + b",":
        symbol = chr(byte)
        if symbol.isalpha():
            letter, sign, number = symbol, 1, 0
        elif symbol == "-":
            sign = -1
        elif symbol == ",":
            fields[letter] = sign * number
        else:
            number = number * 10 + int(symbol)
    return fields


def _seconds(read: Callable[[bytes], object]) -> float:
    begun = perf_counter()
    for _ in range(READS):
        for data in (S1, S2, S3):
            read(data)
    return perf_counter() - begun


def _once(data: bytes) -> float:
    begun = perf_counter()
    parse(data)
    return perf_counter() - begun


def measurements() -> Iterator[AsyncIterator[Figure]]:
    """All that is measured here."""
    yield decoding()
    yield fuzzing()
