"""The host of a process that pulls: a run with its signals, its endpoints, its memory, and several workers of it."""
