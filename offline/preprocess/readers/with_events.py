"""Raw data with what the server logged since: the original ratings, then the ratings of the events.

A retraining (benchmarks/loop/retrain.py) puts the events that it fits to into a file beside the artefacts, where every
later run of the stages finds them: what is served and what would be made again are the same.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.dataset import RatingScale
from data_exchange_center.log_tables import EXPOSURES, LIST_KEY
from data_exchange_center.vocabularies import Categories
from offline.preprocess.readers.layout import DataSource
from offline.preprocess.readers.text import DataError

# Under ARTEFACTS_DIR, with the columns of the catalogue's EVENT_RATINGS and EXPOSURES.
EVENTS_FILE = "offline/raw/event_ratings.parquet"
EXPOSURES_FILE = "offline/raw/exposures.parquet"

SEEN_COLUMNS = (*LIST_KEY, Column.USERID, Column.ITEMID, LogColumn.NAMED, LogColumn.ACTED)


@dataclass(frozen=True)
class WithEvents:
    """A `DataSource` whose ratings go on with those of events.

    Attributes:
        original: what it goes on from.
        events: the file of the events' ratings.
        exposures: the file of what was seen of the lists that they answer; none beside events that an earlier version
            put there.
    """

    original: DataSource
    events: Path
    exposures: Path | None

    @property
    def folder(self) -> Path:
        """The original's."""
        return self.original.folder

    @property
    def files(self) -> list[Path]:
        """The original's, and the events'."""
        return [*self.original.files, self.events, *([self.exposures] if self.exposures else [])]

    @property
    def users_file(self) -> str | None:
        """The original's."""
        return self.original.users_file

    @property
    def movies_file(self) -> str | None:
        """The original's."""
        return self.original.movies_file

    @property
    def scale(self) -> RatingScale:
        """The original's."""
        return self.original.scale

    @property
    def online_rows(self) -> int:
        """The original's."""
        return self.original.online_rows

    @property
    def fixed_categories(self) -> Categories | None:
        """The original's."""
        return self.original.fixed_categories

    def ratings(self) -> pa.Table:
        """The original ratings, then the events' by arrival.

        Raises:
            DataError: from the original, or the events' ids are of another kind than the original's.
        """
        original = self.original.ratings()
        events = self.events_table()
        for name in (Column.EXTERNAL_USERID, Column.EXTERNAL_ITEMID):
            if name in original.column_names and events[name].null_count:
                raise DataError(f"{self.events} holds ids that are no text, and the data set's are: it is of another.")
        return pa.concat_tables([original, events.select(original.column_names).cast(original.schema)])

    def events_table(self) -> pa.Table:
        """The events alone, as the catalogue's EVENT_RATINGS has them."""
        return pq.read_table(self.events)

    def seen_in_lists(self) -> pa.Table:
        """What was seen of the lists that were acted on, by list: SEEN_COLUMNS of the catalogue's EXPOSURES."""
        schema = pa.schema([EXPOSURES.present_schema.field(name) for name in SEEN_COLUMNS])
        return pq.read_table(self.exposures, schema=schema) if self.exposures else schema.empty_table()

    def movies(self) -> pd.DataFrame:
        """The original's."""
        return self.original.movies()

    def users(self) -> pd.DataFrame:
        """The original's."""
        return self.original.users()


def with_events(original: DataSource, artefacts: Path) -> DataSource:
    """The original, with the events where a retraining has put some under this root of artefacts."""
    events = artefacts / EVENTS_FILE
    exposures = artefacts / EXPOSURES_FILE
    return WithEvents(original, events, exposures if exposures.is_file() else None) if events.is_file() else original
