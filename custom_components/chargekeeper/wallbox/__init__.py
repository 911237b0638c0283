"""Wallbox: the cloud client, one account's budgets and polls, and the mapping of cloud payloads to readings."""
