"""Years of a household in minutes: chargers, cars, people, a cloud that fails, and the invariants of the design.

`python -m tests.simulation --hours N --seed S`, or `scripts/simulate`. Same seed, same run.
"""
