"""Where the values of a block lie in the object store's memory, so that the executor JVM of the same host can map them itself.

Private to Ray, as seen in 2.60: the raylet keeps the store's memory in a file without a name, of which its workers have a shared
mapping, and the raylet is their parent. ``tests/exchange/test_store_memory.py`` watches it. Whatever is found to be different,
and whatever Ray keeps elsewhere (small objects), has no place here and is copied instead.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydp_ml.exchange.types import is_tensor, plain_column

# The most bytes that Java maps at once, and the most rows of a batch.
_LARGEST = (1 << 31) - 1


@dataclass(frozen=True)
class _Mapping:
    """A line of /proc/self/maps (man 5 proc) about a file that is shared."""

    start: int
    end: int
    offset: int
    device: int
    inode: int
    link: str | None


# That of the object store, once it was found.
_known: list[_Mapping] = []


def places_of(table: pa.Table, target: pa.Schema) -> dict[str, Any] | None:
    """The file and the places in it of a block's columns.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of a block from ``ray.get``. The places are valid for as long as somebody holds it.
    target : pyarrow.Schema
        The columns as the reader expects them.

    Returns
    -------
    dict or None
        ``file`` to map; for each of ``batches`` the ``start`` and ``length`` of its part of the file, its ``rows``, and of all
        columns, children after their parents, the ``nodes`` (rows, nulls) and ``buffers`` (first byte within the part, length), as
        in the RecordBatch of Arrow's IPC format; ``schema`` says how these are to be read. Columns with a dictionary hold the
        places in it, and each batch has its ``dictionaries``, whose fields are those of the schema of that name. None when the
        columns cannot be read as the reader expects them without being changed, or lie elsewhere, or in too large a part.
    """
    if table.schema.names != target.names:
        return None
    views = [_view_of(column, field) for column, field in zip(table.columns, target, strict=True)]
    lying = [view for view in views if view is not None]
    if len(lying) < len(views):
        return None
    columns = pa.Table.from_arrays([view.values for view in lying], names=target.names)
    batches = columns.to_batches()
    if any(len(view.dictionaries) != len(batches) for view in lying if view.dictionary is not None):
        return None
    found = [_batch(batch) for batch in batches]
    for i, (_, told) in enumerate(found):
        held = [
            _batch(pa.RecordBatch.from_arrays([view.dictionaries[i]], names=["values"]))
            for view in lying
            if view.dictionary is not None
        ]
        told["dictionaries"] = [values for _, values in held]
        found = [*found, *((mapping, {}) for mapping, _ in held)]
    mappings = {mapping for mapping, _ in found}
    mapping = mappings.pop() if len(mappings) == 1 else None
    file = _raylet_file(mapping) if mapping else None
    if file is None:
        return None
    fields = [field.with_type(view.kind) for view, field in zip(lying, target, strict=True)]
    dictionaries = [
        pa.field(field.name, view.dictionary)
        for view, field in zip(lying, target, strict=True)
        if view.dictionary is not None
    ]
    return {
        "file": file,
        "batches": [told for _, told in found[: len(batches)]],
        "schema": _message(pa.schema(fields)),
        "dictionaries": _message(pa.schema(dictionaries)),
    }


def _message(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize()).decode()


@dataclass(frozen=True)
class _View:
    """A column as it lies: its values, how they are to be read, and the dictionary of each chunk with its type."""

    values: pa.ChunkedArray
    kind: pa.DataType
    dictionaries: Sequence[pa.Array] = ()
    dictionary: pa.DataType | None = None


def _view_of(column: pa.ChunkedArray, target: pa.Field) -> _View | None:
    """The view by which the JVM (AddressVector.scala) can read a column as the target; None when values have to be changed."""
    if is_tensor(column.type):
        if column.null_count:
            return None  # values without those of the nulls
        column = plain_column(column)
    if pa.types.is_dictionary(column.type):
        values = _as_it_lies(column.type.value_type, target.type)
        if values is None or pa.types.is_nested(values) or pa.types.is_decimal(values):
            return None
        places = pa.chunked_array([chunk.indices for chunk in column.chunks], column.type.index_type)
        kind = _SIGNED[column.type.index_type.bit_width]
        return _View(places, kind, [chunk.dictionary for chunk in column.chunks], values)
    found = _as_it_lies(column.type, target.type)
    return _View(column, found) if found is not None else None


_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


def _as_it_lies(kind: pa.DataType, target: pa.DataType) -> pa.DataType | None:
    """The type under which values of ``kind`` are read as ``target``; None when their bytes differ."""
    types = pa.types
    if kind == target:
        return kind
    if types.is_timestamp(kind) and types.is_timestamp(target):
        # Instants are the same in each time zone.
        return target if kind.unit == target.unit and (kind.tz is None) == (target.tz is None) else None
    if (types.is_large_string(kind) and types.is_string(target)) or (
        types.is_large_binary(kind) and types.is_binary(target)
    ):
        return kind
    if types.is_list(target) and (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        element = _as_it_lies(kind.value_type, target.value_type)
        if element is None:
            return None
        if types.is_fixed_size_list(kind):
            return pa.list_(element, kind.list_size)
        return pa.large_list(element) if types.is_large_list(kind) else pa.list_(element)
    if types.is_struct(kind) and types.is_struct(target) and kind.num_fields == target.num_fields:
        parts = [_as_it_lies(part.type, wanted.type) for part, wanted in zip(kind, target, strict=True)]
        names = [(part.name, wanted.name) for part, wanted in zip(kind, target, strict=True)]
        if None in parts or any(name != wanted for name, wanted in names):
            return None
        return pa.struct([(wanted.name, part) for part, wanted in zip(parts, target, strict=True)])
    return None


def _batch(batch: pa.RecordBatch) -> tuple[_Mapping | None, dict[str, Any]]:
    arrays = [array for column in batch.columns for array in _with_children(column)]
    buffers = [buffer for column in batch.columns for buffer in column.buffers()]
    used = [(buffer.address, buffer.size) for buffer in buffers if buffer is not None and buffer.size]
    if not used or any(array.offset != 0 or pa.types.is_null(array.type) for array in arrays):
        return None, {}
    start, end = min(address for address, _ in used), max(address + size for address, size in used)
    if max(end - start, *(len(array) for array in arrays)) > _LARGEST:
        return None, {}
    mapping = _mapping_of(start, end)
    return mapping, {
        "start": start - mapping.start + mapping.offset if mapping else 0,
        "length": end - start,
        "rows": batch.num_rows,
        "nodes": [[len(array), array.null_count] for array in arrays],
        "buffers": [[buffer.address - start, buffer.size] if buffer and buffer.size else [0, 0] for buffer in buffers],
    }


def _with_children(array: pa.Array) -> Iterator[pa.Array]:
    yield array
    if pa.types.is_struct(array.type):
        for i in range(array.type.num_fields):
            yield from _with_children(array.field(i))
    elif pa.types.is_nested(array.type):
        yield from _with_children(array.values)


def _mapping_of(start: int, end: int) -> _Mapping | None:
    def around(mappings: Iterable[_Mapping]) -> _Mapping | None:
        return next((mapping for mapping in mappings if mapping.start <= start and end <= mapping.end), None)

    known = around(_known)
    if known is not None and known.link == _link(known.start, known.end):
        return known
    # Milliseconds for the thousand lines of a worker; so what was found is kept, and looked at again by itself.
    found = around(_shared_mappings())
    if found is not None and found.link is not None:
        _known[:] = [found]
    return found


def _link(start: int, end: int) -> str | None:
    """The file of the mapping that has exactly these ends now; None when there is none, or the system does not tell."""
    try:
        return os.readlink(f"/proc/self/map_files/{start:x}-{end:x}")
    except OSError:
        return None


def _shared_mappings() -> Iterator[_Mapping]:
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, offset, device, inode, *_ = line.split(maxsplit=5)
        if mode.endswith("s") and inode != "0":
            start, end = (int(address, 16) for address in span.split("-"))
            major, minor = (int(number, 16) for number in device.split(":"))
            yield _Mapping(start, end, int(offset, 16), os.makedev(major, minor), int(inode), _link(start, end))


def _raylet_file(mapping: _Mapping) -> str | None:
    """The raylet's descriptor of the mapped file, which a process of the same user can open."""
    folder = f"/proc/{os.getppid()}/fd"
    try:
        descriptors = os.listdir(folder)
    except OSError:
        return None
    for descriptor in descriptors:
        path = f"{folder}/{descriptor}"
        try:
            told = os.stat(path)
        except OSError:
            continue  # closed meanwhile
        if (told.st_dev, told.st_ino) == (mapping.device, mapping.inode):
            return path
    return None
