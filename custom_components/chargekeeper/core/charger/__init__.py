"""Operate one charger: readings, routing, commands, intents and restart."""

from .charger import Charger
from .context import ChargerEvent, ChargerOptions, unlimited
from .intents import IntentStore, Until
from .restart_service import RestartRun

__all__ = ["Charger", "ChargerEvent", "ChargerOptions", "IntentStore", "RestartRun", "Until", "unlimited"]
