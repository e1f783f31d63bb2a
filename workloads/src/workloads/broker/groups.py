"""The groups and where their receipts lie, named once."""

GROUPS = ("broker-1", "broker-2", "broker-3", "broker-4", "broker-5")
BUCKET = "alerts"


def receipts(group: str) -> str:
    """Return what the keys of a group's receipts begin with in `BUCKET`."""
    return f"receipts/{group}/"
