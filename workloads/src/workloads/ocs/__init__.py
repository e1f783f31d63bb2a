"""A client of the observatory's control system: commands devices and watches them, as observers do.

It stands outside: it knows nothing of the devices but the files of `interfaces/`, and shares no code with them. Schemas go
through the stock client of the registry, and records through its Avro serialisers.
"""
