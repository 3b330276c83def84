"""A real Kafka on this machine: brokers in KRaft mode on loopback, for trying, tests and benchmarks."""
