"""What `scripts/develop` starts: a simulated world with its cloud, a page to break it, and a real Home Assistant."""
