"""Every artefact that one stage hands to another: its file, its writer, its columns and one sentence.

How they are read, checked and written is in data_exchange_center/artefact.py; how they appear together, in commit.py.
"""

from collections.abc import Callable

import pyarrow as pa

from data_exchange_center import documents, log_tables
from data_exchange_center.artefact import Array, Json, StateDict
from data_exchange_center.columns import Column
from data_exchange_center.dataset import DatasetDocument
from data_exchange_center.schemas import IMPRESSION, SIMILAR, Field, external_field, feature_fields, fields
from data_exchange_center.similar_items import SimilarItemsMetrics
from data_exchange_center.table_artefact import Table

_SPLIT = "offline/preprocess/s1_data_split.py"
_TERMS = "offline/preprocess/s2_term_trans.py"
_TERM_RECALL = "offline/recall/s1_term_recall.py"
_VECTOR_RECALL = "offline/recall/s2_vector_recall.py"
_SEQUENCE_RECALL = "offline/recall/s3_sequence_recall.py"
_SIMILAR = "offline/recall/s4_similar_items.py"
_FEATURES = "offline/rank/s1_feature_engi.py"
_RANKER = "offline/rank/s3_candidate_ranker.py"
_TRAIN = "offline/rank/s2_model_train.py"

DATASET = Json(
    "offline/common/dataset.json",
    _SPLIT,
    "The data set's name, seed, row counts, categories, rating scale, sizes of the id vocabularies and their digest.",
    DatasetDocument,
)


def _of_dataset(columns: Callable[[DatasetDocument], list[Field]]) -> Callable[[], pa.Schema]:
    """A schema whose columns follow from the present data set."""
    return lambda: pa.schema(columns(DATASET.load()))


def _vectors(name: str, writer: str, about: str) -> Array:
    """Vectors, in single precision."""
    return Array(f"offline/recall/{name}.npy", writer, about, dtype="float32")


USERS = Table(
    "offline/common/users.parquet",
    _SPLIT,
    "Each user of the users' file or the ratings, by userid: the vocabulary's index and the encoded categories.",
    _of_dataset(
        lambda data: [
            (Column.USERID, pa.int64()),
            (Column.USER_INDEX, pa.int32()),
            *fields(tuple(data.categories.user), pa.uint8()),
            *external_field(data, Column.USERID, Column.EXTERNAL_USERID),
        ]
    ),
    sorted_by=(Column.USERID,),
)
ITEMS = Table(
    "offline/common/items.parquet",
    _SPLIT,
    "Each item of the items' file or the ratings, by itemid: the vocabulary's index, title, genres, other categories.",
    _of_dataset(
        lambda data: [
            (Column.ITEMID, pa.int64()),
            (Column.ITEM_INDEX, pa.int32()),
            (Column.TITLE, pa.string()),
            (Column.GENRES, pa.list_(pa.string())),
            *fields(tuple(data.categories.item), pa.uint8()),
            *external_field(data, Column.ITEMID, Column.EXTERNAL_ITEMID),
        ]
    ),
    sorted_by=(Column.ITEMID,),
)
OFFLINE_IMPRESSIONS = Table(
    "offline/common/offline_imp.parquet",
    _SPLIT,
    "All rows but each user's last ones, by (userid, timestamp, file order), with their split.",
    pa.schema([(Column.IMPRESSION, pa.int64()), *IMPRESSION, (Column.SPLIT, pa.uint8())]),
    sorted_by=(Column.USERID, Column.TIMESTAMP, Column.IMPRESSION),
)
ONLINE_IMPRESSIONS = Table(
    "offline/common/online_imp.parquet",
    _SPLIT,
    "Each user's last rows, kept for the end-to-end evaluation, which alone reads them.",
    pa.schema(IMPRESSION),
    sorted_by=(Column.USERID, Column.TIMESTAMP),
    unique=False,
)
HISTORY = Table(
    "offline/common/history.parquet",
    _TERMS,
    "The history window just before each offline impression.",
    _of_dataset(lambda data: [(Column.IMPRESSION, pa.int64()), *fields(data.features.history_counts, pa.uint8())]),
    sorted_by=(Column.IMPRESSION,),
    aligned_with=OFFLINE_IMPRESSIONS,
)
USER_HISTORY = Table(
    "offline/common/user_history.parquet",
    _TERMS,
    "The window after each user's last offline row, for serving.",
    _of_dataset(lambda data: [(Column.USERID, pa.int64()), *fields(data.features.history_counts, pa.uint8())]),
    sorted_by=(Column.USERID,),
    aligned_with=USERS,
)
ITEM_GENRES = Table(
    "offline/common/item_genres.parquet",
    _TERMS,
    "A flag for each genre of each item.",
    _of_dataset(lambda data: [(Column.ITEMID, pa.int64()), *fields(data.features.genre_flags, pa.uint8())]),
    sorted_by=(Column.ITEMID,),
    aligned_with=ITEMS,
)
USER_FILTER = Table(
    "offline/common/user_filter.parquet",
    _TERMS,
    "The items that each user with offline rows has seen in them: recall leaves them out.",
    pa.schema([(Column.USERID, pa.int64()), (Column.SEEN_ITEMS, pa.list_(pa.int64()))]),
    sorted_by=(Column.USERID,),
)
POPULAR_ITEMS = Table(
    "offline/common/popular_items.parquet",
    _TERMS,
    "Items by their positives in the training rows, most first, ties by itemid: the baseline, and the cold start.",
    pa.schema([(Column.ITEMID, pa.int64()), (Column.POSITIVES, pa.int64())]),
)
USER_TERM = Table(
    "offline/recall/user_term.parquet",
    _TERM_RECALL,
    "The liked genres of each user with offline rows; the list may be empty.",
    pa.schema([(Column.USERID, pa.int64()), (Column.TERMS, pa.list_(pa.string()))]),
    sorted_by=(Column.USERID,),
    aligned_with=USER_FILTER,
)
TERM_RECALL_METRICS = Json(
    "offline/recall/term_recall_metrics.json",
    _TERM_RECALL,
    "Hit rate and Recall@200 of term recall on test.",
    documents.TermRecallMetrics,
)
USER_VECTORS = _vectors(
    "user_vectors",
    _VECTOR_RECALL,
    "[users + 1, dim] by user_index: inner product with an item vector = FM score up to a per-user constant. Fitted to "
    "all offline rows, as what is served: the ranker knows them.",
)
ITEM_VECTORS = _vectors(
    "item_vectors", _VECTOR_RECALL, "[items + 1, dim] by item_index; the last dimension is the item's bias."
)
MEASURED_USER_VECTORS = _vectors(
    "measured_user_vectors",
    _VECTOR_RECALL,
    "As user_vectors, fitted to the training rows: those whose metrics on test are reported.",
)
MEASURED_ITEM_VECTORS = _vectors(
    "measured_item_vectors", _VECTOR_RECALL, "As item_vectors, fitted to the training rows."
)
VALID_USER_VECTORS = _vectors(
    "valid_user_vectors", _VECTOR_RECALL, "As user_vectors, fitted without the valid rows: for choices made on valid."
)
VALID_ITEM_VECTORS = _vectors("valid_item_vectors", _VECTOR_RECALL, "As item_vectors, fitted without the valid rows.")
FM_MODEL = StateDict("offline/recall/fm.pt", _VECTOR_RECALL, "State dict of the FM with the `rated` objective.")
VECTOR_RECALL_METRICS = Json(
    "offline/recall/vector_recall_metrics.json",
    _VECTOR_RECALL,
    "AUC and recall of both FMs and of popularity, with the settings tried on valid.",
    documents.VectorRecallMetrics,
)
TOWER_MODEL = StateDict(
    "offline/recall/tower.pt",
    _SEQUENCE_RECALL,
    "State dict of the served user tower, fitted to all offline rows.",
)
MEASURED_TOWER_MODEL = StateDict(
    "offline/recall/measured_tower.pt",
    _SEQUENCE_RECALL,
    "The same, fitted to the training rows: the one whose metrics on test are reported.",
)
VALID_TOWER_MODEL = StateDict(
    "offline/recall/valid_tower.pt",
    _SEQUENCE_RECALL,
    "The same, fitted without the valid rows: for choices made on valid.",
)
TOWER_META = Json(
    "offline/recall/tower.json",
    _SEQUENCE_RECALL,
    "What the towers' state dicts need: sizes, shape, the digest of the ids.",
    documents.TowerDocument,
)
SEQUENCE_USER_VECTORS = _vectors(
    "sequence_user_vectors",
    _SEQUENCE_RECALL,
    "[users + 1, dim] by user_index: the served tower's vector after each user's last offline row; zeros without one.",
)
SEQUENCE_ITEM_VECTORS = _vectors(
    "sequence_item_vectors", _SEQUENCE_RECALL, "[items + 1, dim] by item_index; the last dimension is the item's bias."
)
SEQUENCE_RECALL_METRICS = Json(
    "offline/recall/sequence_recall_metrics.json",
    _SEQUENCE_RECALL,
    "Recall of the tower beside the retrieval FM, with intervals of the gain, on valid and on test.",
    documents.SequenceRecallMetrics,
)
SIMILAR_ITEMS = Table(
    "offline/recall/similar_items.parquet",
    _SIMILAR,
    "The neighbours of each item, best first, and their scores; none of an item that nobody has rated.",
    pa.schema([(Column.ITEMID, pa.int64()), *SIMILAR]),
    sorted_by=(Column.ITEMID,),
    aligned_with=ITEMS,
)
SIMILAR_ITEMS_METRICS = Json(
    "offline/recall/similar_items_metrics.json",
    _SIMILAR,
    "Recall on test of what the same people like next, beside co-popularity and popularity, with intervals.",
    SimilarItemsMetrics,
)
TRAINING_FRAME = Table(
    "offline/rank/training_frame.parquet",
    _FEATURES,
    "Of each offline impression: the features in the declared order, label and split.",
    _of_dataset(
        lambda data: [
            (Column.IMPRESSION, pa.int64()),
            *feature_fields(data.features.columns),
            (Column.LABEL, pa.uint8()),
            (Column.SPLIT, pa.uint8()),
        ]
    ),
    sorted_by=(Column.IMPRESSION,),
    aligned_with=OFFLINE_IMPRESSIONS,
)
USER_FEATURES = Table(
    "offline/rank/user_features.parquet",
    _FEATURES,
    "Each user's features for serving.",
    _of_dataset(lambda data: [(Column.USERID, pa.int64()), *feature_fields(data.features.user_columns)]),
    sorted_by=(Column.USERID,),
    aligned_with=USERS,
)
ITEM_FEATURES = Table(
    "offline/rank/item_features.parquet",
    _FEATURES,
    "Each item's features for serving.",
    _of_dataset(lambda data: [(Column.ITEMID, pa.int64()), *feature_fields(data.features.item_columns)]),
    sorted_by=(Column.ITEMID,),
    aligned_with=ITEMS,
)
FEATURE_META = Json(
    "offline/rank/features.json",
    _FEATURES,
    "The features' order, vocabulary sizes and the hash of both.",
    documents.FeatureDocument,
)
DEEPFM_MODEL = StateDict(
    "offline/rank/deepfm.pt",
    _TRAIN,
    "State dict of the served DeepFM, fitted to all offline rows.",
)
MEASURED_DEEPFM_MODEL = StateDict(
    "offline/rank/measured_deepfm.pt",
    _TRAIN,
    "The same, fitted to the training rows: the one whose metrics on test are reported.",
)
VALID_DEEPFM_MODEL = StateDict(
    "offline/rank/valid_deepfm.pt",
    _TRAIN,
    "The same, fitted without the valid rows: for choices made on valid.",
)
DEEPFM_META = Json(
    "offline/rank/deepfm.json",
    _TRAIN,
    "What the state dict needs: features, sizes, layers, the features' hash.",
    documents.DeepFmDocument,
)
MODEL_METRICS = Json(
    "offline/rank/model_metrics.json",
    _TRAIN,
    "AUC, log loss and calibration on test of DeepFM, FM, logistic regression, popularity, with intervals.",
    documents.ModelMetrics,
)
RANKER_MODEL = StateDict(
    "offline/rank/ranker.pt",
    _RANKER,
    "State dict of the served ranking model: DeepFM, the tables that it looks candidates up in, and the rank net.",
)
RANKER_META = Json(
    "offline/rank/ranker.json",
    _RANKER,
    "What the state dict needs: features, sizes, layers, the features' hash.",
    documents.RankerDocument,
)
RANKER_METRICS = Json(
    "offline/rank/ranker_metrics.json",
    _RANKER,
    "The ranker's order beside recall's on lists of valid and of test, with intervals, and what was tried.",
    documents.RankerMetrics,
)
IMPRESSIONS_LOG, EVENTS_LOG, LOG_POSITIONS, EVENT_RATINGS, EXPOSURES, LOG_ROWS, ACTED_LISTS = log_tables.OF_THE_WAY_BACK
