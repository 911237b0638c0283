"""Who answers a box, and what: it is learnt, relayed to its maker's server, or kept by us (design section 6).

One of three at any time, and never two masters (invariant I10): while learning nobody of us answers; in relay the
server's commands pass; while we keep it, each status is answered at once and the server's commands are only read.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
import logging
from math import floor, inf

from ..core import schedule
from ..core.clock import Clock
from ..core.context import subscribe
from ..core.limits import MINIMUM_CURRENT, Limits, ceiling
from ..core.model import LIVE_AGE, Schedule, Source
from ..core.paths import NoConnection, NotAllowed, NotApplicable, UnsafeRequest
from .datagram import (
    WIDE_VERSION,
    CommandMessage,
    DebugMessage,
    EncryptedMessage,
    Rejection,
    StatusMessage,
    parse_command,
)
from .listener import Address, Arrival
from .memory import HIGHEST_CURRENT, Memory

LOGGER = logging.getLogger(__name__)

ANSWER_WITHIN = 5.0
"""Seconds that the server has for an answer; the real one took up to 4 (fact sheet 2.5)."""
SUSPECT_AFTER, TAKE_OVER_AFTER = 2, 3
"""Statuses without an answer after which the server is suspect, and after which it counts as gone."""
SHORTEST_OUTAGE = 20.0
"""Seconds that those must span: at a change of state boxes send several at once."""
LONGEST_UNSERVED = 110.0
"""Seconds after its last command at which a box is taken over however many statuses came: within 120 s in any case."""
GOOD_TO_HAND_BACK, HAND_BACK_AFTER = 3, 60.0
"""Good answers of the server in a row, and seconds since the first of them, after which it is the master again."""
SILENCE_SHOWS_OFFLINE = 360.0
"""Seconds without a command after which a box surely obeys its stored limit, and reports it (fact sheet 2.6)."""
OFFLINE_AFTER = 300.0
"""Seconds after a command until which the box obeys it (fact sheet 2.6)."""
SWITCH_GUARD, RAISE_GUARD = 300.0, 60.0
"""Seconds between two starts or stops, and between two raises, that nobody asked for: some cars latch."""
ONE_START = 60.0
"""Seconds in which further lines of a start belong to the same one; by then the box may have been commanded."""
FULL_BELOW = 100.0
"""W; a car that draws less does not charge, whatever the box says (fact sheet 2.3)."""
CHANGE_OFFLINE_EVERY = timedelta(days=1)
"""The stored limit wears the memory of the box each time it is written (fact sheet 2.5)."""
SHOWS_WITHIN = 3
"""Statuses after a command of which one shows it: the first or second (fact sheet 2.5), the third if one is lost."""
IGNORED_IN_A_ROW = 3
"""Statuses that show nothing of what was sent, after which the box counts as one that cannot be commanded."""
CONSTANT_FLAGS, FLAGS_CYCLE = 6, (8, 244, 6, 242)
"""`C` of a command where nothing was learnt, and as the maker's server has it by the index (fact sheet 2.5)."""
COMMANDED = frozenset({"07", WIDE_VERSION})
"""The versions that take commands; older ones are only looked at."""

UNPLUGGED = 0


class Mode(StrEnum):
    """Who answers the box."""

    LEARNING = "learning"  # its stored limit is not known, so nobody of us
    RELAY = "relay"  # the maker's server
    KEEP = "keep"  # we


class Held(StrEnum):
    """Why a box was last told not to charge."""

    SCHEDULE = "schedule"
    PAUSE = "pause"
    POWER = "power"  # its part of the current is too little for any car


class Trouble(StrEnum):
    """What the user should know of a box."""

    UNSAFE_SERVER = "unsafe_server"  # the server's last command was above what the wiring bears, and not passed on
    IGNORES_COMMANDS = "ignores_commands"
    ENCRYPTED = "encrypted"
    STORED_ZERO = "stored_zero"  # alone it does not charge at all
    OFFLINE_ABOVE_WIRE = "offline_above_wire"
    OVERRIDE_HANDED_BACK = "override_handed_back"  # the server is back and in charge, and does not let it charge


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxConfig:
    """What the user said of a box. Currents in A, `minimal_energy` in Wh, `zone` an IANA name.

    `schedule` are the windows in which it may charge while we keep it, any time where there are none.
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
        clock: time.
        config: what the user said.
        memory: what is known from before.
        forward: sends a datagram to the maker's server, None where there is none; told whether that one is suspect.
    """

    def __init__(
        self,
        clock: Clock,
        config: BoxConfig,
        memory: Memory,
        forward: Callable[[bytes, bool], None] | None,
    ) -> None:
        self._clock = clock
        self._forward = forward
        self.config = config
        self.memory = memory
        self.share: float | None = None
        """A; the part of a load group of ours, None where it is in none."""
        self._override_wanted = False
        self._listeners: list[Callable[[], None]] = []
        self.status: StatusMessage | None = None
        self.heard_at: float | None = None
        self.server_at: float | None = None
        """Monotonic moment of the server's last good answer."""
        self.server_seen_at: datetime | None = None
        self.idle_since: float | None = None
        """Monotonic moment since which a car that may charge takes next to nothing."""
        self.counts: Counter[str] = Counter()
        self.troubles: set[Trouble] = set()
        self.held: Held = Held.PAUSE if memory.paused else Held.SCHEDULE
        """Why it was last told not to charge, whether or not that still holds."""
        self.in_effect: int | None = memory.charging_current
        """The user's charging current as far as the box showed that it keeps to it, A."""
        self._arrival: Arrival | None = None
        self._master = memory.kept or forward is None
        self._lost = memory.kept and not memory.override  # the server, until it gave some good answers
        self._commanded_at = -inf if memory.commanded_at is None else self._monotonic_of(memory.commanded_at)
        self._quiet_since = inf  # since when, in this run, it was heard and had no command
        self._booted = False  # the next status shows the stored limit
        self._booted_at = -inf
        self._unanswered = 0
        self._unanswered_since = inf
        self._good = 0
        self._good_since = inf
        self._answered = True  # the last status, by the server
        self._relaying = True  # false from handing back to the next status: that one was ours
        self._carry = False  # the next answer is the first after a take-over
        self._asked = False  # the user asked for a change: no guard
        self._switched_at = self._raised_at = -inf
        self._sent_setting: int | None = memory.charging_current
        self._ignored = 0
        self._sent_offline: int | None = None
        self._replaced: tuple[int | None, datetime | None] | None = None
        """The stored limit before the user's change, and when that was changed; until the box shows that it listens."""
        self._swapped = False  # the second limit is the one in force
        self._flight: int | None = None  # statuses since a wish was sent; None where none is on its way
        self._cancel_check: Callable[[], None] | None = None
        self._note_offline()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Be called after each datagram and each change of who answers or what is wanted; the answer ends it."""
        return subscribe(self._listeners, callback)

    def configure(self, config: BoxConfig) -> None:
        """Take what the user says now."""
        self.config = config
        self._note_offline()
        self._tell()

    def connect(self, forward: Callable[[bytes, bool], None] | None) -> None:
        """Another server of the maker's from now on, or none."""
        self._forward = forward
        self._unanswered, self._good, self._answered, self.server_at = 0, 0, True, None
        if forward is None:
            self._set_master(True)
        self._tell()

    def _tell(self) -> None:
        for callback in list(self._listeners):
            callback()

    # What is known

    @property
    def mode(self) -> Mode:
        """Who answers."""
        if self.memory.offline is None or self.memory.version not in COMMANDED:
            return Mode.LEARNING
        return Mode.KEEP if self._master else Mode.RELAY

    @property
    def server_answers(self) -> bool | None:
        """Whether the maker's server is there; None where there is none, or nothing was heard of it yet."""
        if self._forward is None or (self.server_at is None and self._unanswered < SUSPECT_AFTER):
            return None
        return self.server_at is not None and self._unanswered < TAKE_OVER_AFTER and not self._lost

    @property
    def suspect(self) -> bool:
        """Whether the server left the last statuses unanswered."""
        return self._unanswered >= SUSPECT_AFTER

    @property
    def commanded(self) -> bool:
        """Whether a command holds: the box has not fallen back to its stored limit."""
        return self._clock.monotonic() - self._commanded_at < OFFLINE_AFTER

    @property
    def in_force(self) -> int | None:
        """The limit that it showed in force, A."""
        if self.status is None:
            return None
        return self.status.second_limit if self._swapped else self.status.limit_in_force

    @property
    def in_flight(self) -> bool:
        """Whether the last status cannot show yet what the user asked for last."""
        return self._asked or self._flight is not None

    @property
    def address(self) -> Address | None:
        """Where its last status came from, in this run."""
        return None if self._arrival is None else self._arrival.address

    @property
    def limits(self) -> Limits:
        """The limits of the installation, as far as they are known."""
        unit = None if self.status is None else self.status.unit_rating
        bounds = [bound for bound in (self.config.load_group_limit, self.share) if bound is not None]
        return Limits(
            wire_rating=self.config.wire_rating,
            unit_rating=unit if unit is not None and MINIMUM_CURRENT <= unit <= HIGHEST_CURRENT else None,
            load_group_limit=min(bounds, default=None),
            charging_current=self.setting,
            offline_current=self.memory.offline,
        )

    @property
    def bearable(self) -> float | None:
        """The most that the installation bears, A. A share of our load group is not counted: no server can know it."""
        highest, _ = ceiling(replace(self.limits, load_group_limit=self.config.load_group_limit))
        return highest

    @property
    def setting(self) -> float | None:
        """The current that would be allowed if nothing else bound, A: the user's, else the last that was let pass."""
        memory = self.memory
        known = (memory.charging_current, memory.allowed, memory.offline)
        return next((amps for amps in known if amps is not None), None)

    @property
    def allowed(self) -> int:
        """The current that we let it draw when it may charge, A; 0 where that is too little for any car (I1)."""
        if self.setting is None:
            return 0
        bounds = [self.setting]
        highest, _ = ceiling(self.limits)
        if highest is not None:
            bounds.append(highest)
        if self.config.wire_rating is None:  # never raise
            bounds.append(max(self.memory.allowed or 0, self.memory.offline or 0))
        amps = floor(min(bounds))
        return amps if amps >= MINIMUM_CURRENT else 0

    @property
    def held_by_schedule(self) -> bool:
        """Whether the windows, or without any the server's last word, hold it back now."""
        if self._overridden:
            return False
        windows = self.config.schedule
        if windows:
            return not schedule.inside(windows, self._clock.now()) and not self._below_minimum
        return self._held_by_server

    @property
    def _held_by_server(self) -> bool:
        """Whether the last word of the maker's server was not to charge."""
        served = None if self._forward is None else self.memory.served
        return served is not None and served < MINIMUM_CURRENT

    @property
    def session_energy(self) -> int | None:
        """Wh since the car was plugged in; pauses do not end a session."""
        start, lifetime = self.memory.session_start, self.memory.lifetime
        return None if start is None or lifetime is None else max(lifetime - start, 0)

    @property
    def may_replace_server(self) -> bool:
        """Whether our command may take the place of the server's (design section 5, override)."""
        return not self.config.in_maker_load_group or self.config.load_group_limit is not None

    @property
    def offline_candidate(self) -> int | None:
        """What may be the stored limit, for the user to confirm, A (fact sheet 2.3, note)."""
        if self.memory.offline is not None or self.status is None:
            return None
        return _plausible(self.status.second_limit)

    @property
    def _overridden(self) -> bool:
        return self.memory.override or self._override_wanted

    @property
    def _below_minimum(self) -> bool:
        return (self.session_energy or 0) < self.config.minimal_energy

    # What the user wants

    def set_charging(self, *, on: bool) -> None:
        """Let it charge, or pause it, from the next answer on.

        Raises:
            NotApplicable: `no_car`, there is nothing to pause or to let go on; `wrong_state`, there is no pause to
                end; `learning`, it cannot be commanded yet.
        """
        self._require_known()
        if self.status is not None and self.status.state == UNPLUGGED:
            raise NotApplicable("no_car")
        held = self._held_by_server if self.mode is Mode.RELAY else self.held_by_schedule
        if on and not self.memory.paused and held:
            raise NotApplicable("wrong_state")
        self.memory.paused = not on
        self._user_asked()

    def set_current(self, amps: int) -> None:
        """Charge with at most so many A, from the next answer on. Raises NotApplicable: `learning`."""
        self._require_known()
        self.memory.charging_current = amps
        self._user_asked()

    def set_override(self, *, on: bool) -> None:
        """Charge whatever the schedule says, or let it rule again, from the next answer on.

        Raises:
            UnsafeRequest: `load_group`, the server shares out the current and would not know; `no_group_share`;
                `no_current`, nothing tells with how much it may charge.
            NotApplicable: `learning`.
        """
        if on:
            self._require_known()
            if self.mode is Mode.RELAY and not self.may_replace_server:
                raise UnsafeRequest("load_group")
            if not self.allowed:
                shared_out = self.share is not None and self.share < MINIMUM_CURRENT
                raise UnsafeRequest("no_group_share" if shared_out else "no_current")
            self._set_master(True)
            self.memory.paused = False
        self.troubles.discard(Trouble.OVERRIDE_HANDED_BACK)
        self.memory.override = on
        self._user_asked()

    def follow_override(self, *, on: bool) -> None:
        """Know whether the user's override goes on.

        It then holds over a take-over, also where nothing had to be sent for it, and a pause of before is over. Where
        it is over, for whatever reason, the schedule rules again.
        """
        if on and not self._override_wanted:
            self.memory.paused = False
        self._override_wanted = on
        if not on:
            self.memory.override = False

    def confirm_offline(self, amps: int) -> None:
        """The user says what the stored limit is; where the box has another it is written once (I11).

        Raises:
            NotApplicable: `known`, it was learnt meanwhile.
            UnsafeRequest: `current_too_low` or `above_ceiling`.
            NotAllowed: `read_only`.
        """
        self._require_commands()
        if self.memory.offline is not None:
            raise NotApplicable("known")
        self._require_offline(amps)
        self._confirmed(amps)

    def change_offline(self, amps: int) -> None:
        """Write another stored limit, as the user confirmed (I11). Should the box ignore that, nothing has changed.

        Raises:
            NoConnection: `charger_offline`, the box is not heard: a start would forget what it was to be told.
            UnsafeRequest: `current_too_low`; `above_ceiling`, it is above the wire rating; `once_a_day`.
            NotApplicable: `learning`; `server_in_charge`, the server would write its own again; `ignored`, the box
                ignores commands.
            NotAllowed: `read_only`.
        """
        self._require_commands()
        self._require_known()
        if self.mode is Mode.RELAY:
            raise NotApplicable("server_in_charge")
        self._require_hearing()
        self._require_offline(amps)
        changed_at, now = self.memory.offline_changed_at, self._clock.now()
        if changed_at is not None and timedelta() <= now - changed_at < CHANGE_OFFLINE_EVERY:
            raise UnsafeRequest("once_a_day")
        self._replaced = self.memory.offline, changed_at
        self.memory.offline_changed_at = now
        self._confirmed(amps)

    def close(self) -> None:
        """Nothing more is done; what the box was told last goes on to hold."""
        if self._cancel_check is not None:
            self._cancel_check()
            self._cancel_check = None

    def _require_commands(self) -> None:
        if self.config.read_only:
            raise NotAllowed("read_only")

    def _require_known(self) -> None:
        if self.mode is Mode.LEARNING:
            raise NotApplicable("learning")

    def _require_hearing(self) -> None:
        if self.heard_at is None or self._clock.monotonic() - self.heard_at >= LIVE_AGE[Source.UDP]:
            raise NoConnection("charger_offline")
        if Trouble.IGNORES_COMMANDS in self.troubles:
            raise NotApplicable("ignored")

    def _require_offline(self, amps: int) -> None:
        wire = self.config.wire_rating
        if amps < MINIMUM_CURRENT:
            raise UnsafeRequest("current_too_low", str(MINIMUM_CURRENT))
        if wire is None or amps > wire:
            raise UnsafeRequest("above_ceiling", "" if wire is None else f"{wire:g}")

    def _confirmed(self, offline: int) -> None:
        self.memory.offline = offline
        self._note_offline()
        self._tell()

    def _user_asked(self) -> None:
        self._asked = True
        self._carry = False
        self._tell()

    # What the box says

    def arrived(self, arrival: Arrival) -> None:
        """A datagram of the box."""
        message = arrival.message
        if isinstance(message, StatusMessage):
            self._status(message, arrival)
        elif isinstance(message, DebugMessage):
            self._debug(message)
            self._send_up(arrival.data)
        else:
            self._encrypted(message)
        self._tell()

    def _debug(self, message: DebugMessage) -> None:
        """Never answered (fact sheet 2.3.3)."""
        if not message.booted:
            return
        if message.firmware is not None:
            self.memory.firmware = message.firmware
        now = self._clock.monotonic()
        if now - self._booted_at < ONE_START or self._served_since_start(now):
            return
        self.counts["boots"] += 1
        self._forget()
        self._booted_at, self._booted = now, True

    def _served_since_start(self, now: float) -> bool:
        """Whether it was commanded since it started: a line of the start came late then, and its limit is known."""
        uptime = None if self.status is None else self.status.uptime
        if self.heard_at is None or uptime is None or now - self.heard_at >= ONE_START or uptime[0] >= ONE_START:
            return False
        return self._commanded_at >= self.heard_at - uptime[0]

    def _encrypted(self, message: EncryptedMessage) -> None:
        self.counts["encrypted"] += 1
        self.troubles.add(Trouble.ENCRYPTED)
        self.heard_at = self._clock.monotonic()

    def _status(self, message: StatusMessage, arrival: Arrival) -> None:
        now = self._clock.monotonic()
        if self.memory.version not in {"", message.version}:
            self._forget()
        self.memory.version = message.version
        self.troubles.discard(Trouble.ENCRYPTED)
        self.status, self.heard_at, self._arrival = message, now, arrival
        self.memory.host = arrival.address[0]
        self._quiet_since = min(self._quiet_since, now)
        self._follow_session(message, now)
        self._take_quarter(message)
        self._learn(message, now)
        self._see_effect(message)
        self._ask_server(arrival.data, now)
        if self.mode is Mode.KEEP:
            self._answer(now)

    def _follow_session(self, message: StatusMessage, now: float) -> None:
        memory = self.memory
        if message.lifetime_energy is not None:
            memory.lifetime = message.lifetime_energy
        if message.state == UNPLUGGED:
            if memory.plugged:
                memory.plugged = memory.paused = memory.override = False
            memory.session_start = None
        elif message.state in {1, 2}:
            memory.plugged = True
            if memory.session_start is None:
                memory.session_start = memory.lifetime
        power = message.power
        if message.state != 2 or power is None or power >= FULL_BELOW:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now

    def _take_quarter(self, message: StatusMessage) -> None:
        """Note the energy of a quarter hour; a box that started does not know the time before its first command."""
        slot, energy = message.quarter_hour or (0, None)
        if energy is not None and self._commanded_at >= self._booted_at:
            self.memory.quarters.take(slot, energy, self._clock.now(), self.config.zone)

    def _learn(self, message: StatusMessage, now: float) -> None:
        """The stored limit shows after a start, and after a long silence (fact sheet 2.6).

        None that lets no car charge is believed without the user's word: a schedule of the box's own may look the same,
        and what we take for stored is what we send.
        """
        silent = now - max(self._quiet_since, self._commanded_at) >= SILENCE_SHOWS_OFFLINE
        shown = _plausible(message.limit_in_force)
        if not (silent or self._is_first(message, now)) or shown is None:
            return
        if shown < MINIMUM_CURRENT:
            if self.memory.offline is None:
                self.troubles.add(Trouble.STORED_ZERO)
            return
        self._booted = False
        self.memory.offline = shown
        self._note_offline()
        if silent and self._unanswered >= TAKE_OVER_AFTER:
            self._set_master(True)

    def _is_first(self, message: StatusMessage, now: float) -> bool:
        """Whether it was sent since the start that was told, and not before: datagrams overtake each other."""
        if not self._booted or message.uptime is None:
            return False
        return message.uptime[0] <= now - self._booted_at + ONE_START

    def _see_effect(self, message: StatusMessage) -> None:
        """Whether it shows what it was sent; sources disagree about which of the two limits does (fact sheet 2.3)."""
        sent, offline = self.memory.online, self.memory.offline
        if sent is None or offline is None or not self.commanded:
            self._flight = None
            return
        rating = HIGHEST_CURRENT if message.unit_rating is None else message.unit_rating
        expected = {min(sent, rating), min(sent, offline, rating)}
        first, second = message.limit_in_force in expected, message.second_limit in expected
        if first is not second and min(offline, rating) not in expected:
            self._swapped = second
        if self._flight is not None:
            self._flight += 1
            if self.in_force in expected or self._flight >= SHOWS_WITHIN:
                self._flight = None
        if first or second:
            self.in_effect = self._sent_setting
            self._ignored = 0
            self._replaced = self._replaced if self._sent_offline != offline else None
            self.troubles.discard(Trouble.IGNORES_COMMANDS)
        else:
            self._ignored += 1
            if self._ignored >= IGNORED_IN_A_ROW:
                self.troubles.add(Trouble.IGNORES_COMMANDS)
                self._take_back_change()

    def _take_back_change(self) -> None:
        """The box was told to store another limit, and did not listen."""
        if self._replaced is not None:
            self.memory.offline, self.memory.offline_changed_at = self._replaced
            self._replaced = None
            self._note_offline()

    def _forget(self) -> None:
        self._replaced = None
        self.memory.forget()
        self._sent_setting = None
        self._commanded_at = -inf
        self._quiet_since = inf

    def _note_offline(self) -> None:
        offline, wire = self.memory.offline, self.config.wire_rating
        self.troubles -= {Trouble.STORED_ZERO, Trouble.OFFLINE_ABOVE_WIRE}
        if offline is not None and offline < MINIMUM_CURRENT:
            self.troubles.add(Trouble.STORED_ZERO)
        if offline is not None and wire is not None and offline > wire:
            self.troubles.add(Trouble.OFFLINE_ABOVE_WIRE)

    # The maker's server

    def _send_up(self, data: bytes) -> None:
        if self._forward is not None:
            self._forward(data, self.suspect)

    def _ask_server(self, data: bytes, now: float) -> None:
        """The server gets every status, whoever answers; that it does not answer is noticed here."""
        if self._forward is None:
            return
        if not self._answered:
            self._good = 0
        if not self._unanswered:
            self._unanswered_since = now
        self._unanswered += 1
        self._answered = False
        self._relaying = True
        self._send_up(data)
        if self.mode is Mode.RELAY:
            self._check_in(ANSWER_WITHIN)

    def _check_in(self, seconds: float) -> None:
        self.close()
        self._cancel_check = self._clock.call_later(seconds, self._check)

    def _check(self) -> None:
        """Take over where the server is gone."""
        self._cancel_check = None
        if self.mode is not Mode.RELAY or not self._unanswered:
            return
        now = self._clock.monotonic()
        counted = self._unanswered >= TAKE_OVER_AFTER and now - self._unanswered_since >= SHORTEST_OUTAGE
        served_at = self._quiet_since if self._commanded_at == -inf else self._commanded_at
        deadline = served_at + LONGEST_UNSERVED
        if counted or now >= deadline:
            self._take_over(now)
        else:
            self._check_in(deadline - now)

    def _take_over(self, now: float) -> None:
        LOGGER.info("The boxes' server does not answer: ChargeKeeper answers a box in its place")
        self.counts["taken_over"] += 1
        self._good, self._lost, self._carry = 0, True, True
        self._set_master(True)
        self._answer(now)
        self._tell()

    def from_server(self, data: bytes) -> None:
        """A datagram of the maker's server."""
        command = parse_command(data)
        if isinstance(command, Rejection) or command.wide is not (self.memory.version == WIDE_VERSION):
            self.counts["server_garbage"] += 1
            return
        now = self._clock.monotonic()
        self.server_at, self.server_seen_at = now, self._clock.now()
        self._unanswered = 0
        if not self._answered:
            self._answered = True
            self._good_since = now if self._good == 0 else self._good_since
            self._good += 1
            self._lost = self._lost and self._good < GOOD_TO_HAND_BACK
        self.memory.served = command.online
        if command.online >= MINIMUM_CURRENT and self._is_safe(command):
            self.memory.allowed = command.online
        if self.mode is Mode.KEEP:
            self._consider_handing_back(now)
        elif self._relaying:
            self._relay(command, data, now)
        self._tell()

    def _consider_handing_back(self, now: float) -> None:
        memory = self.memory
        if self._good < GOOD_TO_HAND_BACK or now - self._good_since < HAND_BACK_AFTER:
            return
        if self._overridden and memory.served is not None and memory.served < MINIMUM_CURRENT:
            if self.may_replace_server:
                return  # it stays ours until the override ends
            self.troubles.add(Trouble.OVERRIDE_HANDED_BACK)
        LOGGER.info("The boxes' server answers again: it has a box back")
        memory.override = False
        self.counts["handed_back"] += 1
        self._relaying = False
        self._set_master(False)

    def _is_safe(self, command: CommandMessage) -> bool:
        bearable, wire = self.bearable, self.config.wire_rating
        online = HIGHEST_CURRENT if bearable is None else bearable
        return command.online <= online and command.offline <= (HIGHEST_CURRENT if wire is None else wire)

    def _relay(self, command: CommandMessage, data: bytes, now: float) -> None:
        """Pass the server's command on: as it is, lowered to what the user wants, or as the last safe one."""
        memory = self.memory
        if self._is_safe(command):
            self.troubles.discard(Trouble.UNSAFE_SERVER)
            online, offline = self._capped(command.online), command.offline
        else:
            self.troubles.add(Trouble.UNSAFE_SERVER)
            if memory.offline is None:
                return
            last = self._wanted() if memory.online is None else memory.online  # it started anew, and has heard nothing
            highest, _ = ceiling(self.limits)
            bound = last if highest is None else floor(min(last, highest))
            online, offline = self._capped(bound), memory.offline
        passed = replace(command, online=online, offline=offline)
        if memory.offline is None:
            self._set_master(False)
        if self._send(passed, data if passed == command else passed.encode(), now):
            memory.offline = offline
            self._booted = False
            self._note_offline()

    def _capped(self, amps: int) -> int:
        """What of the server's current is left by the user's pause and charging current, and by our load group, A."""
        if self.config.read_only:
            return amps
        bounds = [bound for bound in (amps, self.memory.charging_current, self.share) if bound is not None]
        left = floor(min(bounds))
        if self.memory.paused or (left < amps and left < MINIMUM_CURRENT):
            return 0
        return left

    # Our answers

    def _answer(self, now: float) -> None:
        """Answer the last status ourselves. The stored limit stays what it is (I11)."""
        memory = self.memory
        assert memory.offline is not None
        local = self._clock.now().astimezone(schedule.zone(self.config.zone))
        index = memory.index % 999 + 1
        command = CommandMessage(
            weekday=local.isoweekday() % 7,
            hour=local.hour,
            minute=local.minute,
            online=self._next_current(now),
            offline=memory.offline,
            flags=FLAGS_CYCLE[index % len(FLAGS_CYCLE)] if memory.cycles else memory.flags,
            index=index,
            wide=memory.version == WIDE_VERSION,
        )
        self._send(command, command.encode(), now)

    def _next_current(self, now: float) -> int:
        """`A` of the next answer: what is wanted, unless a guard time holds it back."""
        last, carry = self.memory.online, self._carry
        self._carry = False
        highest, _ = ceiling(self.limits)
        if last is None and self.config.read_only:
            last = self.memory.offline  # as it would go on without an answer
        if last is not None and (self.config.read_only or carry):
            bounded = last if highest is None else floor(min(last, highest))
            return bounded if bounded >= MINIMUM_CURRENT else 0
        wanted = self._wanted()
        if last is None or self._asked or wanted == last:
            return wanted
        starts_or_stops = (wanted == 0) is not (last < MINIMUM_CURRENT)
        if starts_or_stops and now - self._switched_at < SWITCH_GUARD:
            return 0 if wanted else min(last, self.allowed)
        if not starts_or_stops and wanted > last and now - self._raised_at < RAISE_GUARD:
            return last
        return wanted

    def _wanted(self) -> int:
        if self.memory.paused or self.held_by_schedule:
            return 0
        return self.allowed

    def _send(self, command: CommandMessage, data: bytes, now: float) -> bool:
        """Answer the last status with a command; whether it went out."""
        if self._arrival is None or not self._arrival.answer(data):
            return False
        memory, last = self.memory, self.memory.online
        if last is not None and (command.online == 0) is not (last < MINIMUM_CURRENT):
            self._switched_at = now
        if last is not None and command.online > last:
            self._raised_at = now
        if command.online < MINIMUM_CURRENT:
            self.held = self._held_by()
        if self._asked:
            self._asked, self._flight = False, 0
        memory.online, memory.index, self._sent_offline = command.online, command.index, command.offline
        memory.flags = command.flags
        memory.cycles = command.flags == FLAGS_CYCLE[command.index % len(FLAGS_CYCLE)] and (
            memory.cycles or command.flags != CONSTANT_FLAGS
        )
        memory.commanded_at = self._clock.now()
        self._commanded_at = now
        self._sent_setting = memory.charging_current
        self.counts["kept" if self.mode is Mode.KEEP else "relayed"] += 1
        return True

    def _held_by(self) -> Held:
        """Why it is told not to charge now."""
        if self.memory.paused:
            return Held.PAUSE
        if self.mode is Mode.KEEP and not self.held_by_schedule:
            return self.held if self.allowed else Held.POWER  # a guard time goes on with what was
        return Held.SCHEDULE

    def _set_master(self, ours: bool) -> None:
        self._master = self.memory.kept = ours

    def _monotonic_of(self, moment: datetime) -> float:
        return self._clock.monotonic() - max((self._clock.now() - moment).total_seconds(), 0.0)


def _plausible(amps: int | None) -> int | None:
    """A limit that a box reported, if any box can have it."""
    return amps if amps is not None and 0 <= amps <= HIGHEST_CURRENT else None
