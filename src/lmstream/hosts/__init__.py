"""What runs the engine: a container, or AWS Lambda."""
