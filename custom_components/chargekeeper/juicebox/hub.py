"""All boxes of this Home Assistant: one listener, and for each box an upstream socket and its stored state.

The hub survives reloads, so that no status between them is lost. A closed hub sends nothing: each box continues with
its last command.
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
"""Largest number of boxes of one hub."""

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - only recognized here; the user may choose it


class BoxHub:
    """The boxes and their sockets.

    Args:
        clock: time.
        stored: what `export` returned earlier; damaged parts are ignored.
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
        """Called whenever the result of `export` may have changed."""

    # Settings of the user

    def open(self, address: str, ports: Iterable[int], upstream: UpstreamConfig | None) -> None:
        """Listen on these ports instead of the earlier ports; the boxes stay.

        Raises:
            PortBusy: a port is taken, its number is the detail; nothing has changed.
            NoConnection: `bad_address`; nothing has changed.
        """
        self.listener.open(address, ports)
        self.set_upstream(upstream)

    def set_upstream(self, upstream: UpstreamConfig | None) -> None:
        """Set the manufacturer's server for all present and later boxes; None for no server."""
        if upstream != self._upstream_config:
            self._upstream_config = upstream
            for serial, box in self.boxes.items():
                box.connect(self._open_upstream(serial))

    def add(self, config: BoxConfig) -> Box:
        """Add a box, or apply its new settings; an existing box keeps its state.

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
        """Move a box to the address that the user named, wherever it was before."""
        box = self.boxes.get(serial)
        if box is not None:
            box.state.pinned = box.state.host = host
            self._add_to_listener(box)
            box.dispute(on=False)

    def remove(self, serial: str) -> None:
        """Remove a box and forget its state."""
        self._stored.pop(serial, None)
        box = self.boxes.pop(serial, None)
        if box is None:
            return
        box.close()
        self.listener.remove(serial)
        self._close_upstream(serial)
        self.on_change()

    async def close(self) -> None:
        """Stop sending: Home Assistant stops, or the entry was removed."""
        self.listener.close()
        for serial, box in self.boxes.items():
            box.close()
            self._close_upstream(serial)
        await asyncio.gather(*self._closing)

    # State

    def export(self) -> dict[str, object]:
        """Return the state to store, by serial, including that of boxes not set up now."""
        return self._stored | {serial: box.state.export() for serial, box in self.boxes.items()}

    def listen_discovery(self, callback: Callable[[Discovered], None]) -> Callable[[], None]:
        """Call `callback` for each unknown box. Return a function that removes the listener.

        Boxes that already wait for the user are reported at once.
        """
        for found in self.listener.discovered:
            callback(found)
        return subscribe(self._discovery_listeners, callback)

    def upstream_error(self, serial: str) -> str | None:
        """Return why the manufacturer's server is unreachable for a box, as a slug; None if nothing is wrong."""
        upstream = self._upstreams.get(serial)
        return None if upstream is None else upstream.error

    # Internals

    def _start(self, config: BoxConfig) -> Box:
        state = BoxState.restored(self._stored.get(config.serial))
        # The box may have moved since the user named its address; a newly named address takes precedence.
        if state.pinned != config.host or not state.host:
            state.pinned = state.host = config.host
        box = Box(self._clock, config, state, self._open_upstream(config.serial))
        box.listen(self._changed)
        self.boxes[config.serial] = box
        self._add_to_listener(box)
        return box

    def _add_to_listener(self, box: Box) -> None:
        """Listen for a box at its last known address."""
        state = box.state
        heard_at = state.heard_at or state.commanded_at
        metered_at = -inf if heard_at is None else monotonic_of(self._clock, heard_at)
        serial = box.config.serial
        self.listener.add(serial, state.host, state.lifetime, pinned=state.pinned, metered_at=metered_at)

    def _open_upstream(self, serial: str) -> Callable[[bytes, bool], None] | None:
        """Open a new upstream for a box, and close an earlier one. Return the function that sends to the upstream."""
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
        upstream = self._upstreams.get(serial)  # the listener reports added boxes only
        box.dispute(on=self.listener.is_disputed(serial))
        if upstream is not None and arrival.address != box.address and upstream.is_returned(arrival.data):
            return
        box.arrived(arrival)

    def _disputed(self, serial: str) -> None:
        self.boxes[serial].dispute(on=True)  # the listener disputes added boxes only

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
    """Return True if a datagram to the address of a server would arrive at one of these endpoints."""
    return any(
        port == peer[1] and (host == peer[0] or (host == ANY_ADDRESS and _is_local(peer))) for host, port in endpoints
    )


def _is_local(peer: Address) -> bool:
    """Return True if an address belongs to this machine, which then also sends from it. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(peer)
        except OSError:
            return False
        return bool(probe.getsockname()[0] == peer[0])
