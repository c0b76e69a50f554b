"""Digests of files and of tables, by which artefacts and loads are told apart."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


def file_digest(file: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def table_digest(table: pa.Table) -> str:
    """sha256 of the rows, as Arrow would send them."""
    digest = hashlib.sha256()

    class Sink:
        closed = False

        def write(self, block: Any) -> int:
            digest.update(block)
            return len(block)

        def flush(self) -> None: ...

        def close(self) -> None: ...

    # Copied, since Arrow would send the padding of a slice as it lies in memory: its neighbours.
    plain = table.replace_schema_metadata(None).take(pa.array(np.arange(len(table)))).combine_chunks()
    with pa.ipc.new_stream(pa.PythonFile(Sink(), mode="w"), plain.schema) as stream:
        stream.write_table(plain)
    return digest.hexdigest()
