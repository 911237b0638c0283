"""Protocol state of a box: who answers its statuses, and with which commands.

See docs/design.md, section 6.3.

A box is in one of three modes, and only one side ever commands the box (invariant I10). In the mode `LEARNING`,
ChargeKeeper does not answer the box: the stored limit is unknown, or the box takes no commands. In the mode `RELAY`,
ChargeKeeper passes the commands of the manufacturer's server to the box. In the mode `KEEP`, ChargeKeeper itself
answers each status at once, and only reads the commands of the server.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
import logging
from math import floor, inf

from ..core import schedule
from ..core.clock import Clock, monotonic_of
from ..core.cooldown import Cooldown
from ..core.errors import NoConnection, NotAllowed, NotApplicable, UnsafeRequest
from ..core.limits import HIGHEST_CURRENT, MINIMUM_CURRENT, Limits, ceiling
from ..core.model import LIVE_AGE, Schedule, Source
from ..core.reading_builder import Timestamp
from ..core.signal import subscribe
from .command_clock import CommandClock
from .command_tracker import SHOWS_WITHIN, CommandTracker
from .datagram import (
    WIDE_VERSION,
    CommandMessage,
    DebugMessage,
    Rejection,
    StatusMessage,
    parse_command,
)
from .listener import Address, Arrival
from .server_health import ServerHealth
from .state import BoxState

LOGGER = logging.getLogger(__name__)

ANSWER_WITHIN = 5.0
"""Maximum seconds for the server's answer; the real server took up to 4 (docs/protocols/juicebox.md, section 2.5)."""
LONGEST_UNSERVED = 110.0
"""Seconds after its last command at which a box is taken over, even if few statuses came. The promise is 120 s."""
FULL_BELOW = 100.0
"""W; a car that draws less does not charge, even if the box reports charging (docs/protocols/juicebox.md, section 2.3).
"""
CHANGE_OFFLINE_EVERY = timedelta(days=1)
"""Shortest time between two changes of the stored limit: each write wears the memory of the box
(docs/protocols/juicebox.md, section 2.5)."""
CONSTANT_FLAGS = 6
FLAGS_CYCLE = (8, 244, 6, 242)
"""`C` of a command: the constant if nothing was learned, and the cycle of the manufacturer's server by the index
(docs/protocols/juicebox.md, section 2.5)."""
COMMANDED = frozenset({"07", WIDE_VERSION})
"""Versions of boxes that take commands; older boxes are only read."""

UNPLUGGED = 0


class Mode(StrEnum):
    """Who answers the box."""

    LEARNING = "learning"  # not ChargeKeeper: the stored limit is unknown, or the box takes no commands
    RELAY = "relay"  # the manufacturer's server
    KEEP = "keep"  # ChargeKeeper


class BlockReason(StrEnum):
    """Why the last command did not let the box charge."""

    SCHEDULE = "schedule"
    PAUSE = "pause"
    POWER = "power"  # the share of the current is too low for any car


class BoxIssue(StrEnum):
    """Condition of a box that the user should know."""

    UNSAFE_SERVER = "unsafe_server"  # the server's last current exceeded the installation's limit and was lowered
    UNSAFE_STORED = "unsafe_stored"  # the server's last stored limit exceeded the wire rating and was not passed on
    IGNORES_COMMANDS = "ignores_commands"
    ENCRYPTED = "encrypted"
    STORED_ZERO = "stored_zero"  # without commands the box does not charge at all
    OFFLINE_ABOVE_WIRE = "offline_above_wire"
    OFFLINE_NOT_STORED = "offline_not_stored"  # the box still reports the stored limit from before the change
    TWO_ADDRESSES = "two_addresses"  # the pinned address uses its serial while another address is believed
    OVERRIDE_HANDED_BACK = "override_handed_back"  # the server is back in charge and does not let the box charge


SERVER_ISSUES = {BoxIssue.UNSAFE_SERVER, BoxIssue.UNSAFE_STORED}
"""Issues of the server's last command. They end when the server is no longer in charge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxConfig:
    """Settings of a box by the user. Currents in A, `minimal_energy` in Wh, `zone` an IANA name.

    `schedule` are the windows in which the box may charge while ChargeKeeper answers it; empty for any time.
    """

    serial: str
    host: str
    name: str = ""
    wire_rating: float | None = None
    load_group_limit: float | None = None
    in_maker_load_group: bool = True
    schedule: Schedule = ()
    minimal_energy: int = 0
    zone: str = "UTC"
    read_only: bool = False


class Box:
    """One box.

    Args:
        clock: the source of time.
        config: the settings of the user.
        state: the known state of the box from earlier runs.
        forward: sends a datagram to the manufacturer's server; None without a server. Its flag is True while the server
            is suspect.
    """

    def __init__(
        self,
        clock: Clock,
        config: BoxConfig,
        state: BoxState,
        forward: Callable[[bytes, bool], None] | None,
    ) -> None:
        self._clock = clock
        self._forward = forward
        self.config = config
        self.state = state
        self.share: float | None = None
        """A; share of the box in its load group of ChargeKeeper, None outside such a group."""
        self._override_requested = False
        self._listeners: list[Callable[[], None]] = []
        self.status: StatusMessage | None = None
        self.server_health = ServerHealth(lost=state.kept and not state.override)
        """Health of the manufacturer's server."""
        commanded_at = -inf if state.commanded_at is None else monotonic_of(clock, state.commanded_at)
        self.command_clock = CommandClock(commanded_at)
        self.idle_since: float | None = None
        """Monotonic time since which a car that may charge draws less than `FULL_BELOW`."""
        self.counts: Counter[str] = Counter()
        self.issues: set[BoxIssue] = set()
        self.block_reason: BlockReason = BlockReason.PAUSE if state.paused else BlockReason.SCHEDULE
        """Why the last command that blocked charging did so. The reason may no longer apply."""
        self.refused_stored: int | None = None
        """The last stored limit of the server that was not passed on, in A."""
        self.confirmed_current: int | None = None
        """The user's charging current that the box last showed by a status, in A; what it reports if it ignores it."""
        self.not_stored: int | None = None
        """The stored limit that the box did not take, in A."""
        self._arrival: Arrival | None = None
        self._in_charge = state.kept or forward is None
        self._relaying = True  # False between handing back and the next status: ChargeKeeper answered the last one
        self._first_after_take_over = False  # applies to the next answer
        self._user_change_pending = False  # then no guard time delays the answer
        self._cooldown = Cooldown(clock)
        self._command_tracker = CommandTracker(state.second_in_force)
        self._sent_setting: int | None = state.charging_current
        self._sent_share = self._confirmed_share = inf  # A; the load group share
        self._sent_offline: int | None = None  # with the last command, cleared by the next status
        self._offline_sent_count = 0  # statuses that followed a command with the stored limit
        self._previous_offline: tuple[int, datetime | None] | None = None
        """The stored limit before the user's change, and the time at which that earlier limit was changed. None once
        the change counts as stored."""
        self._cancel_check: Callable[[], None] | None = None
        self._update_offline_issues()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each datagram and each change. Return a function that removes the listener.

        A change is one of the answering side, the settings, or what the user requests.
        """
        return subscribe(self._listeners, callback)

    def configure(self, config: BoxConfig) -> None:
        """Apply new settings of the user. A read-only box ends its pause."""
        self.config = config
        if config.read_only:
            self.state.paused = False
        if self.may_replace_server:
            self.issues.discard(BoxIssue.OVERRIDE_HANDED_BACK)
        self._update_offline_issues()
        self._notify()

    def connect(self, forward: Callable[[bytes, bool], None] | None) -> None:
        """Replace the connection to the manufacturer's server; None for no server."""
        self._forward = forward
        self.server_health.reset()
        self.issues -= SERVER_ISSUES | {BoxIssue.OVERRIDE_HANDED_BACK}
        if forward is None:
            self._set_in_charge(True)
        self._notify()

    def dispute(self, *, on: bool) -> None:
        """Set or clear the issue that the pinned address uses the serial while another address is believed."""
        if on is not (BoxIssue.TWO_ADDRESSES in self.issues):
            self._set_issue(BoxIssue.TWO_ADDRESSES, present=on)
            self._notify()

    def _notify(self) -> None:
        for callback in list(self._listeners):
            callback()

    # State

    @property
    def mode(self) -> Mode:
        """Who answers the box."""
        if self.state.offline is None or self.state.version not in COMMANDED:
            return Mode.LEARNING
        return Mode.KEEP if self._in_charge else Mode.RELAY

    @property
    def server_answers(self) -> bool | None:
        """True if the manufacturer's server answers; None without a server, or while nothing is known of it."""
        return None if self._forward is None else self.server_health.answers

    @property
    def in_force(self) -> int | None:
        """The limit in force by the last status, in A."""
        return None if self.status is None else self._command_tracker.in_force(self.status)

    @property
    def change_pending(self) -> bool:
        """True while the last status cannot yet show the user's last change."""
        return self._user_change_pending or self._command_tracker.pending

    @property
    def proves_command(self) -> bool:
        """True if the last status proves that the user's last change is in force, or that it is not."""
        tracker = self._command_tracker
        return not self.change_pending and (tracker.proven or tracker.contradicted)

    @property
    def address(self) -> Address | None:
        """Source of the last status in this run."""
        return None if self._arrival is None else self._arrival.address

    @property
    def limits(self) -> Limits:
        """The known limits of the installation."""
        unit = None if self.status is None else self.status.unit_rating
        bounds = [bound for bound in (self.config.load_group_limit, self.share) if bound is not None]
        return Limits(
            wire_rating=self.config.wire_rating,
            unit_rating=unit if unit is not None and MINIMUM_CURRENT <= unit <= HIGHEST_CURRENT else None,
            load_group_limit=min(bounds, default=None),
            charging_current=self.setting,
            offline_current=self.state.offline,
        )

    @property
    def installation_limit(self) -> float | None:
        """The highest current of the installation, in A.

        The load group share is ignored, because no server can know it.
        """
        highest, _ = ceiling(replace(self.limits, load_group_limit=self.config.load_group_limit))
        return highest

    @property
    def setting(self) -> float | None:
        """The current without other limits, in A.

        This is the user's current, else the last current that was passed on, else the stored limit.
        """
        state = self.state
        known = (state.charging_current, state.allowed, state.offline)
        return next((amps for amps in known if amps is not None), None)

    @property
    def shown_setting(self) -> int | None:
        """The setting that the box last showed, in A: the user's current, or the load group share if that is less."""
        known = (self.confirmed_current, self.state.allowed, self.state.offline)
        setting = next((amps for amps in known if amps is not None), None)
        return None if setting is None else floor(min(setting, self._confirmed_share))

    @property
    def allowed(self) -> int:
        """The current that the box may draw when it may charge, in A; 0 if it is too low for any car (I1)."""
        if self.setting is None:
            return 0
        bounds = [self.setting]
        highest, _ = ceiling(self.limits)
        if highest is not None:
            bounds.append(highest)
        if self.config.wire_rating is None:  # unknown: never raise the current
            bounds.append(max(self.state.allowed or 0, self.state.offline or 0))
        amps = floor(min(bounds))
        return amps if amps >= MINIMUM_CURRENT else 0

    @property
    def _share_bound(self) -> float:
        """Load group share in A, at least MINIMUM_CURRENT; `inf` outside a group.

        With a share below MINIMUM_CURRENT, the box is not allowed to charge at all.
        """
        return inf if self.share is None else max(self.share, MINIMUM_CURRENT)

    @property
    def blocked_by_schedule(self) -> bool:
        """True if the windows block charging now, or without windows the server's last command."""
        if self._overridden:
            return False
        windows = self.config.schedule
        if windows:
            return not schedule.inside(windows, self._clock.now()) and not self._below_minimum
        return self._blocked_by_server

    @property
    def _blocked_by_server(self) -> bool:
        """True if the last command of the manufacturer's server did not let the box charge."""
        served = None if self._forward is None else self.state.served
        return served is not None and served < MINIMUM_CURRENT

    @property
    def session_energy(self) -> int | None:
        """Wh since the car was plugged in; pauses do not end a session."""
        start = self.state.session_start
        lifetime = self.state.lifetime
        return None if start is None or lifetime is None else max(lifetime - start, 0)

    @property
    def may_replace_server(self) -> bool:
        """True if a command of ChargeKeeper may replace the server's (docs/design.md, section 5.7)."""
        return not self.config.in_maker_load_group or self.config.load_group_limit is not None

    @property
    def offline_candidate(self) -> int | None:
        """Probable stored limit in A, for the user to confirm (docs/protocols/juicebox.md, section 2.3, note)."""
        if self.state.offline is not None or self.status is None:
            return None
        return _plausible(self.status.second_limit)

    @property
    def _overridden(self) -> bool:
        return self.state.override or self._override_requested

    @property
    def _below_minimum(self) -> bool:
        return (self.session_energy or 0) < self.config.minimal_energy

    # Commands of the user

    def set_charging(self, *, on: bool) -> None:
        """Let the box charge, or pause it, from the next answer on.

        Raises:
            NotApplicable: `no_car`, there is nothing to pause or to resume; `wrong_state`, there is no pause to end;
                `learning`, the box cannot be commanded yet.
        """
        self._require_known()
        if self.status is not None and self.status.state == UNPLUGGED:
            raise NotApplicable("no_car")
        is_blocked = self._blocked_by_server if self.mode is Mode.RELAY else self.blocked_by_schedule
        if on and not self.state.paused and is_blocked:
            raise NotApplicable("wrong_state")
        self.state.paused = not on
        self._queue_user_change()

    def set_current(self, amps: int) -> None:
        """Charge with at most `amps` A from the next answer on. Raises NotApplicable: `learning`.

        A current that applies anyway, such as a load group share, is not stored: it would outlast the share.
        """
        self._require_known()
        if self.setting is None or amps != floor(min(self.setting, self._share_bound)):
            self.state.charging_current = amps
        self._queue_user_change()

    def set_override(self, *, on: bool) -> None:
        """Ignore the schedule from the next answer on, or follow it again. Both end a pause.

        Raises:
            UnsafeRequest: `load_group`, the server distributes the current and would not know; `no_group_share`;
                `no_current`, no permitted current is known.
            NotApplicable: `learning`.
        """
        if on:
            self._require_known()
            if self.mode is Mode.RELAY and not self.may_replace_server:
                raise UnsafeRequest("load_group")
            if not self.allowed:
                share_too_low = self.share is not None and self.share < MINIMUM_CURRENT
                raise UnsafeRequest("no_group_share" if share_too_low else "no_current")
            self._set_in_charge(True)
        self.issues.discard(BoxIssue.OVERRIDE_HANDED_BACK)
        self.state.override = on
        self.state.paused = False
        self._queue_user_change()

    def follow_override(self, *, on: bool) -> None:
        """Record if the user's override continues.

        A continuing override survives a take-over, even if it needed no command. The start of an override ends a pause.
        After the end of an override, for whatever reason, the schedule applies again.
        """
        if on and not self._override_requested:
            self.state.paused = False
        self._override_requested = on
        if not on:
            self.state.override = False

    def confirm_offline(self, amps: int) -> None:
        """Set the stored limit that the user confirms (I11).

        A box with another stored limit stores the confirmed limit once.

        Raises:
            NotApplicable: `known`, the limit was learned meanwhile; `learning`, boxes of this version take no commands.
            UnsafeRequest: `current_too_low` or `above_ceiling`.
            NotAllowed: `read_only`.
        """
        self._require_commands()
        if self.state.offline is not None:
            raise NotApplicable("known")
        if self.status is not None and self.state.version not in COMMANDED:
            raise NotApplicable("learning")
        self._require_offline(amps)
        self._store_and_notify(amps)

    def change_offline(self, amps: int) -> None:
        """Change the stored limit as the user confirmed (I11). If the box ignores the change, it is reverted.

        Raises:
            NoConnection: `charger_offline`, the box is silent: a boot would make ChargeKeeper forget the change.
            UnsafeRequest: `current_too_low`; `above_ceiling`, it is above the wire rating; `once_a_day`.
            NotApplicable: `learning`; `server_in_charge`, the server would overwrite it; `ignored`, the box ignores
                commands.
            NotAllowed: `read_only`.
        """
        self._require_commands()
        self._require_known()
        if self.mode is Mode.RELAY:
            raise NotApplicable("server_in_charge")
        self._require_reachable()
        self._require_offline(amps)
        changed_at = self.state.offline_changed_at
        now = self._clock.now()
        if changed_at is not None and timedelta() <= now - changed_at < CHANGE_OFFLINE_EVERY:
            raise UnsafeRequest("once_a_day")
        assert self.state.offline is not None  # it is known
        self._previous_offline = self.state.offline, changed_at
        self.state.offline_changed_at = now
        self._store_and_notify(amps)

    def close(self) -> None:
        """Cancel the pending check of the server. The last command stays in force at the box."""
        if self._cancel_check is not None:
            self._cancel_check()
            self._cancel_check = None

    def _require_commands(self) -> None:
        if self.config.read_only:
            raise NotAllowed("read_only")

    def _require_known(self) -> None:
        if self.mode is Mode.LEARNING:
            raise NotApplicable("learning")

    def _require_reachable(self) -> None:
        received_at = self.command_clock.status_received_at
        if received_at is None or self._clock.monotonic() - received_at >= LIVE_AGE[Source.UDP]:
            raise NoConnection("charger_offline")
        if BoxIssue.IGNORES_COMMANDS in self.issues:
            raise NotApplicable("ignored")

    def _require_offline(self, amps: int) -> None:
        wire = self.config.wire_rating
        if amps < MINIMUM_CURRENT:
            raise UnsafeRequest("current_too_low", str(MINIMUM_CURRENT))
        if wire is None or amps > wire:
            raise UnsafeRequest("above_ceiling", "" if wire is None else f"{wire:g}")

    def _store_and_notify(self, offline: int) -> None:
        self.issues.discard(BoxIssue.OFFLINE_NOT_STORED)
        self._store(offline)
        self._notify()

    def _store(self, offline: int) -> None:
        """Send this stored limit from now on.

        The previous limit still counts until the box has surely received the new one.
        """
        state = self.state
        if offline != state.offline:
            state.overwritten = state.stored
            self._offline_sent_count = 0
        state.offline = offline
        self._update_offline_issues()

    def _queue_user_change(self) -> None:
        self._user_change_pending = True
        self._first_after_take_over = False
        self._notify()

    # Datagrams of the box

    def arrived(self, arrival: Arrival) -> None:
        """Process a datagram of the box."""
        message = arrival.message
        if isinstance(message, StatusMessage):
            self._process_status(message, arrival)
        elif isinstance(message, DebugMessage):
            self._process_debug(message)
            self._forward_to_server(arrival.data)
        else:
            self._process_encrypted()
        self._notify()

    def _process_debug(self, message: DebugMessage) -> None:
        """Process a log line. ChargeKeeper never answers log lines (docs/protocols/juicebox.md, section 2.3.3)."""
        if message.level == "ERR":
            self.counts["errors_logged"] += 1
        if not message.booted:
            return
        if message.firmware is not None:
            self.state.firmware = message.firmware
        if self.command_clock.record_boot(self._clock.monotonic()):
            self.counts["boots"] += 1
            self._forget()

    def _process_encrypted(self) -> None:
        """Count an encrypted status. Do not answer or relay the status: the server's answer could not be checked.

        See docs/design.md, section 6.3.
        """
        self.counts["encrypted"] += 1
        self.issues.add(BoxIssue.ENCRYPTED)

    def _process_status(self, message: StatusMessage, arrival: Arrival) -> None:
        now = self._clock.monotonic()
        if self.state.version not in {"", message.version}:
            self._forget()
            self._command_tracker = CommandTracker()  # another firmware may mean something else by its limits
            self.state.second_in_force = None
        self.state.version = message.version
        self.issues.discard(BoxIssue.ENCRYPTED)
        self.status = message
        self._arrival = arrival
        self.state.host = arrival.address[0]
        self.state.heard_at = self._clock.now()
        self.command_clock.record_status(message, now)
        self._update_session(message, now)
        self._record_interval_energy(message)
        self._learn_offline(message, now)
        self._track_command(message, now)
        self._confirm_offline_sent(message)
        self._forward_status(arrival.data, now)
        if self.mode is Mode.KEEP:
            self._answer(now)

    def _update_session(self, message: StatusMessage, now: float) -> None:
        state = self.state
        if message.lifetime_energy is not None:
            state.lifetime = message.lifetime_energy
        if message.state == UNPLUGGED:
            if state.plugged:
                state.plugged = state.paused = state.override = False
            state.session_start = None
            self.issues.discard(BoxIssue.OVERRIDE_HANDED_BACK)
        elif message.state in {1, 2}:
            state.plugged = True
            if state.session_start is None:
                state.session_start = state.lifetime
        power = message.power
        if message.state != 2 or power is None or power >= FULL_BELOW:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now

    def _record_interval_energy(self, message: StatusMessage) -> None:
        """Record the energy of a quarter hour. After a boot, a box knows the time only from its first command."""
        slot, energy = message.quarter_hour or (0, None)
        if energy is not None and self.command_clock.knows_time:
            self.state.quarters.record(slot, energy, self._clock.now(), self.config.zone)

    def _learn_offline(self, message: StatusMessage, now: float) -> None:
        """Learn the stored limit, which shows after a boot and after a long silence.

        See docs/protocols/juicebox.md, section 2.6.

        A limit too low for any car is not learned without the user's confirmation: the box's own schedule may look the
        same. ChargeKeeper also sends the limit that it learns here.
        """
        silent = self.command_clock.surely_fell_back(now)
        shown = _plausible(message.limit_in_force)
        if not (silent or self.command_clock.sent_since_boot(message, now)) or shown is None:
            return
        if shown < MINIMUM_CURRENT:
            if self.state.offline is None:
                self.issues.add(BoxIssue.STORED_ZERO)
            return
        self.command_clock.mark_learned()
        self.state.offline = shown
        self.state.overwritten = None
        if self._previous_offline is not None and shown == self._previous_offline[0]:
            # The change was lost and may be tried again.
            self.state.offline_changed_at = self._previous_offline[1]
        self._previous_offline = None
        self.issues.discard(BoxIssue.OFFLINE_NOT_STORED)
        self._update_offline_issues()
        if silent and self.server_health.silent:
            self._set_in_charge(True)

    def _track_command(self, message: StatusMessage, now: float) -> None:
        """Check that the status shows the last command."""
        sent = self.state.online
        offline = self.state.offline
        if sent is None or offline is None or not self.command_clock.obeys(now):
            self._command_tracker.cancel()
            self._confirmed_share = inf
            return
        tracker = self._command_tracker
        tracker.check_status(message, sent, offline)
        self.state.second_in_force = tracker.second_in_force
        if tracker.proven:
            self.issues.discard(BoxIssue.IGNORES_COMMANDS)
        if tracker.follows:
            self.confirmed_current = self._sent_setting
            self._confirmed_share = self._sent_share
        elif tracker.ignored:
            self.issues.add(BoxIssue.IGNORES_COMMANDS)
            shown = _plausible(tracker.in_force(message)) or 0
            self.confirmed_current = shown if shown >= MINIMUM_CURRENT else None
            self._confirmed_share = inf
            if self._offline_sent_count >= SHOWS_WITHIN:  # otherwise the ignored commands preceded the change
                self.issues.discard(BoxIssue.OFFLINE_NOT_STORED)
                self._revert_offline_change()

    def _confirm_offline_sent(self, message: StatusMessage) -> None:
        """Count the statuses that follow a command with the present stored limit.

        Three such statuses confirm that the box stored the limit, unless the box ignores commands or reports that it
        still stores the previous one. A single command may be lost.
        """
        if self._sent_offline is not None and self._sent_offline == self.state.offline:
            self._offline_sent_count += 1
        self._sent_offline = None
        offline = self.state.offline
        overwritten = self.state.overwritten
        if offline is None or overwritten is None or self._offline_sent_count < SHOWS_WITHIN:
            return
        if BoxIssue.IGNORES_COMMANDS in self.issues:
            return
        if self._command_tracker.keeps_stored(message, offline, overwritten):
            self._report_not_stored(offline, overwritten)
            return
        self.state.overwritten = self._previous_offline = None
        if offline == self.not_stored:
            self.issues.discard(BoxIssue.OFFLINE_NOT_STORED)
        self._update_offline_issues()

    def _report_not_stored(self, offline: int, previous: int) -> None:
        """Report that the box still stores the previous limit.

        A lower limit is sent further: the user confirmed it, and the previous one counts until the box shows another.
        """
        if self.mode is not Mode.KEEP:
            return  # the server, not the user, wants another limit
        self.not_stored = offline
        self.issues.add(BoxIssue.OFFLINE_NOT_STORED)
        if offline > previous:
            self._revert_offline_change()

    def _revert_offline_change(self) -> None:
        """Restore the previous stored limit: the box ignored the change."""
        if self._previous_offline is not None:
            (offline, self.state.offline_changed_at) = self._previous_offline
            self._previous_offline = None
            self._store(offline)

    def _forget(self) -> None:
        self.state.forget()
        self.command_clock.forget()
        self._sent_offline = None
        self._offline_sent_count = 0
        self._sent_setting = None
        self._sent_share = self._confirmed_share = inf

    def _update_offline_issues(self) -> None:
        offline = self.state.offline
        highest = self.state.stored
        wire = self.config.wire_rating
        self.issues.discard(BoxIssue.OFFLINE_ABOVE_WIRE)
        if offline is not None:  # otherwise the limit seen at its boot still applies
            self.issues.discard(BoxIssue.STORED_ZERO)
            if offline < MINIMUM_CURRENT:
                self.issues.add(BoxIssue.STORED_ZERO)
        if highest is not None and wire is not None and highest > wire:
            self.issues.add(BoxIssue.OFFLINE_ABOVE_WIRE)

    # The manufacturer's server

    def _forward_to_server(self, data: bytes) -> None:
        if self._forward is not None:
            self._forward(data, self.server_health.suspect)

    def _forward_status(self, data: bytes, now: float) -> None:
        """Forward a status to the server, whoever answers the box, and notice missing answers."""
        if self._forward is None:
            return
        gone = self._server_is_gone(now)  # judged by earlier statuses: this one may come before their answers
        self.server_health.record_status(now)
        self._relaying = True
        self._forward_to_server(data)
        if self.mode is Mode.RELAY:
            self._schedule_check(0.0 if gone else ANSWER_WITHIN)

    def _schedule_check(self, seconds: float) -> None:
        self.close()
        self._cancel_check = self._clock.call_later(seconds, self._check_server)

    def _check_server(self) -> None:
        """Take over if the server is gone."""
        self._cancel_check = None
        if self.mode is not Mode.RELAY or not self.server_health.has_unanswered_status:
            return
        now = self._clock.monotonic()
        if self._server_is_gone(now):
            self._take_over(now)
        else:
            self._schedule_check(self._take_over_deadline - now)

    @property
    def _take_over_deadline(self) -> float:
        """Latest monotonic time at which the box is taken over if the server leaves a status unanswered."""
        return self.command_clock.served_at + LONGEST_UNSERVED

    def _server_is_gone(self, now: float) -> bool:
        """Return True if the server left too many statuses unanswered, or one status unanswered for too long."""
        return self.server_health.is_gone(now) or (
            self.server_health.has_unanswered_status and now >= self._take_over_deadline
        )

    def _take_over(self, now: float) -> None:
        LOGGER.info("The JuiceBox server does not answer; ChargeKeeper answers a box in its place")
        self.counts["taken_over"] += 1
        self.server_health.record_take_over()
        # A change of the user since the last answer goes first.
        self._first_after_take_over = not self._user_change_pending
        self._set_in_charge(True)
        self._answer(now)
        self._notify()

    def from_server(self, data: bytes) -> None:
        """Process a datagram of the manufacturer's server."""
        command = parse_command(data)
        if isinstance(command, Rejection) or command.wide is not (self.state.version == WIDE_VERSION):
            self.counts["server_garbage"] += 1
            return
        received = Timestamp.of(self._clock)
        self.server_health.record_answer(received)
        self.state.served = command.online
        if command.online >= MINIMUM_CURRENT:
            self.issues.discard(BoxIssue.OVERRIDE_HANDED_BACK)
            self.state.allowed = (
                command.online
                if self.installation_limit is None
                else floor(min(command.online, self.installation_limit))
            )
        if self.mode is Mode.KEEP:
            self._consider_handing_back(received.observed_mono)
        elif self._relaying:
            self._relay(command, data, received.observed_mono)
        self._notify()

    def _consider_handing_back(self, now: float) -> None:
        state = self.state
        if not self.server_health.may_return(now):
            return
        if self._overridden and state.served is not None and state.served < MINIMUM_CURRENT:
            if self.may_replace_server:
                return  # ChargeKeeper stays in charge until the override ends
            self.issues.add(BoxIssue.OVERRIDE_HANDED_BACK)
        LOGGER.info("The JuiceBox server answers again; a box is handed back to it")
        state.override = False
        self.counts["handed_back"] += 1
        self._relaying = False
        self._set_in_charge(False)

    def _relay(self, command: CommandMessage, data: bytes, now: float) -> None:
        """Pass on the server's command, with as much of its current as is permitted.

        The server's stored limit is replaced only if it would raise the known one above the wire rating. The rest of
        the command always passes, at once.
        """
        state = self.state
        installation_limit = self.installation_limit
        self._set_issue(
            BoxIssue.UNSAFE_SERVER, present=installation_limit is not None and command.online > installation_limit
        )
        offline = self._permitted_stored(command.offline)
        self._set_issue(BoxIssue.UNSAFE_STORED, present=offline != command.offline)
        if offline != command.offline:
            self.refused_stored = command.offline
        passed = replace(command, online=self._permitted(command.online), offline=offline)
        if state.offline is None:
            self._set_in_charge(False)
        if self._send(passed, data if passed == command else passed.encode(), now):
            self.command_clock.mark_learned()
            self._store(offline)

    def _permitted(self, amps: int) -> int:
        """Return how much of the server's current the ceiling, the user's current and a pause permit, in A."""
        reads_only = self.config.read_only
        highest, _ = ceiling(self.limits)
        requested = None if reads_only else self.state.charging_current
        left = floor(min(bound for bound in (amps, highest, requested) if bound is not None))
        is_paused = self.state.paused and not reads_only
        return 0 if is_paused or left < MINIMUM_CURRENT else left

    def _permitted_stored(self, amps: int) -> int:
        """Return the stored limit to pass on to the box, in A.

        This is the server's limit. If that would raise the known limit above the wire rating, it is the known limit.
        """
        known = self.state.offline
        wire = HIGHEST_CURRENT if self.config.wire_rating is None else self.config.wire_rating
        if known is None or amps <= max(known, wire):
            return amps
        return known

    def _set_issue(self, issue: BoxIssue, *, present: bool) -> None:
        if present:
            self.issues.add(issue)
        else:
            self.issues.discard(issue)

    # Answers of ChargeKeeper

    def _answer(self, now: float) -> None:
        """Answer the last status. The stored limit in the command is the known one (I11)."""
        state = self.state
        assert state.offline is not None
        local = self._clock.now().astimezone(schedule.zone(self.config.zone))
        index = state.index % 999 + 1
        command = CommandMessage(
            weekday=local.isoweekday() % 7,
            hour=local.hour,
            minute=local.minute,
            online=self._next_current(now),
            offline=state.offline,
            flags=FLAGS_CYCLE[index % len(FLAGS_CYCLE)] if state.cycles else state.flags,
            index=index,
            wide=state.version == WIDE_VERSION,
        )
        self._send(command, command.encode(), now)

    def _next_current(self, now: float) -> int:
        """Return `A` of the next answer: the target current, unless a guard time delays it."""
        last = self.state.online
        is_first = self._first_after_take_over
        self._first_after_take_over = False
        highest, _ = ceiling(self.limits)
        if last is None and self.config.read_only:
            last = self.state.offline  # as without an answer
        if last is not None and (self.config.read_only or is_first):
            bounded = last if highest is None else floor(min(last, highest))
            return bounded if bounded >= MINIMUM_CURRENT else 0
        target = self._target_current()
        if last is None or self._user_change_pending or target == last:
            return target
        starts_or_stops = (target == 0) is not (last < MINIMUM_CURRENT)
        if starts_or_stops and now < self._cooldown.start_at:  # a stop waits too: some cars do not resume
            return 0 if target else min(last, self.allowed)
        if not starts_or_stops and target > last and now < self._cooldown.raise_at:
            return last
        return target

    def _target_current(self) -> int:
        if self.state.paused or self.blocked_by_schedule:
            return 0
        return self.allowed

    def _send(self, command: CommandMessage, data: bytes, now: float) -> bool:
        """Answer the last status with a command; return True if it was sent."""
        if self._arrival is None or not self._arrival.answer(data):
            return False
        state = self.state
        last = self.state.online
        if last is not None and (command.online == 0) is not (last < MINIMUM_CURRENT):
            self._cooldown.switched()
        if last is not None and command.online > last:
            self._cooldown.raised()
        if command.online < MINIMUM_CURRENT:
            self.block_reason = self._find_block_reason()
        if self._user_change_pending:
            self._user_change_pending = False
            self._command_tracker.record_user_change()
        self._command_tracker.record_command(command.online, command.offline, self.status)
        self._sent_offline = command.offline
        state.online = command.online
        state.index = command.index
        state.flags = command.flags
        state.cycles = command.flags == FLAGS_CYCLE[command.index % len(FLAGS_CYCLE)] and (
            state.cycles or command.flags != CONSTANT_FLAGS
        )
        state.commanded_at = self._clock.now()
        self.command_clock.commanded_at = now
        self._sent_setting = state.charging_current
        self._sent_share = self._share_bound
        self.counts["kept" if self.mode is Mode.KEEP else "relayed"] += 1
        return True

    def _find_block_reason(self) -> BlockReason:
        """Return why the current command does not let the box charge."""
        if self.state.paused:
            return BlockReason.PAUSE
        if self.mode is Mode.KEEP and not self.blocked_by_schedule:
            return self.block_reason if self.allowed else BlockReason.POWER  # a guard time keeps the previous reason
        return BlockReason.SCHEDULE

    def _set_in_charge(self, in_charge: bool) -> None:
        self._in_charge = self.state.kept = in_charge
        if in_charge:
            self.issues -= SERVER_ISSUES


def _plausible(amps: int | None) -> int | None:
    """Return a reported limit if a box can have it, otherwise None."""
    return amps if amps is not None and 0 <= amps <= HIGHEST_CURRENT else None
