"""A measured figure and its bound."""

from dataclasses import dataclass
from typing import override


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured; it holds when it is not above `bound`.

    Where the design asks for more than there is, `aim` is what it asks for, and `bound` only keeps what there is.
    """

    what: str
    measured: float
    bound: float
    unit: str
    aim: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        return self.measured <= self.bound

    @property
    def falls_short(self) -> bool:
        """Whether it is above what the design asks for."""
        return self.measured > (self.bound if self.aim is None else self.aim)

    @override
    def __str__(self) -> str:
        mark = "MISSED" if not self.holds else "short " if self.falls_short else "ok    "
        asked = "" if self.aim is None else f"; the design asks for {self.aim:g}"
        return f"{mark} {self.what:<66} {self.measured:>9.3f} (at most {self.bound:g}{asked}) {self.unit}"
