"""The groups, named once."""

GROUPS = ("broker-1", "broker-2", "broker-3", "broker-4", "broker-5")
