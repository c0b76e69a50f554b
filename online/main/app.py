"""The web application: it reads a request, asks the engine and writes JSON. No input makes it respond with a 500."""

import flask

from data_exchange_center.settings import Settings
from online.engine import Engine
from online.experiments import experiments_of
from online.impression_log import ImpressionLog
from online.main import events, operations, page, recommendations, similar
from online.main.access import protect
from online.main.backends import connect, log_of, with_shadows
from online.main.current import ENGINE, SETTINGS
from online.main.refusals import MOST_BODY_BYTES, handle_errors
from online.main.request_log import log_requests
from online.rules_file import rules_file
from online.tracing import NO_TRACER, Tracer, are_traced

BLUEPRINTS = (recommendations.blueprint, similar.blueprint, events.blueprint, operations.blueprint, page.blueprint)


def create_app(
    settings: Settings | None = None, engine: Engine | None = None, impression_log: ImpressionLog | None = None
) -> flask.Flask:
    """Makes the application; one for each process, since its connections do not survive a fork.

    Args:
        settings: from the environment unless given.
        engine: on the real services unless given. Whoever ends the application closes it.
        impression_log: takes the lists that are shown; unless given, the one of the settings where the engine is on the
            real services, and none otherwise. Whoever ends the application calls `close_log`.
    """
    settings = settings or Settings()
    if impression_log is None and engine is None:
        impression_log = log_of(settings)
    app = flask.Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    app.extensions[SETTINGS] = settings
    tracer = tracer_for(app, settings)
    app.extensions[ENGINE] = engine or Engine(
        connect(settings, tracer),
        threads=settings.web_threads,
        rules=rules_file(settings),
        tracer=tracer,
        experiments=experiments_of(settings),
    )
    log_requests(app, with_shadows(impression_log, app.extensions[ENGINE]))
    handle_errors(app)
    protect(app, settings)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def tracer_for(app: flask.Flask, settings: Settings) -> Tracer:
    """What notes the application's requests as traces, where the settings ask for them."""
    if not are_traced(settings):
        return NO_TRACER
    from online.main.request_traces import trace_requests  # not at the top: see online/tracing.py
    from online.opentelemetry_tracer import OpenTelemetryTracer

    tracer = OpenTelemetryTracer.of(settings)
    trace_requests(app, tracer)
    return tracer
