"""What is kept of a box over a restart, so that the first answer after it is the one the box would have had."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime

from ..core.coerce import moment
from ..core.limits import HIGHEST_CURRENT
from .interval_energy import IntervalEnergy


@dataclass(slots=True, kw_only=True)
class BoxState:
    """One box, as far as it matters what it was told. Currents in A, energies in Wh.

    `host` is where it was heard last and `heard_at` when, `pinned` where the user said it is.
    `offline` is the stored limit `M`, None until it is learnt, and `overwritten` the highest that it may still have
    instead, as long as it may not have heard of that one. `online` is the last `A` it was sent, by whomever; `served`
    the last `A` of the maker's server, `allowed` the last of those that let it charge, as far as the installation bears
    it. `index` and `flags` are those of the last command, `cycles` says that the flags follow the index. `kept` is true
    while we answer it. `charging_current`, `paused` and `override` are what the user wants.
    """

    host: str = ""
    heard_at: datetime | None = None
    pinned: str = ""
    version: str = ""
    firmware: str | None = None
    offline: int | None = None
    overwritten: int | None = None
    online: int | None = None
    served: int | None = None
    allowed: int | None = None
    index: int = 0
    flags: int = 6
    cycles: bool = False
    kept: bool = False
    commanded_at: datetime | None = None
    lifetime: int | None = None
    session_start: int | None = None
    plugged: bool = False
    charging_current: int | None = None
    paused: bool = False
    override: bool = False
    offline_changed_at: datetime | None = None
    quarters: IntervalEnergy = field(default_factory=IntervalEnergy)

    @property
    def vital(self) -> tuple[object, ...]:
        """What must not be lost in a power cut; the rest may be some minutes old."""
        told = (self.pinned, self.version, self.offline, self.kept, self.charging_current, self.paused, self.override)
        return (*told, self.overwritten, self.offline_changed_at, self.plugged, self.session_start)

    @property
    def stored(self) -> int | None:
        """The highest limit that it may have stored, as far as any was ever known, A."""
        return max((amps for amps in (self.offline, self.overwritten) if amps is not None), default=None)

    def export(self) -> dict[str, object]:
        """As JSON."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        texts = {name: value.isoformat() for name, value in plain.items() if isinstance(value, datetime)}
        return plain | texts | {"quarters": self.quarters.export()}

    @classmethod
    def restored(cls, stored: object) -> BoxState:
        """What `export` gave; whatever of it is damaged is forgotten."""
        state = cls()
        if not isinstance(stored, Mapping):
            return state
        for each in fields(cls):
            if each.name != "quarters":
                _restore(state, each.name, stored.get(each.name))
        state.quarters.restore(stored.get("quarters"))
        return state

    def forget(self) -> None:
        """The box has started anew: what it was told no longer holds (docs/protocols/juicebox.md, section 2.3.3)."""
        self.overwritten = self.stored
        self.offline = self.online = None


_CURRENTS = {"online", "served", "allowed", "charging_current"}
_STORED = {"offline": 999, "overwritten": 999}
"""However high: the first stored limit of a server passes as it is."""
_COUNTS = _STORED | {"index": 999, "flags": 999, "lifetime": 10**12, "session_start": 10**12}
_SWITCHES = {"cycles", "kept", "plugged", "paused", "override"}
_WORDS = {"host", "pinned", "version", "firmware"}


def _restore(state: BoxState, name: str, value: object) -> None:
    if name in _CURRENTS or name in _COUNTS:
        fits = type(value) is int and 0 <= value <= _COUNTS.get(name, HIGHEST_CURRENT)
    elif name in _SWITCHES:
        fits = isinstance(value, bool)
    elif name in _WORDS:
        fits = isinstance(value, str)
    else:
        value = moment(value)
        fits = value is not None
    if fits:
        setattr(state, name, value)
