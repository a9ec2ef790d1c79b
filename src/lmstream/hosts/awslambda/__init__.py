"""The host that AWS Lambda calls, as the target of an EventBridge Pipe or of a Kafka event source mapping."""
