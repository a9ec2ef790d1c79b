"""What an operator sees of a run in progress: endpoints, metrics, logs, lag."""
