"""The demo of `scripts/develop`: a simulated world with its cloud, a page to break it, and a real Home Assistant."""
