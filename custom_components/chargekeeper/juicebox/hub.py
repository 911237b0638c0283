"""All boxes of this Home Assistant: one listener, a line to the maker's server for each, and what is kept of them.

It outlives reloads, so that nothing is lost between two statuses; and when it is closed it sends nothing more, so that
a box goes on as it was told last.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from math import inf
import socket

from ..core.clock import Clock, monotonic_of
from ..core.errors import TransportBusy
from ..core.signal import subscribe
from .box import Box, BoxConfig
from .listener import Address, Arrival, Discovered, Listener
from .state import BoxState
from .upstream import Upstream, UpstreamConfig

MOST_BOXES = 100
"""Boxes that one server takes."""

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - what the user may have chosen, here only recognised


class BoxHub:
    """The boxes and their sockets.

    Args:
        clock: time.
        stored: what `export` gave earlier; what of it is damaged is forgotten.
    """

    def __init__(self, clock: Clock, stored: object = None) -> None:
        self._clock = clock
        self._stored: dict[str, object] = dict(stored) if isinstance(stored, Mapping) else {}
        self._upstream_config: UpstreamConfig | None = None
        self._upstreams: dict[str, Upstream] = {}
        self._discovery_listeners: list[Callable[[Discovered], None]] = []
        self._closing: set[asyncio.Task[None]] = set()
        self.boxes: dict[str, Box] = {}
        self.listener = Listener(clock, self._arrived, self._discovered)
        self.listener.on_dispute = self._disputed
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever what `export` gives may have changed."""

    # What the user set up

    def open(self, address: str, ports: Iterable[int], upstream: UpstreamConfig | None) -> None:
        """Listen, or listen elsewhere from now on; boxes stay.

        Raises:
            PortBusy: a port is taken, its number is the detail; nothing has changed.
            NoConnection: `bad_address`; nothing has changed.
        """
        self.listener.open(address, ports)
        self.set_upstream(upstream)

    def set_upstream(self, upstream: UpstreamConfig | None) -> None:
        """Have another server of the maker's from now on, or none; before boxes are added, it is theirs at once."""
        if upstream != self._upstream_config:
            self._upstream_config = upstream
            for serial, box in self.boxes.items():
                box.connect(self._open_upstream(serial))

    def add(self, config: BoxConfig) -> Box:
        """Take a box, or its new settings; one that is there goes on where it was.

        Raises:
            TransportBusy: `too_many_boxes`.
        """
        box = self.boxes.get(config.serial)
        if box is None:
            if len(self.boxes) >= MOST_BOXES:
                raise TransportBusy("too_many_boxes", 0.0, str(MOST_BOXES))
            return self._start(config)
        if config.host != box.config.host:
            self.trust(config.serial, config.host)
        box.configure(config)
        return box

    def trust(self, serial: str, host: str) -> None:
        """Believe a box at the address that the user named, wherever it was believed to be before."""
        box = self.boxes.get(serial)
        if box is not None:
            box.state.pinned = box.state.host = host
            self._add_to_listener(box)
            box.dispute(on=False)

    def remove(self, serial: str) -> None:
        """Give a box up for good; it is forgotten."""
        self._stored.pop(serial, None)
        box = self.boxes.pop(serial, None)
        if box is None:
            return
        box.close()
        self.listener.remove(serial)
        self._close_upstream(serial)
        self.on_change()

    async def close(self) -> None:
        """Send nothing any more: Home Assistant stops, or the entry is gone."""
        self.listener.close()
        for serial, box in self.boxes.items():
            box.close()
            self._close_upstream(serial)
        await asyncio.gather(*self._closing)

    # What it tells

    def export(self) -> dict[str, object]:
        """What is kept over a restart, by serial; boxes that are not set up now stay in it."""
        return self._stored | {serial: box.state.export() for serial, box in self.boxes.items()}

    def listen_discovery(self, callback: Callable[[Discovered], None]) -> Callable[[], None]:
        """Be told of unknown boxes, those that wait already included; the answer ends it."""
        for found in self.listener.discovered:
            callback(found)
        return subscribe(self._discovery_listeners, callback)

    def upstream_error(self, serial: str) -> str | None:
        """Why the maker's server cannot be reached for a box, as a slug; None where nothing is known against it."""
        upstream = self._upstreams.get(serial)
        return None if upstream is None else upstream.error

    # Inside

    def _start(self, config: BoxConfig) -> Box:
        state = BoxState.restored(self._stored.get(config.serial))
        # It may have moved since the user said where it is; what the user says anew goes before that.
        if state.pinned != config.host or not state.host:
            state.pinned = state.host = config.host
        box = Box(self._clock, config, state, self._open_upstream(config.serial))
        box.listen(self._changed)
        self.boxes[config.serial] = box
        self._add_to_listener(box)
        return box

    def _add_to_listener(self, box: Box) -> None:
        """Have a box listened to where its memory says that it is."""
        state = box.state
        heard_at = state.heard_at or state.commanded_at
        metered_at = -inf if heard_at is None else monotonic_of(self._clock, heard_at)
        serial = box.config.serial
        self.listener.add(serial, state.host, state.lifetime, pinned=state.pinned, metered_at=metered_at)

    def _open_upstream(self, serial: str) -> Callable[[bytes, bool], None] | None:
        """A line to the maker's server, in the place of one that there may be."""
        self._close_upstream(serial)
        if self._upstream_config is None:
            return None
        upstream = Upstream(
            self._clock, self._upstream_config, lambda data: self._from_server(serial, data), self._is_own_endpoint
        )
        self._upstreams[serial] = upstream
        return upstream.send

    def _close_upstream(self, serial: str) -> None:
        upstream = self._upstreams.pop(serial, None)
        if upstream is not None:
            task = asyncio.get_running_loop().create_task(upstream.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _changed(self) -> None:
        self.on_change()

    def _arrived(self, arrival: Arrival) -> None:
        serial = arrival.message.serial
        box = self.boxes[serial]
        upstream = self._upstreams.get(serial)  # only those are listed
        box.dispute(on=self.listener.is_disputed(serial))
        if upstream is not None and arrival.address != box.address and upstream.is_returned(arrival.data):
            return
        box.arrived(arrival)

    def _disputed(self, serial: str) -> None:
        self.boxes[serial].dispute(on=True)  # only boxes are listed

    def _discovered(self, found: Discovered) -> None:
        for callback in list(self._discovery_listeners):
            callback(found)

    def _from_server(self, serial: str, data: bytes) -> None:
        box = self.boxes.get(serial)
        if box is not None:
            box.from_server(data)

    def _is_own_endpoint(self, peer: Address) -> bool:
        return leads_to(peer, self.listener.endpoints)


def leads_to(peer: Address, endpoints: Iterable[Address]) -> bool:
    """Whether what is sent to an address of a server would arrive at one of these endpoints of ours."""
    return any(
        port == peer[1] and (host == peer[0] or (host == ANY_ADDRESS and _is_local(peer))) for host, port in endpoints
    )


def _is_local(peer: Address) -> bool:
    """Whether an address is one of this machine: what is sent there goes out from there. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(peer)
        except OSError:
            return False
        return bool(probe.getsockname()[0] == peer[0])
