# Home Assistant 2026.10 puts probatio under the name voluptuous; type checkers do not see that.
from probatio import *  # noqa: F403
