"""The Spark session of a stage: its settings, its types, and rows that are saved from it as parts."""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlparse

import pyarrow as pa
from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from data_exchange_center.settings import ROOT, Settings
from offline.engines.engine import EngineError

Task = TypeVar("Task")
Result = TypeVar("Result")

WIDER = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32()}  # Spark has no unsigned integers
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOGGING = Path(__file__).with_name("log4j2.properties")
BATCH_ROWS = 100_000  # that go at once between Spark and Python
# A part of staged rows must stay one task: Spark would cut a larger file, and pack smaller ones together.
WHOLE_FILE = str(1 << 40)  # bytes


def start_session(settings: Settings) -> SparkSession:
    """A session with the settings' master.

    Raises:
        EngineError: the session cannot be made, as when there is no Java or no such master.
    """
    if not shutil.which("java") and "JAVA_HOME" not in os.environ:
        raise EngineError("ENGINE=spark needs Java 17: install it (Debian: apt install openjdk-17-jre-headless).")
    os.environ["PYSPARK_PYTHON"] = sys.executable  # the workers' Python is this one
    try:
        # In a file that its owner alone can read, since the secret is among them and a command line is for all to see.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".conf") as file:
            file.writelines(f"{name} {_escaped(value)}\n" for name, value in _configuration(settings).items())
            file.flush()
            file_option = f"--properties-file {shlex.quote(file.name)} --load-spark-defaults"
            os.environ["PYSPARK_SUBMIT_ARGS"] = f"{file_option} pyspark-shell"
            session: SparkSession = SparkSession.builder.getOrCreate()
        session.sparkContext.range(1).count()  # a master that does not respond is told here, and not in the midst
    except Exception as error:  # of py4j, PySpark or the JVM, by where it fails
        raise EngineError(
            f"no Spark at SPARK_MASTER={settings.spark_master} ({str(error).strip().splitlines()[0]}): start a cluster "
            "(`make spark`), or leave the setting out, and this machine's cores are used."
        ) from error
    return session


def _configuration(settings: Settings) -> dict[str, str]:
    """What a session needs to know, by Spark's own names."""
    host = urlparse(settings.spark_master).hostname
    local = {"spark.driver.host": LOOPBACK[0], "spark.driver.bindAddress": LOOPBACK[0]}
    secret = settings.spark_secret.get_secret_value() if host else ""
    return {
        "spark.master": settings.spark_master,
        "spark.app.name": "recsys_pipeline",
        **({"spark.authenticate": "true", "spark.authenticate.secret": secret} if secret else {}),
        **(local if host is None or host in LOOPBACK else {}),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={LOGGING.as_uri()}",
        "spark.driver.memory": settings.spark_memory,
        "spark.executor.memory": settings.spark_memory,
        # The workers' Python finds the project and the artefacts where this process does.
        "spark.executorEnv.PYTHONPATH": str(ROOT),
        "spark.executorEnv.ARTEFACTS_DIR": str(settings.artefacts),
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
        "spark.sql.files.maxPartitionBytes": WHOLE_FILE,
        "spark.sql.files.openCostInBytes": WHOLE_FILE,
        "spark.sql.session.timeZone": "UTC",
    }


def _escaped(value: str) -> str:
    """A value of a properties file."""
    return value.replace("\\", "\\\\")


def spark_schema(schema: pa.Schema) -> pa.Schema:
    """The schema in the types that Spark has; the catalogue casts them back."""
    return pa.schema([(field.name, WIDER.get(field.type, field.type)) for field in schema])


def map_parts(
    frame: DataFrame, function: Callable[[pa.Table], pa.Table], schema: pa.Schema, read: pa.Schema
) -> DataFrame:
    """The rows of `function`, called once for each of the frame's partitions with all of its rows.

    Args:
        function: gets the columns of `read`, and gives those of `schema`.
    """
    wide = spark_schema(schema)

    def of_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Arrow's batches cut users; the partition as a whole does not.
        held = [batch for batch in batches if batch.num_rows]
        if held:
            table = pa.Table.from_batches(held).select(read.names).cast(read)
            yield from function(table).select(wide.names).cast(wide).combine_chunks().to_batches(BATCH_ROWS)

    return frame.mapInArrow(of_partition, _struct(wide))


def _struct(schema: pa.Schema) -> StructType:
    return from_arrow_schema(schema)


@dataclass(frozen=True)
class SparkParts:
    """Rows that Spark makes and writes as a folder of parts, by its own committer: see `Parts`.

    Attributes:
        frame, function, read: see `map_parts`.
    """

    frame: DataFrame
    function: Callable[[pa.Table], pa.Table]
    read: pa.Schema

    def write(self, folder: Path, schema: pa.Schema) -> None:
        """See `Parts`."""
        map_parts(self.frame, self.function, schema, self.read).write.parquet(folder.as_uri())

    def each(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """See `Parts`."""
        context: SparkContext = self.frame.sparkSession.sparkContext
        return context.parallelize(tasks, max(len(tasks), 1)).map(function).collect()
