"""Programs that each side of a change runs with its own code, started by path: they import nothing of this package."""
