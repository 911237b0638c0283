"""Tell what an entity reports from what it was told (docs/design.md, section 0.1).

A commanded entity may write the commanded value at once, long before the device has it. Such an echo proves nothing.
"""

from homeassistant.const import ATTR_ASSUMED_STATE
from homeassistant.core import Context, State

from ..core.clock import Clock

ECHO = 10.0
"""Seconds after a call in which a state of the commanded entity may be an echo."""

HELPERS = frozenset({"input_boolean"})
"""Domains whose entities have no device: they only show what they were told."""


class Echoes:
    """The calls of the linked entities, each by its link."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._contexts: dict[str, str] = {}  # id of the context of the last call
        self._until: dict[str, float] = {}  # monotonic time

    def begin(self, link: str) -> Context:
        """Return the context for a call that begins."""
        context = Context()
        self._contexts[link] = context.id
        self._until[link] = self._clock.monotonic() + ECHO
        return context

    def end(self, link: str) -> None:
        """Record the end of a call: a slow entity may write its echo only then."""
        self._until[link] = self._clock.monotonic() + ECHO

    def is_echo(self, link: str, context: Context) -> bool:
        """Return True if a state of a commanded entity may only repeat the last call.

        `context` is that of the event: a state that is reported again unchanged keeps the context of its first write.
        """
        if link not in self._until:
            return False
        is_ours = self._contexts[link] in {context.id, context.parent_id}
        return self._clock.monotonic() < self._until[link] or is_ours


def only_repeats(state: State) -> bool:
    """Return True if an entity can only show what it was told, and never what the device does."""
    return state.domain in HELPERS or state.attributes.get(ATTR_ASSUMED_STATE) is True
