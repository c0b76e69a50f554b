"""Starts, shows and stops the four servers, and the web server in the background.

    python -m services start|status|serve|serving|spark|stop  (or: make services, status, serve, spark, stop)

`SERVICES=docker` uses compose.yaml, `SERVICES=native` starts them without Docker, `auto` finds out whether an engine
is there. `serving` ends with status 0 when the web server responds and with 3 when it does not; any other status is a
fault that starting it would not cure.
"""

import argparse
import os
import sys
from collections.abc import Callable

from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from services import stack

NOT_SERVING = 3  # the Makefile's number, too


def serving(settings: Settings) -> None:
    """Ends with status NOT_SERVING when no web server responds."""
    if not stack.is_serving(settings):
        print(f"no web server responds at {settings.web_host}:{settings.web_port}")
        sys.exit(NOT_SERVING)


VERBS: dict[str, Callable[[Settings], None]] = {
    "start": stack.start,
    "spark": stack.start_spark,
    "status": stack.status,
    "serve": stack.serve,
    "serving": serving,
    "stop": stack.stop,
}


def main() -> None:
    """Runs one verb."""
    parser = argparse.ArgumentParser(
        prog="python -m services", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=VERBS)
    os.umask(0o022)  # under root Elasticsearch runs as another user, who must be able to read what is unpacked here
    VERBS[parser.parse_args().verb](Settings())


if __name__ == "__main__":
    run_stage(main)
