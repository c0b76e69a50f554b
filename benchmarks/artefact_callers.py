"""The four services' callers on the artefacts alone: the recommender gives the same lists without a server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from data_exchange_center import catalogue
from data_exchange_center.columns import GENRES, ITEM_INDEX, ITEMID, POSITIVES
from data_exchange_center.features import JOIN_KEYS, Entity, entity_columns
from data_exchange_center.scoring import RECALL_SIZE, TERM_BOOST, VECTOR_BOOST, VECTOR_RECALL_SIZE
from data_exchange_center.vocabularies import GENRE_INDEX
from offline.rank.deepfm import DeepFM, deepfm_from
from offline_to_online.recall.user_recall import latest_impressions, users_to_load
from online.callers.types import Candidates, Impression, LiveUser, ServedModel, UserRecall
from online.recommender import Callers

Values = npt.NDArray[np.int64]
Known = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


class UsersOfArtefacts:
    """In place of Redis. There are no events."""

    def __init__(self, vectors: catalogue.Artefact) -> None:
        """Reads terms, filters and these vectors."""
        self.users = users_to_load(vectors)
        self._recent = latest_impressions()

    def user(self, userid: int) -> UserRecall | None:
        """The user's recall data; None for an unknown user."""
        return self.users.get(userid)

    def recent(self, userids: Sequence[int]) -> list[tuple[Impression, ...]]:
        """The impressions in each user's window, oldest first."""
        return [self._recent.get(userid, ()) for userid in userids]

    def update(self, userid: int, change: Callable[[LiveUser], LiveUser]) -> LiveUser:
        """Artefacts are not changed by events."""
        raise NotImplementedError

    def pushed(self, userid: int) -> None:
        """Nothing is pushed."""

    def unpushed(self) -> list[int]:
        """Nobody waits."""
        return []

    def ping(self) -> None:
        """Always there."""


class IndexOfArtefacts:
    """In place of Elasticsearch: the same scores in the same precision, and the same order of hits that tie."""

    def __init__(self, vectors: catalogue.Artefact) -> None:
        """Reads the items' genres and these vectors."""
        items, popular = catalogue.load_table(catalogue.ITEMS), catalogue.load_table(catalogue.POPULAR_ITEMS)
        self.ids: Values = items[ITEMID].to_numpy()
        self.vectors: Floats = catalogue.load_array(vectors)[items[ITEM_INDEX].to_numpy()]
        positives = np.empty(len(self.ids), np.int64)
        positives[np.searchsorted(self.ids, popular[ITEMID].to_numpy())] = popular[POSITIVES].to_numpy()
        self._place = np.argsort(np.argsort(-positives, kind="stable"))  # of each item in the sorted index
        self._flags = np.zeros((len(self.ids), len(GENRE_INDEX) + 1), bool)
        for row, genres in enumerate(items[GENRES].to_pylist()):
            self._flags[row, [GENRE_INDEX[genre] for genre in genres]] = True

    def unseen(self, user: UserRecall) -> Known:
        """[items] whether the user has not seen it."""
        unseen = np.ones(len(self.ids), bool)
        unseen[np.searchsorted(self.ids, user.seen)] = False
        return unseen

    def by_term(self, user: UserRecall) -> Known:
        """[items] whether it has a genre that the user likes."""
        return np.any(self._flags[:, [GENRE_INDEX[genre] for genre in user.terms]], axis=1)

    def recall_scores(self, user: UserRecall) -> npt.NDArray[np.float64]:
        """[items] what scoring.recall_scores would give each item, were it recalled by all that can recall it."""
        products = (self.vectors @ np.array(user.vector, np.float32)).astype(np.float64)
        return products + TERM_BOOST / VECTOR_BOOST * self.by_term(user)

    def recall(self, user: UserRecall, items: int) -> Candidates:
        """At most RECALL_SIZE candidates, best first; see ElasticsearchCaller."""
        unseen = self.unseen(user)
        by_term = self.by_term(user) & unseen
        by_vector: Known = np.zeros(len(self.ids), bool)
        similarity: Floats = np.zeros(len(self.ids), np.float32)
        if user.vector:
            products = self.vectors @ np.array(user.vector, np.float32)
            similarity = np.where(products >= 0, products + 1, 1 / (1 - np.minimum(products, 0))).astype(np.float32)
            nearest = np.lexsort((self._place, np.where(unseen, -products, np.inf)))
            by_vector[nearest[: VECTOR_RECALL_SIZE if user.terms else RECALL_SIZE]] = True
            by_vector &= unseen
        scores = by_vector * similarity * np.float32(VECTOR_BOOST) + by_term * np.float32(TERM_BOOST)
        found = np.flatnonzero(by_term | by_vector)
        order = found[np.lexsort((self._place[found], -scores[found]))][:RECALL_SIZE]
        return Candidates(self.ids[order], scores[order].astype(np.float64), by_term[order], by_vector[order])

    def ping(self) -> None:
        """Always there."""


class FeaturesOfArtefacts:
    """In place of Feast."""

    def __init__(self) -> None:
        """Reads the entities."""
        self._ids: dict[Entity, Values] = {}
        self._values: dict[Entity, Values] = {}
        sources: tuple[tuple[Entity, catalogue.Artefact], ...] = (
            ("user", catalogue.USER_FEATURES),
            ("item", catalogue.ITEM_FEATURES),
        )
        for entity, artefact in sources:
            table = catalogue.load_table(artefact)
            self._ids[entity] = table[JOIN_KEYS[entity]].to_numpy()
            columns = [table[name].to_numpy().astype(np.int64) for name in entity_columns(entity)]
            self._values[entity] = np.stack(columns, axis=1)

    def features(self, entity: Entity, ids: Sequence[int]) -> tuple[Values, Known]:
        """Values [n, columns], zeros where unknown, and whether each is known [n]."""
        at = np.minimum(np.searchsorted(self._ids[entity], ids), len(self._ids[entity]) - 1)
        known = self._ids[entity][at] == np.array(ids)
        return self._values[entity][at] * known[:, None], known

    all_features = features

    def ask(self, entity: Entity, ids: Sequence[int]) -> Callable[[], tuple[Values, Known]]:
        """Answered when called."""
        return lambda: self.features(entity, ids)

    def push_user(self, userid: int, values: Mapping[str, int], moment_ns: int) -> None:
        """Artefacts are not changed by events."""
        raise NotImplementedError

    def ping(self) -> None:
        """Always there."""


class ModelOfArtefacts:
    """In place of Triton."""

    def __init__(self, weights: catalogue.Artefact) -> None:
        """Reads these weights, and the blend's."""
        meta = catalogue.load_json(catalogue.DEEPFM_META)
        self.model: DeepFM = deepfm_from(meta["settings"], catalogue.load_state(weights))
        self.served = ServedModel(
            version="artefacts",
            columns=tuple(meta["columns"]),
            feature_hash=meta["feature_hash"],
            state_digest="",
            blend_weight=catalogue.load_json(catalogue.BLEND)["weight"],
        )

    @torch.no_grad()
    def score(self, sparse: Values, dense: Floats) -> tuple[Floats, ServedModel]:
        """Logits [n] and the model that made them."""
        logits: Floats = self.model(torch.from_numpy(sparse), torch.from_numpy(dense)).squeeze(1).numpy()
        return logits, self.served

    def ping(self) -> None:
        """Always there."""


@dataclass(frozen=True)
class ArtefactCallers(Callers):
    """All four; read once, they serve for everything that is compared."""

    redis: UsersOfArtefacts
    elasticsearch: IndexOfArtefacts
    feast: FeaturesOfArtefacts
    triton: ModelOfArtefacts


def artefact_callers(refitted: bool = True) -> ArtefactCallers:
    """With what is served, or (`refitted` False) with what was fitted to the training rows alone."""
    c = catalogue
    users, items, model = (
        (c.USER_VECTORS, c.ITEM_VECTORS, c.DEEPFM_MODEL)
        if refitted
        else (c.MEASURED_USER_VECTORS, c.MEASURED_ITEM_VECTORS, c.MEASURED_DEEPFM_MODEL)
    )
    return ArtefactCallers(
        UsersOfArtefacts(users), IndexOfArtefacts(items), FeaturesOfArtefacts(), ModelOfArtefacts(model)
    )
