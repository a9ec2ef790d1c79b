"""Where a point of a bundle is, and what a bundle may be of which no point stands: for replays and messages."""

from lmstream.codecs.record_value import FIRST_TAG


def is_below(path: str, parts: tuple[str, ...]) -> bool:
    """Whether a path lies in one of these parts."""
    return any(path == part or path.startswith((f"{part}.", f"{part}[")) for part in parts)


def signal_of(payload: bytes) -> str:
    """What a bundle of points of which none stands may be, in words for the front of a message."""
    from lmstream.codecs.diagnosis import wire  # noqa: PLC0415 - for messages only

    signal = wire.signal(payload) if payload.startswith(FIRST_TAG) else ""
    return f"the record looks like {signal} in protobuf: send {signal} to a topic of their own; " if signal else ""
