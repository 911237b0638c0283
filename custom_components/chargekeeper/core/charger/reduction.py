"""Define what a reduction is: a command that lowers what the charger may draw (docs/design.md, section 0.4)."""

from math import inf

from ..transport import Command, SetCharging, SetCurrent, SetOverride


def relief(command: Command, present: float | None) -> float:
    """Return the current in A that a command relieves. It is 0 if the command is no reduction.

    A reduction is a lower current, a pause or the end of an override. It goes out before everything else. Do not ask
    about a `SetOverride` that lifts a pause: it starts a charge.

    Args:
        command: what is to be sent.
        present: the highest current in A that the charger may be set to; None if unknown.
    """
    match command:
        case SetCurrent(amps):
            return 0.0 if present is None else max(present - amps, 0.0)
        case SetCharging(on=False) | SetOverride(on=False):
            return present or inf
    return 0.0
