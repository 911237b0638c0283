"""Stored state of a box. With this state, the first answer after a restart is the same as without a restart."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime

from ..core.coerce import moment
from ..core.limits import HIGHEST_CURRENT
from .interval_energy import IntervalEnergy


@dataclass(slots=True, kw_only=True)
class BoxState:
    """State of one box that must survive a restart. Currents in A, energies in Wh.

    Addresses: `host` is the address at which the box was last heard, and `heard_at` the time. `pinned` is the address
    that the user named.

    Limits: `offline` is the stored limit `M`, None until it is learned. `overwritten` is the highest limit that the box
    may still have stored instead, until the box has surely received the new limit. `second_in_force` is True if the
    second limit of its statuses is in force, None until a command shows which is. `online` is the last `A` that was
    sent to the box, whoever sent it. `served` is the last `A` of the manufacturer's server. `allowed` is the last `A`
    with which that server let the box charge, or the limit of the installation if that limit was lower.

    Commands: `index` and `flags` are those of the last command; `cycles` is True if the flags follow the index. `kept`
    is True while ChargeKeeper answers the box. `charging_current`, `paused` and `override` are what the user wants.
    """

    host: str = ""
    heard_at: datetime | None = None
    pinned: str = ""
    version: str = ""
    firmware: str | None = None
    offline: int | None = None
    overwritten: int | None = None
    second_in_force: bool | None = None
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
        """Return the values that a power cut must not lose; the others may be some minutes old."""
        told = (self.pinned, self.version, self.offline, self.kept, self.charging_current, self.paused, self.override)
        return (*told, self.overwritten, self.offline_changed_at, self.plugged, self.session_start)

    @property
    def stored(self) -> int | None:
        """Return the highest limit that the box may have stored, in A; None if none was ever known."""
        return max((amps for amps in (self.offline, self.overwritten) if amps is not None), default=None)

    def export(self) -> dict[str, object]:
        """Return the state as JSON."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        texts = {name: value.isoformat() for name, value in plain.items() if isinstance(value, datetime)}
        return plain | texts | {"quarters": self.quarters.export()}

    @classmethod
    def restored(cls, stored: object) -> BoxState:
        """Return the state that `export` returned; damaged values get their defaults."""
        state = cls()
        if not isinstance(stored, Mapping):
            return state
        for each in fields(cls):
            if each.name != "quarters":
                _restore(state, each.name, stored.get(each.name))
        state.quarters.restore(stored.get("quarters"))
        return state

    def forget(self) -> None:
        """Forget the commands and the stored limit after a boot (docs/protocols/juicebox.md, section 2.3.3)."""
        self.overwritten = self.stored
        self.offline = self.online = None


_CURRENTS = {"online", "served", "allowed", "charging_current"}
_STORED = {"offline": 999, "overwritten": 999}
"""Highest accepted values. They exceed all currents: the first stored limit of a server is accepted as it is."""
_COUNTS = _STORED | {"index": 999, "flags": 999, "lifetime": 10**12, "session_start": 10**12}
_SWITCHES = {"cycles", "kept", "plugged", "paused", "override", "second_in_force"}
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
