"""The config flows, one module per kind of entry or subentry."""
