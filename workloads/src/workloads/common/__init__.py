"""What every workload shares: settings, logs, Kafka, Avro, object stores, names, times, the visit ledger, devices."""
