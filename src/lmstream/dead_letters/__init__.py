"""Where dead letters are kept, how they are read back, and how they are replayed or removed."""
