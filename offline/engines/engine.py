"""What has a row for each rating is made by an engine: numpy and Arrow in this process, or Spark on a cluster.

The setting ENGINE chooses. Both call the same functions of whole users (offline/preprocess/splitting.py and
histories.py, offline/rank/training_rows.py), the one with all users and the other with those of one part, so that there
is one definition of a window, a split and a training row. What has a row for each user or item, a hundredth of the
ratings, is made by the stages themselves.
"""

import importlib.util
import shutil
from contextlib import AbstractContextManager
from typing import Protocol

import pyarrow as pa

from data_exchange_center.features import FeatureSet
from data_exchange_center.settings import Settings
from data_exchange_center.stored_table import Parts
from data_exchange_center.table_artefact import Table
from offline.engines.array_engine import ArrayEngine
from offline.preprocess.histories import Histories, ItemGenres
from offline.preprocess.readers.layout import DataSource
from offline.preprocess.splitting import SplitRatings

STAGING = ".spark"  # folder under the artefacts, where driver and workers find it alike: rows on their way


class EngineError(Exception):
    """An engine cannot be used; the message says why and what to do."""

    is_expected = True


class Engine(AbstractContextManager["Engine"], Protocol):
    """Makes what has a row for each rating; what it returns may be saved until it is closed."""

    def split(self, data: DataSource) -> SplitRatings:
        """All ratings of the raw data, labelled and split."""

    def histories(self, impressions: Table, users: pa.Table, genres: ItemGenres, features: FeatureSet) -> Histories:
        """What follows from all offline impressions.

        Args:
            impressions: catalogue entry OFFLINE_IMPRESSIONS.
            users: catalogue entry USERS.
        """

    def training_frame(
        self, impressions: Table, history: Table, users: pa.Table, items: pa.Table, features: FeatureSet
    ) -> pa.Table | Parts:
        """Catalogue entry TRAINING_FRAME.

        Args:
            impressions, history: catalogue entries OFFLINE_IMPRESSIONS and HISTORY.
            users, items, features: see `training_rows`.
        """


def check_pyspark() -> None:
    """Raises EngineError unless Spark is installed."""
    if not importlib.util.find_spec("pyspark"):
        raise EngineError("ENGINE=spark needs PySpark, which is not installed: `make spark` installs it.")


def engine_of(settings: Settings) -> Engine:
    """The engine that the settings choose; what a killed stage left of its staged rows is removed.

    Raises:
        EngineError: Spark is not installed, or its master does not respond.
    """
    shutil.rmtree(settings.artefacts / STAGING, ignore_errors=True)
    if settings.engine == "spark":
        check_pyspark()
        from offline.engines.spark_engine import SparkEngine

        return SparkEngine(settings)
    return ArrayEngine()
