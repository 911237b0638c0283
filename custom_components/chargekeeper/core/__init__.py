"""The charger as ChargeKeeper sees it: no manufacturer, transport or Home Assistant; standard library only."""
