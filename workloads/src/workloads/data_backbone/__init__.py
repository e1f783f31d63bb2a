"""Data Backbone: the one writer of the archive's Butler, and the keeper of the visits' ledger."""
