"""The configuration of a run: layers, checks, and the parts put together."""
