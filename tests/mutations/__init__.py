"""All deliberate defects, sorted by the part of the integration. `scripts/mutate` tries them."""

from tests.mutations import core, integration, juicebox, wallbox

MUTATIONS = (*core.MUTATIONS, *wallbox.MUTATIONS, *juicebox.MUTATIONS, *integration.MUTATIONS)
