"""Wallbox: the client of its cloud, one account's budget and rounds, and the mapping of its words to ours."""
