"""The page for a person, and the users that it offers."""

from itertools import count

import flask

from data_exchange_center.columns import Column
from data_exchange_center.dataset import RatingScale
from data_exchange_center.external_ids import internal_id
from online.main.current import current_engine
from online.main.dataset_models import models_of
from online.main.responses import as_json
from online.serving_data import ServingData

MOST_STEPS = 10  # a longer list of ratings is no choice

blueprint = flask.Blueprint("page", __name__)


def offered_ratings(scale: RatingScale) -> list[float]:
    """The ratings that the page offers, highest first: one by one, or five where those are too many or too few."""
    lowest, highest = scale.lowest, scale.highest
    span = highest - lowest
    if 1 <= span <= MOST_STEPS:
        steps = [highest - step for step in range(int(span) + 1)]
    else:
        steps = [lowest + span * part for part in (1, 0.75, 0.5, 0.25, 0)]
    rounded = (float(f"{rating:.6g}") for rating in steps)  # 1.2 - 1 is no 0.2 in binary
    return [rating for rating in rounded if lowest <= rating <= highest]


def has_stars(scale: RatingScale) -> bool:
    """Whether ratings are shown as stars; of more than five, or of less than none, nobody counts them."""
    return scale.lowest >= 0 and 2 < scale.highest <= 5


def nobody(data: ServingData) -> str:
    """The id of a user whom no store knows: 0, or where ids are text, a word that is nobody's id."""
    if Column.USERID not in data.text_ids:
        return "0"
    names = ("nobody" + "-" * dashes for dashes in count())
    return next(name for name in names if not data.knows(internal_id(name)))


@blueprint.get("/")
def get_page() -> str:
    """The page."""
    data = current_engine().snapshot.data
    return flask.render_template(
        "page.html",
        dataset=data.dataset,
        userids_are_text=Column.USERID in data.text_ids,
        nobody=nobody(data),
        ratings=offered_ratings(data.scale),
        stars=has_stars(data.scale),
    )


@blueprint.get("/users")
def get_users() -> flask.Response:
    """Some known users, spread over all of them."""
    data = current_engine().snapshot.data
    return as_json(models_of(data).users_response(users=list(data.some_users)))
