"""The engine and the settings of the application that handles the present request."""

import flask

from data_exchange_center.settings import Settings
from online.engine import Engine

ENGINE, SETTINGS = "engine", "settings"  # their names among the application's extensions


def current_engine() -> Engine:
    """The application's engine."""
    engine: Engine = flask.current_app.extensions[ENGINE]
    return engine


def current_settings() -> Settings:
    """The application's settings."""
    settings: Settings = flask.current_app.extensions[SETTINGS]
    return settings
