"""Known defects of our service for boxes that a test can switch on: the simulation must catch each of them."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from math import floor
from typing import Any
from unittest.mock import patch

from custom_components.chargekeeper.core import limits
from custom_components.chargekeeper.core.load_group import group
from custom_components.chargekeeper.juicebox import box as box_module, datagram, listener
from custom_components.chargekeeper.juicebox.box import Box, Mode
from custom_components.chargekeeper.juicebox.command_clock import CommandClock
from custom_components.chargekeeper.juicebox.datagram import LONGEST, CommandMessage, parse_command, serial_of
from custom_components.chargekeeper.juicebox.listener import Listener

LATE = 5.0
"""Seconds."""


def _instead(stack: ExitStack, owner: object, name: str, replacement: object) -> None:
    stack.enter_context(patch.object(owner, name, replacement))


def _any_source(stack: ExitStack) -> None:
    _instead(stack, Listener, "_has_moved", staticmethod(lambda *_arguments: True))


def _any_checksum(stack: ExitStack) -> None:
    real = datagram.parse

    def parse(data: bytes) -> object:
        signed, mark, _ = data.partition(b"!")
        return real(signed + mark + datagram.checksum(signed) + b":" if mark else data)

    _instead(stack, listener, "parse", parse)


def _strangers_answered(stack: ExitStack) -> None:
    real = Listener._received

    def received(self: Listener, sock: Any, data: bytes, address: listener.Address) -> None:
        serial = serial_of(data[:LONGEST])
        if serial is not None and self.host_of(serial) != address[0]:
            sock.sendto(b"CMD41301A40M40C006S074!F0P$", address)
        real(self, sock, data, address)

    _instead(stack, Listener, "_received", received)


def _some_unanswered(stack: ExitStack) -> None:
    real = Box._answer

    def answer(self: Box, now: float) -> None:
        received_at = self.command_clock.status_received_at
        if received_at is None or int(received_at) % 7:
            real(self, now)

    _instead(stack, Box, "_answer", answer)


def _answered_late(stack: ExitStack) -> None:
    real = Box._answer

    def answer(self: Box, now: float) -> None:
        self._clock.call_later(LATE, lambda: real(self, now + LATE))

    _instead(stack, Box, "_answer", answer)


def _never_taken_over(stack: ExitStack) -> None:
    _instead(stack, Box, "_take_over", lambda self, _now: self._schedule_check(LATE))


def _two_masters(stack: ExitStack) -> None:
    real = Box.from_server

    def from_server(self: Box, data: bytes) -> None:
        real(self, data)
        offline, command = self.state.offline, parse_command(data)
        if self.mode is Mode.KEEP and offline is not None and isinstance(command, CommandMessage):
            passed = replace(command, online=min(command.online, self.allowed), offline=offline)
            self._send(passed, passed.encode(), self._clock.monotonic())

    _instead(stack, Box, "from_server", from_server)


def _stored_follows_current(stack: ExitStack) -> None:
    def command(**given: Any) -> CommandMessage:
        return CommandMessage(**given | {"offline": given["online"] or given["offline"]})

    _instead(stack, box_module, "CommandMessage", command)


def _any_status_teaches(stack: ExitStack) -> None:
    real = CommandClock.sent_since_boot
    _instead(
        stack, CommandClock, "sent_since_boot", lambda self, message, now: self.obeys(now) or real(self, message, now)
    )


def _share_forgotten(stack: ExitStack) -> None:
    stack.enter_context(patch.object(Box, "share", property(lambda _self: None, _nothing), create=True))


def _nothing(_box: Box, _amps: float | None) -> None:
    """Keep nothing."""


def _all_to_each(stack: ExitStack) -> None:
    _instead(stack, group, "static_shares", lambda spec: [floor(spec.limit)] * len(spec.members))
    _instead(stack, group, "allocate", lambda limit, claims: [floor(limit)] * len(claims))
    _instead(stack, group.LoadGroup, "_room", lambda self, _state: self.spec.limit)


def _excess_untold(stack: ExitStack) -> None:
    _instead(stack, group, "stored_excess", lambda _spec, _known: 0.0)


def _unsafe_relayed(stack: ExitStack) -> None:
    _instead(stack, Box, "_permitted", lambda self, amps: 0 if self.state.paused else amps)


def _override_ends_at_take_over(stack: ExitStack) -> None:
    _instead(stack, Box, "_overridden", property(lambda _self: False))


def _pause_lost_in_relay(stack: ExitStack) -> None:
    real = Box._permitted

    def permitted(self: Box, amps: int) -> int:
        with patch.object(self.state, "paused", new=False):
            return real(self, amps)

    _instead(stack, Box, "_permitted", permitted)


def _relay_lowers(stack: ExitStack) -> None:
    real = Box._relay

    def relay(self: Box, command: CommandMessage, data: bytes, now: float) -> None:
        lowered = replace(command, online=min(command.online, limits.MINIMUM_CURRENT))
        real(self, lowered, lowered.encode(), now)

    _instead(stack, Box, "_relay", relay)


def _last_safe_repeated(stack: ExitStack) -> None:
    """Restore an old defect: when the server's limit is too high, the box gets the last safe current again."""
    real = Box._permitted
    safe: dict[str, int] = {}

    def permitted(self: Box, amps: int) -> int:
        if not self.issues & box_module.SERVER_ISSUES:
            safe[self.config.serial] = amps
        return real(self, safe.get(self.config.serial, amps))

    _instead(stack, Box, "_permitted", permitted)


def _any_stored_relayed(stack: ExitStack) -> None:
    _instead(stack, Box, "_permitted_stored", lambda _self, amps: amps)


PLANTS: dict[str, tuple[str, str, Callable[[ExitStack], None]]] = {
    "any-source-believed": ("I9", "a box is wherever its serial comes from", _any_source),
    "any-checksum-believed": ("I9", "statuses are not checked", _any_checksum),
    "strangers-answered": ("I9", "whatever looks like a box gets an answer", _strangers_answered),
    "kept-box-unanswered": ("I10", "some statuses of a kept box are not answered", _some_unanswered),
    "kept-box-answered-late": ("I10", "answers take five seconds", _answered_late),
    "never-taken-over": ("I10", "a box stays with a server that is gone", _never_taken_over),
    "two-masters": ("I10", "the server's commands reach a box that we keep", _two_masters),
    "stored-follows-current": ("I11", "the stored limit is sent as the current of the moment", _stored_follows_current),
    "any-status-teaches": ("I11", "what is in force at any moment counts as the stored limit", _any_status_teaches),
    "share-forgotten": ("I1", "boxes do not know their share of a load group", _share_forgotten),
    "all-to-each": ("load group", "each member of a load group gets all of its limit", _all_to_each),
    "excess-untold": ("load group", "no repair tells of stored limits that are too high together", _excess_untold),
    "unsafe-relayed": ("I1", "the server's unsafe currents pass", _unsafe_relayed),
    "override-ends-at-take-over": (
        "windows",
        "no override holds while we keep a box",
        _override_ends_at_take_over,
    ),
    "pause-lost-in-relay": ("pause", "the server's commands go before a pause", _pause_lost_in_relay),
    "last-safe-repeated": (
        "relay",
        "the last safe current is repeated, not the server's lower one",
        _last_safe_repeated,
    ),
    "any-stored-relayed": ("I11", "the server's stored limit passes however high it is", _any_stored_relayed),
    "relay-lowers": ("relay", "the server's commands are lowered", _relay_lowers),
}
"""Defects by name: the invariant that must catch the defect, its description, and the patch."""
