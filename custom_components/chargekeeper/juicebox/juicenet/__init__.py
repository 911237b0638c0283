"""JuiceBoxes that are reached through a server with the JuiceNet interface."""
