"""Digests of files and of tables, by which artefacts and loads are told apart."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

BLOCK_ROWS = 1 << 20  # of a table, which are digested together: by one process, however many parts the table has


def file_digest(place: Path) -> str:
    """The sha256 of a file, or of the names and digests of a folder's files, in hexadecimal digits."""
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.is_file())
        return combined_digest([f"{file.relative_to(place)} {file_digest(file)}" for file in files])
    with place.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def combined_digest(digests: Sequence[str]) -> str:
    """One digest of several, in their order."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def table_digest(table: pa.Table) -> str:
    """sha256 of the rows: that of each BLOCK_ROWS of them, combined."""
    blocks = [_block_digest(table.slice(start, BLOCK_ROWS)) for start in range(0, max(len(table), 1), BLOCK_ROWS)]
    return combined_digest(blocks)


def _block_digest(table: pa.Table) -> str:
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
