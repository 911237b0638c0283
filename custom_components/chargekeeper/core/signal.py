"""Listeners that can be added and removed."""

from collections.abc import Callable


def subscribe[T](listeners: list[T], callback: T) -> Callable[[], None]:
    """Add a listener. Return a function that removes the listener."""
    listeners.append(callback)

    def remove() -> None:
        if callback in listeners:
            listeners.remove(callback)

    return remove
