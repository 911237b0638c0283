"""The kind of an entry, which its data name."""

from homeassistant.config_entries import ConfigEntry

from ..const import CONF_KIND


def kind_of(entry: ConfigEntry) -> str | None:
    """Return the kind of an entry, or None for an ignored discovery, which has no data."""
    kind: str | None = entry.data.get(CONF_KIND)
    return kind
