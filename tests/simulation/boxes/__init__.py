"""The house with JuiceBoxes: a load group of two or three, their maker's server, ours between them, and who watches."""
