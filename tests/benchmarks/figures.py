"""A measured figure and its bound."""

from dataclasses import dataclass
from typing import override


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured; it holds when it is not above `bound`."""

    what: str
    measured: float
    bound: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        return self.measured <= self.bound

    @override
    def __str__(self) -> str:
        mark = "ok    " if self.holds else "MISSED"
        return f"{mark} {self.what:<66} {self.measured:>9.3f} (at most {self.bound:g}) {self.unit}"
