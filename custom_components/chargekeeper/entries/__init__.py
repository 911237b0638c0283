"""One module per kind of config entry: set up, unload, remove."""
