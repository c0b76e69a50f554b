"""Every artefact that one stage hands to another: its file, format, columns and one sentence.

`load` and `writing` check against it. Files of a stage appear together or not at all: they are written beside their
places, the list of moves is recorded in one file, and only then are they moved. A stage killed before the record
leaves the old files; one killed after it is completed by the next reader.
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data_exchange_center import columns as c
from data_exchange_center.features import COLUMNS, GENRE_FLAGS, HISTORY_COUNTS, SPARSE_COLUMNS, entity_columns
from data_exchange_center.settings import Settings


class ArtefactError(Exception):
    """An artefact is missing or is not what the catalogue says; the message names the stage to run."""


@dataclass(frozen=True)
class Artefact:
    """One file. `schema` is set for parquet; `dtype` for npy; a `.json` or `.pt` file has neither."""

    path: str
    writer: str  # the stage that makes it
    about: str
    schema: pa.Schema | None = None
    dtype: str | None = None

    @property
    def file(self) -> Path:
        """Where it lies under the present settings."""
        return Settings().artefacts / self.path


def _fields(names: tuple[str, ...], kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    return [(name, kind) for name in names]


def _feature_fields(names: tuple[str, ...]) -> list[tuple[str, pa.DataType]]:
    """Indices in 32 bits, flags and counts in 8: the training frame is a quarter of its size in 64."""
    wide = (c.USER_INDEX, c.ITEM_INDEX)
    return [(name, pa.int32() if name in wide else pa.uint8()) for name in names]


_SPLIT = "offline/preprocess/s1_data_split.py"
_TERMS = "offline/preprocess/s2_term_trans.py"
_TERM_RECALL = "offline/recall/s1_term_recall.py"
_VECTOR_RECALL = "offline/recall/s2_vector_recall.py"
_FEATURES = "offline/rank/s1_feature_engi.py"
_TRAIN = "offline/rank/s2_model_train.py"

_IMPRESSION = [
    (c.USERID, pa.int64()),
    (c.ITEMID, pa.int64()),
    (c.USER_INDEX, pa.int32()),
    (c.ITEM_INDEX, pa.int32()),
    (c.RATING, pa.float32()),
    (c.TIMESTAMP, pa.int64()),
    (c.LABEL, pa.uint8()),
]

DATASET = Artefact(
    "offline/common/dataset.json",
    _SPLIT,
    "The data set's name, seed, row counts, sizes of the id vocabularies and their digest.",
)
USERS = Artefact(
    "offline/common/users.parquet",
    _SPLIT,
    "Each user of users.dat or ratings.dat, by userid: the vocabulary's index and the encoded demographics.",
    pa.schema(
        [(c.USERID, pa.int64()), (c.USER_INDEX, pa.int32()), *_fields((c.GENDER, c.AGE, c.OCCUPATION), pa.uint8())]
    ),
)
ITEMS = Artefact(
    "offline/common/items.parquet",
    _SPLIT,
    "Each item of movies.dat or ratings.dat, by itemid: the vocabulary's index, title and genres.",
    pa.schema(
        [
            (c.ITEMID, pa.int64()),
            (c.ITEM_INDEX, pa.int32()),
            (c.TITLE, pa.string()),
            (c.GENRES, pa.list_(pa.string())),
        ]
    ),
)
OFFLINE_IMPRESSIONS = Artefact(
    "offline/common/offline_imp.parquet",
    _SPLIT,
    "All rows but each user's last 10, by (userid, timestamp, file order), with their split.",
    pa.schema([*_IMPRESSION, (c.SPLIT, pa.uint8())]),
)
ONLINE_IMPRESSIONS = Artefact(
    "offline/common/online_imp.parquet",
    _SPLIT,
    "Each user's last 10 rows: the end-to-end evaluation's, which nothing else reads.",
    pa.schema(_IMPRESSION),
)
HISTORY = Artefact(
    "offline/common/history.parquet",
    _TERMS,
    "Row by row with offline_imp: the history window just before the row.",
    pa.schema(_fields(HISTORY_COUNTS, pa.uint8())),
)
USER_HISTORY = Artefact(
    "offline/common/user_history.parquet",
    _TERMS,
    "Row by row with users: the window after the user's last offline row, for serving.",
    pa.schema([(c.USERID, pa.int64()), *_fields(HISTORY_COUNTS, pa.uint8())]),
)
ITEM_GENRES = Artefact(
    "offline/common/item_genres.parquet",
    _TERMS,
    "Row by row with items: a flag for each genre.",
    pa.schema([(c.ITEMID, pa.int64()), *_fields(GENRE_FLAGS, pa.uint8())]),
)
USER_FILTER = Artefact(
    "offline/common/user_filter.parquet",
    _TERMS,
    "The items that each user with offline rows has seen in them: recall leaves them out.",
    pa.schema([(c.USERID, pa.int64()), (c.ITEMS, pa.list_(pa.int64()))]),
)
POPULAR_ITEMS = Artefact(
    "offline/common/popular_items.parquet",
    _TERMS,
    "Items by their positives in the training rows, most first, ties by itemid: the baseline, and the cold start.",
    pa.schema([(c.ITEMID, pa.int64()), (c.POSITIVES, pa.int64())]),
)
USER_TERM = Artefact(
    "offline/recall/user_term.parquet",
    _TERM_RECALL,
    "The liked genres of each user with offline rows; the list may be empty.",
    pa.schema([(c.USERID, pa.int64()), (c.TERMS, pa.list_(pa.string()))]),
)
TERM_RECALL_METRICS = Artefact(
    "offline/recall/term_recall_metrics.json", _TERM_RECALL, "Hit rate and Recall@200 of term recall on test."
)
USER_VECTORS = Artefact(
    "offline/recall/user_vectors.npy",
    _VECTOR_RECALL,
    "[users + 1, dim] by user_index: inner product with an item vector = FM score up to a per-user constant. Served: "
    "fitted to all offline rows.",
    dtype="float32",
)
ITEM_VECTORS = Artefact(
    "offline/recall/item_vectors.npy",
    _VECTOR_RECALL,
    "[items + 1, dim] by item_index; the last dimension is the item's bias.",
    dtype="float32",
)
MEASURED_USER_VECTORS = Artefact(
    "offline/recall/measured_user_vectors.npy",
    _VECTOR_RECALL,
    "As user_vectors, fitted to the training rows: those whose figures on test are reported.",
    dtype="float32",
)
MEASURED_ITEM_VECTORS = Artefact(
    "offline/recall/measured_item_vectors.npy",
    _VECTOR_RECALL,
    "As item_vectors, fitted to the training rows.",
    dtype="float32",
)
VALID_USER_VECTORS = Artefact(
    "offline/recall/valid_user_vectors.npy",
    _VECTOR_RECALL,
    "As user_vectors, fitted without the valid rows: for choices made on valid.",
    dtype="float32",
)
VALID_ITEM_VECTORS = Artefact(
    "offline/recall/valid_item_vectors.npy",
    _VECTOR_RECALL,
    "As item_vectors, fitted without the valid rows.",
    dtype="float32",
)
FM_MODEL = Artefact("offline/recall/fm.pt", _VECTOR_RECALL, "State dict of the FM with the `rated` objective.")
VECTOR_RECALL_METRICS = Artefact(
    "offline/recall/vector_recall_metrics.json",
    _VECTOR_RECALL,
    "AUC and recall of both FMs and of popularity, with the settings tried on valid.",
)
TRAINING_FRAME = Artefact(
    "offline/rank/training_frame.parquet",
    _FEATURES,
    "Row by row with offline_imp: the features in the declared order, label and split.",
    pa.schema([*_feature_fields(COLUMNS), (c.LABEL, pa.uint8()), (c.SPLIT, pa.uint8())]),
)
USER_FEATURES = Artefact(
    "offline/rank/user_features.parquet",
    _FEATURES,
    "Each user's features for serving.",
    pa.schema([(c.USERID, pa.int64()), *_feature_fields(entity_columns("user"))]),
)
ITEM_FEATURES = Artefact(
    "offline/rank/item_features.parquet",
    _FEATURES,
    "Each item's features for serving.",
    pa.schema([(c.ITEMID, pa.int64()), *_feature_fields(entity_columns("item"))]),
)
FEATURE_META = Artefact(
    "offline/rank/features.json", _FEATURES, "The features' order, vocabulary sizes and the hash of both."
)
DEEPFM_MODEL = Artefact(
    "offline/rank/deepfm.pt", _TRAIN, "State dict of the served DeepFM, fitted to all offline rows."
)
MEASURED_DEEPFM_MODEL = Artefact(
    "offline/rank/measured_deepfm.pt",
    _TRAIN,
    "The same, fitted to the training rows: the one whose figures on test are reported.",
)
DEEPFM_META = Artefact(
    "offline/rank/deepfm.json", _TRAIN, "What the state dict needs: features, sizes, layers, the features' hash."
)
MODEL_METRICS = Artefact(
    "offline/rank/model_metrics.json",
    _TRAIN,
    "AUC, log loss and calibration on test of DeepFM, FM, logistic regression, popularity, with intervals.",
)
BLEND = Artefact(
    "offline/rank/blend.json",
    _TRAIN,
    "The weight of DeepFM's logit in the final score, with the table it was chosen from.",
)

ARTEFACTS: tuple[Artefact, ...] = tuple(v for v in dict(globals()).values() if isinstance(v, Artefact))

assert len(SPARSE_COLUMNS) + len(HISTORY_COUNTS) == len(COLUMNS)

_COMMITS = ".commits"


def _checked_table(artefact: Artefact, table: pa.Table) -> pa.Table:
    assert artefact.schema is not None
    if table.schema.names != artefact.schema.names:
        raise ArtefactError(
            f"{artefact.path} has the columns {table.schema.names}, the catalogue says {artefact.schema.names}: "
            f"run {artefact.writer} again."
        )
    return table.cast(artefact.schema)


def _existing(artefact: Artefact) -> Path:
    complete_interrupted_commits()
    file = artefact.file
    if not file.exists():
        raise ArtefactError(f"{file} is missing. It is made by {artefact.writer}: run that stage, or `make offline`.")
    return file


def load_table(artefact: Artefact, columns: list[str] | None = None) -> pa.Table:
    """A parquet artefact, its schema checked.

    Raises:
        ArtefactError: the file is missing, unreadable, or has other columns than the catalogue says.
    """
    file = _existing(artefact)
    assert artefact.schema is not None
    try:
        with pq.ParquetFile(file) as parquet:  # not read_table, which imports pandas: the server is free of it
            if not parquet.schema_arrow.equals(artefact.schema):
                raise ArtefactError(f"{file} has another schema than the catalogue: run {artefact.writer} again.")
            return parquet.read(columns)
    except pa.ArrowInvalid as error:
        raise ArtefactError(f"{file} is no readable parquet ({error}): run {artefact.writer} again.") from error


def load_array(artefact: Artefact) -> npt.NDArray[Any]:
    """An npy artefact, its type checked."""
    array: npt.NDArray[Any] = np.load(_existing(artefact), allow_pickle=False)
    if str(array.dtype) != artefact.dtype:
        raise ArtefactError(f"{artefact.path} holds {array.dtype}, the catalogue says {artefact.dtype}.")
    return array


def load_json(artefact: Artefact) -> dict[str, Any]:
    """A JSON artefact."""
    content: dict[str, Any] = json.loads(_existing(artefact).read_text("utf-8"))
    return content


def load_state(artefact: Artefact) -> dict[str, Any]:
    """A model's state dict (tensors only: nothing in the file can run code)."""
    import torch  # not at the top: the server imports this module and must stay free of torch

    state: dict[str, Any] = torch.load(_existing(artefact), weights_only=True, map_location="cpu")
    return state


class Writer:
    """Collects a stage's outputs beside their places; see `writing`."""

    def __init__(self, promised: tuple[Artefact, ...]) -> None:
        """Writes nothing yet; `promised` are the artefacts that must be written."""
        self._promised = promised
        self._suffix = f".{uuid.uuid4().hex}.tmp"
        self._written: dict[Artefact, Path] = {}

    def _place(self, artefact: Artefact) -> Path:
        if artefact not in self._promised:
            raise ArtefactError(f"{artefact.path} is not among the WRITES of this stage.")
        place = artefact.file.with_name(artefact.file.name + self._suffix)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._written[artefact] = place
        return place

    def table(self, artefact: Artefact, table: pa.Table) -> None:
        """Writes a table; its columns must be the catalogue's, in their order, and fit its types."""
        pq.write_table(_checked_table(artefact, table), self._place(artefact), compression="zstd")

    def array(self, artefact: Artefact, array: npt.NDArray[Any]) -> None:
        """Writes an array as npy in the catalogue's type."""
        with self._place(artefact).open("wb") as file:
            np.save(file, array.astype(artefact.dtype), allow_pickle=False)

    def json(self, artefact: Artefact, content: dict[str, Any]) -> None:
        """Writes metadata or metrics; NaN is refused, since JSON has none."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        self._place(artefact).write_text(text, "utf-8")

    def state(self, artefact: Artefact, state: dict[str, Any]) -> None:
        """Writes a model's state dict."""
        import torch

        with self._place(artefact).open("wb") as file:  # not by name, which torch would write into the file
            torch.save(state, file)

    def check_complete(self) -> None:
        """Raises ArtefactError when something promised was not written."""
        missing = [a.path for a in self._promised if a not in self._written]
        if missing:
            raise ArtefactError(f"The stage promised {missing} in its WRITES and did not write them.")

    def commit(self) -> None:
        """Moves all files into their places."""
        root = Settings().artefacts
        moves = [[str(p.relative_to(root)), a.path] for a, p in self._written.items()]
        folder = root / _COMMITS
        folder.mkdir(exist_ok=True)
        record = folder / f"{self._suffix}.json"
        draft = folder / f"{self._suffix}.draft"
        draft.write_text(json.dumps(moves))
        os.replace(draft, record)
        complete_interrupted_commits()

    def discard(self) -> None:
        """Removes what was written beside the places."""
        for place in self._written.values():
            place.unlink(missing_ok=True)


def complete_interrupted_commits() -> None:
    """Carries out the recorded moves that a killed stage left; several processes may do so at once."""
    root = Settings().artefacts
    for record in sorted((root / _COMMITS).glob(".*.tmp.json")):
        try:
            moves = json.loads(record.read_text())
        except FileNotFoundError:
            continue  # another process has just completed it
        for source, target in moves:
            try:
                os.replace(root / source, root / target)
            except FileNotFoundError:
                if not (root / target).exists():
                    raise
        record.unlink(missing_ok=True)


def remove_leftovers(artefacts: tuple[Artefact, ...]) -> None:
    """Removes the half-written files that a killed run of the same stage left beside its artefacts."""
    complete_interrupted_commits()
    for artefact in artefacts:
        for left in artefact.file.parent.glob(f"{artefact.file.name}.*.tmp"):
            left.unlink(missing_ok=True)


@contextmanager
def writing(promised: tuple[Artefact, ...]) -> Iterator[Writer]:
    """Writes a stage's artefacts: all of `promised` appear together at the end of the block, or none.

    Raises:
        ArtefactError: something not promised was written, or something promised was not.
    """
    remove_leftovers(promised)
    writer = Writer(promised)
    try:
        yield writer
        writer.check_complete()
    except BaseException:
        writer.discard()
        raise
    writer.commit()
