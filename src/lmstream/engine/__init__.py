"""The transform: one record in, its rows out. Pure: no I/O, no clock."""
