"""Fixed words for what goes into the fingerprint of a run: a renamed class, field or member does not change it.

The words never change, even where the code has better names; the values come from the run.
"""

from collections.abc import Iterable

from custom_components.chargekeeper.core.charger import ChargerOptions, RestartRun
from custom_components.chargekeeper.core.errors import ChargerError, TransportsFailed
from custom_components.chargekeeper.core.model import Outcome
from custom_components.chargekeeper.core.transport import (
    Command,
    Install,
    Restart,
    SetCharging,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
)
from tests.simulators.world import Car, Window


def label_of_command(command: Command) -> str:
    """Return what a command asks for."""
    match command:
        case SetCurrent():
            return f"current {command.amps}"
        case SetCharging():
            return f"charging {command.on}"
        case SetOverride():
            return f"override {command.on}"
        case SetLock():
            return f"lock {command.locked}"
        case SetEcoMode():
            return f"eco mode {command.mode}"
        case Restart():
            return "restart"
        case Install():
            return "install"


def label_of_kind(kind: type) -> str:
    """Return the first word of the label of a setting. Raises KeyError for anything else."""
    return {SetCurrent: "current", SetCharging: "charging", SetLock: "lock", SetEcoMode: "eco"}[kind]


def label_of_answer(answer: object) -> str:
    """Return how a command of the user ended. Raises TypeError for an answer that no command has."""
    match answer:
        case TransportsFailed():
            return " ".join([answer.reason, *(f"{source} {error.reason}" for source, error in answer.failures)])
        case ChargerError():
            return answer.reason
        case Outcome():
            return answer.value
        case RestartRun():
            return "under way"
        case None:  # of an install
            return "installing"
        case tuple():  # of the end of an override
            return "given up"
    raise TypeError(answer)


def label_of_options(options: ChargerOptions) -> str:
    """Return what the user chose for a charger."""
    return (
        f"prefer {options.prefer}, read-only {options.read_only}, "
        f"restart while charging {options.restart_while_charging}, load group {options.load_group_limit}"
    )


def label_of_car(car: Car) -> str:
    """Return what a car takes."""
    return f"{car.wants_kwh} kWh, {car.max_amperes} A, {car.phases} phases"


def label_of_windows(windows: Iterable[Window]) -> str:
    """Return the schedule of a charger."""
    return "; ".join(
        f"{window.start}-{window.stop} on {sorted(window.days)} {window.enabled} "
        f"{window.max_current} A {window.max_energy} Wh"
        for window in windows
    )
