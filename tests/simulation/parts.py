"""Parts of the simulation that can be switched on one by one: what joins the houses, and what else is watched.

`ON` are the parts that every run has. Another part waits until the integration holds its rule; `--with` of
`scripts/simulate` adds it to a run.
"""

from enum import StrEnum


class Part(StrEnum):
    """One part: a fault of the surroundings that joins houses by their dice, or an invariant."""

    # What joins the house with the cloud
    LOAD_GROUP = "load-group"
    """Chargers share a circuit. The current of some of them cannot be set: 403, or a role that may only pause."""
    WRITTEN = "written"
    """The cloud shows what it wrote down, whether or not the charger got it."""
    LAG = "lag"
    """The cloud shows a report 40 s after the charger made it."""
    SILENT_LINKS = "silent-links"
    """Local links that report nothing for hours and seem to work; commands are acknowledged and lost."""
    REVERSED_METERS = "reversed-meters"
    """Local links whose meter counts in the other direction."""
    THROTTLE = "throttle"
    """The cloud answers reads with 429, while writes would work; automations fill the budget of commands."""
    SUSPEND = "suspend"
    """The host is suspended: its wall clock goes on by hours, its monotonic clock stands still."""

    # What is watched
    EVIDENCE = "evidence"
    """No command counts as verified without a report that the charger made after it."""
    ANY_DANGER = "any-danger"
    """No restart while the last word of any transport forbids it."""
    CIRCUIT = "circuit"
    """The cars on a circuit draw no more than its limit, as far as a command could prevent it."""
    SAFE_DIRECTION = "safe-direction"
    """Reductions are on the wire within seconds, whatever else is queued."""


ON = frozenset[Part]()
"""The parts of every run."""
READY = frozenset({Part.LOAD_GROUP, Part.CIRCUIT, Part.SAFE_DIRECTION})
"""The parts whose planted defects the suite switches on, with the parts themselves, although `ON` lacks them."""
ALL_PARTS = frozenset(Part)
