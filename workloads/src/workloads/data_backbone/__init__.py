"""Data Backbone: the one writer of raw images into the archive's Butler, and the keeper of the visits' ledger."""
