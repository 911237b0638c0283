"""JuiceBox chargers over their own datagrams: what is in them, who sends them, and who answers."""
