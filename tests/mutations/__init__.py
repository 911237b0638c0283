"""All deliberate defects, by the part of the integration that they are in. `scripts/mutate` tries them."""

from tests.mutations import core, integration, juicebox, wallbox

MUTATIONS = (*core.MUTATIONS, *wallbox.MUTATIONS, *juicebox.MUTATIONS, *integration.MUTATIONS)
