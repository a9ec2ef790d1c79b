"""Look at JSON and other text that is no metrics bundle, and say what is inside an envelope."""

import binascii
import re
from typing import Final

import msgspec

from lmstream.codecs.diagnosis import wire
from lmstream.codecs.diagnosis.compressions import inflated
from lmstream.codecs.inflating import COMPRESSED, GZIP
from lmstream.settings import KIB

Found = tuple[str, str]
"""(reason, detail)."""

_LOOK: Final = 64 * KIB
_DEEP: Final = 3  # envelopes that are opened, one in the other, to see what is inside
_SHORT: Final = 8  # bytes: fewer are a word, not an encoding
BLANK: Final = b" \t\r\n"
_SIGNALS: Final = {"resourcespans": "traces", "resourcelogs": "logs", "resourceprofiles": "profiles"}
_SIGNAL_KEY: Final = re.compile(rb'\{\s*+"(resource_?(?:spans|logs|profiles))"', re.IGNORECASE)
_METRICS_KEY: Final = re.compile(rb'"resource_?metrics"', re.IGNORECASE)
_DOCUMENT: Final = re.compile(rb'[{\[]\s*+["{\[\]}]')
_BARE: Final = {"scopeMetrics": "ResourceMetrics", "metrics": "ScopeMetrics"}
_PLACE: Final = re.compile(r"\(byte (\d+)\)")
_WORDS: Final = re.compile(rb'(?<![\w"])[-+]?(?:(NaN|nan|Infinity|inf|infinity)|None|True|False|undefined)(?!\w)')
_NEAR: Final = 12  # bytes around a parser's complaint in which the word is
_HEX: Final = re.compile(rb"(?:0x)?(?:[0-9a-fA-F]{2})+")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_\-]+={0,2}")
_OTHER: Final = (
    (re.compile(rb"resource_metrics\s*[:{]"), "decode.framing", "protobuf's text format, which is for people"),
    (re.compile(rb"<(?:!|\?xml|[A-Za-z])"), "decode.json", "HTML or XML, no JSON"),
    (re.compile(rb"# (?:HELP|TYPE) "), "decode.json", "Prometheus' text format, no OTLP"),
    (re.compile(rb"[{\[]\s*'"), "decode.json", "in single quotes, as Python prints a dict, which is no JSON"),
)
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_arrays = msgspec.json.Decoder(list[msgspec.Raw])
_strings = msgspec.json.Decoder(str)


def json(text: bytes) -> Found | None:
    """What JSON is that is not a bundle: another signal, a part of a bundle, several bundles, a bundle in a string."""
    looks = {b"{": _object, b"[": _array, b'"': _string}
    look = looks.get(text[:1])
    return look(text) if look else None


def malformed(data: bytes, said: str) -> Found | None:
    """What is wrong with text that should be JSON. `said` is the parser's message, which may have a place."""
    place = _PLACE.search(said)
    at = int(place[1]) if place else -1
    if at >= 0 and "trailing" in said:
        return _trailing(data, at - 1)  # the parser's place is behind the first byte that is too much
    return (_word(data, at) if at >= 0 else None) or plain(data.lstrip(BLANK))


def plain(text: bytes) -> Found | None:
    """What text is that does not even try to be JSON."""
    what = inside(text)
    if what and text[:1] not in (b"{", b"["):
        return "decode.framing", f"{what}: write the bytes of the bundle themselves"
    for pattern, reason, name in _OTHER:
        if pattern.match(text):
            return reason, f"{name}; it begins with {text[:40].decode('utf-8', 'replace')!r}"
    return None


def signal(name: str, how: str) -> Found:
    """The answer for records of another signal."""
    return "decode.signal", f"{name} ({how}), no metrics: send {name} to a topic of their own"


def inside(data: bytes, deep: int = _DEEP) -> str:
    """What is inside an envelope, in words; empty when it is nothing that lmstream knows."""
    text = data.strip(BLANK)
    if _DOCUMENT.match(text):
        found = json(text)
        if found and found[0] == "decode.signal":
            return found[1].split(",")[0]
        return "a bundle as JSON" if _METRICS_KEY.search(text[:_LOOK]) else "JSON"
    if data.startswith(COMPRESSED):
        return "gzip data" if data.startswith(GZIP) else "zstd data"
    if data[:1] == b"\n" and (name := wire.signal(data)):
        return f"{name} in protobuf"
    if data[:1] == b"\n" and wire.is_bundle(data):
        return "a bundle in protobuf"
    return _encoded(text, deep - 1) if deep and len(text) > _SHORT else ""


def _encoded(text: bytes, deep: int) -> str:
    """Hexadecimal digits, base64, zlib or a JSON string of something that lmstream knows."""
    if text[:1] == b"\x78" and (inner := inflated(text)) and (what := inside(inner, deep)):
        return f"zlib of {what}"
    head = text[:_LOOK]  # an even number of digits, and of groups of four
    if _HEX.fullmatch(head) and (what := inside(bytes.fromhex(head.removeprefix(b"0x").decode()), deep)):
        return f"hexadecimal digits of {what}"
    if (decoded := _from_base64(head)) and (what := inside(decoded, deep)):
        return f"base64 of {what}"
    try:
        what = inside(_strings.decode(text).encode(), deep) if text[:1] == b'"' else ""
    except (msgspec.DecodeError, UnicodeError):
        return ""
    return f"{what} inside a JSON string" if what else ""


def _from_base64(text: bytes) -> bytes:
    text = text.translate(None, BLANK)
    if not _BASE64.fullmatch(text):
        return b""
    text = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return binascii.a2b_base64(text[: -1 if len(text) % 4 == 1 else None] + b"=" * (-len(text) % 4))
    except binascii.Error:
        return b""


def _object(text: bytes) -> Found | None:
    keys = _keys(text)
    if keys is None:  # malformed: how it begins has to do
        key = _SIGNAL_KEY.match(text)
        keys = {key[1].decode()} if key and not _METRICS_KEY.search(text) else set()
    plain_names = {name.lower().replace("_", "") for name in keys}
    if "resourcemetrics" in plain_names:
        return None
    for name, what in _SIGNALS.items():
        if name in plain_names:
            return signal(what, "OTLP/JSON")
    part = next((part for name, part in _BARE.items() if name in keys), "")
    if part:
        return "decode.top_level", f'a bare {part}: a bundle has it inside {{"resourceMetrics": [...]}}'
    return None


def _array(text: bytes) -> Found | None:
    try:
        items = _arrays.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    first = bytes(items[0]) if items else b""
    keys = _keys(first) or set()
    if any(_METRICS_KEY.fullmatch(b'"%b"' % name.encode("utf-8", "replace")) for name in keys):
        return "decode.framing", f"an array of {len(items):,} bundles: send each of them as a record of its own"
    found = _object(first) if keys else None
    if found and found[0] == "decode.top_level":
        return found[0], f"an array of {len(items):,}, the first of them {found[1]}"
    return found


def _string(text: bytes) -> Found | None:
    what = _encoded(text, _DEEP) if len(text) > _SHORT else ""
    return ("decode.framing", f"{what}: write the bytes of the bundle themselves, encoded once") if what else None


def _trailing(data: bytes, at: int) -> Found:
    """What follows a whole document."""
    rest = data[at : at + _LOOK].lstrip(BLANK + b"\x1e,")
    if _DOCUMENT.match(rest):
        what = f"several JSON documents in one value, the second from byte {at:,} on"
        return "decode.framing", f"{what}: send each as a record of its own"
    follows = data[at : at + 20].decode("utf-8", "replace")
    return "decode.json", f"a whole JSON document, but something else follows from byte {at:,} on: {follows!r}"


def _word(data: bytes, at: int) -> Found | None:
    """A word where JSON has a value: NaN, Infinity, None."""
    for word in _WORDS.finditer(data, max(0, at - _NEAR), at + _NEAR):
        if word.start() <= at <= word.end() + 1:  # of a word with the first letter of null, it took as many letters
            advice = (
                'OTLP/JSON writes it as a text, "NaN", "Infinity" or "-Infinity"'
                if word[1]
                else "the producer printed an object of its language instead of JSON"
            )
            return "decode.json", f"{word[0].decode()} at byte {word.start():,} is no JSON: {advice}"
    return None


def _keys(text: bytes) -> set[str] | None:
    """The keys of a JSON object; None when it is malformed or none."""
    try:
        return set(_objects.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
