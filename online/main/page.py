"""The page for a person, and the users that it offers."""

import flask

from online.main.contract import UsersResponse
from online.main.current import current_engine
from online.main.responses import as_json

MOST_USERS = 200  # that the page offers

blueprint = flask.Blueprint("page", __name__)


@blueprint.get("/")
def get_page() -> str:
    """The page."""
    return flask.render_template("page.html", dataset=current_engine().snapshot.data.dataset)


@blueprint.get("/users")
def get_users() -> flask.Response:
    """Some known users, spread over all of them."""
    known = current_engine().snapshot.data.users
    return as_json(UsersResponse(users=list(known[:: max(len(known) // MOST_USERS, 1)])))
