"""From the bytes of a Firehose record to rows and their partition keys: deaggregation, and real jq."""

import itertools
import json
from typing import Any, NamedTuple

import jq
import msgspec

from lmstream.errors import ConfigError
from lmstream.lab.firehose_config import StreamConfig
from lmstream.lab.firehose_prefix import query_fields, query_keys

SUB_RECORDS = 500
"""Rows in one record that deaggregation handles. Past it "the request succeeds but the record de-aggregation doesn't
work as expected" (PutRecordBatch reference); the lab sends such a record whole to the error prefix, to make it seen."""
MEMO_ENTRIES = 10_000
MEMO_KEY_BYTES = 1024

EXTRACTION, PROCESSING, OVERFLOW = "metadata-extraction-failed", "processing-failed", "activePartitionExceeded"


class Refusal(NamedTuple):
    """Why data goes to the error prefix: its type (a part of the path) and what its line there says."""

    type: str
    code: str
    message: str


_NO_JSON = Refusal(EXTRACTION, "DynamicPartitioning.MetadataExtractionFailed", "Non JSON record provided")
_TOO_MANY = Refusal(PROCESSING, "Lab.DeaggregationLimit", f"more than {SUB_RECORDS} objects in one record")

Keys = tuple[str, ...]
Row = tuple[bytes, Keys | Refusal]


class RowReader:
    """Cuts records into rows and asks jq for their partition keys, in the order of `names`."""

    def __init__(self, config: StreamConfig) -> None:
        self._deaggregate = config.deaggregate
        self._partitioned = bool(config.query)
        self.names: tuple[str, ...] | tuple[()] = query_keys(config.query) if config.query else ()
        try:
            # In brackets and on lines of its own: the query must be one expression, and may end in a comment.
            self._program = jq.compile(f"(\n{config.query or '.'}\n)")
        except ValueError as e:
            raise ConfigError("config.invalid", f"delivery stream {config.name!r}: jq refuses the query: {e}") from e
        # jq reads a whole row to take six fields of it, about 30 us. When the query visibly looks at plain fields only,
        # rows that agree in these have the same answer, and jq is asked once.
        fields = query_fields(config.query) if config.query else None
        self._memo: dict[bytes, Keys | Refusal] | None = None if fields is None else {}
        probe = [(f"f{n}", msgspec.Raw, msgspec.field(default=msgspec.Raw())) for n in range(len(fields or ()))]
        names = {f"f{n}": name for n, name in enumerate(fields or ())}
        # Decoding into it also proves that a row is one JSON object.
        self._probe = msgspec.json.Decoder(msgspec.defstruct("Probe", probe, rename=names, gc=False))

    def read(self, data: bytes) -> list[Row] | Refusal:
        """Rows of a record with their keys, or why the record as a whole is refused."""
        if not self._partitioned:
            return [(data, ())]
        try:
            data.decode()  # msgspec does not look into the parts that it skips
        except UnicodeDecodeError:
            return _NO_JSON
        if not self._deaggregate:
            return self._rows([data])
        lines = [line for line in data.split(b"\n") if line.strip()]
        rows = self._rows(lines)
        if isinstance(rows, Refusal):  # not an object a line: look for them one after the other
            walked = _walk(data)
            rows = walked if isinstance(walked, Refusal) else self._rows(walked)
        return _TOO_MANY if not isinstance(rows, Refusal) and len(rows) > SUB_RECORDS else rows

    def _rows(self, texts: list[bytes]) -> list[Row] | Refusal:
        try:
            probes = [self._probe.decode(text) for text in texts]
        except (msgspec.DecodeError, RecursionError):
            return _NO_JSON
        if self._memo is None:
            return [(text, self._ask(text)) for text in texts] or _NO_JSON
        return [(text, self._keys(text, probe)) for text, probe in zip(texts, probes, strict=True)] or _NO_JSON

    def _keys(self, text: bytes, probe: Any) -> Keys | Refusal:
        assert self._memo is not None  # noqa: S101 - only called with one
        # A control character cannot stand in JSON text outside of blanks: the joint is unmistakable.
        seen = b"\x00".join(msgspec.structs.astuple(probe))
        found = self._memo.get(seen)
        if found is None:
            found = self._ask(text)
            if len(seen) <= MEMO_KEY_BYTES:
                if len(self._memo) >= MEMO_ENTRIES:
                    self._memo.clear()
                self._memo[seen] = found
        return found

    def _ask(self, text: bytes) -> Keys | Refusal:
        try:
            answers = list(itertools.islice(self._program.input_text(text.decode()), 2))
        except ValueError as e:
            return _no_key(f"jq: {e}")
        if len(answers) != 1:
            return _no_key("the jq query must give one object")
        keys = []
        for name in self.names:
            value = answers[0].get(name)
            if value is None or value == "" or isinstance(value, list | dict):
                return _no_key(f"partitionKeys values must not be null or empty: {name}")
            keys.append(value if isinstance(value, str) else json.dumps(value))
        return tuple(keys)


def _no_key(message: str) -> Refusal:
    return Refusal(EXTRACTION, "DynamicPartitioning.MetadataExtractionFailed", message[:500])


def _walk(data: bytes) -> list[bytes] | Refusal:
    """Find objects one after the other, with or without blanks between. An array or a bare value refuses the record."""
    text = data.decode()
    decoder = json.JSONDecoder()
    found: list[bytes] = []
    at = _skip_blanks(text, 0)
    while at < len(text):
        if len(found) > SUB_RECORDS:
            return _TOO_MANY
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return _NO_JSON
        if not isinstance(value, dict):
            return _NO_JSON
        # "Deaggregation removes new lines": inside an object they can only be layout.
        found.append(text[at:end].replace("\n", "").encode())
        at = _skip_blanks(text, end)
    return found


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
