"""Forwarder: moves raw files from the summit's store to the stores of other sites, in order of class, losing none."""
