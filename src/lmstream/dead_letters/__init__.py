"""Where dead letters are kept, how they are read back, and how they are replayed or removed."""

from lmstream.dead_letters.form import NotALetterError, decode, encode

__all__ = ["NotALetterError", "decode", "encode"]
