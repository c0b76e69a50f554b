"""Folders with a dataset.toml, for tests of the readers."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Content = str | bytes | dict[str, Any]  # of a CSV, or the columns of a parquet file


def write_folder(folder: Path, description: str = "", **files: Content) -> None:
    """Writes the description and these files: `ratings_csv` is ratings.csv."""
    (folder / "dataset.toml").write_text(description, "utf-8")
    for name, content in files.items():
        file = folder / name.replace("_", ".")
        if isinstance(content, dict):
            pq.write_table(pa.table(content), file)
        else:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
