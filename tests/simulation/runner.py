"""Run episodes until the hours are full: `python -m tests.simulation --hours 10000 --seed 1`; exit 1 on a violation."""

import argparse
import asyncio
from concurrent.futures import ProcessPoolExecutor
import os
import time

from tests.simulation.episode import EPISODE_HOURS, play
from tests.simulation.plants import PLANTS, planted
from tests.simulation.report import Counts, Violation

type Task = tuple[int, int, float, str | None]


def run(task: Task) -> tuple[Counts, Violation | None]:
    """One episode in a process of its own."""
    seed, number, hours, plant = task
    with planted(plant):
        return asyncio.run(play(seed, number, hours))


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--hours", type=float, default=1000.0, help="simulated hours in all (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same run (default 1)")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="switch on one known defect, which must be caught")
    parser.add_argument("--episode", type=int, help="only this episode of the run, 100 h long")
    parser.add_argument("--jobs", type=int, default=os.process_cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--list", action="store_true", help="list the defects that can be planted")
    options = parser.parse_args()
    if options.list:
        for name, plant in sorted(PLANTS.items()):
            print(f"{name:<28} {plant.invariant:<4} {plant.what}")
        return 0
    tasks: list[Task] = []
    left, number = options.hours, 0
    while left > 0:
        tasks.append((options.seed, number, min(EPISODE_HOURS, left), options.plant))
        left, number = left - EPISODE_HOURS, number + 1
    if options.episode is not None:
        tasks = [(options.seed, options.episode, EPISODE_HOURS, options.plant)]
    return _run_all(tasks, options.jobs)


def _run_all(tasks: list[Task], jobs: int) -> int:
    total, begun = Counts(), time.perf_counter()
    violation = None
    with ProcessPoolExecutor(jobs) as pool:
        for counts, violation in pool.map(run, tasks):
            total.add(counts)
            if violation is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    for line in total.lines():
        print(line)
    print(f"took                  {time.perf_counter() - begun:.0f} s on {jobs} cores")
    if violation is not None:
        print(f"\nseed {tasks[0][0]}: {violation}")
        print(f"\nagain, alone: scripts/simulate --seed {tasks[0][0]} --episode {violation.episode}")
        return 1
    print("no invariant was violated")
    return 0
