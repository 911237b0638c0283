"""Known defects."""
from contextlib import contextmanager
from dataclasses import dataclass
@dataclass
class Plant:
    invariant: str
    what: str
PLANTS: dict[str, Plant] = {}
@contextmanager
def planted(name):
    yield
