"""The house with JuiceBoxes: a load group of two or three, the manufacturer's server, our server, the invariants."""
