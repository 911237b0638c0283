"""The figures of the design, measured at the simulators: `python -m tests.benchmarks`, or `scripts/bench`."""
