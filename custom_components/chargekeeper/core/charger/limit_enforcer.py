"""Lower the charger's setting once when a limit falls below it, so that the shown setting is true.

A later raise by somebody else is not lowered. If the lowering fails in an outage, the intent store keeps it until the
outage is over.
"""

import logging
from math import floor, inf

from ..cooldown import Backoff
from ..errors import ChargerError, LoginRejected, TransportBusy, TransportDown
from ..limits import MINIMUM_CURRENT, Limits, ceiling
from ..model import CHARGING_CURRENT, Capability
from ..transport import SetCurrent
from .commands import Commands
from .context import Context, SingleFlight
from .router import Router

LOGGER = logging.getLogger(__name__)


class LimitEnforcer:
    """Lowers the setting of one charger when its limits fall."""

    def __init__(self, context: Context, router: Router, commands: Commands) -> None:
        self._context = context
        self._intents = context.intents
        self._router = router
        self._commands = commands
        self._limits: Limits | None = None
        self._single_flight = SingleFlight(context, self._reconcile_alone)
        self._retry = Backoff(context.clock)

    def update_limits(self, limits: Limits) -> None:
        """Compare the limits with the previous ones, and lower the setting if one fell.

        `limits` leaves out the share of a load group.
        """
        before = self._limits
        self._limits = limits
        if before is not None and self._has_fallen(before, limits):
            self._context.spawn(self._start_enforcing())

    def reconcile_soon(self) -> None:
        """Start a pending lowering in the background if it is due."""
        if self._intents.entries.lowering and self._retry.is_due():
            self._single_flight.start()

    def _has_fallen(self, before: Limits, now: Limits) -> bool:
        """Return True if a limit is lower than before, or the user entered a first load group limit.

        A limit that the charger reports for the first time does not count as lower: it was in force before the report.
        """
        pairs = (
            (before.wire_rating, now.wire_rating),
            (before.unit_rating, now.unit_rating),
            (before.house_limit, now.house_limit),
            (before.load_group_limit, now.load_group_limit),
        )
        entered = before.load_group_limit is None and self._context.options.load_group_limit is not None
        return entered or any(old is not None and new is not None and new < old for old, new in pairs)

    async def _start_enforcing(self) -> None:
        async with self._router.turn(urgent=True):
            await self._context.save_or_keep(lowering=True)
            self._retry.reset()
            await self._reconcile()

    async def _reconcile_alone(self) -> None:
        async with self._router.turn(urgent=self._can_lower):
            if self._intents.entries.lowering and await self._reconcile():
                self._context.emit("replay", CHARGING_CURRENT.key)

    async def _reconcile(self) -> bool:
        """Lower the setting if it is above its limit. Return True if the setting was lowered.

        The lowering waits while the setting is not known or no transport can carry it.
        """
        limits = self._limits
        present = self._present
        highest = None if limits is None else ceiling(limits)[0]
        if self._context.stopping or not (self._can_lower or self._context.options.read_only):
            return False
        highest_allowed = inf if highest is None else max(floor(highest), MINIMUM_CURRENT)
        lowered = False
        if present is not None and present > highest_allowed and not self._context.options.read_only:
            try:
                await self._commands.send_now(SetCurrent(int(highest_allowed)))
                lowered = True
            except (TransportDown, TransportBusy, LoginRejected) as err:
                LOGGER.debug("The lowering of the current waits: %s", err)
                self._retry.failed()
                return False
            except ChargerError as err:
                LOGGER.warning("The charging current could not be lowered to its limit: %s", err)
        await self._context.save_or_keep(lowering=False)
        return lowered

    @property
    def _present(self) -> float | None:
        """The highest current in A that the charger may be set to; None if its setting is not known."""
        return None if self._commands.sent.live_current is None else self._commands.sent.highest_current

    @property
    def _can_lower(self) -> bool:
        """True if the setting is known and a transport can carry a lower one."""
        return self._present is not None and self._router.first(Capability.CURRENT) is not None
