"""What breaks the part that Home Assistant sees: linked entities, storage, flows."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        name="power-off-not-noted-first",
        at="power_cycle:PowerCycle.begin",
        find="await self._save(cycle.export())",
        put="pass",
        tests=("tests/integration/test_linked_box.py",),
    ),
    Mutation(
        name="power-off-under-load",
        at="linked_box:LinkedBoxPath.at_rest",
        find="now - self._metered_at <= REST <= now - self._resting_since and not self._is_starting",
        put="not self._is_starting",
        tests=("tests/integration/test_linked_box.py",),
    ),
    Mutation(
        name="power-cycled-again-and-again",
        at="linked_box:LinkedBoxPath._require_safe_cycle",
        find="last is not None and last.spent",
        put="False",
        tests=("tests/integration/test_linked_box.py",),
    ),
    Mutation(
        name="stored-limit-let-loose",
        at="linked_box:LinkedBoxPath._require_safe_cycle",
        find="stored is not None and highest is not None and stored <= highest",
        put="True",
        tests=("tests/integration/test_linked_box.py",),
    ),
)
