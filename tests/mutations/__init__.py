"""All deliberate defects, by the part of the integration that they are in. `scripts/mutate` tries them."""

from tests.mutations import core, juicebox, linked, wallbox

MUTATIONS = (*core.MUTATIONS, *wallbox.MUTATIONS, *juicebox.MUTATIONS, *linked.MUTATIONS)
