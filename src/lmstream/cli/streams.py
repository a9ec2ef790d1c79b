"""Standard streams that a verb can rely on, whoever started it."""

import os
import sys


def streams_in_place() -> None:
    """Put something in the place of standard streams that were closed: else the next file or socket would take their
    number, and what is meant for a log would go there. What is closed stays unusable: a read or write fails."""
    for number, name, mode in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            made = open(number, "w" if number else "r", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for the life of the process
            setattr(sys, name, made)
