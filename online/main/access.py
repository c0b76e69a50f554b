"""The token that PROTECTED paths ask for, where EVENTS_TOKEN is set: for those who open the port to others."""

import hmac

import flask

from data_exchange_center.settings import Settings
from online.main.refusals import refusal

PROTECTED = frozenset({"/events", "/metrics", "/operations.json"})
TOKEN = "token"  # the name among the application's extensions of the fact that there is one


def protect(app: flask.Flask, settings: Settings) -> None:
    """Refuses requests of PROTECTED paths without the token; does nothing where there is none."""
    token = settings.events_token.get_secret_value()
    if not token:
        return
    app.extensions[TOKEN] = True
    expected = f"Bearer {token}".encode()

    def check_token() -> flask.Response | None:
        given = flask.request.headers.get("Authorization", "").encode("latin-1", "replace")
        if flask.request.path not in PROTECTED or hmac.compare_digest(given, expected):
            return None
        response = refusal(401, "Authorization", "must be `Bearer` and the token of EVENTS_TOKEN")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    app.before_request(check_token)


def asks_for_token() -> bool:
    """Whether the application has a token, for /openapi.json to say so."""
    return TOKEN in flask.current_app.extensions
