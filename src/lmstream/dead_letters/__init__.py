"""Where dead letters are kept, and their form."""
