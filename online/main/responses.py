"""Builds the responses: what the page, the client and whoever else asks get to read."""

from collections.abc import Mapping, Sequence
from typing import Any

import flask
import numpy as np
from pydantic import BaseModel

from data_exchange_center.assembler import USER_COLUMNS
from online.callers.types import Candidates, Impression
from online.main import contract
from online.recommendation import Recommendation
from online.serving_data import UNKNOWN_ITEM_METADATA, ItemMetadata


def as_json(model: BaseModel, status: int = 200) -> flask.Response:
    """The model as a response; what was not set is left out."""
    return flask.Response(model.model_dump_json(exclude_unset=True), status, mimetype="application/json")


def recommend_response(userid: int, recommendation: Recommendation, explain: bool) -> contract.RecommendResponse:
    """The response of /recommend; `explain` adds how the list came about."""
    fields: dict[str, Any] = {
        "userid": userid,
        "dataset": recommendation.snapshot.data.dataset,
        "model_version": recommendation.model_version,
        "items": _lines(recommendation, explain),
    }
    if recommendation.fallback:
        fields["fallback"] = recommendation.fallback
    if degraded := recommendation.degraded:
        fields["degraded"] = degraded
    if explain:
        fields["explain"] = _explanation(recommendation)
    # Validated as a whole, in pydantic's own core: a model for each of the 50 lines takes three times as long.
    return contract.RecommendResponse.model_validate(fields)


def history_response(
    userid: int, history: Sequence[Impression], items: Mapping[int, ItemMetadata]
) -> contract.HistoryResponse:
    """The response of /history. An item that is not among the present `items` has no title and no genres."""
    rated = [(impression, items.get(impression.itemid, UNKNOWN_ITEM_METADATA)) for impression in history]
    lines = [
        contract.Rated(
            itemid=impression.itemid,
            title=item.title,
            genres=list(item.genres),
            rating=impression.rating,
            ts=impression.timestamp,
        )
        for impression, item in rated
    ]
    return contract.HistoryResponse(userid=userid, items=lines)


def _lines(recommendation: Recommendation, explain: bool) -> list[dict[str, Any]]:
    """One dictionary for each item of the list, best first."""
    metadata = recommendation.snapshot.data.items
    ranks = _ranks(recommendation.candidates) if explain else {}
    lines = []
    for itemid, score, recall_score, logit, recalled_by in recommendation.items:
        item = metadata.get(itemid, UNKNOWN_ITEM_METADATA)
        line = {
            "itemid": itemid,
            "title": item.title,
            "genres": item.genres,
            "score": score,
            "recall_score": recall_score,
            "logit": logit,
            "recalled_by": recalled_by,
        }
        if itemid in ranks:
            line["ranks"] = ranks[itemid]
        lines.append(line)
    return lines


def _ranks(candidates: Candidates) -> dict[int, contract.Ranks]:
    """Each candidate's place as recall returned them: among all, among the terms' and among the vector's."""
    ids, by_vector = candidates.itemids, candidates.by_vector
    ranks_by_term, ranks_by_vector = (
        {itemid: place for place, itemid in enumerate(found.tolist(), start=1)}
        for found in (
            ids[candidates.by_term],
            ids[by_vector][np.argsort(-candidates.nearness[by_vector], kind="stable")],
        )
    )
    return {
        itemid: contract.Ranks(recall=place, term=ranks_by_term.get(itemid), vector=ranks_by_vector.get(itemid))
        for place, itemid in enumerate(ids.tolist(), start=1)
    }


def _explanation(recommendation: Recommendation) -> dict[str, Any]:
    user, features = recommendation.user, recommendation.user_features
    return {
        "milliseconds": {name: round(seconds * 1000, 3) for name, seconds in recommendation.stages.items()},
        "candidates": len(recommendation.candidates),
        "terms": user.terms if user else [],
        "seen": len(user.seen) if user else 0,
        "user_features": {} if features is None else dict(zip(USER_COLUMNS, features.tolist(), strict=True)),
    }
