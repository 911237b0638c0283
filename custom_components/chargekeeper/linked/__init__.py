"""Entities of other integrations as a connection to a charger."""
