"""The charger as ChargeKeeper sees it: no maker, no transport, no Home Assistant; standard library only."""
