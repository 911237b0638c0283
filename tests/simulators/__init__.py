"""Stand-ins for chargers and their makers' clouds, for tests, benchmarks and `scripts/develop`."""
