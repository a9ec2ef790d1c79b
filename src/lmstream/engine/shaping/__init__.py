"""Rules on their way to rows: pieces are shaped when they are made, and rows dropped a metric at a time.

A condition is about one part of a row: its organization, resource, scope, metric, or the attributes of its point. What
of the rules holds for a part is a number with a bit for each rule, kept beside the part's piece; for a row it is the
bitwise and of its parts' numbers. So a bundle that was seen before costs a few operations for each metric.
"""

from lmstream.engine.shaping.shaping import Shaped, Shaping

__all__ = ["Shaped", "Shaping"]
