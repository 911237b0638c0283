"""Listeners that can be added and removed."""

from collections.abc import Callable


def subscribe[T](listeners: list[T], callback: T) -> Callable[[], None]:
    """Add a callback to a list; the answer takes it out again."""
    listeners.append(callback)

    def cancel() -> None:
        if callback in listeners:
            listeners.remove(callback)

    return cancel
