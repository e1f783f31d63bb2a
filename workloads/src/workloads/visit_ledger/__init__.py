"""The visits' ledger as a database: every stamp of the topic once, by night, to be asked about any span."""
