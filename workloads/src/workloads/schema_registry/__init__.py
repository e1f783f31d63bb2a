"""Schema registry: the part of the Confluent API that Avro clients use, kept in a compacted Kafka topic."""
