"""What an operator sees of a run that goes on: endpoints, metrics, logs, lag."""
