"""What a path showed of its charger: kept for whoever listens later, told to whoever listens now."""

from collections.abc import Callable

from .model import Readings
from .paths import ChargerPath, PathListener


class Shown:
    """The readings of one path, and who listens to it: the last that came."""

    def __init__(self, path: ChargerPath) -> None:
        self.readings = Readings()
        self._path = path
        self._listener: PathListener | None = None

    def listen(self, listener: PathListener) -> Callable[[], None]:
        """Tell a listener what was shown so far and what will be; the answer ends it."""
        self._listener = listener
        if self.readings or self.readings.retracted:
            listener.path_read(self._path, self.readings)

        def cancel() -> None:
            if self._listener is listener:
                self._listener = None

        return cancel

    def take(self, readings: Readings) -> None:
        """The charger showed these, and showed that it has not those that are retracted."""
        for prop, reading in readings.items():
            self.readings.put(prop, reading)
            self.readings.retracted.pop(prop.key, None)
        for key, at in readings.retracted.items():
            self.readings.discard(key)
            self.readings.retracted[key] = at
        if self._listener is not None:
            self._listener.path_read(self._path, readings)

    def changed(self) -> None:
        """Something else about the path changed."""
        if self._listener is not None:
            self._listener.path_changed(self._path)

    def close(self) -> None:
        """Tell nobody any more."""
        self._listener = None
