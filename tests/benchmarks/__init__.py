"""The figures of the design, measured with the simulators: `python -m tests.benchmarks`, or `scripts/bench`."""
