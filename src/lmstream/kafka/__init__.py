"""Kafka, for sources, letters and verbs: connection, TLS, lag, ranges, administration."""
