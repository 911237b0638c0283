"""`python -m tests.mutations`: see runner.py."""

import sys

from tests.mutations.runner import main

if __name__ == "__main__":
    sys.exit(main())
