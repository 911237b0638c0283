"""Run episodes for a number of hours: `python -m tests.simulation --hours 10000 --seed 1`; exit 1 on a violation.

The house with a cloud is simulated for all hours, the house with boxes for a quarter of them: there, every box sends a
datagram every 10 to 30 s. Both take about the same real time.
"""

import argparse
import asyncio
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
import os
import time

from tests.simulation import episode as cloud
from tests.simulation.boxes import episode as boxes
from tests.simulation.episode import EPISODE_HOURS
from tests.simulation.parts import ALL_PARTS, ON, Part
from tests.simulation.plants import PLANTS, planted
from tests.simulation.report import Counts, Violation

BOX_SHARE = 0.25
"""Hours in the house with boxes per hour in the house with the cloud."""
HOUSES = ("boxes", "cloud")


@dataclass(frozen=True, slots=True)
class Task:
    """One episode of one house."""

    house: str
    seed: int
    number: int
    hours: float
    plant: str | None
    parts: frozenset[Part]


def run(task: Task) -> tuple[Counts, Violation | None]:
    """Play one episode in a separate process."""
    with planted(task.plant):
        if task.house == "cloud":
            return asyncio.run(cloud.play(task.seed, task.number, task.hours, task.parts))
        return asyncio.run(boxes.play(task.seed, task.number, task.hours))


def main() -> int:
    """Parse the arguments, run the episodes, print the report."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--hours", type=float, default=1000.0, help="simulated hours (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same run (default 1)")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="switch on one known defect, which must be caught")
    parser.add_argument("--house", choices=HOUSES, help="only this house, for all the hours")
    parser.add_argument("--episode", type=int, help="only this episode of the run, 100 h long; needs --house")
    parser.add_argument("--jobs", type=int, default=os.process_cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument(
        "--with",
        dest="parts",
        action="append",
        default=[],
        choices=[*sorted(Part), "all"],
        help="switch on one more part of the simulation, or all of them",
    )
    parser.add_argument("--list", action="store_true", help="list the defects that can be planted")
    options = parser.parse_args()
    if options.list:
        for name, plant in sorted(PLANTS.items()):
            print(f"{name:<28} {plant.invariant:<8} {plant.what}")
        return 0
    if options.plant is not None:
        options.house = "boxes" if PLANTS[options.plant].boxes else "cloud"
    if options.episode is not None and options.house is None:
        parser.error("--episode needs --house")
    return _run_all(list(_tasks(options)), options.jobs)


def _tasks(options: argparse.Namespace) -> Iterator[Task]:
    """Yield the episodes of both houses alternately, so that the machine is equally busy for all of them."""
    parts = _parts(options)
    if options.episode is not None:
        yield Task(options.house, options.seed, options.episode, EPISODE_HOURS, options.plant, parts)
        return
    left = {"cloud": options.hours, "boxes": options.hours * BOX_SHARE}
    if options.house is not None:
        left = {options.house: options.hours}
    numbers = dict.fromkeys(left, 0)
    while any(hours > 0 for hours in left.values()):
        house = max(left, key=lambda name: left[name] / (BOX_SHARE if name == "boxes" else 1.0))
        yield Task(house, options.seed, numbers[house], min(EPISODE_HOURS, left[house]), options.plant, parts)
        left[house] -= EPISODE_HOURS
        numbers[house] += 1


def _parts(options: argparse.Namespace) -> frozenset[Part]:
    """Return the parts of every run, those asked for, and those that show the planted defect."""
    if "all" in options.parts:
        return ALL_PARTS
    shown = frozenset[Part]() if options.plant is None else PLANTS[options.plant].parts
    return ON | shown | {Part(name) for name in options.parts}


def _run_all(tasks: list[Task], jobs: int) -> int:
    total, begun = Counts(), time.perf_counter()
    violation, broken = None, tasks[0]
    with ProcessPoolExecutor(jobs) as pool:
        for task, (counts, violation) in zip(tasks, pool.map(run, tasks), strict=True):
            total.add(counts)
            if violation is not None:
                broken = task
                pool.shutdown(wait=False, cancel_futures=True)
                break
    for line in total.lines():
        print(line)
    print(f"took                  {time.perf_counter() - begun:.0f} s on {jobs} cores")
    if violation is not None:
        print(f"\nseed {broken.seed}, house {broken.house}: {violation}")
        print(f"\nagain, alone: scripts/simulate --seed {broken.seed} --house {broken.house} --episode {broken.number}")
        return 1
    print("no invariant was violated")
    return 0
