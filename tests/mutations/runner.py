"""Apply each mutation alone to a copy of the tree: the suite must turn red for each.

`scripts/mutate [NAME...]`; `--list` prints the names. Each mutation replaces a piece of one function; then the part of
the suite that should notice runs. The exit code is 1 if that part stays green. The code is 2 if the piece is not found
exactly once, or if that part is red without any mutation. In the first case, the list must follow the code.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
import time

from tests.mutations import MUTATIONS
from tests.mutations.mutation import ROOT, Mutation, Stale

LONGEST_RUN = 600.0
RED = 1  # pytest's exit code for failed tests; other codes are no verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a run of the suite."""

    code: int
    seconds: float
    tail: str


def copy_tree(to: Path) -> None:
    """Copy the present tree: tracked files, and untracked files that git does not ignore."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in set(filter(None, listing.split("\0"))):
        source, target = ROOT / name, to / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def mutate(tree: Path, mutation: Mutation) -> None:
    """Apply a mutation to a tree. Raises Stale."""
    file = tree / mutation.file
    file.write_bytes(mutation.apply(file.read_bytes().decode()).encode())


def run_tests(tree: Path, tests: tuple[str, ...]) -> Verdict:
    """Run a part of the suite in a tree, up to the first failure."""
    command = [
        str(ROOT / ".venv/bin/python"),
        "-m",
        "pytest",
        "-q",
        "-x",
        "--no-header",
        "--tb=no",
        "--show-capture=no",
    ]
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".found"),
    }
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_RUN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict(RED, time.perf_counter() - begun, "hangs")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return Verdict(done.returncode, time.perf_counter() - begun, lines[-1] if lines else done.stderr[-200:])


def try_one(mutation: Mutation) -> Verdict:
    """Copy the tree, apply a mutation, run its tests. Raises Stale."""
    with tempfile.TemporaryDirectory(prefix="chargekeeper-mutate-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        mutate(tree, mutation)
        return run_tests(tree, mutation.tests)


def check_green(tests: set[tuple[str, ...]], jobs: int) -> list[str]:
    """Return the parts of the suite that are red without any mutation."""
    with tempfile.TemporaryDirectory(prefix="chargekeeper-mutate-") as folder, ThreadPoolExecutor(jobs) as pool:
        tree = Path(folder)
        copy_tree(tree)
        parts = sorted(tests)
        verdicts = pool.map(lambda part: run_tests(tree, part), parts)
        return [
            f"{' '.join(part)}: {verdict.tail}" for part, verdict in zip(parts, verdicts, strict=True) if verdict.code
        ]


def check_places(mutations: list[Mutation]) -> list[str]:
    """Return a message for each mutation that does not fit the code."""
    stale: list[str] = []
    for mutation in mutations:
        try:
            mutation.apply((ROOT / mutation.file).read_text("utf-8"))
        except (Stale, FileNotFoundError) as err:
            stale.append(str(err))
    return stale


def main() -> int:
    """Parse the arguments, run the mutations, print the table."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--list", action="store_true", help="name them all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    options = parser.parse_args()
    unknown = set(options.names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}")
    chosen = [mutation for mutation in MUTATIONS if not options.names or mutation.name in options.names]
    if options.list:
        for mutation in chosen:
            print(f"{mutation.name:<38} {mutation.at:<45} {' '.join(mutation.tests)}")
        return 0
    if complaints := check_places(chosen) or check_green({mutation.tests for mutation in chosen}, options.jobs):
        print("\n".join(complaints), file=sys.stderr)
        return 2
    survivors = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutation, verdict in zip(chosen, pool.map(try_one, chosen), strict=True):
            survived = verdict.code != RED
            survivors += survived
            mark = "SURVIVED" if survived else "red"
            print(f"{mark:<9} {mutation.name:<38} {verdict.seconds:6.1f} s  {verdict.tail}", flush=True)
    print(f"{survivors} of {len(chosen)} survived" if survivors else f"all {len(chosen)} turned the suite red")
    return 1 if survivors else 0
