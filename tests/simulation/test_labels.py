"""The names of classes, fields and members decide neither the dice nor the fingerprint of a run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from random import Random
import sys
from unittest.mock import patch

import pytest

from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.errors import NoConnection, NotSaved, TransportsFailed
from custom_components.chargekeeper.core.model import EcoMode, Outcome, Prefer, Source
from custom_components.chargekeeper.core.transport import (
    START,
    Install,
    Restart,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
)
from custom_components.chargekeeper.juicebox.box import BoxConfig
from custom_components.chargekeeper.juicebox.juicenet.client import Day, Tou
from tests.simulation import episode
from tests.simulation.boxes import episode as boxes, labels as box_labels
from tests.simulation.boxes.processes import ALL as BOX_PROCESSES
from tests.simulation.episode import Episode
from tests.simulation.house import House
from tests.simulation.labels import (
    label_of_answer,
    label_of_car,
    label_of_command,
    label_of_options,
    label_of_windows,
)
from tests.simulation.processes import ALL, CHANGES_OF_CLOCKS, Weather
from tests.simulators.juicebox import Car as BoxCar
from tests.simulators.juicebox_server import Schedule
from tests.simulators.world import Car, Window


def our_classes() -> Iterator[type]:
    prefixes = ("custom_components.chargekeeper", "tests.simulat")
    for name, module in list(sys.modules.items()):
        if name.startswith(prefixes):
            yield from (each for each in vars(module).values() if isinstance(each, type) and each.__module__ == name)


@contextmanager
def renamed() -> Iterator[None]:
    """Rename all of our classes and enum members within the block, representations included."""
    names = {each: (each.__name__, each.__qualname__) for each in our_classes()}
    with ExitStack() as stack:
        for number, each in enumerate(names):
            each.__name__ = f"Renamed{number}"
            each.__qualname__ = each.__name__
            stack.enter_context(patch.object(each, "__repr__", lambda _self: "renamed"))
            for member in each if issubclass(each, StrEnum) else ():
                stack.enter_context(patch.object(member, "_name_", "RENAMED"))
        try:
            yield
        finally:
            for each, (name, qualified_name) in names.items():
                each.__name__ = name
                each.__qualname__ = qualified_name


async def fingerprints() -> list[str]:
    cloud, _ = await episode.play(5, 0, 8.0)
    with_boxes, _ = await boxes.play(5, 0, 3.0)
    return [cloud.fingerprint, with_boxes.fingerprint]


async def test_fingerprint_stays_when_everything_is_renamed() -> None:
    before = await fingerprints()

    with renamed():
        assert repr(SetCurrent(16)) == "renamed"
        assert await fingerprints() == before


def labels() -> list[str]:
    commands = (START, SetCurrent(16), SetOverride(on=True), SetLock(locked=True), SetEcoMode(EcoMode.OFF), Restart())
    failed = TransportsFailed([(Source.CLOUD, NoConnection("dns"))])
    unit = Schedule(custom=True)
    tou = Tou(enabled=True, weekday=Day(1320, 360), weekend=Day(0, 1440))
    return [
        *(label_of_command(command) for command in (*commands, Install())),
        *(label_of_answer(answer) for answer in (failed, NotSaved("disk"), Outcome.FAILED, None, ())),
        label_of_options(ChargerOptions(prefer=Prefer.LOCAL_FIRST)),
        label_of_car(Car()),
        label_of_windows([Window(start="2200", stop="0600")]),
        box_labels.label_of_car(BoxCar()),
        box_labels.label_of_schedule(unit),
        box_labels.label_of_config(BoxConfig(serial="1", host="host", schedule=tou.windows("UTC"))),
    ]


def test_every_label_stays_when_everything_is_renamed() -> None:
    before = labels()

    with renamed():
        assert labels() == before


def test_labels_of_commands_and_answers_differ() -> None:
    alike = labels()[:12]

    assert len(set(alike)) == len(alike)


def test_renamed_process_keeps_its_dice() -> None:
    class Storm(Weather):
        """The same process by another name."""

    house = House("some", CHANGES_OF_CLOCKS[0], chargers=3)
    [weather], [storm] = (Episode(house, Random(1), [kind]).processes for kind in (Weather, Storm))

    assert storm.random.getstate() == weather.random.getstate()


@pytest.mark.parametrize("kinds", [ALL, BOX_PROCESSES], ids=["cloud", "boxes"])
def test_labels_of_processes_are_unique_in_their_house(kinds: tuple[type, ...]) -> None:
    labels = [vars(kind)["label"] for kind in kinds]

    assert len(set(labels)) == len(labels)


def test_answer_without_label_refused() -> None:
    with pytest.raises(TypeError):
        label_of_answer(object())
