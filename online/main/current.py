"""The engine of the application that handles the present request."""

import flask

from online.engine import Engine

ENGINE = "engine"  # its name among the application's extensions


def current_engine() -> Engine:
    """The application's engine."""
    engine: Engine = flask.current_app.extensions[ENGINE]
    return engine
