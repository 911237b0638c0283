"""Fixed words for the fingerprint of the house with boxes; see `tests/simulation/labels.py`."""

from custom_components.chargekeeper.juicebox.box import BoxConfig
from tests.simulators.juicebox import Car
from tests.simulators.juicebox_server import Schedule


def label_of_car(car: Car) -> str:
    """Return the current that a car takes, and its special behavior."""
    return (
        f"{car.wants_kwh} kWh, {car.max_amperes} A, "
        f"ready {car.ready}, awake when full {car.awake_when_full}, latches {car.latches}"
    )


def label_of_schedule(schedule: Schedule) -> str:
    """Return the windows of a unit as its owner set them."""
    days = [f"{day.start}-{day.end} ready by {day.car_ready_by}" for day in (schedule.weekday, schedule.weekend)]
    return f"{schedule.custom} {', '.join(days)}"


def label_of_config(config: BoxConfig) -> str:
    """Return what the user may enter anew for a box."""
    windows = [
        f"{window.slot} {window.start}-{window.end} {window.zone} on {sorted(window.days)} {window.enabled}"
        for window in config.schedule
    ]
    return (
        f"wire {config.wire_rating}, load group {config.load_group_limit}, "
        f"in the maker's {config.in_maker_load_group}, windows {'; '.join(windows)}"
    )
