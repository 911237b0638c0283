"""Print every figure of the design; exit 1 if a bound is broken. Figures that fall short of the design are counted."""

import asyncio
import sys

from .bench_cloud import measurements as cloud_measurements
from .bench_home_assistant import measurements as home_assistant_measurements
from .bench_juicebox import measurements as juicebox_measurements


async def _main() -> int:
    missed = short = 0
    for measurements in (cloud_measurements, juicebox_measurements, home_assistant_measurements):
        for measurement in measurements():
            async for figure in measurement:
                print(figure, flush=True)
                missed += not figure.holds
                short += figure.holds and figure.falls_short
    print(f"{missed} figures missed" if missed else "all figures hold", end="")
    print(f", {short} short of the design" if short else "")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
