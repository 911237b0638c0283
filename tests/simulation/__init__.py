"""Years of a simulated household in minutes: chargers, cars, people, a failing cloud, and the invariants of the design.

`python -m tests.simulation --hours N --seed S`, or `scripts/simulate`. Same seed, same run.
"""
