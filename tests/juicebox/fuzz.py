"""Seeded mutations of genuine datagrams, with the parser outcomes counted by kind."""

from collections import Counter
from collections.abc import Iterator
from random import Random

from custom_components.chargekeeper.juicebox.datagram import (
    LONGEST,
    DebugMessage,
    EncryptedMessage,
    Reason,
    StatusMessage,
    checksum,
    kind,
    parse,
    parse_command,
)

from .vectors import ALL

KINDS = frozenset({StatusMessage.__name__, DebugMessage.__name__, EncryptedMessage.__name__, *Reason})
COMMAND_KINDS = frozenset({"CommandMessage", Reason.TOO_LONG, Reason.MALFORMED, Reason.CHECKSUM})
VERSIONS = (b"v07", b"v09u", b"v08", b"v09e", b"v10", b"v11x")


def outcomes(seed: int, number: int) -> tuple[Counter[str], Counter[str]]:
    """Count the outcomes of parsing `number` mutants as datagrams and as commands."""
    statuses: Counter[str] = Counter()
    commands: Counter[str] = Counter()
    for data in mutants(seed, number):
        statuses[kind(parse(data))] += 1
        commands[kind(parse_command(data))] += 1
    return statuses, commands


def mutants(seed: int, number: int) -> Iterator[bytes]:
    """Yield `number` datagrams, each a genuine datagram with up to three mutations."""
    random = Random(seed)
    for _ in range(number):
        data = bytearray(random.choice(ALL))
        for _ in range(random.randrange(4)):
            _mutate(data, random)
        yield bytes(data)


def _mutate(data: bytearray, random: Random) -> None:
    where = random.randrange(len(data) + 1)
    match random.randrange(9):
        case 0 if where < len(data):
            data[where] = random.randrange(256)
        case 1 if where < len(data):
            data[where] ^= 1 << random.randrange(8)
        case 2:
            del data[where : where + random.randrange(1, 9)]
        case 3:
            data[where:where] = random.randbytes(random.randrange(1, 9))
        case 4:
            data[where:where] = bytes(random.choices(b"0123456789,:-!ASCLM", k=random.randrange(1, 5)))
        case 5:
            other = random.choice(ALL)
            data[where:] = other[random.randrange(len(other)) :]
        case 6 if random.random() < 0.02:
            data.extend(data * (LONGEST // max(len(data), 1) + 1))
        case 7:
            old = random.choice(VERSIONS)
            data[:] = data.replace(old, random.choice(VERSIONS))
        case _:
            _sign(data)


def _sign(data: bytearray) -> None:
    """Write the right checksum, so that the mutant reaches the checks after the checksum."""
    end = data.rfind(b"!")
    if end >= 0:
        data[end + 1 : end + 4] = checksum(bytes(data[:end]))
