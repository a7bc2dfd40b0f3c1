"""Serves blocks of Ray Datasets to the executor JVM on the same host; jvm/.../HostClient.scala and BlockBatches.scala ask.

One request per connection: a JSON line with the token, answered by a JSON line. A block that is read in the object store's own
memory is held for as long as the connection, and so is the name of a file; the reader of a block ends with one more line, and the
answer tells that the block was held until then. The socket lies in a folder that only this user can enter; the token keeps out
other programs of the same user that know nothing of this one.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import secrets
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from raydp_ml.errors import InvalidValueError
from raydp_ml.exchange.store_memory import places_of
from raydp_ml.exchange.types import readable_table

_WAIT_SECONDS = 10.0
_BATCH_BYTES = 64 << 20
_SMALL_OFFSETS = 1 << 31
_LONGEST_PATH = 107
# What stays free in memory for everything else, as in Staging.scala.
_RESERVE_BYTES = 64 << 20


def _say(stream: io.BufferedIOBase, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer).encode() + b"\n")
    stream.flush()


class BlockServer:
    """Listens on a Unix socket for as long as the host lives.

    Parameters
    ----------
    path : pathlib.Path
        The socket.
    staging, staging_disk : pathlib.Path
        Folders for the files that hand a block over: in memory, and for when that has no room.
    token : str
        What a request must carry.
    owner : ActorHandle
        The :class:`~raydp_ml.exchange.owner.BlockOwner`.
    """

    def __init__(self, path: Path, staging: Path, staging_disk: Path, token: str, owner: ActorHandle) -> None:
        if len(str(path)) > _LONGEST_PATH:
            raise InvalidValueError(f"the socket path {path} is too long for Unix; set TMPDIR to a shorter folder")
        self._staging = staging
        self._staging_disk = staging_disk
        self._token = token
        self._owner = owner
        self._schemas: dict[str, pa.Schema] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="raydp-ml-block-server", daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A reader that fails, or needs no more rows, closes its connection in the middle of anything.
        with contextlib.suppress(ConnectionError), connection, connection.makefile("rwb") as stream:
            try:
                request = json.loads(stream.readline())
                token = str(request.get("token", ""))
            except (ValueError, AttributeError):
                return
            if not hmac.compare_digest(token.encode(), self._token.encode()):
                return
            try:
                answer, lent = self._answer(request)
            except Exception as error:
                answer, lent = {"error": f"{type(error).__name__}: {error}"}, None
            try:
                _say(stream, answer)
                if stream.readline():
                    _say(stream, {"held": True})
            finally:
                if isinstance(lent, Path):
                    lent.unlink()

    def _answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], pa.Table | Path | None]:
        """What to tell, and the table or the file that the reader needs until it is done."""
        # Here because it takes most of a second, in which the executor of this host could start.
        from ray.data.block import BlockAccessor

        lease, indices = request["lease"], request["blocks"]
        columns, limit = request.get("columns"), request.get("limit")
        known = lease in self._schemas
        refs, schema = ray.get(self._owner.lent.remote(lease, indices, not known))
        if not known:
            self._schemas = {lease: schema}
        else:
            schema = self._schemas[lease]
        _, missing = ray.wait(refs, num_returns=len(refs), timeout=_WAIT_SECONDS)
        if missing:
            gone = [index for index, ref in zip(indices, refs, strict=True) if ref in missing]
            return {
                "lost": f"blocks {gone} of the Ray Dataset are not there yet, they may have to be computed again"
            }, None
        if columns is None:
            rows = [BlockAccessor.for_block(block).num_rows() for block in ray.get(refs)]
            return {"rows": sum(rows if limit is None else [min(count, limit) for count in rows])}, None
        table = BlockAccessor.for_block(ray.get(refs[0])).to_arrow().slice(0, limit)
        unknown = [name for name in table.column_names if name not in schema.names]
        if unknown:
            # Ray Data told the schema of the first block only, as it does when a Dataset was executed before.
            raise InvalidValueError(
                f"block {indices[0]} of the Ray Dataset has the columns {unknown}, which its first block lacks; set "
                "ray.data.DataContext.get_current().enforce_schemas = True before the Dataset is made"
            )
        target = pa.schema([schema.field(name) for name in columns])
        wanted = table.select([name for name in columns if name in table.column_names])
        places = places_of(wanted, target)
        if places is None:
            path = self._write(wanted, target)
            return {"path": str(path)}, path
        return places, wanted

    def _write(self, table: pa.Table, target: pa.Schema) -> Path:
        room = shutil.disk_usage(self._staging).free >= table.nbytes + _RESERVE_BYTES
        path = (self._staging if room else self._staging_disk) / f"in-{secrets.token_hex(8)}.arrow"
        rows = max(1, int(table.num_rows * _BATCH_BYTES / max(1, table.nbytes)))
        try:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, target) as writer:
                for start in range(0, table.num_rows, rows):
                    # Without any of the columns a slice is as long as one asks for.
                    part = table.slice(start, min(rows, table.num_rows - start))
                    if table.nbytes >= _SMALL_OFFSETS:
                        # A copy has offsets from zero, and so fits types whose offsets have 32 bits, as Spark's have.
                        part = part.take(pa.array(range(part.num_rows)))
                    writer.write_table(readable_table(part, target))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path
