"""Rows as Parquet: from pools of distinct pieces to Arrow, and to the bytes of a file. Pure, but for the library.

What repeats is made once for each distinct piece, and taken by index. Keys and values of maps are dictionaries, so that
taking a map copies four bytes for a text, and writing it looks no text up. Nulls stand in indices, never in a
dictionary, which Parquet cannot hold.
"""

import io
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, chain
from typing import Any, Final

import msgspec

from lmstream.engine import pool_values
from lmstream.engine.columns import Pools
from lmstream.storage.parquet_schema import pyarrow, schema

ROW_GROUP: Final = 1 << 20
"""Rows of a row group, at most: one for nearly every object."""
_PLAIN: Final = {
    "rowid": "DELTA_BYTE_ARRAY",
    "tsunixms": "DELTA_BINARY_PACKED",
    "starttsunixms": "DELTA_BINARY_PACKED",
    "value": "PLAIN",
    "valueint": "DELTA_BINARY_PACKED",
}
"""Columns without a dictionary: their values hardly repeat. Encodings by measured bytes."""


def write(pools: Pools, *, sort: bool = True) -> bytes:
    """The bytes of a Parquet file with these rows. `sort`: by metric, device and time, which lets a reader skip rows
    and makes files smaller; else in the order they came."""
    return encoded(table(pools, sort=sort))


def encoded(rows: Any) -> bytes:
    """The bytes of a Parquet file with the rows of a pyarrow.Table of `table`."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(
        rows,
        file,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=1,
        use_dictionary=_leaves(),
        column_encoding=_PLAIN,
        store_schema=False,
    )
    return file.getvalue()


def table(pools: Pools, *, sort: bool = False) -> Any:
    """The rows as a pyarrow.Table, with the columns of `schema`; texts and maps that repeat are dictionaries."""
    pa = pyarrow()
    import pyarrow.compute as pc

    series_of, metric_of = _integers(pools.series_of), _integers(pools.metric_of)
    time_of, tail_of, ordinals = _integers(pools.time_of), _integers(pools.tail_of), _integers(pools.ordinals)
    orgs, devices = pool_values.orgs(pools.orgs), pool_values.devices(pools.resources)
    scopes, metrics = pool_values.scopes(pools.scopes), pool_values.metrics(pools.metrics)
    tails, times = pool_values.points(pools.tails), pool_values.times(pools.times)
    values = _values(pools)
    if sort and pools.rows > 1:
        # Indices are put in order, before anything is taken by them.
        ranks = (
            (_ranks([each.metric for each in metrics]), metric_of),
            (_ranks([each.device_id for each in devices]), _integers(pools.resource_of).take(series_of)),
            (_ranks([each[1] for each in times]), time_of),
        )
        order = _order(ranks)
        series_of, metric_of = series_of.take(order), metric_of.take(order)
        time_of, tail_of, ordinals = time_of.take(order), tail_of.take(order), ordinals.take(order)
        values = {name: each if each.null_count == len(each) else each.take(order) for name, each in values.items()}
    device_of_row = _integers(pools.resource_of).take(series_of)
    org_of_row = _integers(pools.org_of).take(series_of)
    ms = pa.array([each[1] for each in times], pa.int64()).take(time_of)

    def text(values: Iterable[str | None], of: Any) -> Any:
        return pa.array(values, pa.string()).dictionary_encode().take(of)

    found = {
        "rowid": pc.binary_join_element_wise(
            pa.array(pools.bundles, pa.string()).take(series_of), ordinals.cast(pa.string()), ":"
        ),
        "orgid": text([each.org_id for each in orgs], org_of_row),
        "orgkey": text([each.org_key for each in orgs], org_of_row),
        "deviceid": text([each.device_id for each in devices], device_of_row),
        "devicename": text([each.device_name for each in devices], device_of_row),
        "datasource": text([each.datasource for each in scopes], _integers(pools.scope_of).take(series_of)),
        "instance": text([each.instance for each in tails], tail_of),
        "metric": text([each.metric for each in metrics], metric_of),
        "metrickey": text([each.metric_key for each in metrics], metric_of),
        "unit": text([each.unit for each in metrics], metric_of),
        "type": text([each.type for each in metrics], metric_of),
        "ts": text([each[0] for each in times], time_of),
        "tsunixms": ms,
        "starttsunixms": pa.array([each[2] for each in times], pa.int64()).take(time_of),
        "temporality": text([each.temporality for each in metrics], metric_of),
        "monotonic": pa.array([each.monotonic for each in metrics], pa.bool_()).take(metric_of),
        "attributes": _maps([each.attributes for each in tails]).take(tail_of),
        "resource": _maps([each.resource for each in devices]).take(device_of_row),
        "scope": _scopes([each.scope for each in scopes], pools).take(series_of),
        **values,
    }
    return pa.table({name: found[name] for name in schema().names})


def _integers(values: "array[int]") -> Any:
    """Without a copy."""
    pa = pyarrow()
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def _ranks(names: Sequence[Any]) -> Any:
    """For each its place among the distinct ones in order."""
    pa = pyarrow()
    ranks = {name: rank for rank, name in enumerate(sorted(set(names)))}
    return pa.array([ranks[name] for name in names], pa.int64())


def _order(keys: Iterable[tuple[Any, Any]]) -> Any:
    """The order of rows by the ranks of their keys, the first key first: as one number a row, which is sorted in a
    third of the time that three columns take."""
    import pyarrow.compute as pc

    number: Any = None
    for ranks, of in keys:
        rank = ranks.take(of)
        number = rank if number is None else pc.add(pc.multiply(number, len(ranks)), rank)
    return pc.sort_indices(number)


def _maps(found: Sequence[dict[str, str]]) -> Any:
    """A map for each; null for an empty one, as a row leaves it out."""
    pa = pyarrow()
    keys = pa.array(list(chain.from_iterable(found)), pa.string()).dictionary_encode()
    items = pa.array(list(chain.from_iterable(map(dict.values, found))), pa.string()).dictionary_encode()
    return _map_array(list(map(len, found)), keys, items)


def _map_array(sizes: Sequence[int], keys: Any, items: Any) -> Any:
    pa = pyarrow()
    made = pa.MapArray.from_arrays(_integers(array("i", accumulate(sizes, initial=0))), keys, items)
    if 0 not in sizes:
        return made
    return made.take(pa.array([at if size else None for at, size in enumerate(sizes)], pa.int32()))


def _scopes(found: Sequence[dict[str, str]], pools: Pools) -> Any:
    """The map of each series: that of its scope, with the time of its poll. LMDP's scopes are new at every poll, but
    for those digits they are few."""
    pa = pyarrow()
    import pyarrow.compute as pc

    of, epochs = pools.scope_of, pools.epochs
    frames = _maps(found).take(_integers(of))
    own = [scope.get("epoch") for scope in found]
    if not any(each is not None for each in own):
        return frames
    if all(epoch >= 0 for epoch, at in zip(epochs, of, strict=True) if own[at] is not None):
        numbers = pa.Array.from_buffers(pa.int64(), len(epochs), [None, pa.py_buffer(epochs)])
        numbers = numbers.filter(pc.greater_equal(numbers, 0)).dictionary_encode()
        dictionary = pc.utf8_lpad(numbers.dictionary.cast(pa.string()), 13, "0")
        texts = pa.DictionaryArray.from_arrays(numbers.indices, dictionary)
    else:
        told = [
            f"{epoch:013d}" if epoch >= 0 else own[at]
            for at, epoch in zip(of, epochs, strict=True)
            if own[at] is not None
        ]
        texts = pa.array(told, pa.string()).dictionary_encode()
    keys, items = frames.keys, frames.items
    at = keys.dictionary.index("epoch").as_py()
    known = len(items.dictionary)
    indices = pc.replace_with_mask(
        items.indices, pc.equal(keys.indices, at), pc.add(texts.indices, known).cast(pa.int32())
    )
    dictionary = pa.concat_arrays([items.dictionary, texts.dictionary])
    sizes = [len(found[each]) for each in of]
    return _map_array(sizes, keys, pa.DictionaryArray.from_arrays(indices, dictionary))


def _values(pools: Pools) -> dict[str, Any]:
    """The value, or what stands in its place."""
    pa = pyarrow()
    n = pools.rows
    integers = [value if type(value) is int else None for value in pools.values]
    doubles = pa.Array.from_buffers(pa.float64(), n, [None, pa.py_buffer(bytes(pools.doubles))])
    names = [field.encode_name.lower() for field in pool_values.ODD]
    kinds = {field.name: field.type for field in schema()}
    if not pools.odd:
        return {
            **{name: pa.nulls(n, kinds[name]) for name in names},
            "value": doubles,
            "valueint": pa.array(integers, pa.int64()),
        }
    values: list[Any] = list(pools.values)
    columns: dict[str, list[Any]] = {name: [None] * n for name in names}
    for at, body in pools.odd.items():
        for name, value in msgspec.to_builtins(pool_values.odd(body)).items():
            if value is not None:
                columns[name.lower()][at] = _plain(value)
        values[at] = columns["value"][at]
        integers[at] = values[at] if type(values[at]) is int else None
    columns["value"] = [None if value is None else float(value) for value in values]
    return {name: pa.array(column, kinds[name]) for name, column in columns.items()} | {
        "valueint": pa.array(integers, pa.int64())
    }


def _plain(value: Any) -> Any:
    """Members of structs in lower case, an exemplar's integer beside its value, maps as pairs."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, member in value.items():
        if name == "attributes":
            found[name] = list(member.items()) or None
        elif name == "value":
            found |= {"value": float(member), "valueint": member if type(member) is int else None}
        else:
            found[name.lower()] = _plain(member)
    return found


@cache
def _leaves() -> list[str]:
    """Names of the columns in a file that have a dictionary."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(schema().empty_table(), file)
    made = pq.ParquetFile(file).schema
    return [path for path in (made.column(at).path for at in range(len(made))) if path not in _PLAIN]
