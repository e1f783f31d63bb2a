"""Alert distribution: full streams to brokers, checked packet by packet; schemas; each consumer group's lag."""
