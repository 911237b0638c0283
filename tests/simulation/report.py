"""The report of a run: its counts, and the violation that ended it."""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from statistics import median
from typing import override


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated invariant: `invariant` is its name, `hours` the time since the start of the episode."""

    invariant: str
    reason: str
    hours: float
    episode: int = 0
    trace: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        lines = [f"{self.invariant} violated in episode {self.episode} after {self.hours:.4f} h: {self.reason}"]
        return "\n  ".join([*lines, *self.trace])


class Broken(Exception):
    """The violation that ends an episode."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation


@dataclass
class Counts:
    """Counts of events; the counts of several episodes add up."""

    hours: float = 0.0
    box_hours: float = 0.0  # of the house with boxes
    seconds: float = 0.0  # of real time
    events: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)  # by outcome, and refused presses
    restarts_per_press: Counter[int] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    box_commands: Counter[str] = field(default_factory=Counter)  # by the master at that time
    busiest: Counter[str] = field(default_factory=Counter)  # the fullest window of each budget
    failbacks: list[float] = field(default_factory=list)
    above: dict[str, float] = field(default_factory=dict)  # seconds of charging above a limit, by cause
    fingerprint: str = ""

    def add(self, other: Counts) -> None:
        """Add the counts of another episode."""
        self.hours += other.hours
        self.box_hours += other.box_hours
        self.seconds += other.seconds
        for mine, theirs in (
            (self.events, other.events),
            (self.ends, other.ends),
            (self.restarts, other.restarts),
            (self.commands, other.commands),
            (self.requests, other.requests),
            (self.box_commands, other.box_commands),
        ):
            mine.update(theirs)
        self.restarts_per_press.update(other.restarts_per_press)
        self.busiest |= other.busiest  # the larger of both
        self.failbacks += other.failbacks
        for why, seconds in other.above.items():
            self.add_above(why, seconds)
        self.fingerprint = hash_of(self.fingerprint + other.fingerprint)

    def add_above(self, why: str, seconds: float) -> None:
        """Add seconds for which a charger drew more than a limit allows."""
        self.above[why] = self.above.get(why, 0.0) + seconds

    def lines(self) -> list[str]:
        """Return the lines of the report."""
        worst = max(self.failbacks, default=0.0)
        middle = median(self.failbacks) if self.failbacks else 0.0
        per_press = ", ".join(f"{n} sent by {times} presses" for n, times in sorted(self.restarts_per_press.items()))
        above = [f"{why} {seconds:.0f}" for why, seconds in sorted(self.above.items())]
        return [
            f"simulated hours       {self.hours:.0f} with a cloud, {self.box_hours:.0f} with boxes",
            f"outages               {self.events['cloud lost']}",
            f"events                {_listed(self.events)}",
            f"commands              {_listed(self.commands)}",
            f"intents per end       {_listed(self.ends)}",
            f"restarts per press    {per_press or 'none'}",
            f"restarts              {_listed(self.restarts)}",
            f"failback              worst {worst:.1f} s, median {middle:.1f} s, of {len(self.failbacks)}",
            f"requests              {_listed(self.requests)}",
            f"commands to boxes     {_listed(self.box_commands)}",
            f"fullest purse windows {_listed(self.busiest)}",
            f"seconds above a limit {', '.join([f'{sum(self.above.values()):.0f} in all', *above])}",
            f"fingerprint           {self.fingerprint}",
        ]


def hash_of(text: str) -> str:
    """Return a short fingerprint that is equal on every machine."""
    return sha256(text.encode()).hexdigest()[:16]


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items())) or "none"
