"""Prove what landed in a lake: from its claims and objects alone, or against the topic as well.

Theory of operation
-------------------
`chain` reads the claims of each lane from the oldest on and sees that they follow one another. `walk` takes the objects
of each claim, some fetched ahead, has `object_rows` count and digest their rows, and `judgement` compare that with what
the claim says. Windows at the head of a lane that may still be under way are looked at last. Then every key of the
place is listed: what no claim names is unexpected. `remade` makes the rows of windows again from the topic, by the
settings that each claim names, and compares their digests with those of the claim.

What is held: keys of claims, 16 bytes an object and a record, the objects of one window that are in trouble, and the
objects that are fetched ahead.
"""

from lmstream.verification.lake.verify import verify_lake, walked

__all__ = ["verify_lake", "walked"]
