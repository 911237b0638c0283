"""Keep one charger going: readings, routing, commands, intents and restart."""
