"""How a stage runs as a script: an expected error is shown as its sentence, without a traceback."""

import logging
import sys
from collections.abc import Callable

from pydantic import ValidationError


def run_stage(main: Callable[[], None]) -> None:
    """Runs `main`; errors that name their remedy end the process with status 1 and one line on stderr.

    Expected errors are bad settings, and every exception class that declares `is_expected = True`.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for noisy in ("elastic_transport.transport", "httpx", "feast", "onnxscript", "torch.onnx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        main()
    except ValidationError as error:
        for fault in error.errors():
            print(f"error: setting {'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if getattr(error, "is_expected", False):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        raise
