"""The four services' roles played by the artefacts alone, so that the recommender gives its lists without a server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, Float32Array, Float64Array, FloatArray, Int64Array
from data_exchange_center.assembler import RankingInputs
from data_exchange_center.columns import Column
from data_exchange_center.elasticsearch_scores import TERM_BONUS
from data_exchange_center.features import JOIN_KEYS, Entity, FeatureSet
from data_exchange_center.item_years import item_years
from data_exchange_center.limits import RECALL_SIZE
from data_exchange_center.serving_load import load_digest
from data_exchange_center.table_artefact import Table
from data_exchange_center.tables import to_matrix
from data_exchange_center.user_state import genre_flags
from offline.rank.ranker import CandidateKnowledge, Ranker, ranker_from
from offline.rank.s3_candidate_ranker import MEASURED
from offline.recall.array_recall import recall_on_arrays, term_matches
from offline.recall.interactions import Parts
from offline.recall.s3_sequence_recall import vectors_after
from offline.recall.sequence_tower import SequenceTower, tower_from
from offline_to_online.recall.user_recall import latest_impressions, users_to_load
from online.callers.types import (
    EVERYTHING,
    Candidates,
    Expected,
    Impression,
    ItemFilter,
    LiveUser,
    RankingScores,
    ServedModel,
    SimilarItem,
    UserRecall,
)
from online.item_table import NO_YEAR, ItemTable
from online.roles import Features, ServingBackends


class ArtefactRecallStore:
    """The recall data of the artefacts, in place of Redis. There are no events."""

    def __init__(self, vectors: Float32Array) -> None:
        """Reads terms, filters and last impressions; `vectors` [users + 1, dim] by user_index."""
        self._recent = latest_impressions()
        self.users = users_to_load(self._recent, vectors)

    def loaded(self) -> str | None:
        """The artefacts are what is loaded."""
        return load_digest()

    def user(self, userid: int, load: str | None = None) -> UserRecall | None:
        """The user's recall data; None for an unknown user."""
        return self.users.get(userid)

    def recent(self, userids: Sequence[int]) -> list[tuple[Impression, ...]]:
        """The last impressions of each user, oldest first."""
        return [self._recent.get(userid, ()) for userid in userids]

    def update(self, changes: Mapping[int, Callable[[LiveUser], LiveUser]], load: str) -> dict[int, int]:
        """Not implemented: artefacts are not changed by events."""
        raise NotImplementedError

    def set_vector(self, userid: int, recent: Sequence[Impression], vector: FloatArray) -> bool:
        """Not implemented: artefacts are not changed by events."""
        raise NotImplementedError

    def pushed(self, userid: int) -> None:
        """Does nothing, since nothing is pushed."""

    def unpushed(self) -> list[int]:
        """No user, since there are no events."""
        return []

    def ping(self, expected: Expected) -> None:
        """Returns, since the artefacts are always there."""


class ArtefactRecallIndex:
    """Recall on arrays, in place of Elasticsearch: the same scores, selection and order of hits that tie."""

    def __init__(self, vectors: Float32Array) -> None:
        """Reads the items' genres; `vectors` [items + 1, dim] by item_index."""
        items, popular = catalogue.ITEMS.load(), catalogue.POPULAR_ITEMS.load()
        self.ids: Int64Array = items[Column.ITEMID].to_numpy()  # [items], ascending
        self.vectors: Float32Array = vectors[items[Column.ITEM_INDEX].to_numpy()]  # [items, dim]
        dataset = catalogue.DATASET.load()
        self._genres = dataset.categories.genres
        self._flags = genre_flags(items[Column.GENRES].to_pylist(), self._genres)  # [items, genres]
        years = item_years(items, dataset.categories.item)
        self.table = ItemTable(
            self.ids,
            items[Column.ITEM_INDEX].to_numpy(),
            self._flags.astype(bool),
            np.array([NO_YEAR if year is None else year for year in years], np.int64),
            self._genres,
        )
        self._popularity_rank = np.empty(len(self.ids), np.int64)
        by_popularity = np.searchsorted(self.ids, popular[Column.ITEMID].to_numpy())
        self._popularity_rank[by_popularity] = np.arange(len(by_popularity))

    def unseen(self, user: UserRecall) -> BoolArray:
        """[items] whether the user has not seen it."""
        unseen = np.ones(len(self.ids), bool)
        unseen[np.searchsorted(self.ids, user.seen)] = False
        return unseen

    def recall_scores(self, user: UserRecall) -> Float64Array:
        """[items] the recall score that each item would have if every query that can find it did."""
        products = (self.vectors @ np.array(user.vector, np.float32)).astype(np.float64)
        return products + TERM_BONUS * term_matches(self._liked(user), self._flags)[0]

    def recall(
        self, user: UserRecall, possible: int, load: str = "", within: ItemFilter = EVERYTHING, index: str = ""
    ) -> Candidates:
        """At most RECALL_SIZE candidates, best first; see ElasticsearchCaller. There is one index."""
        admitted = self.table.admitted(within) & self.unseen(user) if within.narrows else self.unseen(user)
        found = self._search(user, admitted)
        if within.narrows and len(found) < min(possible, RECALL_SIZE):
            found = self._search(user, admitted, RECALL_SIZE)
        return found

    def _search(self, user: UserRecall, admitted: BoolArray, nearest: int | None = None) -> Candidates:
        """The candidates among the items [items] that are admitted, so many of them at most by the vector."""
        vector = np.array(user.vector, np.float32) if user.vector else np.zeros(self.vectors.shape[1], np.float32)
        batch = recall_on_arrays(
            vector[None],
            self.vectors,
            self._liked(user),
            self._flags,
            ~admitted[None],
            self._popularity_rank,
            nearest,
        )
        there = batch.present[0]
        places, scores, by_term, by_vector = (
            column[0][there] for column in (batch.items, batch.scores, batch.by_term, batch.by_vector)
        )
        return Candidates(self.ids[places], scores, by_term, by_vector)

    def ping(self, expected: Expected) -> None:
        """Returns, since the artefacts are always there."""

    def _liked(self, user: UserRecall) -> BoolArray:
        """[1, genres] the user's terms."""
        return genre_flags([user.terms], self._genres).astype(bool)


class ArtefactSimilarIndex:
    """The neighbours of the artefacts, in place of Elasticsearch."""

    def __init__(self) -> None:
        """Reads them."""
        columns = (column.to_pylist() for column in catalogue.SIMILAR_ITEMS.load().columns)
        self._similar = {
            itemid: tuple(map(SimilarItem, itemids, scores)) for itemid, itemids, scores in zip(*columns, strict=True)
        }

    def similar(self, itemid: int, load: str = "") -> tuple[SimilarItem, ...]:
        """The neighbours of an item of the catalogue, best first."""
        return self._similar[itemid]


class ArtefactFeatureStore:
    """The serving rows of the artefacts, in place of Feast."""

    def __init__(self) -> None:
        """Reads the features of both entities."""
        sources: dict[Entity, Table] = {"user": catalogue.USER_FEATURES, "item": catalogue.ITEM_FEATURES}
        tables = {entity: artefact.load() for entity, artefact in sources.items()}
        self._ids: dict[Entity, Int64Array] = {
            entity: table[JOIN_KEYS[entity]].to_numpy() for entity, table in tables.items()
        }
        declared = catalogue.DATASET.load().features
        self._values: dict[Entity, Int64Array] = {
            entity: to_matrix(table, declared.entity_columns(entity), np.int64) for entity, table in tables.items()
        }

    def features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Features:
        """Values [n, columns], zeros where unknown, and whether each is known [n]."""
        at = np.minimum(np.searchsorted(self._ids[entity], ids), len(self._ids[entity]) - 1)
        known = self._ids[entity][at] == np.array(ids)
        return self._values[entity][at] * known[:, None], known

    all_features = features

    def request_features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Callable[[], Features]:
        """As `features`, read when what is returned is called."""
        return lambda: self.features(declared, entity, ids)

    def push_history(self, declared: FeatureSet, userid: int, counts: Mapping[str, int], moment_ns: int) -> None:
        """Not implemented: artefacts are not changed by events."""
        raise NotImplementedError

    def ping(self, expected: Expected) -> None:
        """Returns, since the artefacts are always there."""


class ArtefactRankingModel:
    """The ranking model in PyTorch, in place of Triton."""

    def __init__(self, ranker: Ranker) -> None:
        """Scores with this one."""
        document = catalogue.RANKER_META.load()
        self.ranker = ranker.eval()
        self._served = ServedModel("artefacts", document.columns, document.feature_hash, "", load_digest())

    @torch.no_grad()
    def score(self, inputs: RankingInputs, version: str = "") -> tuple[RankingScores, ServedModel]:
        """The scores, and the model that made them: there is one, whichever version is named."""
        logits, rank_scores = self.ranker(*map(torch.from_numpy, inputs))
        return RankingScores(logits.numpy(), rank_scores.numpy()), self._served

    def ping(self, expected: Expected) -> None:
        """Returns, since the artefacts are always there."""


class ArtefactUserTower:
    """The user tower in PyTorch, in place of Triton."""

    def __init__(self, tower: SequenceTower) -> None:
        """Makes vectors with this one."""
        self.tower = tower.eval()
        self._served = ServedModel("artefacts", (), catalogue.RANKER_META.load().feature_hash, "", load_digest())

    @torch.no_grad()
    def user_vectors(self, items: Int64Array, liked: Int64Array) -> tuple[Float32Array, ServedModel]:
        """[b, dim + 1] the vectors after these impressions, and the model that made them."""
        vectors: Float32Array = self.tower(torch.from_numpy(items), torch.from_numpy(liked)).numpy()
        return vectors, self._served


@dataclass(frozen=True)
class ArtefactBackends(ServingBackends):
    """All roles; read once, they serve everything that is compared."""

    recall_store: ArtefactRecallStore
    recall_index: ArtefactRecallIndex
    similar_index: ArtefactSimilarIndex
    feature_store: ArtefactFeatureStore
    ranking_model: ArtefactRankingModel
    user_tower: ArtefactUserTower

    @classmethod
    def load(cls) -> "ArtefactBackends":
        """What is served."""
        tower = tower_from(catalogue.TOWER_META.load(), catalogue.TOWER_MODEL.load())
        ranker = ranker_from(catalogue.RANKER_META.load(), catalogue.RANKER_MODEL.load())
        return cls(
            ArtefactRecallStore(catalogue.SEQUENCE_USER_VECTORS.load()),
            ArtefactRecallIndex(catalogue.SEQUENCE_ITEM_VECTORS.load()),
            ArtefactSimilarIndex(),
            ArtefactFeatureStore(),
            ArtefactRankingModel(ranker),
            ArtefactUserTower(tower),
        )

    def not_refitted(self, parts: Parts) -> "ArtefactBackends":
        """The same with tower, DeepFM and tables that were fitted to the training rows alone.

        The users' last impressions are those of all offline rows: they are no parameter of a model.
        """
        funnel = MEASURED.funnel(parts.training)
        user_vectors, item_vectors = vectors_after(funnel.tower, parts.offline)
        served = self.ranking_model.ranker
        ranker = Ranker(funnel.deepfm, CandidateKnowledge(funnel.knowledge), served.like, served.rank)
        return ArtefactBackends(
            ArtefactRecallStore(user_vectors),
            ArtefactRecallIndex(item_vectors),
            self.similar_index,
            self.feature_store,
            ArtefactRankingModel(ranker),
            ArtefactUserTower(funnel.tower),
        )
