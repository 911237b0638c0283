"""JuiceBox chargers that send datagrams: their format, the listener, and who answers them."""
