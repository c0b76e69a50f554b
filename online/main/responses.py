"""Builds the responses: what the page, the client and whoever else asks get to read."""

from collections.abc import Mapping, Sequence
from typing import Any

import flask
import numpy as np
from pydantic import BaseModel

from data_exchange_center.columns import Column
from data_exchange_center.external_ids import ExternalId
from online.callers.types import Candidates, Impression
from online.main import contract
from online.main.dataset_models import models_of
from online.main.list_contract import ListRequest
from online.paging import cursor_after
from online.reasons import reasons
from online.recommendation import Recommendation
from online.serving_data import UNKNOWN_ITEM_METADATA, ItemMetadata, ServingData
from online.similar_items import Similar


def as_json(model: BaseModel, status: int = 200) -> flask.Response:
    """The model as a response; what was not set is left out."""
    return flask.Response(model.model_dump_json(exclude_unset=True), status, mimetype="application/json")


def recommend_response(
    userid: ExternalId | None,
    recommendation: Recommendation,
    asked: ListRequest,
    reader: bytes,
    session: int,
) -> contract.RecommendResponse:
    """The response of /recommend.

    Args:
        userid: None for a session.
        recommendation: the list.
        asked: whether to explain it, and to say because of what each item is in it.
        reader: the tag by which the next page's cursor is known as this person's.
        session: how many items the session has.
    """
    data, explain = recommendation.snapshot.data, asked.explain
    fields: dict[str, Any] = {
        **({} if userid is None else {"userid": userid}),
        "dataset": data.dataset,
        "model_version": recommendation.model_version,
        "items": _lines(recommendation, explain, asked.because),
    }
    if recommendation.fallback:
        fields["fallback"] = recommendation.fallback
    if degraded := recommendation.degraded:
        fields["degraded"] = degraded
    if applied := _applied(recommendation, session):
        fields["applied"] = applied
    if recommendation.arms.by_experiment:
        fields["experiments"] = recommendation.arms.by_experiment
    if explain:
        fields["explain"] = _explanation(recommendation)
    if cursor := _next_cursor(recommendation, reader):
        fields["cursor"] = cursor
    # Validated as a whole, in pydantic's own core: a model for each of the 50 lines takes three times as long.
    return models_of(data).recommend_response.model_validate(fields)


def history_response(userid: ExternalId, history: Sequence[Impression], data: ServingData) -> contract.HistoryResponse:
    """The response of /history. An item that is not among the present ones has no title and no genres."""
    lines = []
    for impression in history:
        item = data.items.get(impression.itemid, UNKNOWN_ITEM_METADATA)
        itemid = _external_itemid(impression.itemid, item, data)
        if itemid is not None:
            lines.append(
                {
                    "itemid": itemid,
                    "title": item.title,
                    "genres": item.genres,
                    "rating": impression.rating,
                    "ts": impression.timestamp,
                }
            )
    return models_of(data).history_response.model_validate({"userid": userid, "items": lines})


def similar_response(itemid: ExternalId, similar: Similar, data: ServingData) -> contract.SimilarResponse:
    """The response of /similar."""
    lines = []
    for neighbour, score in similar.items:
        item = data.items[neighbour]
        line = {"itemid": _external_itemid(neighbour, item, data), "title": item.title, "genres": item.genres}
        lines.append({**line, "score": score})
    fields: dict[str, Any] = {"itemid": itemid, "dataset": data.dataset, "items": lines}
    if similar.fallback:
        fields["fallback"] = similar.fallback
    if similar.degraded:
        fields["degraded"] = similar.degraded
    return models_of(data).similar_response.model_validate(fields)


def server_timing(seconds: Mapping[str, float]) -> str:
    """The header Server-Timing: for how long the request waited for each service."""
    return ", ".join(f"{name};dur={of_service * 1000:.2f}" for name, of_service in seconds.items())


def _external_itemid(itemid: int, item: ItemMetadata, data: ServingData) -> ExternalId | None:
    """The item's id as it came. None where that was a text that the present catalogue lacks.

    Redis may hold an item of a load before, and it holds the integer alone, from which no text can be made: the line of
    such an item is left out.
    """
    return item.external_id if Column.ITEMID in data.text_ids else itemid


def _next_cursor(recommendation: Recommendation, reader: bytes) -> str | None:
    """The cursor of the next page; None behind an empty one."""
    if not recommendation.items:
        return None
    table, shown = recommendation.snapshot.data.table, recommendation.options.shown
    rows = table.rows([*shown, *(item.itemid for item in recommendation.items)])
    return cursor_after(rows[rows >= 0], reader, table)


def _lines(recommendation: Recommendation, explain: bool, because: bool) -> list[dict[str, Any]]:
    """One dictionary for each item of the list, best first."""
    data = recommendation.snapshot.data
    ranks = _ranks(recommendation.candidates) if explain else {}
    reasons_of = _reasons_of(recommendation) if because else {}
    lines = []
    for itemid, score, recall_score, logit, recalled_by in recommendation.items:
        item = data.items.get(itemid, UNKNOWN_ITEM_METADATA)
        external = _external_itemid(itemid, item, data)
        if external is None:
            continue
        line: dict[str, Any] = {
            "itemid": external,
            "title": item.title,
            "genres": item.genres,
            "score": score,
            "recall_score": recall_score,
            "logit": logit,
            "recalled_by": recalled_by,
        }
        if itemid in ranks:
            line["ranks"] = ranks[itemid]
        if explain and itemid in recommendation.acted:
            line["rules"] = recommendation.acted[itemid]
        if itemid in recommendation.teams:
            line["arm"] = recommendation.teams[itemid]
        if because:
            line["because"] = _reasons(reasons_of[itemid], data)
        lines.append(line)
    return lines


def _reasons_of(recommendation: Recommendation) -> dict[int, list[tuple[int, float]]]:
    """See reasons.py."""
    itemids = [item.itemid for item in recommendation.items]
    recent = recommendation.user.recent if recommendation.user else ()
    return dict(zip(itemids, reasons(itemids, recent, recommendation.snapshot.data), strict=True))


def _reasons(of_item: Sequence[tuple[int, float]], data: ServingData) -> list[dict[str, Any]]:
    lines = []
    for itemid, likeness in of_item:
        item = data.items[itemid]
        lines.append({"itemid": _external_itemid(itemid, item, data), "title": item.title, "likeness": likeness})
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
    names = recommendation.snapshot.data.features.user_columns
    return {
        "milliseconds": {name: round(seconds * 1000, 3) for name, seconds in recommendation.stages.items()},
        "candidates": len(recommendation.candidates),
        "terms": user.terms if user else [],
        "seen": len(user.seen) if user else 0,
        "user_features": {} if features is None else dict(zip(names, features.tolist(), strict=True)),
    }


def _applied(recommendation: Recommendation, session: int) -> dict[str, Any]:
    """What the list was narrowed and ordered by; empty where it was by the user's taste alone."""
    options = recommendation.options
    within = options.within
    applied = {
        "exclude": len(within.left_out) or None,
        "genres": within.genres or None,
        "genres_out": within.genres_out or None,
        "year_from": within.year_from,
        "year_to": within.year_to,
        "diversity": (recommendation.is_diverse and options.diversity) or None,
        "rules": sorted({name for names in recommendation.acted.values() for name in names}) or None,
        "session": session or None,
    }
    return {name: value for name, value in applied.items() if value is not None}
