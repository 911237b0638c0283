"""A measured figure and its bound."""

from dataclasses import dataclass
from typing import override


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure; it holds if it is not above `bound`.

    If the design asks for more than the code reaches, `aim` is the figure of the design, and `bound` the present level.
    """

    what: str
    measured: float
    bound: float
    unit: str
    aim: float | None = None

    @property
    def holds(self) -> bool:
        """True if the figure is within its bound."""
        return self.measured <= self.bound

    @property
    def falls_short(self) -> bool:
        """True if the figure is above the figure of the design."""
        return self.measured > (self.bound if self.aim is None else self.aim)

    @override
    def __str__(self) -> str:
        mark = "MISSED" if not self.holds else "short " if self.falls_short else "ok    "
        asked = "" if self.aim is None else f"; the design asks for {self.aim:g}"
        return f"{mark} {self.what:<66} {self.measured:>9.3f} (at most {self.bound:g}{asked}) {self.unit}"
