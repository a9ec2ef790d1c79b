"""A codec that reads lines of host, metric, time in seconds and value: put your own format in its place."""

from collections.abc import Iterator

from lmstream.codecs.building import Point, PointCodec
from lmstream.errors import DecodeError

FIELDS = 4


class Codec(PointCodec):
    """A generator of points: columns, rows and row ids are made of them."""

    def points(self, payload: bytes, /) -> Iterator[Point]:
        """Every data point, in an order that never changes: its number is part of its row's id."""
        try:
            text = payload.decode()
        except UnicodeDecodeError as error:  # the whole record is dead-lettered, with this reason
            raise DecodeError("decode.utf8", str(error)) from error
        for number, line in enumerate(text.split("\n"), 1):
            if line:
                yield self._point(line, f"line {number}")

    def _point(self, line: str, at: str) -> Point:
        fields = line.split(",")
        if len(fields) != FIELDS:  # this point alone is dead-lettered; the others become rows
            return Point(metric="", time=None, refused="acme_csv.fields", why=f"{len(fields)} fields", at=at)
        host, metric, seconds, value = fields
        try:
            time, number = int(seconds) * 10**9, float(value)
        except ValueError as error:
            return Point(metric=metric, time=None, refused="acme_csv.number", why=str(error), at=at)
        return Point(metric=metric, value=number, time=time, resource={"host.name": host}, scope="acme_csv", at=at)
