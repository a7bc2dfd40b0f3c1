"""Where the values of a block lie in the object store's memory, so that the executor JVM of the same host can map them itself.

Private to Ray, as seen in 2.60: the raylet keeps the store's memory in a file without a name, of which its workers have a shared
mapping, and the raylet is their parent. ``tests/exchange/test_store_memory.py`` watches it. Whatever is found to be different,
and whatever Ray keeps elsewhere (small objects), has no place here and is copied instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

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
        in the RecordBatch of Arrow's IPC format. None when the columns have other types or lie elsewhere, or in too large a part.
    """
    if table.schema.names != target.names or table.schema.types != target.types:
        return None
    found = [_batch(batch) for batch in table.to_batches()]
    lying = {mapping for mapping, _ in found}
    mapping = lying.pop() if len(lying) == 1 else None
    file = _raylet_file(mapping) if mapping else None
    return {"file": file, "batches": [told for _, told in found]} if file else None


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
