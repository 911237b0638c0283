"""Keep chargers on one circuit below a shared limit."""
